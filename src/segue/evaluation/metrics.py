"""Ranking metrics on columns: accuracy of top-K lists and of ranks, and properties of the lists themselves.

Definitions (binary relevance, natural in top-K evaluation; Järvelin and Kekäläinen 2002 for NDCG):

* recall@k = hits in the first k / number of targets (all targets count, also those no model could name)
* hr@k     = 1 if any of the first k is a target
* mrr@k    = 1 / rank of the first hit within k, else 0
* ndcg@k   = sum over hits of 1/log2(rank + 1), divided by the same sum for min(k, number of targets) leading
  hits

Every accuracy metric comes back per case (``float64[n]``), never averaged: the mean and its interval are
taken by :mod:`segue.evaluation.bootstrap`, which must know which cases belong to one listener.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numba import njit

from segue.contracts.errors import InvalidData

__all__ = [
    "artist_diversity",
    "coverage",
    "gini",
    "intra_list_diversity",
    "novelty",
    "rank_metrics",
    "rank_of_target",
    "top_k_metrics",
]

Floats = npt.NDArray[np.float64]


@njit(cache=True, nogil=True)
def _top_k(
    top: npt.NDArray[np.int32],
    indptr: npt.NDArray[np.int64],
    targets: npt.NDArray[np.int32],
    cuts: npt.NDArray[np.int64],
    discount: Floats,
    ideal: Floats,
    out: npt.NDArray[np.float64],
) -> None:
    """Fill ``out[4, n_cuts, n]`` (recall, ndcg, hr, mrr) in one pass over each list."""
    n, width = top.shape
    for row in range(n):
        wanted = np.sort(targets[indptr[row] : indptr[row + 1]])
        size = wanted.size
        found = np.zeros(size, dtype=np.bool_)
        hits = 0
        gain = 0.0
        first = 0
        at = 0
        for position in range(width):
            item = top[row, position]
            if item >= 0:
                slot = np.searchsorted(wanted, item)
                # A target named twice by a list is one hit: the second naming tells the listener nothing new.
                if slot < size and wanted[slot] == item and not found[slot]:
                    found[slot] = True
                    hits += 1
                    gain += discount[position]
                    if first == 0:
                        first = position + 1
            while at < cuts.size and cuts[at] == position + 1:
                best = ideal[min(cuts[at], size)]
                out[0, at, row] = hits / size
                out[1, at, row] = gain / best
                out[2, at, row] = 1.0 if hits > 0 else 0.0
                out[3, at, row] = 1.0 / first if first > 0 else 0.0
                at += 1


def top_k_metrics(
    top: npt.NDArray[np.int32],
    target_indptr: npt.NDArray[np.int64],
    target_indices: npt.NDArray[np.int32],
    cuts: Sequence[int],
) -> dict[str, Floats]:
    """Accuracy of ranked lists against sets of targets.

    ``top``: ``int32[n, K]``, best first, -1 for an empty place, no item twice.
    ``target_indptr`` (``int64[n + 1]``) and ``target_indices`` (``int32``) hold each case's distinct targets;
    a negative target stands for one outside the catalogue: never a hit, always in the denominator.
    Returns ``float64[n]`` under "recall@k", "ndcg@k", "hr@k", "mrr@k" for each cut.
    Raises `InvalidData` for a cut outside 1..K, a case without targets, or lengths that do not agree.
    """
    n, width = top.shape
    ordered = np.unique(np.asarray(cuts, dtype=np.int64))
    if ordered.size == 0 or ordered[0] < 1 or ordered[-1] > width:
        raise InvalidData(f"cuts must lie in 1..{width} (the width of `top`), got {list(cuts)}")
    if target_indptr.size != n + 1 or target_indptr[-1] != target_indices.size:
        raise InvalidData(f"target_indptr must have {n + 1} entries ending at {target_indices.size}")
    if n and np.diff(target_indptr).min() < 1:
        raise InvalidData("every case needs at least one target: leave cases without targets out")
    discount = 1.0 / np.log2(np.arange(2, width + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discount)])
    out = np.zeros((4, ordered.size, n))
    _top_k(
        np.ascontiguousarray(top, dtype=np.int32),
        np.ascontiguousarray(target_indptr, dtype=np.int64),
        np.ascontiguousarray(target_indices, dtype=np.int32),
        ordered,
        discount,
        ideal,
        out,
    )
    names = ("recall", "ndcg", "hr", "mrr")
    return {f"{name}@{cut}": out[m, c] for m, name in enumerate(names) for c, cut in enumerate(ordered)}


def rank_metrics(ranks: Floats, cuts: Sequence[int]) -> dict[str, Floats]:
    """Accuracy when each case has one target of known rank.

    ``ranks``: ``float64[n]``, 1 is best, fractions allowed (ties count half), ``inf`` for a miss.
    Returns "hr@k", "mrr@k", "ndcg@k", each ``float64[n]``; recall@k equals hr@k here.
    """
    ranks = np.asarray(ranks, dtype=np.float64)
    if ranks.size and not np.all(ranks >= 1.0):
        raise InvalidData("ranks start at 1 (inf for a miss)")
    gain = 1.0 / np.log2(ranks + 1.0)
    reciprocal = 1.0 / ranks
    out: dict[str, Floats] = {}
    for cut in cuts:
        hit = ranks <= cut
        out[f"hr@{cut}"] = hit.astype(np.float64)
        out[f"mrr@{cut}"] = np.where(hit, reciprocal, 0.0)
        out[f"ndcg@{cut}"] = np.where(hit, gain, 0.0)
    return out


@njit(cache=True, nogil=True)
def _ranks(scores: npt.NDArray[np.floating], targets: npt.NDArray[np.int64], out: Floats) -> None:
    for row in range(scores.shape[0]):
        target = targets[row]
        if target < 0:
            out[row] = np.inf
            continue
        mine = scores[row, target]
        above = 0
        equal = 0
        for item in range(scores.shape[1]):
            if scores[row, item] > mine:
                above += 1
            elif scores[row, item] == mine:
                equal += 1
        out[row] = 1.0 + above + 0.5 * (equal - 1)


def rank_of_target(scores: npt.NDArray[np.floating], target: npt.NDArray[np.integer]) -> Floats:
    """Rank of each row's target among all columns of ``scores[n, n_items]``; ties count half.

    ``target``: ``int[n]``, negative for "outside the catalogue", whose rank is ``inf``. Returns
    ``float64[n]``.
    """
    out = np.empty(scores.shape[0])
    _ranks(np.ascontiguousarray(scores), np.asarray(target, dtype=np.int64), out)
    return out


def _shown(top: npt.NDArray[np.int32], n_items: int) -> npt.NDArray[np.int64]:
    """How often each item of the catalogue is shown: ``int64[n_items]``."""
    return np.bincount(top[top >= 0].ravel(), minlength=n_items)


def coverage(top: npt.NDArray[np.int32], n_items: int) -> float:
    """Share of the catalogue that appears in at least one list."""
    return float(np.count_nonzero(_shown(top, n_items)) / n_items)


def gini(top: npt.NDArray[np.int32], n_items: int) -> float:
    """Gini coefficient of exposure over the whole catalogue: 0 is even, near 1 is all on few items."""
    counts = np.sort(_shown(top, n_items)).astype(np.float64)
    total = counts.sum()
    if total == 0.0:
        return 0.0
    ranks = np.arange(1, n_items + 1)
    return float((2.0 * (ranks * counts).sum() / total - (n_items + 1)) / n_items)


def novelty(top: npt.NDArray[np.int32], plays: npt.NDArray[np.number]) -> Floats:
    """Mean self-information of each list in bits: -log2 of the item's share of plays (Zhou et al. 2010).

    ``plays``: plays of each item before the cut, ``[n_items]``. One play is added to every item, so that a
    never-played item is very novel and not infinitely so. Returns ``float64[n]``; an empty list has 0.
    """
    smoothed = np.asarray(plays, dtype=np.float64) + 1.0
    bits = -np.log2(smoothed / smoothed.sum())
    full = top >= 0
    total = np.where(full, bits[np.maximum(top, 0)], 0.0).sum(axis=1)
    mean: Floats = total / np.maximum(full.sum(axis=1), 1)
    return mean


@njit(cache=True, nogil=True)
def _list_diversity(top: npt.NDArray[np.int32], vectors: npt.NDArray[np.float32], out: Floats) -> None:
    # The sum of all pairwise cosines is (|sum of unit vectors|^2 - number of them) / 2: no pair is ever
    # visited.
    dim = vectors.shape[1]
    total = np.empty(dim)
    for row in range(top.shape[0]):
        total[:] = 0.0
        size = 0
        own = 0.0
        for position in range(top.shape[1]):
            item = top[row, position]
            if item < 0:
                continue
            size += 1
            norm = 0.0
            for d in range(dim):
                norm += vectors[item, d] * vectors[item, d]
            if norm > 0.0:
                own += 1.0
                scale = 1.0 / np.sqrt(norm)
                for d in range(dim):
                    total[d] += vectors[item, d] * scale
        if size < 2:
            out[row] = 0.0
            continue
        square = 0.0
        for d in range(dim):
            square += total[d] * total[d]
        out[row] = 1.0 - (square - own) / (size * (size - 1))


def intra_list_diversity(top: npt.NDArray[np.int32], vectors: npt.NDArray[np.float32]) -> Floats:
    """Mean pairwise distance (1 - cosine) inside each list (Ziegler et al. 2005), in 0..2.

    ``vectors``: ``float32[n_items, d]``; a zero vector is at distance 1 from everything. Returns
    ``float64[n]``; a list of fewer than two items has 0.
    """
    out = np.empty(top.shape[0])
    _list_diversity(
        np.ascontiguousarray(top, dtype=np.int32),
        np.ascontiguousarray(vectors, dtype=np.float32),
        out,
    )
    return out


def artist_diversity(top: npt.NDArray[np.int32], artist: npt.NDArray[np.integer]) -> Floats:
    """Distinct artists of each list / its length; an unknown artist (id <= 0) counts as one of its own.

    ``artist``: ``int[n_items]``. Returns ``float64[n]`` in 0..1; an empty list has 0.
    """
    full = top >= 0
    owner = np.where(full, np.asarray(artist, dtype=np.int64)[np.maximum(top, 0)], 0)
    known = np.sort(np.where(owner > 0, owner, 0), axis=1)
    distinct = (known[:, 0] > 0).astype(np.int64) if top.shape[1] else np.zeros(top.shape[0], dtype=np.int64)
    distinct = distinct + ((np.diff(known, axis=1) != 0) & (known[:, 1:] > 0)).sum(axis=1)
    unknown = (full & (owner <= 0)).sum(axis=1)
    share: Floats = (distinct + unknown) / np.maximum(full.sum(axis=1), 1)
    return share
