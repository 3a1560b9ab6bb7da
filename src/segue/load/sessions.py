"""One listener's session: its timetable, drawn when it arrives, and the requests that it leads to.

A session opens home, plays tracks of the answer it saw last, gives some up, likes and hides some, now and then asks what comes
next, for a station or for related tracks, and tells the server about each track when it ends. When it does what is settled
on arrival and does not depend on how quick the answers are; only which tracks are played does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from segue.contracts.ids import format_id, new_id
from segue.contracts.vocabulary import LISTEN_MS, EventType, Surface

TRACKS: Final = 10.0
"""Tracks of a session, on average; their number is geometric, up to MOST_TRACKS."""
MOST_TRACKS: Final = 40
NEXT: Final = {Surface.NEXT_UP: 0.25, Surface.STATION: 0.04, Surface.RELATED: 0.04}
"""How often a track is followed by a question for others."""
SKIPPED: Final = 0.3
MARKS: Final = {
    EventType.LIKE: 0.04,
    EventType.HIDE: 0.01,
    EventType.BLOCK_ARTIST: 0.002,
    EventType.FOLLOW: 0.005,
}
"""How often a track makes a listener say something about it or its artist."""
HEARD_S: Final = 210.0
PAUSE_S: Final = 3.0
REMEMBERED: Final = 20
"""Tracks of the session that next-up is told."""
REQUESTS: Final = 1 + TRACKS * (1 + sum(NEXT.values()))
"""Requests of a session on average, but for the few that MOST_TRACKS cuts off."""
EVENTS: Final = "events"


class Request(NamedTuple):
    """What goes over the wire. `kind` is a surface or "events"; a body makes it a POST."""

    kind: str
    path: str
    body: bytes | None = None


class Step(NamedTuple):
    """One thing a listener does `at` seconds after the run's start: ask a surface, or end a track.

    `heard_ms` of the track were played; `marks` is what was said about it.
    """

    at: float
    surface: Surface | None
    heard_ms: int = 0
    marks: tuple[EventType, ...] = ()


def timetable(dice: Random, at: float, speed: float) -> Iterator[Step]:
    """The steps of a session that begins `at` seconds after the run's start; `speed` seconds of listening pass in one."""
    yield Step(at, Surface.HOME)
    for _ in range(MOST_TRACKS):
        skipped = dice.random() < SKIPPED
        heard = dice.uniform(2, LISTEN_MS / 1000 - 1) if skipped else HEARD_S * dice.lognormvariate(0, 0.3)
        at += (dice.expovariate(1 / PAUSE_S) + heard) / speed
        marks = tuple(mark for mark, share in MARKS.items() if dice.random() < share)
        yield Step(at, None, int(heard * 1000), marks)
        for surface, share in NEXT.items():
            if dice.random() < share:
                at += dice.expovariate(1 / PAUSE_S) / speed
                yield Step(at, surface)
        if dice.random() < 1 / TRACKS:
            return


class _Track(Struct, frozen=True):
    """What a player keeps of an item."""

    track_id: int
    position: int
    artist_id: int | None = None
    duration_ms: int | None = None


class _Page(Struct, frozen=True):
    """What a player keeps of an answer."""

    request_id: str
    surface: str
    items: tuple[_Track, ...]


_pages: Final = msgspec.json.Decoder(_Page)
_encode: Final = msgspec.json.Encoder().encode


@dataclass(slots=True, eq=False)
class Session:
    """A session under way: turns steps into requests, and answers into what is played next."""

    user_id: int
    k: int
    steps: Iterator[Step]
    played: list[int] = field(default_factory=list)
    sent: list[dict[str, Any]] = field(default_factory=list)
    _page: _Page | None = None
    _next: int = 0

    def request(self, step: Step) -> Request:
        """The request of a step. A listener who has nothing left to play opens home instead."""
        if step.surface is not None:
            return self._ask(step.surface)
        if self._page is None or self._next >= len(self._page.items):
            return self._ask(Surface.HOME)
        return self._tell(step, self._page, self._page.items[self._next])

    def show(self, body: bytes) -> None:
        """Take in an answer. Raises msgspec.DecodeError if it is none."""
        self._page, self._next = _pages.decode(body), 0

    def _ask(self, surface: Surface) -> Request:
        seed = ""
        if surface is not Surface.HOME:
            if not self.played:
                return self._ask(Surface.HOME)
            seed = (
                f"&session={','.join(map(str, self.played[-REMEMBERED:]))}"
                if surface is Surface.NEXT_UP
                else f"&track_id={self.played[-1]}"
            )
        return Request(surface, f"/v1/recommendations/{surface}?user_id={self.user_id}&k={self.k}{seed}")

    def _tell(self, step: Step, page: _Page, track: _Track) -> Request:
        self._next += 1
        self.played.append(track.track_id)
        now = time.time_ns() // 1000
        heard = min(step.heard_ms, track.duration_ms or step.heard_ms)
        common = {"ts": now, "user_id": self.user_id, "surface": page.surface, "request_id": page.request_id}
        self.sent = [
            {
                "event_id": format_id(new_id()),
                "type": EventType.PLAY,
                "track_id": track.track_id,
                "ms_played": heard,
                "position": track.position,
                **common,
            }
        ]
        for mark in step.marks:
            of_artist = mark in (EventType.BLOCK_ARTIST, EventType.FOLLOW)
            target = track.artist_id if of_artist else track.track_id
            if target is not None:
                self.sent.append(
                    {
                        "event_id": format_id(new_id()),
                        "type": mark,
                        "artist_id" if of_artist else "track_id": target,
                        **common,
                    }
                )
        return Request(EVENTS, "/v1/events", _encode(self.sent))
