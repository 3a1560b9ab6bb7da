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
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from numba import njit

from segue.models.sequence_rules import by_distance
from segue.models.sessions import DAY_US, Sessions
from segue.models.sparse_sum import add, best, damp, empty_table, padded, slot_of

__all__ = ["SessionKNN", "SessionKNNConfig"]

Ids = npt.NDArray[np.int32]
Scores = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
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
    distance_power: float = 0.7
    backward: float = 0.5
    half_life_days: float | None = None
    length_power: float = 0.0
    rarity: float = 0.5
    seen_weight: float = 0.5

    def rate(self) -> float:
        """Halvings of a neighbour's worth per microsecond of its age."""
        return 0.0 if self.half_life_days is None else 1.0 / (self.half_life_days * DAY_US)


class _Index(NamedTuple):
    """Past sessions, and for each track its most recent ones.

    indptr int64[n_sessions + 1], items int32[n_plays], start int64[n_sessions] (microseconds): the sessions;
    track_indptr int64[n_items + 1], track_sessions int32: each track's most recent sessions, newest first;
    rarity float32[n_items]: weight of a shared track.
    """

    indptr: Indptr
    items: Ids
    start: npt.NDArray[np.int64]
    track_indptr: Indptr
    track_sessions: Ids
    rarity: Scores


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
def _nearest_sessions(
    index: _Index,
    last: Ids,
    now: int,
    rate: float,
    decay: Floats,
    length_power: float,
    neighbours: int,
) -> tuple[Ids, Scores]:
    """The sessions most like one whose tracks, from the end back, are ``last``: (session int32[m], similarity)."""
    postings = 0
    for item in last:
        if item >= 0:
            postings += index.track_indptr[item + 1] - index.track_indptr[item]
    keys, sums = empty_table(postings)
    for back in range(len(last)):
        item = last[back]
        repeated = False  # a track played twice speaks once, at its latest place
        for nearer in range(back):
            repeated = repeated or last[nearer] == item
        if item < 0 or repeated:
            continue
        worth = decay[back] * index.rarity[item]
        for at in range(index.track_indptr[item], index.track_indptr[item + 1]):
            add(keys, sums, index.track_sessions[at], worth)
    for slot in range(len(keys)):
        session = keys[slot]
        if session >= 0:
            length = index.indptr[session + 1] - index.indptr[session]
            sums[slot] *= length**-length_power
            if rate > 0.0:
                sums[slot] *= 2.0 ** (-rate * max(now - index.start[session], 0))
    found: tuple[Ids, Scores] = best(keys, sums, neighbours)
    return found


@njit(cache=True, nogil=True)
def _continuations(
    index: _Index,
    nearest: Ids,
    similarity: Scores,
    last: Ids,
    near: Floats,
    backward: float,
) -> tuple[Ids, Floats]:
    """A table of what stands in those sessions, by distance from the track they share with the end of this one."""
    place_keys, places = empty_table(len(last))  # track of the prefix -> steps from the end, plus one
    for back in range(len(last)):
        if last[back] >= 0:
            slot = slot_of(place_keys, last[back])
            if place_keys[slot] == -1:
                place_keys[slot] = last[back]
                places[slot] = back + 1
    additions = 0
    for session in nearest:
        additions += index.indptr[session + 1] - index.indptr[session]
    keys, sums = empty_table(additions)
    for n in range(len(nearest)):
        begin = index.indptr[nearest[n]]
        end = index.indptr[nearest[n] + 1]
        anchor = begin
        anchor_back = len(last) + 1.0
        for at in range(begin, end):
            slot = slot_of(place_keys, index.items[at])
            # The anchor is the shared track nearest the end of this session; of its plays, the latest.
            if place_keys[slot] == index.items[at] and places[slot] <= anchor_back:
                anchor = at
                anchor_back = places[slot]
        for at in range(begin, end):
            distance = at - anchor
            if distance == 0:
                continue
            worth = near[min(abs(distance), len(near) - 1)]
            if distance < 0:
                worth *= backward
            add(keys, sums, index.items[at], similarity[n] * worth)
    return keys, sums


@dataclass(frozen=True, slots=True)
class SessionKNN:
    """Past sessions and the index over them."""

    config: SessionKNNConfig
    index: _Index

    @classmethod
    def fit(cls, sessions: Sessions, config: SessionKNNConfig) -> SessionKNN:
        """Index the sessions; nothing is learnt."""
        start = sessions.ts[sessions.indptr[:-1]]
        newest_first = np.argsort(-start, kind="stable")
        track_indptr, track_sessions = _recent_sessions(
            sessions.indptr, sessions.items, newest_first, sessions.n_items, config.sessions_per_track
        )
        plays = np.maximum(sessions.item_counts(), 1)
        rarity = ((sessions.n_plays / plays) ** config.rarity).astype(np.float32)
        index = _Index(sessions.indptr, sessions.items, start, track_indptr, track_sessions, rarity)
        return cls(config, index)

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """The arrays to save, by name."""
        return dict(self.index._asdict())

    @classmethod
    def from_arrays(cls, config: SessionKNNConfig, arrays: dict[str, npt.NDArray[np.generic]]) -> SessionKNN:
        """The model back from `arrays` (mapped from disk or in memory) and its config."""
        return cls(config, _Index(**arrays))  # type: ignore[arg-type]

    def score(self, prefix: Ids, now: int, k: int) -> tuple[Ids, Scores]:
        """The ``k`` best next tracks of one session: (ids int32[m], scores float32[m]), best first.

        ``prefix``: int32, the session so far, oldest first, negative for unknown tracks; ``now``:
        microseconds.
        """
        config = self.config
        last = np.ascontiguousarray(prefix[::-1][: config.prefix_window])
        decay = by_distance(len(last), config.prefix_power)
        nearest, similarity = _nearest_sessions(
            self.index, last, now, config.rate(), decay, config.length_power, config.neighbours
        )
        # Beyond 64 places all distances weigh alike: they hardly weigh anything.
        near = np.concatenate([[1.0], by_distance(64, config.distance_power)])
        keys, sums = _continuations(self.index, nearest, similarity, last, near, config.backward)
        damp(keys, sums, prefix, config.seen_weight)
        found: tuple[Ids, Scores] = best(keys, sums, k)
        return found

    def score_batch(
        self, indptr: Indptr, items: Ids, now: npt.NDArray[np.int64], k: int
    ) -> tuple[Ids, Scores]:
        """`score` for many sessions given as ragged prefixes: (int32[n, k] padded by -1, float32[n, k])."""
        n = len(indptr) - 1
        lists = (self.score(items[indptr[row] : indptr[row + 1]], int(now[row]), k) for row in range(n))
        return padded(lists, n, k)
