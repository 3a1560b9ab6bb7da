"""A session as columns, and what a wave of sessions writes.

A day is played in waves: in each, every running session takes one segment (a look at the home page, a station, a
search and what follows, ...). Listeners choose the segment, the logging policy answers those that ask it, listeners
react. So the policy sees requests as columns and can be replaced by anything that answers requests.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from segue.contracts.vocabulary import EventType, Surface
from segue.simulation.world import F32, F64, FLAGS, I16, I32, I64, U8

__all__ = ["Requests", "Rows", "Sessions", "Slates", "new_rows"]

SLOTS: Final = 12
"""Slots of the longest slate."""
ROWS_PER_SEGMENT: Final = 120
"""Rows a segment may write at most: reactions stop a segment before."""

SURFACES: Final = (Surface.HOME, Surface.STATION, Surface.NEXT_UP, Surface.RELATED, Surface.SEARCH)
HOME, STATION, NEXT_UP, RELATED, SEARCH = range(5)
SLATE_SIZES: Final = (12, 10, 6, 8)
"""Slots of home, station, next-up and related."""

TYPES: Final = (
    EventType.IMPRESSION,
    EventType.PLAY,
    EventType.SKIP,
    EventType.LIKE,
    EventType.UNLIKE,
    EventType.REPOST,
    EventType.FOLLOW,
    EventType.UNFOLLOW,
    EventType.PLAYLIST_ADD,
    EventType.SEARCH,
    EventType.CLICK,
    EventType.SHARE,
    EventType.HIDE,
    EventType.BLOCK_ARTIST,
)
(
    IMPRESSION,
    PLAY,
    SKIP,
    LIKE,
    UNLIKE,
    REPOST,
    FOLLOW,
    UNFOLLOW,
    PLAYLIST_ADD,
    SEARCHED,
    CLICK,
    SHARE,
    HIDE,
    BLOCK_ARTIST,
) = range(14)


class Sessions(NamedTuple):
    """Sessions of some listeners on one day, one entry each.

    user int32; start, clock int64 (microseconds); planned int32, plays they mean to have; played int32; last int32,
    the track played last or -1; mood uint8; uploaded int32, how many tracks were there when it began; alive bool.
    """

    user: I32
    start: I64
    clock: I64
    planned: I32
    played: I32
    last: I32
    mood: U8
    uploaded: I32
    alive: FLAGS


class Requests(NamedTuple):
    """What a recommender is asked: user, surface, seed (a track, or -1), uploaded int32[n]; ts int64[n]."""

    user: I32
    surface: I32
    seed: I32
    uploaded: I32
    ts: I64


class Slates(NamedTuple):
    """What it answers: track int32[n, SLOTS] (-1 behind the end), score float32, propensity float64 and sources uint8
    (a bit per source) of the same shape."""

    track: I32
    score: F32
    propensity: F64
    sources: U8


class Rows(NamedTuple):
    """Events as they are written: session int32 (index), ts int64, type int8-like uint8, track int32 or -1, ms int32
    or -1, surface and position int16 or -1, request int32 or -1, extra int16: playlist number, or kind of query."""

    session: I32
    ts: I64
    type: U8
    track: I32
    ms: I32
    surface: I16
    position: I16
    request: I32
    extra: I16


def new_rows(capacity: int) -> Rows:
    """Room for `capacity` rows."""
    return Rows(
        session=np.empty(capacity, np.int32),
        ts=np.empty(capacity, np.int64),
        type=np.empty(capacity, np.uint8),
        track=np.empty(capacity, np.int32),
        ms=np.empty(capacity, np.int32),
        surface=np.empty(capacity, np.int16),
        position=np.empty(capacity, np.int16),
        request=np.empty(capacity, np.int32),
        extra=np.empty(capacity, np.int16),
    )
