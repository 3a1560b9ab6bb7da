"""True preference: how much a listener likes a track at a moment, and the chance that they stay with it.

relevance(u, i, t) = liking(u, genre(i), t) + taste(u, t) . vector(i) + quality(i), where liking and taste move in a
straight line from the start of the history to its end. The chance that a started play becomes a listen (30 s, or the
track's end) is logistic in it; a track the listener keeps coming back to gains FAMILIAR, one just heard loses TIRED,
one that breaks the session's mood loses OFF_MOOD.
"""

# mypy: disable-error-code="untyped-decorator"
# Why: numba's decorators carry no types.
from __future__ import annotations

import math
from typing import Final

from numba import njit

from segue.simulation.world import TASTE, Music, People

__all__ = [
    "FAMILIAR",
    "LISTEN_BIAS",
    "LISTEN_SLOPE",
    "OFF_MOOD",
    "TIRED",
    "listen_chance",
    "relevance",
]

LISTEN_BIAS: Final = -0.7
LISTEN_SLOPE: Final = 0.8
FAMILIAR: Final = 0.9
TIRED: Final = 0.8
OFF_MOOD: Final = 0.4


@njit(cache=True, nogil=True)
def relevance(music: Music, people: People, user: int, track: int, drift: float) -> float:
    """How much `user` likes `track` when the share `drift` of the history has passed."""
    genre = music.track["genre"][track]
    stay = 1.0 - drift
    total = (
        music.track["quality"][track]
        + stay * people.who[user]["genre0"][genre]
        + drift * people.who[user]["genre1"][genre]
    )
    for k in range(TASTE):
        total += (stay * people.who[user]["taste0"][k] + drift * people.who[user]["taste1"][k]) * music.track[
            track
        ]["vector"][k]
    return float(total)


@njit(cache=True, nogil=True)
def listen_chance(like: float) -> float:
    """The chance that a started play becomes a listen, from a relevance (with what the moment adds)."""
    return 1.0 / (1.0 + math.exp(-(LISTEN_BIAS + LISTEN_SLOPE * like)))
