"""Candidates are columns: tracks int32[n] and one column of scores per source, never a list of objects."""

# mypy: disallow-untyped-decorators=False
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from segue.contracts.errors import InvalidData
from segue.models.order import best_first, rising

Ids = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Candidates:
    """Merged candidates.

    tracks int32[n] catalogue positions, distinct; scores float32[n, s], NaN where source j did not propose track i;
    ranks float32[n, s], 0 for a source's best, NaN likewise; sources: their names.
    """

    tracks: Ids
    scores: Floats
    ranks: Floats
    sources: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.tracks)

    def keep(self, mask: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Candidates:
        """Only the chosen rows, in their order."""
        rows = np.flatnonzero(mask) if mask.dtype == np.bool_ else mask
        return Candidates(
            self.tracks[rows], self.scores.take(rows, axis=0), self.ranks.take(rows, axis=0), self.sources
        )

    def sources_of(self, row: int) -> tuple[str, ...]:
        """Names of the sources that proposed a row."""
        return tuple(
            name for name, score in zip(self.sources, self.scores[row], strict=True) if score == score
        )


def checked(proposal: tuple[Ids, Floats], n_tracks: int) -> tuple[Ids, Floats]:
    """What a source proposed, if it can be used: kernels do not check bounds. Raises InvalidData."""
    tracks, scores = proposal
    for name, array, wanted in (("tracks", tracks, np.int32), ("scores", scores, np.float32)):
        if not isinstance(array, np.ndarray) or array.dtype != wanted or array.shape != (len(tracks),):
            given = (
                f"{array.dtype}{list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
            )
            raise InvalidData(
                f"{name} must be {np.dtype(wanted)}[{len(tracks)}], got {given}",
                field=name,
                limit=str(np.dtype(wanted)),
            )
    if not _usable(tracks, scores, n_tracks):
        raise InvalidData(
            "tracks must be positions in the catalogue and scores finite numbers",
            field="tracks",
            limit=f"0..{n_tracks - 1}",
        )
    return proposal


@njit(cache=True, nogil=True)
def _usable(tracks: Ids, scores: Floats, n_tracks: int) -> bool:
    usable = True
    for i in range(len(tracks)):
        usable &= 0 <= tracks[i] < n_tracks and np.isfinite(scores[i])
    return usable


def merge(proposals: dict[str, tuple[Ids, Floats]], most: int) -> Candidates:
    """One row per distinct track; at most `most`, those that the sources agree on most. A repeated track counts once."""
    names = tuple(proposals)
    sizes = [len(ids) for ids, _ in proposals.values()]
    if sum(sizes) == 0:
        empty = np.empty((0, len(names)), np.float32)
        return Candidates(np.empty(0, np.int32), empty, empty, names)
    tracks = np.concatenate([ids for ids, _ in proposals.values()], dtype=np.int32)
    values = np.concatenate([scores for _, scores in proposals.values()], dtype=np.float32)
    distinct, scores, ranks = _spread(tracks, values, np.array(sizes, np.int64))
    merged = Candidates(distinct, scores, ranks, names)
    if len(merged) <= most:
        return merged
    kept = np.zeros(len(merged), np.bool_)
    kept[best_first(agreement(ranks), distinct, most)] = True
    return merged.keep(kept)


@njit(cache=True, nogil=True)
def agreement(ranks: Floats) -> Floats:
    """Reciprocal rank fusion (Cormack, Clarke, Buettcher, SIGIR 2009): sum over sources of 1 / (10 + rank). float32[n]."""
    total = np.zeros(len(ranks), np.float32)
    for row in range(len(ranks)):
        for source in range(ranks.shape[1]):
            if not np.isnan(ranks[row, source]):
                total[row] += np.float32(1) / (np.float32(10) + ranks[row, source])
    return total


@njit(cache=True, nogil=True)
def _spread(tracks: Ids, values: Floats, sizes: npt.NDArray[np.int64]) -> tuple[Ids, Floats, Floats]:
    """Proposals, source after source, as a row per distinct track and a column per source: tracks, scores, ranks."""
    n_sources = len(sizes)
    row = np.empty(len(tracks), np.int64)
    distinct = np.empty(len(tracks), np.int32)
    found = 0
    for at in rising(tracks.astype(np.uint64)):
        if found == 0 or distinct[found - 1] != tracks[at]:
            distinct[found] = tracks[at]
            found += 1
        row[at] = found - 1
    scores = np.full((found, n_sources), np.nan, np.float32)
    ranks = np.full((found, n_sources), np.nan, np.float32)
    at = 0
    for source in range(n_sources):
        for rank in range(sizes[source]):
            if np.isnan(ranks[row[at], source]):
                scores[row[at], source] = values[at]
                ranks[row[at], source] = rank
            at += 1
    return distinct[:found].copy(), scores, ranks


def weights_of(sources: tuple[str, ...], weights: dict[str, float]) -> npt.NDArray[np.float64]:
    """The weight of each source in a blend: 1 for all where none are given. float64[s]."""
    return np.array([weights.get(name, 0.0 if weights else 1.0) for name in sources])


@njit(cache=True, nogil=True)
def blend(scores: Floats, weights: npt.NDArray[np.float64]) -> Floats:
    """Sum of the sources' scores float32[n, s], each divided by its best, times their weights float64[s]. float32[n]."""
    total = np.zeros(len(scores), np.float32)
    for source in range(scores.shape[1]):
        top = np.float32(0)
        for row in range(len(scores)):
            if scores[row, source] > top:
                top = scores[row, source]
        if top > 0:
            factor = np.float32(weights[source] / top)
            for row in range(len(scores)):
                if not np.isnan(scores[row, source]):
                    total[row] += factor * scores[row, source]
    return total
