"""Session-based nearest neighbours: sessions like this one, and what they went on to.

VS-kNN (Ludewig and Jannach 2018, "Evaluation of session-based recommendation algorithms") with the three
decays of STAN (Garg et al. 2019, "Sequence and time aware neighborhood for session-based recommendations"):

* a track counts for less the further it is from the end of the current session;
* a neighbour counts for less the older it is;
* a track of a neighbour counts for less the further it is from the neighbour's last track shared with this
  session, and for less again when it lies before it.

The index keeps, for each track, its most recent sessions only: a request costs (tracks of the session) x
(sessions per track), however long the log grows.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
from numba import njit

from segue.models.sessions import DAY_US, Sessions
from segue.models.sparse_sum import add, best, empty_table, scale, slot_of

__all__ = ["SessionKNN", "SessionKNNConfig"]

Ids = npt.NDArray[np.int32]
Scores = npt.NDArray[np.float32]
Indptr = npt.NDArray[np.int64]


class SessionKNNConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sizes and decays.

    sessions_per_track: most recent sessions indexed under each track; neighbours: nearest sessions that
    speak; prefix_window: last tracks of the session that are matched; prefix_power: their weight,
    distance^-prefix_power; distance_power: weight of a neighbour's track by its distance from the last shared
    one, distance^-power; backward: factor for tracks before it; half_life_days: of a neighbour's age (none:
    no decay); length_power: a neighbour's similarity is divided by its length to this power; rarity: power of
    a track's inverse frequency, as VS-kNN's IDF weighting; seen_weight: factor for tracks already in the
    session.
    """

    sessions_per_track: int = 500
    neighbours: int = 500
    prefix_window: int = 20
    prefix_power: float = 1.0
    distance_power: float = 1.0
    backward: float = 0.5
    half_life_days: float | None = None
    length_power: float = 0.0
    rarity: float = 0.5
    seen_weight: float = 0.5

    def rate(self) -> float:
        """Halvings of a neighbour's worth per microsecond of its age."""
        return 0.0 if self.half_life_days is None else 1.0 / (self.half_life_days * DAY_US)


@njit(cache=True, nogil=True)
def _recent_sessions(
    indptr: Indptr, items: Ids, newest_first: npt.NDArray[np.int64], n_items: int, limit: int
) -> tuple[Indptr, Ids]:
    """Inverted index item -> up to ``limit`` sessions, newest first, each session once."""
    count = np.zeros(n_items, dtype=np.int64)
    last = np.full(n_items, -1, dtype=np.int64)
    for session in newest_first:
        for at in range(indptr[session], indptr[session + 1]):
            if last[items[at]] != session:
                last[items[at]] = session
                count[items[at]] += 1
    out_indptr = np.zeros(n_items + 1, dtype=np.int64)
    for item in range(n_items):
        out_indptr[item + 1] = out_indptr[item] + min(count[item], limit)
    sessions = np.empty(out_indptr[-1], dtype=np.int32)
    filled = out_indptr[:-1].copy()
    last[:] = -1
    for session in newest_first:
        for at in range(indptr[session], indptr[session + 1]):
            item = items[at]
            if last[item] != session:
                last[item] = session
                if filled[item] < out_indptr[item + 1]:
                    sessions[filled[item]] = session
                    filled[item] += 1
    return out_indptr, sessions


@njit(cache=True, nogil=True)
def _score(
    index_indptr: Indptr,
    index_sessions: Ids,
    indptr: Indptr,
    items: Ids,
    start: npt.NDArray[np.int64],
    rarity: Scores,
    prefix: Ids,
    now: int,
    rate: float,
    decay: npt.NDArray[np.float64],
    near: npt.NDArray[np.float64],
    neighbours: int,
    backward: float,
    length_power: float,
    seen_weight: float,
    k: int,
) -> tuple[Ids, Scores]:
    last = prefix[::-1][: len(decay)]
    postings = 0
    for back in range(len(last)):
        if last[back] >= 0:
            postings += index_indptr[last[back] + 1] - index_indptr[last[back]]
    # Similarity of every session that shares a track; a track played twice speaks once, at its latest place.
    keys, sums = empty_table(postings)
    for back in range(len(last)):
        item = last[back]
        repeated = False
        for nearer in range(back):
            repeated = repeated or last[nearer] == item
        if item < 0 or repeated:
            continue
        worth = decay[back] * rarity[item]
        for at in range(index_indptr[item], index_indptr[item + 1]):
            add(keys, sums, index_sessions[at], worth)
    for slot in range(len(keys)):
        session = keys[slot]
        if session >= 0:
            length = indptr[session + 1] - indptr[session]
            sums[slot] *= length**-length_power
            if rate > 0.0:
                sums[slot] *= 2.0 ** (-rate * max(now - start[session], 0))
    nearest, similarity = best(keys, sums, neighbours)

    place_keys, places = empty_table(len(last))  # track of the prefix -> steps from the end, plus one
    for back in range(len(last)):
        if last[back] >= 0:
            slot = slot_of(place_keys, last[back])
            if place_keys[slot] == -1:
                place_keys[slot] = last[back]
                places[slot] = back + 1
    additions = 0
    for session in nearest:
        additions += indptr[session + 1] - indptr[session]
    keys, sums = empty_table(additions)
    for n in range(len(nearest)):
        begin = indptr[nearest[n]]
        end = indptr[nearest[n] + 1]
        anchor = begin
        anchor_back = len(last) + 1.0
        for at in range(begin, end):
            slot = slot_of(place_keys, items[at])
            # The anchor is the shared track nearest the end of this session; of its plays, the latest.
            if place_keys[slot] == items[at] and places[slot] <= anchor_back:
                anchor = at
                anchor_back = places[slot]
        for at in range(begin, end):
            distance = at - anchor
            if distance == 0:
                continue
            worth = near[min(abs(distance), len(near) - 1)]
            if distance < 0:
                worth *= backward
            add(keys, sums, items[at], similarity[n] * worth)
    distinct = np.unique(prefix)
    for i in range(len(distinct)):
        if distinct[i] >= 0:
            scale(keys, sums, distinct[i], seen_weight)
    found: tuple[Ids, Scores] = best(keys, sums, k)
    return found


