"""Rules that a person relies on. One function, run after every source and on every fallback; nothing is shown that fails it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

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


def broken(query: Query, tracks: Ids) -> npt.NDArray[np.int8]:
    """The first guarantee each track breaks, as a position in REASONS, or -1. int8[n].

    No consent is not a property of a track: it is kept by `query.hydrate`, which hands no history on.
    """
    catalogue = query.catalogue
    flags = catalogue.flags[tracks]
    breaks = (
        (flags & PUBLIC) == 0,
        catalogue.uploaded_at[tracks] > query.now,
        catalogue.blocked_in(query.country, tracks),
        ((flags & EXPLICIT) != 0) & (not query.state.explicit_ok),
        among(catalogue.artist[tracks], query.marked(BLOCK)),
        among(tracks, query.marked(HIDE)),
    )
    first = np.full(len(tracks), -1, np.int8)
    for code in reversed(range(len(REASONS))):
        first[breaks[code]] = code
    return first


def allowed(query: Query, tracks: Ids) -> npt.NDArray[np.bool_]:
    """Which tracks break no guarantee. bool[n]."""
    return broken(query, tracks) < 0
