"""Nearest items by inner product: exact for small catalogues, norm-tiered inverted lists for large ones.

Factor models score by `query . item`, and an item's norm follows its popularity. A plain inverted file (Jegou et
al., TPAMI 2011) groups items by direction only, so each probed list drags along a tail of short vectors that
cannot win. As in norm-ranging methods (Yan et al., NeurIPS 2018), the norm is part of the structure here:

1. Directions are clustered by spherical k-means into about sqrt(n) lists.
2. Each list is sorted by falling norm and cut into cells of 64 items. A cell knows the mean projection of its
   items on the list's direction, and their spread around it.
3. A query ranks all cells by an optimistic estimate of their best score,
   `mean * (query . direction) + optimism * |query| * spread`: a dot product per list, a multiply-add per cell.
4. The best cells are scanned on 8-bit codes (d x 64 bytes, dimension by dimension, so that vector instructions
   score a cell), and the best `rescore * k` items are scored again exactly.

Search by cosine reads the same lists, cells and codes (`by_cosine`): an item's vector then counts times its weight, one over
its length, so that a catalogue is stored once however it is searched.

Everything is plain arrays: a bundle memory-maps them, and the workers on a host share the pages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from math import sqrt
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from segue.contracts.errors import InvalidData, InvalidInput, InvalidSettings
from segue.models.order import best_first, kth_largest

CELL: Final = 64
_AHEAD: Final = 2  # cells between the one being fetched and the one being scored
_EMPTY: Final = -1

Vectors = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int32]


class NearestConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an index is built and how much of it a query reads."""

    exact_below: int = 10_000
    """Catalogues (or what a mask leaves of them) up to this many items are searched exactly."""
    lists: int = 0
    """Directions to cluster into; 0 means sqrt(items)."""
    probe: float = 0.01
    """Share of the items a query reads: more is slower and finds more."""
    least: int = 8_192
    """A query reads at least this many items, which is cheap and keeps small catalogues as good as large ones."""
    rescore: int = 2
    """This many times k items are scored again exactly."""
    optimism: float = 4.0
    """Spreads above its mean at which a cell's best item is expected."""
    iterations: int = 8
    """Rounds of k-means."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.probe <= 1.0:
            raise InvalidSettings("probe is a share of the items", field="probe", limit="0 < probe <= 1")
        for name, least in (
            ("exact_below", 0),
            ("lists", 0),
            ("least", 0),
            ("rescore", 1),
            ("iterations", 1),
        ):
            if getattr(self, name) < least:
                raise InvalidSettings(f"{name} must be at least {least}", field=name, limit=f">= {least}")


@dataclass(frozen=True)
class Nearest:
    """An index over item vectors; the id of an item is its row.

    The cell arrays are empty when the catalogue is searched exactly.
    """

    config: NearestConfig
    vectors: Vectors  # [items, d]
    weight: Vectors  # [items] each vector counts times this; empty: as it is
    directions: Vectors  # [lists, d] of unit length
    cell_list: Ids  # [cells] list of the cell
    cell_mean: Vectors  # [cells] mean projection of the items on the list's direction
    cell_spread: Vectors  # [cells] standard deviation per dimension around that mean
    cell_items: Ids  # [cells, 64], -1 where a cell is not full
    cell_scale: Vectors  # [cells, 64] item = scale * codes
    cell_codes: npt.NDArray[np.int8]  # [cells, d, 64]

    @classmethod
    def fit(cls, vectors: Vectors, config: NearestConfig | None = None) -> Nearest:
        """Index float32[items, d]. Raises InvalidInput for another type or values that are not finite."""
        config = config or NearestConfig()
        if vectors.ndim != 2 or vectors.dtype != np.float32:
            raise InvalidInput(
                f"item vectors must be float32 of shape (items, d), got {vectors.dtype} {vectors.shape}",
                field="vectors",
            )
        if not np.isfinite(vectors).all():
            raise InvalidInput("item vectors must be finite", field="vectors", limit="finite")
        items = _frozen(vectors)
        n, d = items.shape
        if n <= config.exact_below:
            directions = np.empty((0, d), np.float32)
            cell_list, cell_items = np.empty(0, np.int32), np.empty((0, CELL), np.int32)
        else:
            lists = min(config.lists or round(n**0.5), n)
            directions = _spherical_k_means(
                items, lists, config.iterations, np.random.default_rng(config.seed)
            )
            cell_list, cell_items = _cells(items, _closest(items, directions), lists)
        weight = np.empty(0, np.float32)
        mean, spread = _statistics(items, weight, directions, cell_list, cell_items)
        scale, codes = _encode(items, cell_items)
        arrays = {
            "vectors": items,
            "weight": weight,
            "directions": directions,
            "cell_list": cell_list,
            "cell_mean": mean,
            "cell_spread": spread,
            "cell_items": cell_items,
            "cell_scale": scale,
            "cell_codes": codes,
        }
        return cls.from_arrays(arrays, config)

    def by_cosine(self) -> Nearest:
        """The same index with every vector at unit length; zeros stay zeros and score 0. Queries keep their length."""
        length = np.sqrt(np.einsum("ij,ij->i", self.vectors, self.vectors))
        weight = np.divide(1, length, out=np.zeros_like(length), where=length > 0)
        mean, spread = _statistics(
            self.vectors, _frozen(weight), self.directions, self.cell_list, self.cell_items
        )
        scale = self.cell_scale * weight[self.cell_items] if len(self.cell_items) else self.cell_scale
        return replace(
            self,
            weight=_frozen(weight),
            cell_mean=_frozen(mean),
            cell_spread=_frozen(spread),
            cell_scale=_frozen(scale),
        )

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays to save, by name; the config is saved beside them by the caller."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "config"}

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, npt.NDArray[Any]], config: NearestConfig | None = None
    ) -> Nearest:
        """Inverse of `arrays()`, memory-mapped or not. Raises InvalidData when they do not fit together."""
        names = [f.name for f in fields(cls) if f.name != "config"]
        missing = [name for name in names if name not in arrays]
        if missing:
            raise InvalidData(f"index lacks the arrays {missing}; write it with arrays()", field=missing[0])
        index = cls(config or NearestConfig(), **{name: _frozen(arrays[name]) for name in names})
        index._check()
        return index

    @property
    def is_exact(self) -> bool:
        return len(self.cell_list) == 0

    def search(
        self, queries: Vectors, k: int, allowed: npt.NDArray[np.bool_] | None = None
    ) -> tuple[Ids, Vectors]:
        """The k items with the highest inner product: ids int32[q, k] and scores float32[q, k], best first.

        queries: float32[q, d]. allowed: bool[items]; others are never returned. Places that cannot be filled
        have id -1 and score -inf. Scores are exact; which items are found is approximate on large catalogues.
        Raises InvalidInput for queries, k or a mask that do not fit.
        """
        n, d = self.vectors.shape
        if queries.ndim != 2 or queries.shape[1] != d or queries.dtype != np.float32:
            raise InvalidInput(
                f"queries must be float32 of shape (q, {d}), got {queries.dtype} {queries.shape}",
                field="queries",
            )
        if not np.isfinite(queries).all():
            raise InvalidInput("queries must be finite", field="queries", limit="finite")
        if k < 1:
            raise InvalidInput(f"k must be at least 1, got {k}", field="k", limit=">= 1")
        if allowed is not None and allowed.shape != (n,):
            raise InvalidInput(f"allowed must be bool[{n}], got shape {allowed.shape}", field="allowed")
        ids = np.full((len(queries), k), _EMPTY, np.int32)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        left = n if allowed is None else int(np.count_nonzero(allowed))
        if self.is_exact or left <= max(self.config.exact_below, k):
            rows = None if allowed is None else np.flatnonzero(allowed).astype(np.int32)
            self._search_exact(queries, k, rows, ids, scores)
        else:
            self._search_cells(queries, k, allowed, left, ids, scores)
        return ids, scores

    @cached_property
    def _cells(self) -> Ids:
        return np.arange(len(self.cell_list), dtype=np.int32)

    def _search_exact(self, queries: Vectors, k: int, rows: Ids | None, ids: Ids, scores: Vectors) -> None:
        vectors = self.vectors if rows is None else self.vectors[rows]
        weight = self.weight if rows is None or not self.weight.size else self.weight[rows]
        batch = max(1, 4_000_000 // max(1, len(vectors)))
        for first in range(0, len(queries), batch):
            part = slice(first, first + batch)
            products = queries[part] @ vectors.T
            if weight.size:
                products *= weight
            _top_of_rows(products, ids[part], scores[part])
        if rows is not None:
            found = ids >= 0
            ids[found] = rows[ids[found]]

    def _search_cells(
        self,
        queries: Vectors,
        k: int,
        allowed: npt.NDArray[np.bool_] | None,
        left: int,
        ids: Ids,
        scores: Vectors,
    ) -> None:
        n, cells = len(self.vectors), len(self.cell_list)
        # A mask makes a query read more cells: as many as hold the wanted number of allowed items.
        wanted = max(self.config.probe * n, self.config.least, 4 * self.config.rescore * k)
        probes = min(cells, int(np.ceil(wanted / left * cells)))
        mask = np.empty(0, np.bool_) if allowed is None else _frozen(allowed)
        for query, found, score in zip(_frozen(queries), ids, scores, strict=True):
            optimistic = _optimistic_scores(
                self.directions @ query,
                np.float32(self.config.optimism * sqrt(query @ query)),
                self.cell_list,
                self.cell_mean,
                self.cell_spread,
            )
            best = best_first(optimistic, self._cells, probes)
            candidates = _scan(
                query, best, self.cell_codes, self.cell_scale, self.cell_items, self.config.rescore * k, mask
            )
            exact = products(query, candidates, self.vectors, self.weight)
            order = best_first(exact, candidates, k)
            found[: len(order)] = candidates[order]
            score[: len(order)] = exact[order]

    def _check(self) -> None:
        cells, d = len(self.cell_list), self.vectors.shape[1]
        ok = (
            self.directions.shape[1:] == (d,)
            and self.weight.shape in ((0,), (len(self.vectors),))
            and self.cell_mean.shape == self.cell_spread.shape == (cells,)
            and self.cell_items.shape == self.cell_scale.shape == (cells, CELL)
            and self.cell_codes.shape == (cells, d, CELL)
            and self.cell_items.max(initial=-1) < len(self.vectors)
            and self.cell_list.max(initial=-1) < len(self.directions)
            and self.cell_list.min(initial=0) >= 0
        )
        if not ok:
            raise InvalidData("the arrays of an index do not fit together; fit it again", field="nearest")


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A plain read-only view: arrays from memory and from memory maps then compile to the same kernel."""
    view = np.ascontiguousarray(array).view(np.ndarray)
    view.flags.writeable = False
    return view


