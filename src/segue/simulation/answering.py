"""Serving's in-process twin: real recommenders answer simulated listeners, whose states are folded as they listen.

What a listener did a moment ago is in their state at the next request, by the fold that every server uses; here it is known at
once, where in service an event in a hundred is hours late. A request of a recommender costs milliseconds, one of the logging
policy microseconds: so an arm may answer some surfaces and some listeners only, and the logging policy the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segue.listener.fold import KnowsTracks, add_rows, by_listener, read_events
from segue.listener.state import ListenerState, anonymous
from segue.recommend.api import Item, Request
from segue.recommend.pipeline import ReadState
from segue.recommend.sources import SOURCES
from segue.settings.tree import State
from segue.simulation.catalogue import Catalogue
from segue.simulation.columns import EventColumns, pick
from segue.simulation.policy import SOURCE_NAMES, LoggingPolicy
from segue.simulation.session import (
    BLOCK_ARTIST,
    FOLLOW,
    NEXT_UP,
    SLATE_SIZES,
    SURFACES,
    TEAMS,
    TYPES,
    UNFOLLOW,
    Requests,
    Slates,
    empty_slates,
)
from segue.simulation.world import ARTIST_BASE, FLAGS, I16, TRACK_BASE, USER_BASE, Crowd

__all__ = ["Answer", "Answering", "Route", "States", "route_by_listener", "source_names"]

Answer = Callable[[Request], Sequence[Item]]
"""Anything that answers one request with items, best slot first."""
Route = Callable[[Requests], I16]
"""int16[n]: the arm that answers each request, -1 for the logging policy."""
_ABOUT_ARTISTS: Final = (FOLLOW, UNFOLLOW, BLOCK_ARTIST)
_MULTIPLIER: Final = 0x9E3779B97F4A7C15


def source_names() -> tuple[str, ...]:
    """The sources that a slot's bits name: the logging policy's pools, then the recommender's sources."""
    return (*SOURCE_NAMES, *SOURCES)


class States:
    """Listener states in memory over those of a store, which stays as it is; of the listeners `wanted`, bool[listeners]."""

    def __init__(
        self, base: ReadState, limits: State, tracks: KnowsTracks, catalogue: Catalogue, wanted: FLAGS
    ) -> None:
        self._base, self._limits, self._tracks, self._wanted = base, limits, tracks, wanted
        self._artist = np.ascontiguousarray(catalogue.music.track["artist"]).astype(np.int64) + ARTIST_BASE
        self._types = pa.array([str(t) for t in TYPES], pa.string())
        self._states: dict[int, ListenerState] = {}
        self._waiting: dict[int, list[tuple[npt.NDArray[np.void], npt.NDArray[np.void]]]] = {}

    def read(self, user_id: int) -> ListenerState | None:
        """The listener as of now."""
        state = self._states.get(user_id) or self._base(user_id)
        waiting = self._waiting.pop(user_id, None)
        if waiting is not None:
            plays = np.concatenate([p for p, _ in waiting])
            marks = np.concatenate([m for _, m in waiting])
            state = add_rows(state or anonymous(user_id), plays, marks, self._limits)
        if state is not None:
            self._states[user_id] = state
        return state

    def at_start(self, user_id: int) -> ListenerState | None:
        """The listener as they were, before anything was observed."""
        return self._base(user_id)

    def observe(self, events: EventColumns) -> None:
        """Fold what was just done, as a follower of the log does."""
        events = pick(events, self._wanted[events.user])
        artists = np.isin(events.type, _ABOUT_ARTISTS)
        rows = pa.RecordBatch.from_pydict(
            {
                "user_id": pa.array(events.user.astype(np.int64) + USER_BASE),
                "ts": pa.array(events.ts),
                "type": self._types.take(pa.array(events.type)),
                "track_id": pa.array(events.track.astype(np.int64) + TRACK_BASE, mask=artists),
                "artist_id": pa.array(self._artist[events.track]),
                "ms_played": pa.array(events.ms, mask=events.ms < 0),
            }
        )
        for user_id, plays, marks in by_listener(read_events(rows, self._tracks)):
            self._waiting.setdefault(user_id, []).append((plays, marks))


class Answering:
    """A policy of several arms and the logging policy, which answers what `route` gives to no arm."""

    def __init__(self, arms: Sequence[Answer], route: Route, rest: LoggingPolicy) -> None:
        self._arms, self._route, self._rest = arms, route, rest
        self._bits = {name: 1 << bit for bit, name in enumerate(source_names())}

    def answer(self, requests: Requests, crowd: Crowd) -> Slates:
        """A slate for each request, in order."""
        by = self._route(requests)
        slates = empty_slates(len(by))
        rest = np.flatnonzero(by < 0)
        logged = self._rest.answer(requests.pick(rest), crowd)
        slates.track[rest], slates.score[rest] = logged.track, logged.score
        slates.propensity[rest], slates.sources[rest] = logged.propensity, logged.sources
        slates.by[:] = by
        for row in np.flatnonzero(by >= 0).tolist():
            self._fill(slates, row, self._arms[by[row]](_request(requests, row)))
        return slates

    def _fill(self, slates: Slates, row: int, items: Sequence[Item]) -> None:
        for slot, item in enumerate(items):
            slates.track[row, slot] = item.track_id - TRACK_BASE
            slates.score[row, slot] = item.score
            slates.propensity[row, slot] = np.nan if item.propensity is None else item.propensity
            slates.team[row, slot] = TEAMS.index(item.team)
            slates.sources[row, slot] = sum(self._bits.get(name, 0) for name in item.sources)


def route_by_listener(arm: I16, surfaces: Sequence[str]) -> Route:
    """Give the requests of these surfaces to each listener's arm, int16[listeners], -1 for none."""
    tested = np.array([name in surfaces for name in SURFACES])
    return lambda requests: np.where(tested[requests.surface], arm[requests.user], np.int16(-1))


def _request(requests: Requests, row: int) -> Request:
    surface, user, ts = int(requests.surface[row]), int(requests.user[row]), int(requests.ts[row])
    seed = int(requests.seed[row])
    return Request(
        surface=str(SURFACES[surface]),
        user_id=user + USER_BASE,
        k=SLATE_SIZES[surface],
        track_id=seed + TRACK_BASE if seed >= 0 and surface != NEXT_UP else None,
        now=ts,
        # Why: the same request of two lives explores alike.
        seed=((user * _MULTIPLIER) ^ ts) & (2**63 - 1),
    )
