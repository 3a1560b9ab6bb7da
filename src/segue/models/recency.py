"""Recency: what a listener plays again, and what lies near it.

People repeat themselves, the more so the more recent and the more frequent (Anderson, Kumar, Tomkins and
Vassilvitskii 2014, "The dynamics of repeat consumption"). `own_plays` scores a listener's tracks by decayed
plays; `RecencyKNN` puts the same decayed plays through neighbour lists (co-listening, item-kNN, any lists),
so that yesterday's taste weighs more than last year's, and returns the listener's own tracks and new ones in
one ranking.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
from numba import njit

from segue.models.sequence_rules import score_lists
from segue.models.sessions import DAY_US
from segue.models.sparse_sum import add, best, empty_table

__all__ = ["RecencyConfig", "RecencyKNN", "own_plays", "own_plays_batch"]

Ids = npt.NDArray[np.int32]
Times = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]
Indptr = npt.NDArray[np.int64]
History = tuple[Indptr, Ids, Times]


class RecencyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a listener's history fades and speaks.

    half_life_days: of a play; repeat_power: a track's decayed plays are raised to this before they spread to
    neighbours; self_weight: what a track's own decayed plays are worth beside what its neighbours give it
    (0: neighbours only); longest: last plays that count.
    """

    half_life_days: float = 180.0
    repeat_power: float = 0.75
    self_weight: float = 1.0
    longest: int = 500


@njit(cache=True, nogil=True)
def _profile(items: Ids, ts: Times, now: int, rate: float, longest: int, k: int) -> tuple[Ids, Scores]:
    begin = max(0, len(items) - longest)
    keys, sums = empty_table(len(items) - begin)
    for at in range(begin, len(items)):
        if items[at] >= 0:
            # Relative to the last play: the order of a listener's tracks, and float32, survive any silence.
            age = max(min(now, ts[len(items) - 1]) - ts[at], 0)
            add(keys, sums, items[at], 2.0 ** (-rate * age))
    found: tuple[Ids, Scores] = best(keys, sums, k)
    return found


@njit(cache=True, nogil=True)
def _own_plays_batch(
    indptr: Indptr, items: Ids, ts: Times, now: Times, rate: float, longest: int, k: int
) -> tuple[Ids, Scores]:
    n = len(indptr) - 1
    ids = np.full((n, k), -1, dtype=np.int32)
    scores = np.zeros((n, k), dtype=np.float32)
    for row in range(n):
        begin = indptr[row]
        end = indptr[row + 1]
        got, values = _profile(items[begin:end], ts[begin:end], now[row], rate, longest, k)
        ids[row, : len(got)] = got
        scores[row, : len(got)] = values
    return ids, scores


@njit(cache=True, nogil=True)
def _spread(
    neighbours: Ids,
    weights: Scores,
    items: Ids,
    decayed: Scores,
    repeat_power: float,
    self_weight: float,
    k: int,
) -> tuple[Ids, Scores]:
    strength = decayed.astype(np.float64) ** repeat_power
    if self_weight <= 0.0:
        spread: tuple[Ids, Scores] = score_lists(neighbours, weights, items, strength, items[:0], 1.0, k)
        return spread
    ids, scores = score_lists(neighbours, weights, items, strength, items[:0], 1.0, len(items) + k)
    keys, sums = empty_table(len(ids) + len(items))
    for i in range(len(ids)):
        add(keys, sums, ids[i], scores[i])
    for i in range(len(items)):
        add(keys, sums, items[i], self_weight * strength[i])
    found: tuple[Ids, Scores] = best(keys, sums, k)
    return found


@njit(cache=True, nogil=True)
def _spread_batch(
    neighbours: Ids,
    weights: Scores,
    own_ids: Ids,
    own_scores: Scores,
    repeat_power: float,
    self_weight: float,
    k: int,
) -> tuple[Ids, Scores]:
    n = len(own_ids)
    ids = np.full((n, k), -1, dtype=np.int32)
    scores = np.zeros((n, k), dtype=np.float32)
    for row in range(n):
        size = 0
        while size < own_ids.shape[1] and own_ids[row, size] >= 0:
            size += 1
        got, values = _spread(
            neighbours, weights, own_ids[row, :size], own_scores[row, :size], repeat_power, self_weight, k
        )
        ids[row, : len(got)] = got
        scores[row, : len(got)] = values
    return ids, scores


def own_plays(items: Ids, ts: Times, now: int, k: int, config: RecencyConfig) -> tuple[Ids, Scores]:
    """A listener's tracks by decayed plays: (ids int32[m], scores float32[m]), best first, m <= k.

    ``items`` int32[n], ``ts`` int64[n] microseconds: the listener's plays, oldest first; negative ids are
    unknown.
    """
    found: tuple[Ids, Scores] = _profile(
        items, ts, now, 1.0 / (config.half_life_days * DAY_US), config.longest, k
    )
    return found


def own_plays_batch(history: History, now: Times, k: int, config: RecencyConfig) -> tuple[Ids, Scores]:
    """`own_plays` for ragged histories (indptr, items, ts): (int32[n, k] padded by -1, float32[n, k])."""
    found: tuple[Ids, Scores] = _own_plays_batch(
        *history, now, 1.0 / (config.half_life_days * DAY_US), config.longest, k
    )
    return found


@dataclass(frozen=True, slots=True)
class RecencyKNN:
    """Decayed plays spread over neighbour lists: ``neighbours`` int32[n_items, K], ``weights``
    float32[n_items, K].
    """

    config: RecencyConfig
    neighbours: Ids
    weights: Scores

    def score(self, items: Ids, ts: Times, now: int, k: int) -> tuple[Ids, Scores]:
        """The ``k`` best tracks for one listener's plays, oldest first: (ids int32[m], scores float32[m])."""
        own, decayed = own_plays(items, ts, now, self.config.longest, self.config)
        found: tuple[Ids, Scores] = _spread(
            self.neighbours,
            self.weights,
            own,
            decayed,
            self.config.repeat_power,
            self.config.self_weight,
            k,
        )
        return found

    def score_batch(self, history: History, now: Times, k: int) -> tuple[Ids, Scores]:
        """`score` for ragged histories (indptr, items, ts): (int32[n, k] padded by -1, float32[n, k])."""
        own, decayed = own_plays_batch(history, now, self.config.longest, self.config)
        found: tuple[Ids, Scores] = _spread_batch(
            self.neighbours,
            self.weights,
            own,
            decayed,
            self.config.repeat_power,
            self.config.self_weight,
            k,
        )
        return found
