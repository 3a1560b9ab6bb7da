"""Rules that a person relies on. One function, run after every source and on every fallback; nothing is shown that fails it."""

# mypy: disallow-untyped-decorators=False
from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from segue.bundle.catalogue import EXPLICIT, PUBLIC
from segue.contracts.vocabulary import Removed
from segue.listener.state import BLOCK, HIDE
from segue.models.order import among
from segue.recommend.query import Query

Ids = npt.NDArray[np.int32]

REASONS = (
    Removed.PRIVATE,
    Removed.UNPUBLISHED,
    Removed.COUNTRY,
    Removed.EXPLICIT,
    Removed.BLOCKED_ARTIST,
    Removed.HIDDEN,
)
"""In the order they are checked: a track that breaks several is counted under the first."""
_PRIVATE, _UNPUBLISHED, _COUNTRY, _EXPLICIT, _BLOCKED_ARTIST, _HIDDEN = range(len(REASONS))


def broken(query: Query, tracks: Ids) -> npt.NDArray[np.int8]:
    """The first guarantee each track breaks, as a position in REASONS, or -1. int8[n].

    No consent is not a property of a track: it is kept by `query.hydrate`, which hands no history on.
    """
    first: npt.NDArray[np.int8] = _first_broken(
        tracks,
        *query.catalogue.facts,
        query.now,
        query.country,
        query.state.explicit_ok,
        query.marked(BLOCK),
        query.marked(HIDE),
    )
    return first


@njit(cache=True, nogil=True)
def _first_broken(
    tracks: Ids,
    flags: npt.NDArray[np.uint8],
    uploaded_at: npt.NDArray[np.int64],
    blocked: npt.NDArray[np.uint64],
    artist: Ids,
    now: int,
    country: int,
    explicit_ok: bool,
    unwanted_artists: Ids,
    hidden: Ids,
) -> npt.NDArray[np.int8]:
    artists = np.empty(len(tracks), np.int32)
    for i in range(len(tracks)):
        artists[i] = artist[tracks[i]]
    of_unwanted, is_hidden = among(artists, unwanted_artists), among(tracks, hidden)
    out = np.full(len(tracks), -1, np.int8)
    for i in range(len(tracks)):
        track = tracks[i]
        word = blocked[track, country // 64] if country >= 0 else np.uint64(0)
        if flags[track] & PUBLIC == 0:
            out[i] = _PRIVATE
        elif uploaded_at[track] > now:
            out[i] = _UNPUBLISHED
        elif word >> np.uint64(country % 64) & np.uint64(1):
            out[i] = _COUNTRY
        elif flags[track] & EXPLICIT != 0 and not explicit_ok:
            out[i] = _EXPLICIT
        elif of_unwanted[i]:
            out[i] = _BLOCKED_ARTIST
        elif is_hidden[i]:
            out[i] = _HIDDEN
    return out
