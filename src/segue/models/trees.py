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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from segue.contracts.errors import InvalidData, InvalidInput
from segue.models.lightgbm_text import Model, parse
from segue.models.tree_kernels import LANES, credit_paths, encode, walk

_MAX_THRESHOLDS: Final = 65_535

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
    column_missing: npt.NDArray[np.uint8]  # [columns] one of the constants of tree_kernels
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
        parsed = [parse(m if isinstance(m, str) else m.model_to_string()) for m in models]
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

    @cached_property
    def _most_leaves(self) -> int:
        return int(np.diff(self.tree_leaves).max(initial=1))

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
        codes = encode(
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
        out: npt.NDArray[np.float64] = np.zeros((self.n_models, len(x)))
        walk(
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
            np.zeros(LANES, np.uint8 if self._most_leaves <= 256 else np.uint16),
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
        credit_paths(
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


def _flatten(models: Sequence[Model]) -> TreeScorer:
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