@njit(cache=True, nogil=True)
def _score_batch(
    index_indptr: Indptr,
    index_sessions: Ids,
    indptr: Indptr,
    items: Ids,
    start: npt.NDArray[np.int64],
    rarity: Scores,
    prefix_indptr: Indptr,
    prefix_items: Ids,
    now: npt.NDArray[np.int64],
    rate: float,
    decay: npt.NDArray[np.float64],
    near: npt.NDArray[np.float64],
    neighbours: int,
    backward: float,
    length_power: float,
    seen_weight: float,
    k: int,
) -> tuple[Ids, Scores]:
    n = len(prefix_indptr) - 1
    ids = np.full((n, k), -1, dtype=np.int32)
    scores = np.zeros((n, k), dtype=np.float32)
    for row in range(n):
        got, values = _score(
            index_indptr,
            index_sessions,
            indptr,
            items,
            start,
            rarity,
            prefix_items[prefix_indptr[row] : prefix_indptr[row + 1]],
            now[row],
            rate,
            decay,
            near,
            neighbours,
            backward,
            length_power,
            seen_weight,
            k,
        )
        ids[row, : len(got)] = got
        scores[row, : len(got)] = values
    return ids, scores


@dataclass(frozen=True, slots=True)
class SessionKNN:
    """Past sessions and the index over them.

    indptr int64[n_sessions + 1], items int32[n_plays], start int64[n_sessions] (microseconds): the sessions;
    index_indptr int64[n_items + 1], index_sessions int32: each track's most recent sessions, newest first;
    rarity float32[n_items]: weight of a shared track.
    """

    config: SessionKNNConfig
    indptr: Indptr
    items: Ids
    start: npt.NDArray[np.int64]
    index_indptr: Indptr
    index_sessions: Ids
    rarity: Scores

    @classmethod
    def fit(cls, sessions: Sessions, config: SessionKNNConfig) -> SessionKNN:
        """Index the sessions; nothing is learnt."""
        start = sessions.ts[sessions.indptr[:-1]]
        newest_first = np.argsort(-start, kind="stable")
        index_indptr, index_sessions = _recent_sessions(
            sessions.indptr, sessions.items, newest_first, sessions.n_items, config.sessions_per_track
        )
        plays = np.maximum(sessions.item_counts(), 1)
        rarity = ((sessions.n_plays / plays) ** config.rarity).astype(np.float32)
        return cls(config, sessions.indptr, sessions.items, start, index_indptr, index_sessions, rarity)

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """The arrays to save, by name."""
        return {
            "indptr": self.indptr,
            "items": self.items,
            "start": self.start,
            "index_indptr": self.index_indptr,
            "index_sessions": self.index_sessions,
            "rarity": self.rarity,
        }

    @classmethod
    def from_arrays(cls, config: SessionKNNConfig, arrays: dict[str, npt.NDArray[np.generic]]) -> SessionKNN:
        """The model back from `arrays` (mapped from disk or in memory) and its config."""
        return cls(config, **arrays)  # type: ignore[arg-type]

    def score(self, prefix: Ids, now: int, k: int) -> tuple[Ids, Scores]:
        """The ``k`` best next tracks of one session: (ids int32[m], scores float32[m]), best first.

        ``prefix``: int32, the session so far, oldest first, negative for unknown tracks; ``now``:
        microseconds.
        """
        config = self.config
        decay, near = self._distances()
        found: tuple[Ids, Scores] = _score(
            *self._index(),
            prefix,
            now,
            config.rate(),
            decay,
            near,
            config.neighbours,
            config.backward,
            config.length_power,
            config.seen_weight,
            k,
        )
        return found

    def score_batch(
        self, indptr: Indptr, items: Ids, now: npt.NDArray[np.int64], k: int
    ) -> tuple[Ids, Scores]:
        """`score` for many sessions given as ragged prefixes: (int32[n, k] padded by -1, float32[n, k])."""
        config = self.config
        decay, near = self._distances()
        found: tuple[Ids, Scores] = _score_batch(
            *self._index(),
            indptr,
            items,
            now,
            config.rate(),
            decay,
            near,
            config.neighbours,
            config.backward,
            config.length_power,
            config.seen_weight,
            k,
        )
        return found

    def _index(self) -> tuple[Indptr, Ids, Indptr, Ids, npt.NDArray[np.int64], Scores]:
        return self.index_indptr, self.index_sessions, self.indptr, self.items, self.start, self.rarity

    def _distances(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Weights by distance: from the end of the session (from 1), and inside a neighbour (from 0)."""
        decay = np.arange(1, self.config.prefix_window + 1, dtype=np.float64) ** -self.config.prefix_power
        # Beyond 64 places all distances weigh alike: they hardly weigh anything.
        near = np.maximum(np.arange(65, dtype=np.float64), 1.0) ** -self.config.distance_power
        return decay, near
