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

from segue.models.sessions import Sessions
from segue.models.sparse_sum import add, best, empty_table, scale

__all__ = ["SequenceRules", "SequenceRulesConfig", "count_pairs", "score_lists"]

Ids = npt.NDArray[np.int32]
Scores = npt.NDArray[np.float32]


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
    prefix_power: float = 1.0
    seen_weight: float = 0.5


@njit(cache=True, nogil=True)
def count_pairs(
    indptr: npt.NDArray[np.int64],
    items: Ids,
    ts: npt.NDArray[np.int64],
    weight: Scores,
    session: npt.NDArray[np.int64],
    occ_indptr: npt.NDArray[np.int64],
    occurrences: npt.NDArray[np.int64],
    forward: npt.NDArray[np.float64],
    backward: npt.NDArray[np.float64],
    gap_rate: float,
    source_scale: npt.NDArray[np.float64],
    target_scale: npt.NDArray[np.float64],
    k: int,
) -> tuple[Ids, Scores]:
    """The ``k`` best-paired items of every item, best first: (int32[n_items, k] padded by -1,
    float32[n_items, k]).

    A pair of plays at distance d in one session adds forward[d] (or backward[d]) x the newer play's weight x
    2^-(microseconds between them x gap_rate), times the scales of both items. One dense row of sums is reused
    for all items, so memory is the catalogue once and never the number of pairs.
    """
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
        found = np.sort(touched[:n_touched])
        values = np.empty(n_touched)
        for i in range(n_touched):
            values[i] = sums[found[i]] * target_scale[found[i]] * source_scale[source]
            sums[found[i]] = 0.0
        order = np.argsort(-values, kind="mergesort")[:k]
        for place in range(len(order)):
            ids[source, place] = found[order[place]]
            scores[source, place] = values[order[place]]
    return ids, scores


@njit(cache=True, nogil=True)
def score_lists(
    neighbours: Ids,
    weights: Scores,
    items: Ids,
    item_weights: npt.NDArray[np.float64],
    seen: Ids,
    seen_weight: float,
    k: int,
) -> tuple[Ids, Scores]:
    """Sum the neighbour lists of ``items``, each times its weight; items in ``seen`` get ``seen_weight`` of
    theirs.

    Returns the ``k`` best (ids int32[m], scores float32[m]). Cost is len(items) x list length, not the
    catalogue.
    """
    keys, sums = empty_table(len(items) * neighbours.shape[1])
    for i in range(len(items)):
        source = items[i]
        if source < 0 or item_weights[i] <= 0.0:
            continue
        for place in range(neighbours.shape[1]):
            target = neighbours[source, place]
            if target < 0:
                break
            add(keys, sums, target, item_weights[i] * weights[source, place])
    distinct = np.unique(seen)
    for i in range(len(distinct)):
        if distinct[i] >= 0:
            scale(keys, sums, distinct[i], seen_weight)
    found: tuple[Ids, Scores] = best(keys, sums, k)
    return found


@njit(cache=True, nogil=True)
def _score_batch(
    neighbours: Ids,
    weights: Scores,
    indptr: npt.NDArray[np.int64],
    items: Ids,
    decay: npt.NDArray[np.float64],
    seen_weight: float,
    k: int,
) -> tuple[Ids, Scores]:
    n = len(indptr) - 1
    ids = np.full((n, k), -1, dtype=np.int32)
    scores = np.zeros((n, k), dtype=np.float32)
    for row in range(n):
        prefix = items[indptr[row] : indptr[row + 1]]
        last = prefix[::-1][: len(decay)]
        got, values = score_lists(neighbours, weights, last, decay[: len(last)], prefix, seen_weight, k)
        ids[row, : len(got)] = got
        scores[row, : len(got)] = values
    return ids, scores


@dataclass(frozen=True, slots=True)
class SequenceRules:
    """Fitted rules: ``neighbours`` int32[n_items, K] (best first, -1 at the end), ``weights``
    float32[n_items, K].
    """

    config: SequenceRulesConfig
    neighbours: Ids
    weights: Scores

    @classmethod
    def fit(cls, sessions: Sessions, config: SequenceRulesConfig, *, now: int) -> SequenceRules:
        """Count the rules of all sessions. ``now`` (microseconds) is the moment ages are measured from."""
        weight = sessions.play_weights(now, config.half_life_days)
        distance = np.arange(1, config.window + 1, dtype=np.float64) ** -config.power
        forward = np.concatenate([[0.0], distance])
        count = np.bincount(sessions.items, weights=weight, minlength=sessions.n_items).astype(np.float64)
        occ_indptr, occurrences = sessions.occurrences()
        ids, scores = count_pairs(
            sessions.indptr,
            sessions.items,
            sessions.ts,
            weight,
            sessions.session_of_play(),
            occ_indptr,
            occurrences,
            forward,
            forward * config.backward,
            0.0,
            damping(count, config.source_damping),
            damping(count, config.target_damping),
            config.neighbours,
        )
        return cls(config, ids, scores)

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """The arrays to save, by name."""
        return {"neighbours": self.neighbours, "weights": self.weights}

    @classmethod
    def from_arrays(
        cls, config: SequenceRulesConfig, arrays: dict[str, npt.NDArray[np.generic]]
    ) -> SequenceRules:
        """The model back from `arrays` (mapped from disk or in memory) and its config."""
        return cls(config, arrays["neighbours"], arrays["weights"])  # type: ignore[arg-type]

    def score(self, prefix: Ids, k: int) -> tuple[Ids, Scores]:
        """The ``k`` best next tracks of one session: (ids int32[m], scores float32[m]), best first, m <= k.

        ``prefix``: int32, the session so far, oldest first; negative ids (unknown tracks) keep their place
        and say nothing.
        """
        last = np.ascontiguousarray(prefix[::-1][: self.config.prefix_window])
        decay = self._decay()[: len(last)]
        found: tuple[Ids, Scores] = score_lists(
            self.neighbours, self.weights, last, decay, prefix, self.config.seen_weight, k
        )
        return found

    def score_batch(self, indptr: npt.NDArray[np.int64], items: Ids, k: int) -> tuple[Ids, Scores]:
        """`score` for many sessions given as ragged prefixes: (int32[n, k] padded by -1, float32[n, k])."""
        found: tuple[Ids, Scores] = _score_batch(
            self.neighbours, self.weights, indptr, items, self._decay(), self.config.seen_weight, k
        )
        return found

    def _decay(self) -> npt.NDArray[np.float64]:
        return np.arange(1, self.config.prefix_window + 1, dtype=np.float64) ** -self.config.prefix_power


def damping(count: npt.NDArray[np.float64], power: float) -> npt.NDArray[np.float64]:
    """count^-power, with 1 where the count is zero (nothing pairs with such an item anyway)."""
    return np.where(count > 0.0, np.maximum(count, 1e-12) ** -power, 1.0)
