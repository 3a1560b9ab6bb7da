"""The simulated service as arrays: what kernels read (music, people) and what they change (memory, crowd).

Tracks and listeners are indices from 0. Tracks are numbered by upload time and listeners by joining time, so that
"uploaded before t" and "joined before t" are prefixes; outside ids are the index plus a base.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from segue.simulation.words import GENRES

__all__ = [
    "ARTIST_BASE",
    "LIBRARY",
    "TASTE",
    "TRACK_BASE",
    "USER_BASE",
    "Crowd",
    "Memory",
    "Music",
    "People",
    "new_memory",
]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
I8 = npt.NDArray[np.int8]
I16 = npt.NDArray[np.int16]
U64 = npt.NDArray[np.uint64]
U8 = npt.NDArray[np.uint8]
FLAGS = npt.NDArray[np.bool_]

TRACK_BASE: Final = 1_000_001
ARTIST_BASE: Final = 500_001
USER_BASE: Final = 1
TASTE: Final = 16
"""Dimensions of the taste space."""
LIBRARY: Final = 48
"""Latest plays worth coming back to that a listener remembers."""
NEIGHBOURS: Final = 12
RECENT: Final = 16
FOLLOWS: Final = 24
HIDDEN: Final = 24
BLOCKED: Final = 8
SCENES: Final = 12
"""Scenes a listener moves in."""


EXPLICIT: Final = np.uint64(1 << 62)
PRIVATE: Final = np.uint64(1 << 63)

TRACK_ROW: Final = np.dtype(
    [
        ("artist", np.int32),
        ("genre", np.int32),
        ("scene", np.int32),
        ("release", np.int32),
        ("duration", np.int32),
        ("quality", np.float32),
        ("weight", np.float64),
        ("blocked", np.uint64),
        ("uploaded", np.int64),
        ("mood", np.uint8),
        ("explicit", np.bool_),
        ("public", np.bool_),
        ("neighbours", np.int32, NEIGHBOURS),
        ("vector", np.float32, TASTE),
    ],
    align=True,
)
"""A track: duration in ms, uploaded in microseconds, blocked a bit per country, weight how much the world talks about
it, neighbours what goes well after it (-1 where there are fewer), vector and quality its truth."""

LISTENER_ROW: Final = np.dtype(
    [
        ("country", np.uint64),
        ("explicit_ok", np.bool_),
        ("consent", np.bool_),
        ("taste0", np.float32, TASTE),
        ("taste1", np.float32, TASTE),
        ("genre0", np.float32, len(GENRES)),
        ("genre1", np.float32, len(GENRES)),
        ("scenes0", np.int32, SCENES),
        ("scenes1", np.int32, SCENES),
        ("reach0", np.float32, SCENES),
        ("reach1", np.float32, SCENES),
    ],
    align=True,
)
"""A listener: country as a bit; tastes when the history starts (0) and ends (1), between which they move in a straight
line; the scenes in which they stumble on music, and the cumulative chances of these."""

MEMORY_ROW: Final = np.dtype(
    [
        ("rng", np.uint64),
        ("busy", np.int64),
        ("n_library", np.int64),
        ("n_recent", np.int64),
        ("n_follows", np.int64),
        ("n_hidden", np.int64),
        ("n_blocked", np.int64),
        ("bored", np.float32),
        ("joy", np.float32),
        ("library", np.int32, LIBRARY),
        ("liked", np.uint8, LIBRARY),
        ("recent", np.int32, RECENT),
        ("follows", np.int32, FOLLOWS),
        ("hidden", np.int32, HIDDEN),
        ("blocked", np.int32, BLOCKED),
    ],
    align=True,
)
"""What a listener remembers, changed as they listen. rng is their random stream, busy when their last session ended.
library and recent are rings (n_* counts what was ever written); follows, hidden and blocked are lists. A library entry
is a track they came to like, written again at every return, so that what is played often is chosen often (Simon
1955). bored is how much a recommended track loses in relevance if all of the latest plays were of its artist, joy how
content the last sessions left them; both are 0 in a history, and used where listeners react (segue.simulation.environment)."""

Records = npt.NDArray[np.void]
Memory = Records
"""MEMORY_ROW per listener."""


class Music(NamedTuple):
    """Tracks (TRACK_ROW, in order of upload) and their groupings: tracks of a scene, and of an artist, are
    `*_tracks[*_ptr[i]:*_ptr[i + 1]]`, in order of upload. gate uint64[n]: who may not play a track, as the bits of the
    countries where it is blocked, EXPLICIT and PRIVATE."""

    track: Records
    gate: U64
    scene_ptr: I64
    scene_tracks: I32
    artist_ptr: I64
    artist_tracks: I32


class People(NamedTuple):
    """Listeners (LISTENER_ROW, in order of joining); friends of u are `friend[friend_ptr[u]:friend_ptr[u + 1]]`.
    refuses uint64[u]: the gates closed to a listener: their country, PRIVATE, and EXPLICIT if they do not want it."""

    who: Records
    refuses: U64
    friend_ptr: I64
    friend: I32


class Crowd(NamedTuple):
    """What everybody hears about today: recomputed each day from the days before.

    scene_reach float64[n + 1]: running sum of the tracks' weights today, in the order of `scene_tracks`; hot int32[h]
    the most played tracks of late, best first; hot_reach float64[h], cumulative chances; fresh int32[f], the logging
    policy's exploration pool.
    """

    scene_reach: F64
    hot: I32
    hot_reach: F64
    fresh: I32


def new_memory(rng: U64) -> Memory:
    """Memory of listeners who know nothing yet; `rng` uint64[u] seeds their streams."""
    memory = np.zeros(len(rng), MEMORY_ROW)
    memory["rng"] = rng
    for ring in ("library", "recent", "follows", "hidden", "blocked"):
        memory[ring] = -1
    return memory
