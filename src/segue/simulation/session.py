"""A session as columns, and what a wave of sessions writes.

A day is played in waves: in each, every running session takes one segment (a look at the home page, a station, a
search and what follows, ...). Listeners choose the segment, the logging policy answers those that ask it, listeners
react. So the policy sees requests as columns and can be replaced by anything that answers requests.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from segue.contracts.vocabulary import EventType, Surface, Team
from segue.simulation.world import F32, F64, I8, I16, I32, I64, U64, Records

__all__ = ["EVENT_ROW", "SESSION_ROW", "Requests", "Rows", "Sessions", "Slates", "empty_slates"]

SLOTS: Final = 12
"""Slots of the longest slate."""
ROWS_PER_SEGMENT: Final = 120
"""Rows a segment may write at most: reactions stop a segment before."""

SURFACES: Final = (Surface.HOME, Surface.STATION, Surface.NEXT_UP, Surface.RELATED, Surface.SEARCH)
HOME, STATION, NEXT_UP, RELATED, SEARCH = range(5)
SLATE_SIZES: Final = (12, 10, 6, 8)
"""Slots of home, station, next-up and related."""

TEAMS: Final = (None, *Team)
"""Whom a slot is credited to: none but those of interleaved pages are to anybody."""

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


SESSION_ROW: Final = np.dtype(
    [
        ("start", np.int64),
        ("clock", np.int64),
        ("user", np.int32),
        ("planned", np.int32),
        ("played", np.int32),
        ("last", np.int32),
        ("uploaded", np.int32),
        ("mood", np.uint8),
        ("device", np.uint8),
        ("alive", np.bool_),
    ],
    align=True,
)
"""A session: start and clock in microseconds; planned, the plays it means to have, and played; last, the track played
last or -1; uploaded, how many tracks were there when it began."""

EVENT_ROW: Final = np.dtype(
    [
        ("ts", np.int64),
        ("session", np.int32),
        ("track", np.int32),
        ("ms", np.int32),
        ("request", np.int32),
        ("surface", np.int16),
        ("position", np.int16),
        ("extra", np.int16),
        ("type", np.uint8),
    ],
    align=True,
)
"""An event as it is written: session an index; ts in microseconds; request a row of the wave's slates; extra the number
of a playlist, or the kind of query. -1 stands for none."""

Sessions = Records
Rows = Records


class Requests(NamedTuple):
    """What a recommender is asked: user, surface, seed (a track, or -1), uploaded int32[n]; ts int64[n]."""

    user: I32
    surface: I32
    seed: I32
    uploaded: I32
    ts: I64

    def pick(self, rows: I64) -> Requests:
        """Some of them, by index."""
        return Requests(
            self.user[rows], self.surface[rows], self.seed[rows], self.uploaded[rows], self.ts[rows]
        )


class Slates(NamedTuple):
    """What it answers: track int32[n, SLOTS] (-1 behind the end), score float32, propensity float64 and sources uint64
    (a bit per source) of the same shape, and team int8, a place in TEAMS; by int16[n], who answered: -1 for the logging policy,
    else an arm."""

    track: I32
    score: F32
    propensity: F64
    sources: U64
    team: I8
    by: I16


def empty_slates(n: int) -> Slates:
    """Slates for `n` requests, still to be filled, by the logging policy if nobody else."""
    shape = (n, SLOTS)
    return Slates(
        np.full(shape, -1, np.int32),
        np.zeros(shape, np.float32),
        np.zeros(shape),
        np.zeros(shape, np.uint64),
        np.zeros(shape, np.int8),
        np.full(n, -1, np.int16),
    )
