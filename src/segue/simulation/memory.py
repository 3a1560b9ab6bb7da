"""What listeners remember: their library, what they just heard, whom they follow.

Rows of a structured array (`Memory`), changed in place.
"""

# mypy: disable-error-code="untyped-decorator"
# Why: numba's decorators carry no types.
from __future__ import annotations

from numba import njit

from segue.simulation.draws import below
from segue.simulation.world import LIBRARY, RECENT, Memory

__all__ = [
    "follow",
    "from_library",
    "from_library_of",
    "just_heard",
    "place_in_library",
    "remember",
    "set_liked",
    "unfollow",
]


@njit(cache=True, nogil=True)
def remember(memory: Memory, user: int, track: int) -> None:
    """Write a track into the library; a like of it is carried along."""
    known = place_in_library(memory, user, track)
    liked = memory[user]["liked"][known] if known >= 0 else 0
    place = memory["n_library"][user] % LIBRARY
    memory[user]["library"][place] = track
    memory[user]["liked"][place] = liked
    memory["n_library"][user] += 1


@njit(cache=True, nogil=True)
def set_liked(memory: Memory, user: int, track: int, value: int) -> None:
    """Mark a track of the library as liked (1) or not (0)."""
    for i in range(min(memory["n_library"][user], LIBRARY)):
        if memory[user]["library"][i] == track:
            memory[user]["liked"][i] = value


@njit(cache=True, nogil=True)
def place_in_library(memory: Memory, user: int, track: int) -> int:
    """Where a track stands in the library, or -1."""
    for i in range(min(memory["n_library"][user], LIBRARY)):
        if memory[user]["library"][i] == track:
            return i
    return -1


@njit(cache=True, nogil=True)
def just_heard(memory: Memory, user: int, track: int) -> bool:
    """Whether a track is among the last played."""
    for i in range(min(memory["n_recent"][user], RECENT)):  # noqa: SIM110
        if memory[user]["recent"][i] == track:
            return True
    return False


@njit(cache=True, nogil=True)
def from_library(memory: Memory, user: int) -> int:
    """A track from the listener's own library, or -1."""
    return int(from_library_of(memory, user, user))


@njit(cache=True, nogil=True)
def from_library_of(memory: Memory, user: int, owner: int) -> int:
    """A track from somebody's library, drawn with `user`'s stream, or -1."""
    known = min(memory["n_library"][owner], LIBRARY)
    return memory[owner]["library"][below(memory["rng"], user, known)] if known > 0 else -1


@njit(cache=True, nogil=True)
def follow(memory: Memory, user: int, artist: int) -> bool:
    """Follow an artist. False if they were followed already."""
    for i in range(memory["n_follows"][user]):
        if memory[user]["follows"][i] == artist:
            return False
    memory[user]["follows"][memory["n_follows"][user]] = artist
    memory["n_follows"][user] += 1
    return True


@njit(cache=True, nogil=True)
def unfollow(memory: Memory, user: int, artist: int) -> bool:
    """Stop following an artist. False if they were not followed."""
    for i in range(memory["n_follows"][user]):
        if memory[user]["follows"][i] == artist:
            memory["n_follows"][user] -= 1
            memory[user]["follows"][i] = memory[user]["follows"][memory["n_follows"][user]]
            return True
    return False
