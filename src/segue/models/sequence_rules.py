"""Distance-weighted sequence rules: "after this track come these", from the order of plays in sessions.

A rule a -> b gains d^-p for every session in which b follows a at distance d (Kamehkhosh, Jannach and Ludewig
2017, "A comparison of frequent pattern techniques and a deep learning method for session-based
recommendation"), here weighted by the recency of the play, optionally counted backward as well (where order
carries less than nearness), and divided by powers of both tracks' popularity. A session is scored by summing
the rules of its last tracks, each weighted by how far back it is.

Only the best rules of each track are kept: two arrays [n_items, neighbours], read by row, mapped from disk.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
from numba import njit

from segue.models.item_knn import Neighbours, score_lists
from segue.models.order import best_first
from segue.models.sessions import Sessions
from segue.models.sparse_sum import padded

__all__ = ["SequenceRules", "SequenceRulesConfig", "by_distance", "count_pairs"]

Ids = npt.NDArray[np.int32]
Scores = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]


class SequenceRulesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a rule is worth, and how a session's tracks add up.

    window: greatest distance of a pair; power: weight d^-power at distance d; backward: worth of a pair
    against the order, relative to one along it; half_life_days: of a play's weight at fit time (none: all
    count alike); source_damping, target_damping: powers of the two tracks' weighted play counts that a rule
    is divided by; neighbours: rules kept per track; prefix_window: how many last tracks of a session speak;
    prefix_power: weight distance^-prefix_power of each; seen_weight: factor for tracks already in the
    session.
    """

    window: int = 10
    power: float = 1.0
    backward: float = 0.5
    half_life_days: float | None = None
    source_damping: float = 0.5
    target_damping: float = 0.2
    neighbours: int = 100
    prefix_window: int = 10
    prefix_power: float = 1.5
    seen_weight: float = 0.5


def count_pairs(
    sessions: Sessions,
    weight: Scores,
    forward: Floats,
    backward: Floats,
    gap_rate: float,
    source_damping: float,
    target_damping: float,
    k: int,
) -> Neighbours:
    """The ``k`` best-paired items of every item.

    A pair of plays at distance d in one session adds forward[d] (or backward[d]) x the newer play's ``weight``
    (float32[n_plays]) x 2^-(microseconds between them x gap_rate); a sum is divided by powers of both items' weighted
    plays.
    """
    count = np.bincount(sessions.items, weights=weight, minlength=sessions.n_items).astype(np.float64)
    ids, scores = _count_pairs(
        sessions.indptr,
        sessions.items,
        sessions.ts,
        weight,
        sessions.session_of_play(),
        *sessions.occurrences(),
        forward,
        backward,
        gap_rate,
        _damping(count, source_damping),
        _damping(count, target_damping),
        k,
    )
    return Neighbours(ids, scores)


def by_distance(reach: int, power: float) -> Floats:
    """Weights distance^-power of the distances 1..reach. float64[reach]."""
    return np.arange(1, reach + 1, dtype=np.float64) ** -power


def _damping(count: Floats, power: float) -> Floats:
    """count^-power, with 1 where the count is zero (nothing pairs with such an item anyway)."""
    return np.where(count > 0.0, np.maximum(count, 1e-12) ** -power, 1.0)


@njit(cache=True, nogil=True)
def _count_pairs(
    indptr: npt.NDArray[np.int64],
    items: Ids,
    ts: npt.NDArray[np.int64],
    weight: Scores,
    session: npt.NDArray[np.int64],
    occ_indptr: npt.NDArray[np.int64],
    occurrences: npt.NDArray[np.int64],
    forward: Floats,
    backward: Floats,
    gap_rate: float,
    source_scale: Floats,
    target_scale: Floats,
    k: int,
) -> tuple[Ids, Scores]:
    """One dense row of sums is reused for all items: memory is the catalogue once and never the number of pairs."""
    n_items = len(occ_indptr) - 1
    ids = np.full((n_items, k), -1, dtype=np.int32)
    scores = np.zeros((n_items, k), dtype=np.float32)
    sums = np.zeros(n_items)
    touched = np.empty(n_items, dtype=np.int32)
    reach = len(forward) - 1
    for source in range(n_items):
        n_touched = 0
        for at in range(occ_indptr[source], occ_indptr[source + 1]):
            play = occurrences[at]
            begin = indptr[session[play]]
            end = indptr[session[play] + 1]
            for other in range(max(begin, play - reach), min(end, play + reach + 1)):
                item = items[other]
                if item == source:
                    continue
                amount = forward[other - play] if other > play else backward[play - other]
                if amount <= 0.0:
                    continue
                amount *= weight[max(play, other)]
                if gap_rate > 0.0:
                    amount *= 2.0 ** (-gap_rate * abs(ts[other] - ts[play]))
                if sums[item] == 0.0:
                    touched[n_touched] = item
                    n_touched += 1
                sums[item] += amount
        found = touched[:n_touched]
        values = np.empty(n_touched, np.float32)
        for i in range(n_touched):
            values[i] = sums[found[i]] * target_scale[found[i]] * source_scale[source]
            sums[found[i]] = 0.0
        order = best_first(values, found, k)
        for place in range(len(order)):
            ids[source, place] = found[order[place]]
            scores[source, place] = values[order[place]]
    return ids, scores


@dataclass(frozen=True, slots=True)
class SequenceRules:
    """Fitted rules: what follows each item, best first."""

    config: SequenceRulesConfig
    rules: Neighbours

    @classmethod
    def fit(cls, sessions: Sessions, config: SequenceRulesConfig, *, now: int) -> SequenceRules:
        """Count the rules of all sessions. ``now`` (microseconds) is the moment ages are measured from."""
        forward = np.concatenate([[0.0], by_distance(config.window, config.power)])
        rules = count_pairs(
            sessions,
            sessions.play_weights(now, config.half_life_days),
            forward,
            forward * config.backward,
            0.0,
            config.source_damping,
            config.target_damping,
            config.neighbours,
        )
        return cls(config, rules)

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """The arrays to save, by name."""
        return self.rules.arrays()

    @classmethod
    def from_arrays(
        cls, config: SequenceRulesConfig, arrays: dict[str, npt.NDArray[np.generic]]
    ) -> SequenceRules:
        """The model back from `arrays` (mapped from disk or in memory) and its config."""
        return cls(config, Neighbours.from_arrays(arrays))

    def score(self, prefix: Ids, k: int) -> tuple[Ids, Scores]:
        """The ``k`` best next tracks of one session: (ids int32[m], scores float32[m]), best first, m <= k.

        ``prefix``: int32, the session so far, oldest first; negative ids (unknown tracks) keep their place
        and say nothing.
        """
        config, rules = self.config, self.rules
        last = np.ascontiguousarray(prefix[::-1][: config.prefix_window])
        found: tuple[Ids, Scores] = score_lists(
            rules.ids,
            rules.weights,
            last,
            by_distance(len(last), config.prefix_power),
            prefix,
            config.seen_weight,
            k,
        )
        return found

    def score_batch(self, indptr: npt.NDArray[np.int64], items: Ids, k: int) -> tuple[Ids, Scores]:
        """`score` for many sessions given as ragged prefixes: (int32[n, k] padded by -1, float32[n, k])."""
        n = len(indptr) - 1
        return padded((self.score(items[indptr[row] : indptr[row + 1]], k) for row in range(n)), n, k)