# -- building ----------------------------------------------------------------------------------------------


def _spherical_k_means(vectors: Vectors, lists: int, iterations: int, rng: np.random.Generator) -> Vectors:
    """Unit directions float32[lists, d] fitted on a sample of 64 vectors per list."""
    sample = _unit(vectors[np.sort(rng.choice(len(vectors), min(len(vectors), 64 * lists), replace=False))])
    directions = sample[rng.choice(len(sample), lists, replace=False)]
    for _ in range(iterations):
        sums, counts = _sums(sample, _closest(sample, directions), lists)
        empty = counts == 0
        sums[empty] = sample[rng.choice(len(sample), int(empty.sum()))]
        directions = _unit(sums)
    return directions


def _unit(vectors: Vectors) -> Vectors:
    norms: Vectors = np.linalg.norm(vectors, axis=1, keepdims=True)
    norms[norms == 0] = 1.0
    return vectors / norms


def _closest(vectors: Vectors, directions: Vectors) -> Ids:
    """int32[n]: the direction with the largest inner product, a cache-sized batch at a time."""
    out = np.empty(len(vectors), np.int32)
    batch = max(1, 2_000_000 // len(directions))
    turned = np.ascontiguousarray(directions.T)
    for first in range(0, len(vectors), batch):
        out[first : first + batch] = (vectors[first : first + batch] @ turned).argmax(axis=1)
    return out


@njit(cache=True, nogil=True)
def _sums(vectors: Vectors, group: Ids, groups: int) -> tuple[Vectors, npt.NDArray[np.int64]]:
    sums = np.zeros((groups, vectors.shape[1]), np.float32)
    counts = np.zeros(groups, np.int64)
    for i in range(group.size):
        sums[group[i]] += vectors[i]
        counts[group[i]] += 1
    return sums, counts


def _cells(vectors: Vectors, assigned: Ids, lists: int) -> tuple[Ids, Ids]:
    """Cut each list, by falling norm, into cells of 64: each cell's list, and its items or -1."""
    norms = np.einsum("ij,ij->i", vectors, vectors)
    order = np.lexsort((-norms, assigned))
    sizes = np.bincount(assigned, minlength=lists)
    cells_of_list = -(-sizes // CELL)
    cell_list = np.repeat(np.arange(lists, dtype=np.int32), cells_of_list)
    place = np.arange(len(vectors)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    row = np.repeat(np.cumsum(cells_of_list) - cells_of_list, sizes) + place // CELL
    items = np.full((len(cell_list), CELL), _EMPTY, np.int32)
    items[row, place % CELL] = order
    return cell_list, items


@njit(cache=True, nogil=True)
def _statistics(
    vectors: Vectors, weight: Vectors, directions: Vectors, cell_list: Ids, cell_items: Ids
) -> tuple[Vectors, Vectors]:
    """Of each cell: the mean projection of its items on its list's direction, and their spread around it."""
    cells, d = cell_list.size, vectors.shape[1]
    mean = np.zeros(cells, np.float32)
    spread = np.zeros(cells, np.float32)
    for cell in range(cells):
        direction = directions[cell_list[cell]]
        count = 0
        along_sum = 0.0
        square_sum = 0.0
        for lane in range(CELL):
            item = cell_items[cell, lane]
            if item < 0:
                continue
            times = weight[item] if weight.size else np.float32(1)
            for c in range(d):
                value = vectors[item, c] * times
                along_sum += value * direction[c]
                square_sum += value * value
            count += 1
        mean[cell] = along_sum / count
        spread[cell] = np.sqrt(max(0.0, square_sum / count - (along_sum / count) ** 2) / d)
    return mean, spread


@njit(cache=True, nogil=True)
def _encode(vectors: Vectors, cell_items: Ids) -> tuple[Vectors, npt.NDArray[np.int8]]:
    """Each item as a scale and 8-bit codes, in its cell's lane."""
    cells, d = len(cell_items), vectors.shape[1]
    scale = np.zeros((cells, CELL), np.float32)
    codes = np.zeros((cells, d, CELL), np.int8)
    for cell in range(cells):
        for lane in range(CELL):
            item = cell_items[cell, lane]
            if item < 0:
                continue
            largest = np.float32(0)
            for c in range(d):
                largest = max(largest, abs(vectors[item, c]))
            scale[cell, lane] = largest / np.float32(127)
            if scale[cell, lane] > 0:
                for c in range(d):
                    codes[cell, c, lane] = np.int8(np.rint(vectors[item, c] / scale[cell, lane]))
    return scale, codes


# -- searching ---------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _optimistic_scores(
    along: Vectors, optimism: np.float32, cell_list: Ids, cell_mean: Vectors, cell_spread: Vectors
) -> Vectors:
    out = np.empty(cell_list.size, np.float32)
    for cell in range(cell_list.size):
        out[cell] = cell_mean[cell] * along[cell_list[cell]] + optimism * cell_spread[cell]
    return out


def _prefetch_ir(typingctx: Any, array: Any, offset: Any) -> tuple[Any, Callable[..., Any]]:
    """Ask for the cache line of array.flat[offset]. Cells lie on scattered pages: waiting for them halves the speed."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        address = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())
        flag = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [address.type, flag, flag, flag])
        fetch = builder.module.declare_intrinsic("llvm.prefetch", [address.type], kind)
        builder.call(fetch, [address, flag(0), flag(3), flag(1)])  # to read, keep close, data
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


_prefetch: Any = intrinsic(_prefetch_ir)


@njit(cache=True, nogil=True, fastmath={"contract"})
def _scan(
    query: Vectors,
    cells: npt.NDArray[np.int64],
    codes: npt.NDArray[np.int8],
    scale: Vectors,
    items: Ids,
    keep: int,
    allowed: npt.NDArray[np.bool_],
) -> Ids:
    """At least the `keep` best items of the cells by their codes (fewer if there are fewer), in no order."""
    capacity = max(4 * keep, 1024) + CELL
    best = np.empty(capacity, np.float32)
    found = np.empty(capacity, np.int32)
    count = 0
    bar = np.float32(-np.inf)
    total = np.empty(CELL, np.float32)
    d = query.size
    whole = d - d % 4
    for turn in range(cells.size):
        cell = cells[turn]
        block = codes[cell]
        coming = cells[min(turn + _AHEAD, cells.size - 1)]
        for lane in range(0, CELL, 16):  # 16 numbers of four bytes make a cache line, and so do 64 codes
            _prefetch(scale, coming * CELL + lane)
        total[:] = np.float32(0)
        for c in range(0, whole, 4):
            for row in range(c, c + 4):
                _prefetch(codes, (coming * d + row) * CELL)
            q0, q1, q2, q3 = query[c], query[c + 1], query[c + 2], query[c + 3]
            for lane in range(CELL):
                total[lane] += (
                    q0 * np.float32(block[c, lane])
                    + q1 * np.float32(block[c + 1, lane])
                    + q2 * np.float32(block[c + 2, lane])
                    + q3 * np.float32(block[c + 3, lane])
                )
        for c in range(whole, d):
            for lane in range(CELL):
                total[lane] += query[c] * np.float32(block[c, lane])
        for lane in range(CELL):
            total[lane] *= scale[cell, lane]
        for lane in range(CELL):
            if total[lane] > bar:
                item = items[cell, lane]
                if item >= 0 and (allowed.size == 0 or allowed[item]):
                    best[count] = total[lane]
                    found[count] = item
                    count += 1
        if count > capacity - CELL:
            bar = kth_largest(best[:count], keep)
            kept = 0
            for i in range(count):
                if best[i] >= bar and kept < 2 * keep:
                    best[kept] = best[i]
                    found[kept] = found[i]
                    kept += 1
            count = kept
    if count > keep:
        bar = kth_largest(best[:count], keep)
        kept = 0
        for i in range(count):
            if best[i] >= bar:
                found[kept] = found[i]
                kept += 1
        count = kept
    return found[:count]


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def products(query: Vectors, candidates: Ids, vectors: Vectors, weight: Vectors) -> Vectors:
    """Inner products of a query float32[d] with some rows of vectors float32[n, d], times their weight unless it is empty."""
    out = np.empty(candidates.size, np.float32)
    for i in range(candidates.size):
        dot = np.float32(0)
        for c in range(query.size):
            dot += query[c] * vectors[candidates[i], c]
        out[i] = dot * weight[candidates[i]] if weight.size else dot
    return out


def _top_of_rows(scores: Vectors, ids: Ids, best: Vectors) -> None:
    """Fill the first columns of ids and best with the columns and values of each row's top scores, best first."""
    k = min(ids.shape[1], scores.shape[1])
    if k == 0:
        return
    top = np.argpartition(scores, -k, axis=1)[:, -k:] if k < scores.shape[1] else np.arange(k)[None, :]
    values = np.take_along_axis(scores, np.broadcast_to(top, (len(scores), k)), axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    ids[:, :k] = np.take_along_axis(np.broadcast_to(top, values.shape), order, axis=1)
    best[:, :k] = np.take_along_axis(values, order, axis=1)
