"""The simulated service as arrays: what kernels read (music, people) and what they change (memory, crowd).

Tracks and listeners are indices from 0. Tracks are numbered by upload time and listeners by joining time, so that
"uploaded before t" and "joined before t" are prefixes; outside ids are the index plus a base.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

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
NEIGHBOURS: Final = 8
RECENT: Final = 16
FOLLOWS: Final = 24
HIDDEN: Final = 24
BLOCKED: Final = 8


class Music(NamedTuple):
    """Tracks in order of upload, and their groupings.

    artist, genre, scene, release int32[n]; mood uint8[n]; vector float32[n, TASTE]; quality float32[n];
    weight float64[n] (how much the world talks about it); duration int32[n] in ms; explicit, public bool[n];
    blocked uint64[n], a bit per country; uploaded int64[n] in microseconds, ascending; neighbours
    int32[n, NEIGHBOURS], tracks that go well after it, -1 where there are fewer. Tracks of a scene, and of an artist,
    are `*_tracks[*_ptr[i]:*_ptr[i + 1]]`, in order of upload.
    """

    artist: I32
    genre: I32
    scene: I32
    release: I32
    mood: U8
    vector: F32
    quality: F32
    weight: F64
    duration: I32
    explicit: FLAGS
    public: FLAGS
    blocked: U64
    uploaded: I64
    neighbours: I32
    scene_ptr: I64
    scene_tracks: I32
    artist_ptr: I64
    artist_tracks: I32


class People(NamedTuple):
    """Listeners in order of joining.

    taste0, taste1 float32[u, TASTE] and genre0, genre1 float32[u, genres]: tastes when the history starts and ends;
    between the two they move in a straight line. scenes0, scenes1 int32[u, s] and their cumulative chances
    reach0, reach1 float32[u, s]: where a listener stumbles on music. country uint64[u], the bit of the country;
    explicit_ok, consent bool[u]; friends of u are `friend[friend_ptr[u]:friend_ptr[u + 1]]`.
    """

    taste0: F32
    taste1: F32
    genre0: F32
    genre1: F32
    scenes0: I32
    scenes1: I32
    reach0: F32
    reach1: F32
    country: U64
    explicit_ok: FLAGS
    consent: FLAGS
    friend_ptr: I64
    friend: I32


class Memory(NamedTuple):
    """What listeners remember, changed as they listen: rings of the latest entries and how many were ever written.

    rng uint64[u]; busy int64[u], the moment their last session ended. A library entry is a track they came to like,
    written again at every return, so that what is played often is chosen often (Simon 1955).
    """

    rng: U64
    busy: I64
    library: I32
    liked: U8
    n_library: I64
    recent: I32
    n_recent: I64
    follows: I32
    n_follows: I64
    hidden: I32
    n_hidden: I64
    blocked: I32
    n_blocked: I64


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
    n = len(rng)

    def ring(size: int) -> I32:
        return np.full((n, size), -1, np.int32)

    def counts() -> I64:
        return np.zeros(n, np.int64)

    return Memory(
        rng=rng,
        busy=counts(),
        library=ring(LIBRARY),
        liked=np.zeros((n, LIBRARY), np.uint8),
        n_library=counts(),
        recent=ring(RECENT),
        n_recent=counts(),
        follows=ring(FOLLOWS),
        n_follows=counts(),
        hidden=ring(HIDDEN),
        n_hidden=counts(),
        blocked=ring(BLOCKED),
        n_blocked=counts(),
    )
