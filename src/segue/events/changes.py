"""Changes of the catalogue: a record says what is so of a track from a moment on, and the last word on each field counts.

Every field is a register that the latest writer wins (Shapiro et al., "Conflict-free Replicated Data Types", 2011), so that
changes may come twice and in any order. "Latest" is by `received_at`, which `Stamps` keeps above everything it has seen
(a hybrid logical clock; Kulkarni et al., 2014): a clock that is put back does not make a later change lose.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from segue.events.records import Decoded, Integer, decode

TOPIC: Final = "catalogue"
SAID: Final = ("track_id", "received_at")
"""Fields of a change that are not part of the track."""


class TrackChange(Struct, omit_defaults=True, frozen=True):
    """What is said of one track; a field that is None stays as it is. Fields are the columns of tracks.

    `artist_name` is the name of the artist `artist_id`.
    """

    track_id: Integer
    received_at: Integer
    artist_id: Integer | None = None
    artist_name: str | None = None
    title: str | None = None
    description: str | None = None
    genre: str | None = None
    tags: list[str] | None = None
    duration_ms: Integer | None = None
    uploaded_at: Integer | None = None
    explicit: bool | None = None
    public: bool | None = None
    blocked_countries: list[str] | None = None
    external_id: str | None = None


FIELDS: Final = tuple(name for name in TrackChange.__struct_fields__ if name not in SAID)
_encode: Final = msgspec.msgpack.Encoder().encode
_changes: Final = msgspec.msgpack.Decoder(TrackChange)


def encode_change(change: TrackChange) -> bytes:
    """A change as a log record."""
    return _encode(change)


def decode_changes(records: Sequence[bytes]) -> Decoded[TrackChange]:
    """The changes in records, and what could not be read."""
    return decode(_changes, records)


class Latest:
    """The last word on each field of one thing."""

    __slots__ = ("_said",)

    def __init__(self) -> None:
        self._said: dict[str, tuple[int, bytes]] = {}

    def take(self, name: str, at: int, value: object) -> bool:
        """Whether this is news: the last word on the field so far. Of two at one moment, one and the same always wins."""
        word = (at, _encode(value))
        if word <= self._said.get(name, (-1, b"")):
            return False
        self._said[name] = word
        return True

    def news(self, change: TrackChange) -> Iterator[tuple[str, Any]]:
        """The fields of a change on which it has the last word, and what it says."""
        for name in FIELDS:
            value = getattr(change, name)
            if value is not None and self.take(name, change.received_at, value):
                yield name, value


class Stamps:
    """Moments for changes, UTC microseconds: each later than those given or seen before, whatever the clock does."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._last = 0
        self._turn = threading.Lock()

    def next(self) -> int:
        """The moment of a change that comes in now."""
        with self._turn:
            self._last = max(self._last + 1, self._clock())
            return self._last

    def saw(self, moment: int) -> None:
        """A change of that moment was seen, perhaps another process's."""
        with self._turn:
            self._last = max(self._last, moment)
