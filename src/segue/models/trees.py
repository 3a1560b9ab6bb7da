"""Boosted trees, scored 64 rows at a time with bit masks.

A ranker scores some 500 candidates per request. Walking each row down each tree waits on unpredictable
branches; here no branch depends on the data. After QuickScorer (Lucchese et al., SIGIR 2015) and RapidScorer
(Ye et al., KDD 2018):

1. Every feature value becomes the count of the model's own thresholds below it. `x <= threshold[j]` holds
   exactly when that count is `<= j`, so comparing small integers loses nothing.
2. The codes are stored feature by feature in blocks of 64 rows. One vector comparison per node says which of
   the 64 rows go left, as the bits of one 64-bit word.
3. From the root, `reach[left] = reach & goes_left` and `reach[right] = reach & ~goes_left`. Every row ends in one leaf
   per tree, and one masked vector write per leaf collects the leaf numbers.

The two vector steps are written as LLVM IR through `numba.extending.intrinsic`: LLVM lowers them to AVX-512, AVX2,
SSE2 or NEON, so nothing needs a C compiler. Scores are summed in float64 in the order of the trees, as LightGBM does.

`contributions` says what each feature did for a score, by the path each row takes (Saabas, "Interpreting random
forests", 2014): a node is worth the mean of the leaves below it, weighted by training rows, and a step from a node to a
child credits the node's feature with the difference. The parts sum to the score exactly, as those of TreeSHAP (Lundberg
et al., 2018) do. Unlike those they depend on the order of the splits: of two features that act together, the one split
on lower down gets more of the credit. In return they cost one walk, a hundredth of TreeSHAP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from segue.contracts.errors import InvalidData, InvalidInput

LANES: Final = 64
_ALL: Final = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_ZERO: Final = np.float32(1e-35)  # LightGBM's kZeroThreshold: what counts as zero where zeros are missing
_MAX_LEAVES: Final = 32_768
_MAX_THRESHOLDS: Final = 65_535
_FEW: Final = 64  # thresholds that are counted one by one

# How a column treats missing values. A missing value goes the same way at every node of a column.
_NAN_IS_ZERO: Final = 0
_NAN_LEFT: Final = 1
_NAN_RIGHT: Final = 2
_ZERO_LEFT: Final = 3  # zeros and NaN are missing
_ZERO_RIGHT: Final = 4

Array = npt.NDArray[Any]


class HasModelText(Protocol):
    """What we need of a `lightgbm.Booster`; serving does not import LightGBM."""

    def model_to_string(self) -> str: ...


@dataclass(frozen=True)
class TreeScorer:
    """One or several LightGBM models over the same features, as flat read-only arrays.

    A *column* is one feature under one treatment of missing values; nodes refer to columns. Children are *slots* of a
    scratch array that holds the nodes of a tree first and its leaves from `leaf_slot` on.
    """

    n_features: npt.NDArray[np.int64]  # [1]
    leaf_slot: npt.NDArray[np.int64]  # [1]
    column_feature: npt.NDArray[np.int32]  # [columns]
    column_missing: npt.NDArray[np.uint8]  # [columns] one of the constants above
    column_start: npt.NDArray[
        np.int64
    ]  # [columns + 1] into thresholds, each part padded with +inf to a power of two
    column_count: npt.NDArray[np.int32]  # [columns] thresholds without padding
    thresholds: npt.NDArray[np.float32]
    node_column: npt.NDArray[np.uint16]  # [nodes]
    node_cut: Array  # [nodes] uint8, or uint16 when a column has more than 255 thresholds
    node_left: npt.NDArray[np.uint16]  # [nodes]
    node_right: npt.NDArray[np.uint16]  # [nodes]
    node_value: npt.NDArray[np.float64]  # [nodes] mean of the leaves below, weighted by training rows
    tree_nodes: npt.NDArray[np.int64]  # [trees + 1] into node_*
    tree_leaves: npt.NDArray[np.int64]  # [trees + 1] into leaf_value
    leaf_value: npt.NDArray[np.float64]
    model_trees: npt.NDArray[np.int64]  # [models + 1] into tree_*

    @classmethod
    def from_lightgbm(cls, *models: HasModelText | str) -> TreeScorer:
        """Read boosters, or their text (`booster.model_to_string()`), that were trained on the same features.

        Raises InvalidData for what this scorer does not do (categorical splits, linear leaves, several classes)
        and for text that is not a LightGBM model.
        """
        if not models:
            raise InvalidInput("give at least one model", field="models", limit=">= 1")
        parsed = [_parse(m if isinstance(m, str) else m.model_to_string()) for m in models]
        if len({p.n_features for p in parsed}) != 1:
            counts = [p.n_features for p in parsed]
            raise InvalidData(
                f"models scored together must share their features, got {counts} features",
                field="models",
            )
        return _flatten(parsed)

    def arrays(self) -> dict[str, Array]:
        """The arrays to save, by name; `from_arrays` reads them back, memory-mapped or not."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> TreeScorer:
        """Inverse of `arrays()`. Raises InvalidData when an array is missing or an index points outside."""
        missing = [f.name for f in fields(cls) if f.name not in arrays]
        if missing:
            raise InvalidData(
                f"tree model lacks the arrays {missing}; write it with arrays()",
                field=missing[0],
            )
        model = cls(**{f.name: _frozen(arrays[f.name]) for f in fields(cls)})
        model._check()
        return model

    @property
    def n_models(self) -> int:
        return len(self.model_trees) - 1

    def score(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Raw scores float64[n] of the only model for rows float32[n, features]; apply the sigmoid yourself."""
        if self.n_models != 1:
            raise InvalidInput(
                f"this scorer holds {self.n_models} models: call score_many",
                field="models",
                limit="== 1",
            )
        scores: npt.NDArray[np.float64] = self.score_many(x)[0]
        return scores

    def score_many(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Raw scores float64[models, n] for rows float32[n, features]; rows are coded once for all models."""
        self._check_matrix(x)
        codes = _encode(
            _frozen(x),
            self.column_feature,
            self.column_missing,
            self.column_start,
            self.column_count,
            self.thresholds,
            np.empty(
                (-(-len(x) // LANES), len(self.column_feature) * LANES),
                self.node_cut.dtype,
            ),
        )
        most_leaves = int(np.diff(self.tree_leaves).max(initial=1))
        out: npt.NDArray[np.float64] = np.zeros((self.n_models, len(x)))
        _walk(
            codes,
            self.node_column,
            self.node_cut,
            self.node_left,
            self.node_right,
            self.tree_nodes,
            self.tree_leaves,
            self.leaf_value,
            self.model_trees,
            int(self.leaf_slot[0]),
            np.zeros(LANES, np.uint8 if most_leaves <= 256 else np.uint16),
            out,
        )
        return out

    def contributions(self, x: npt.NDArray[np.float32], model: int = 0) -> npt.NDArray[np.float64]:
        """What each feature added to the raw scores of one model: float64[n, features + 1] for float32[n, features].

        The last column is what the model says before it sees a feature; a row sums to its score. By path, see the
        module's docstring. Meant for the rows that are shown, not for all that are scored.
        """
        self._check_matrix(x)
        if not 0 <= model < self.n_models:
            raise InvalidInput(
                f"there is no model {model}", field="model", limit=f"0 <= model < {self.n_models}"
            )
        out: npt.NDArray[np.float64] = np.zeros((len(x), x.shape[1] + 1))
        _credit_paths(
            _frozen(x),
            self.column_feature,
            self.column_missing,
            self.column_start,
            self.thresholds,
            self.node_column,
            self.node_cut,
            self.node_left,
            self.node_right,
            self.node_value,
            self.tree_nodes,
            self.tree_leaves,
            self.leaf_value,
            int(self.model_trees[model]),
            int(self.model_trees[model + 1]),
            int(self.leaf_slot[0]),
            out,
        )
        return out

    def _check_matrix(self, x: npt.NDArray[np.float32]) -> None:
        n_features = int(self.n_features[0])
        if x.ndim != 2 or x.shape[1] != n_features or x.dtype != np.float32:
            raise InvalidInput(
                f"feature matrix must be float32 of shape (rows, {n_features}), got {x.dtype} {x.shape}",
                field="x",
                limit=f"float32[n, {n_features}]",
            )

    def _check(self) -> None:
        """The kernels do not check bounds, so every index is checked once here."""
        leaf_slot = int(self.leaf_slot[0])
        leaves = np.diff(self.tree_leaves)
        nodes = np.diff(self.tree_nodes)
        columns = len(self.column_feature)
        own_leaves = np.repeat(leaf_slot + leaves, nodes)
        own_node = np.arange(len(self.node_cut)) - np.repeat(self.tree_nodes[:-1], nodes)
        own_nodes = np.repeat(nodes, nodes)
        ok = (
            _covers(self.tree_nodes, len(self.node_cut))
            and _covers(self.tree_leaves, len(self.leaf_value))
            and _covers(self.column_start, len(self.thresholds))
            and _covers(self.model_trees, len(self.tree_nodes) - 1)
            and len(self.tree_nodes) == len(self.tree_leaves)
            and len(self.column_start) == columns + 1
            and len(self.column_missing) == len(self.column_count) == columns
            and len(self.node_column) == len(self.node_left) == len(self.node_right) == len(self.node_cut)
            and len(self.node_value) == len(self.node_cut)
            and bool(np.all(leaves == nodes + 1))
            and bool(np.all(nodes <= leaf_slot))
            and bool(np.all(self.node_column < columns))
            and bool(np.all(self.node_cut < self.column_count[self.node_column]))
            and bool(np.all((self.column_feature >= 0) & (self.column_feature < self.n_features[0])))
            and bool(
                np.all((np.diff(self.column_start) == _padded(self.column_count)) & (self.column_count > 0))
            )
        )
        for side in (self.node_left, self.node_right) if ok else ():
            slot = side.astype(np.int64)
            inner = (slot > own_node) & (slot < own_nodes)
            leaf = (slot >= leaf_slot) & (slot < own_leaves)
            ok = ok and bool(np.all(inner | leaf))
        if not ok:
            raise InvalidData(
                "the arrays of a tree model do not fit together; rebuild it with from_lightgbm",
                field="trees",
            )


def _covers(starts: Array, size: int) -> bool:
    return len(starts) > 0 and starts[0] == 0 and starts[-1] == size and bool(np.all(np.diff(starts) >= 0))


def _padded(counts: Array) -> npt.NDArray[np.int64]:
    """The power of two above each count: a binary search of fixed depth then needs no bounds."""
    return np.array([1 << int(c).bit_length() for c in counts], np.int64)


def _frozen(array: Array) -> Array:
    """A plain read-only view, so that arrays from memory, disk and memory maps compile to one and the same kernel."""
    view = np.ascontiguousarray(array).view(np.ndarray)
    view.flags.writeable = False
    return view


# -- reading LightGBM's text ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Tree:
    feature: npt.NDArray[np.int32]
    threshold: npt.NDArray[np.float32]
    missing: npt.NDArray[np.uint8]
    left: npt.NDArray[np.int64]  # >= 0 a node, else ~leaf
    right: npt.NDArray[np.int64]
    leaf_value: npt.NDArray[np.float64]
    node_value: npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Model:
    n_features: int
    trees: list[_Tree]


def _parse(text: str) -> _Model:
    header, *bodies = text.split("\nTree=")
    head = _key_values(header)
    if not text.startswith("tree") or "max_feature_idx" not in head or "\nend of trees" not in text:
        raise InvalidData(
            "not a whole LightGBM text model; write one with booster.model_to_string()",
            field="model",
        )
    if head.get("num_tree_per_iteration") != "1":
        raise InvalidData(
            f"model has {head.get('num_tree_per_iteration')} trees per iteration; train one model per objective",
            field="num_tree_per_iteration",
            limit="1",
        )
    if "\naverage_output\n" in header:
        raise InvalidData(
            "random forest models are not scored; train with boosting=gbdt, dart or goss", field="boosting"
        )
    n_features = int(head["max_feature_idx"]) + 1
    return _Model(
        n_features, [_parse_tree(_key_values(body), i, n_features) for i, body in enumerate(bodies)]
    )


def _key_values(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.split("\nend of trees", 1)[0].splitlines())
    return {key: value for key, equals, value in pairs if equals}


def _parse_tree(body: Mapping[str, str], index: int, n_features: int) -> _Tree:
    if body.get("num_cat", "0") != "0":
        raise InvalidData(
            f"tree {index} splits on categories; encode categorical features as numbers before training",
            field="num_cat",
            limit="0",
        )
    if body.get("is_linear", "0") != "0":
        raise InvalidData(
            f"tree {index} has linear leaves; train with linear_tree=false",
            field="is_linear",
            limit="0",
        )
    try:
        n_leaves = int(body["num_leaves"])
        nodes = n_leaves - 1
        numbers = {k: np.array(body[k].split(), np.float64) if nodes else np.empty(0) for k in _NODE_FIELDS}
        leaf_value = np.array(body["leaf_value"].split(), np.float64)
        leaf_count = np.array(body["leaf_count"].split(), np.float64) if nodes else np.ones(1)
    except (KeyError, ValueError) as error:
        raise InvalidData(
            f"tree {index} of the LightGBM text cannot be read: {error!r}",
            field="model",
        ) from error
    if n_leaves > _MAX_LEAVES:
        raise InvalidData(
            f"tree {index} has {n_leaves} leaves",
            field="num_leaves",
            limit=f"<= {_MAX_LEAVES}",
        )
    left, right = (numbers[k].astype(np.int64) for k in ("left_child", "right_child"))
    feature = numbers["split_feature"].astype(np.int32)
    children = np.sort(np.concatenate([left, right]))
    whole = (
        n_leaves >= 1
        and len(leaf_value) == len(leaf_count) == n_leaves
        and all(len(v) == nodes for v in numbers.values())
        # Every node but the root, and every leaf, is somebody's child once; parents come before children.
        and np.array_equal(
            children,
            np.concatenate([np.arange(-n_leaves, 0), np.arange(1, nodes)]) if nodes else [],
        )
        and bool(
            np.all((left < 0) | (left > np.arange(nodes)))
            and np.all((right < 0) | (right > np.arange(nodes)))
        )
        and bool(np.all((feature >= 0) & (feature < n_features)))
        and bool(np.all(~np.isnan(numbers["threshold"])))
    )
    if not whole:
        raise InvalidData(
            f"tree {index} of the LightGBM text is not a tree; the file is damaged",
            field="model",
        )
    missing = _missing_treatment(numbers["decision_type"].astype(np.int64))
    return _Tree(
        feature,
        _float32_at_most(numbers["threshold"]),
        missing,
        left,
        right,
        leaf_value,
        _node_means(left, right, leaf_value, leaf_count),
    )


def _node_means(
    left: npt.NDArray[np.int64],
    right: npt.NDArray[np.int64],
    leaf_value: npt.NDArray[np.float64],
    leaf_count: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Mean of the leaves below each node, weighted by their training rows. Children come after their parents."""
    total, count = np.zeros(len(left)), np.zeros(len(left))
    for node in range(len(left) - 1, -1, -1):
        for child in (int(left[node]), int(right[node])):
            if child >= 0:
                total[node] += total[child]
                count[node] += count[child]
            else:
                total[node] += leaf_value[~child] * leaf_count[~child]
                count[node] += leaf_count[~child]
    return total / np.maximum(count, 1.0)


_NODE_FIELDS: Final = (
    "split_feature",
    "threshold",
    "decision_type",
    "left_child",
    "right_child",
)


def _missing_treatment(decision_type: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """LightGBM packs: bit 0 categorical, bit 1 missing goes left, bits 2-3 what is missing (none, zero, NaN)."""
    goes_left = (decision_type & 2) != 0
    kind = (decision_type >> 2) & 3
    treatment = np.where(
        kind == 2,
        np.where(goes_left, _NAN_LEFT, _NAN_RIGHT),
        np.where(kind == 1, np.where(goes_left, _ZERO_LEFT, _ZERO_RIGHT), _NAN_IS_ZERO),
    )
    return treatment.astype(np.uint8)


def _float32_at_most(threshold: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The largest float32 <= threshold: for a float32 x, `x <= threshold` and `x <= this` are the same."""
    with np.errstate(over="ignore"):
        rounded = threshold.astype(np.float32)
    return np.where(rounded > threshold, np.nextafter(rounded, np.float32(-np.inf)), rounded)


def _flatten(models: Sequence[_Model]) -> TreeScorer:
    trees = [tree for model in models for tree in model.trees]
    feature = _concat((t.feature for t in trees), np.int32)
    missing = _concat((t.missing for t in trees), np.uint8)
    threshold = _concat((t.threshold for t in trees), np.float32)
    key, node_column = np.unique(feature.astype(np.int64) * 8 + missing, return_inverse=True)
    cuts, node_cut = _cuts_by_column(node_column, threshold, len(key))
    counts = np.array([len(c) for c in cuts], np.int32)
    if max(counts, default=0) > _MAX_THRESHOLDS or len(key) > 65_535:
        raise InvalidData(
            "model has too many distinct thresholds; train with max_bin <= 65535",
            field="max_bin",
        )
    starts = np.concatenate([[0], np.cumsum(_padded(counts))]).astype(np.int64)
    padded = np.full(int(starts[-1]), np.inf, np.float32)
    for start, cut in zip(starts, cuts, strict=False):
        padded[start : start + len(cut)] = cut
    leaf_slot = max((len(t.feature) for t in trees), default=0)

    def slots(children: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
        return np.where(children >= 0, children, leaf_slot + ~children).astype(np.uint16)

    return TreeScorer.from_arrays(
        {
            "n_features": np.array([models[0].n_features], np.int64),
            "leaf_slot": np.array([leaf_slot], np.int64),
            "column_feature": (key // 8).astype(np.int32),
            "column_missing": (key % 8).astype(np.uint8),
            "column_start": starts,
            "column_count": counts,
            "thresholds": padded,
            "node_column": node_column.astype(np.uint16),
            "node_cut": node_cut.astype(np.uint8 if max(counts, default=0) <= 255 else np.uint16),
            "node_left": slots(_concat((t.left for t in trees), np.int64)),
            "node_right": slots(_concat((t.right for t in trees), np.int64)),
            "node_value": _concat((t.node_value for t in trees), np.float64),
            "tree_nodes": _starts(len(t.feature) for t in trees),
            "tree_leaves": _starts(len(t.leaf_value) for t in trees),
            "leaf_value": _concat((t.leaf_value for t in trees), np.float64),
            "model_trees": _starts(len(m.trees) for m in models),
        }
    )


def _cuts_by_column(
    node_column: Array, threshold: npt.NDArray[np.float32], n_columns: int
) -> tuple[list[npt.NDArray[np.float32]], npt.NDArray[np.int64]]:
    """Each column's sorted distinct thresholds, and each node's place among those of its column."""
    cuts: list[npt.NDArray[np.float32]] = []
    node_cut = np.zeros(len(threshold), np.int64)
    order = np.argsort(node_column, kind="stable")
    bounds = np.searchsorted(node_column[order], np.arange(n_columns + 1))
    for column in range(n_columns):
        nodes = order[bounds[column] : bounds[column + 1]]
        distinct, node_cut[nodes] = np.unique(threshold[nodes], return_inverse=True)
        cuts.append(distinct)
    return cuts, node_cut


def _concat(parts: Iterator[Array], dtype: type[np.generic]) -> Array:
    return np.concatenate([np.empty(0, dtype), *parts]).astype(dtype, copy=False)


def _starts(sizes: Iterator[int]) -> npt.NDArray[np.int64]:
    return np.cumsum([0, *sizes], dtype=np.int64)


# -- kernels -------------------------------------------------------------------------------------------------------


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any = None) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return data if offset is None else builder.gep(data, [offset])


def _splat(builder: Any, value: Any, lanes: ir.VectorType) -> Any:
    first = builder.insert_element(ir.Constant(lanes, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(lanes, ir.Undefined), zeros)


def _at_most_ir(typingctx: Any, codes: Any, offset: Any, cut: Any) -> tuple[Any, Callable[..., Any]]:
    """uint64 whose bit i says `codes[offset + i] <= cut`, for 64 codes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = ir.VectorType(ir.IntType(signature.args[0].dtype.bitwidth), LANES)
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1])
        values = builder.load(builder.bitcast(pointer, lanes.as_pointer()))
        values.align = 1
        mask = builder.icmp_unsigned("<=", values, _splat(builder, args[2], lanes))
        return builder.bitcast(mask, ir.IntType(64))

    return types.uint64(codes, types.intp, codes.dtype), codegen


_at_most: Any = intrinsic(_at_most_ir)


def _leaf_numbers_ir(
    typingctx: Any, reach: Any, first: Any, count: Any, out: Any
) -> tuple[Any, Callable[..., Any]]:
    """out[i] = the leaf in 0..count-1 whose word `reach[first + leaf]` has bit i, for 64 bits."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        number = ir.IntType(signature.args[3].dtype.bitwidth)
        lanes = ir.VectorType(number, LANES)
        words = _pointer(context, builder, signature.args[0], args[0], args[1])
        # LLVM keeps this variable in registers.
        found = cgutils.alloca_once_value(builder, ir.Constant(lanes, [0] * LANES))
        with cgutils.for_range(builder, args[2]) as loop:
            word = builder.load(builder.gep(words, [loop.index]))
            mask = builder.bitcast(word, ir.VectorType(ir.IntType(1), LANES))
            leaf = _splat(builder, builder.trunc(loop.index, number), lanes)
            builder.store(builder.select(mask, leaf, builder.load(found)), found)
        target = builder.bitcast(_pointer(context, builder, signature.args[3], args[3]), lanes.as_pointer())
        builder.store(builder.load(found), target).align = 1
        return context.get_dummy_value()

    return types.void(reach, types.intp, types.intp, out), codegen


_leaf_numbers: Any = intrinsic(_leaf_numbers_ir)


@njit(cache=True, nogil=True)
def _encode(
    x: Array,
    feature: Array,
    missing: Array,
    start: Array,
    count: Array,
    thresholds: Array,
    codes: Array,
) -> Array:
    """codes[block, column * 64 + i] = number of the column's thresholds below row i of the block."""
    n = x.shape[0]
    value = np.zeros(LANES, np.float32)
    position = np.empty(LANES, np.uint32)
    for block in range(codes.shape[0]):
        first = block * LANES
        rows = min(LANES, n - first)
        for column in range(feature.size):
            f = feature[column]
            same = True
            for i in range(rows):
                v = x[first + i, f]
                value[i] = np.float32(0) if np.isnan(v) else v
                same &= value[i] == value[0]
            offset = column * LANES
            base = np.uint32(start[column])
            if same:  # as what is known of the listener is in every row
                below = np.searchsorted(thresholds[base : base + np.uint32(count[column])], value[0])
                for i in range(LANES):
                    codes[block, offset + i] = below
            elif count[column] <= _FEW:  # comparing with every threshold beats searching
                position[:] = np.uint32(0)
                for t in range(base, base + np.uint32(count[column])):
                    cut = thresholds[t]
                    for i in range(LANES):
                        position[i] += np.uint32(cut < value[i])
                for i in range(LANES):
                    codes[block, offset + i] = position[i]
            else:
                position[:] = base
                step = np.uint32(start[column + 1] - start[column]) >> np.uint32(1)
                while step > 0:
                    for i in range(LANES):  # 64 binary searches in step: LLVM turns them into gathers
                        below = thresholds[np.intp(position[i] + step - np.uint32(1))] < value[i]
                        position[i] += step if below else np.uint32(0)
                    step >>= np.uint32(1)
                for i in range(LANES):
                    codes[block, offset + i] = position[i] - base
            if missing[column] != _NAN_IS_ZERO:
                zero_too = missing[column] >= _ZERO_LEFT
                goes_left = missing[column] == _NAN_LEFT or missing[column] == _ZERO_LEFT
                for i in range(rows):
                    v = x[first + i, f]
                    if np.isnan(v) or (zero_too and abs(v) <= _ZERO):
                        codes[block, offset + i] = 0 if goes_left else count[column]
    return codes


@njit(cache=True, nogil=True)
def _walk(
    codes: Array,
    node_column: Array,
    node_cut: Array,
    node_left: Array,
    node_right: Array,
    tree_nodes: Array,
    tree_leaves: Array,
    leaf_value: Array,
    model_trees: Array,
    leaf_slot: int,
    leaf: Array,
    out: Array,
) -> None:
    """Adds every tree of every model into out[model, row]; `leaf` is scratch for 64 leaf numbers."""
    n = out.shape[1]
    reach = np.zeros(2 * leaf_slot + 1, np.uint64)
    total = np.empty(LANES, np.float64)
    for block in range(codes.shape[0]):
        block_codes = codes[block]
        for model in range(out.shape[0]):
            total[:] = 0.0
            for tree in range(model_trees[model], model_trees[model + 1]):
                first, last = tree_nodes[tree], tree_nodes[tree + 1]
                reach[0] = (
                    _ALL  # a tree without nodes has leaf_slot's word or, if all trees are such, this one
                )
                if first == last:
                    reach[leaf_slot] = _ALL
                for node in range(first, last):
                    here = reach[node - first]
                    left = _at_most(block_codes, np.intp(node_column[node]) * LANES, node_cut[node])
                    reach[node_left[node]] = here & left
                    reach[node_right[node]] = here & ~left
                _leaf_numbers(reach, leaf_slot, last - first + 1, leaf)
                leaf_base = tree_leaves[tree]
                for i in range(LANES):
                    total[i] += leaf_value[leaf_base + leaf[i]]
            rows = min(LANES, n - block * LANES)
            for i in range(rows):
                out[model, block * LANES + i] = total[i]


@njit(cache=True, nogil=True)
def _credit_paths(
    x: Array,
    column_feature: Array,
    column_missing: Array,
    column_start: Array,
    thresholds: Array,
    node_column: Array,
    node_cut: Array,
    node_left: Array,
    node_right: Array,
    node_value: Array,
    tree_nodes: Array,
    tree_leaves: Array,
    leaf_value: Array,
    first_tree: int,
    last_tree: int,
    leaf_slot: int,
    out: Array,
) -> None:
    """Adds to out[row, feature] every step of the row's paths, and to the last column the values of the roots."""
    bias = out.shape[1] - 1
    for row in range(x.shape[0]):
        for tree in range(first_tree, last_tree):
            first, leaf = tree_nodes[tree], tree_leaves[tree]
            if first == tree_nodes[tree + 1]:
                out[row, bias] += leaf_value[leaf]
                continue
            slot = np.intp(0)
            out[row, bias] += node_value[first]
            while slot < leaf_slot:
                node = first + slot
                column = np.intp(node_column[node])
                feature = column_feature[column]
                threshold = thresholds[column_start[column] + np.intp(node_cut[node])]
                left = _goes_left(x[row, feature], threshold, column_missing[column])
                slot = np.intp(node_left[node] if left else node_right[node])
                at_leaf = slot >= leaf_slot
                reached = leaf_value[leaf + slot - leaf_slot] if at_leaf else node_value[first + slot]
                out[row, feature] += reached - node_value[node]


@njit(cache=True, nogil=True)
def _goes_left(value: np.float32, threshold: np.float32, missing: int) -> bool:
    """One row at one node, by the column's treatment of what is missing."""
    absent = np.isnan(value) or (missing >= _ZERO_LEFT and abs(value) <= _ZERO)
    if absent and missing != _NAN_IS_ZERO:
        return bool(missing in (_NAN_LEFT, _ZERO_LEFT))
    return bool((np.float32(0) if np.isnan(value) else value) <= threshold)
