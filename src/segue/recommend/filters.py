"""Filters that a recipe chooses: what was just played, what the session already had, the seed itself."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from segue.contracts.vocabulary import HOUR, Removed
from segue.models.order import among
from segue.recommend.query import Query

Ids = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]

FILTERS = (Removed.SEED, Removed.IN_SESSION, Removed.RECENTLY_PLAYED)
"""In the order they are applied."""


def unwanted(query: Query, tracks: Ids) -> list[tuple[Removed, Mask]]:
    """For each of the recipe's filters, which tracks it removes."""
    found: list[tuple[Removed, Mask]] = []
    if len(query.seeds):
        found.append((Removed.SEED, among(tracks, query.seeds)))
    if query.recipe.skip_session_tracks and len(query.session):
        found.append((Removed.IN_SESSION, among(tracks, query.session)))
    if query.recipe.no_repeat_hours > 0 and len(query.state.plays):
        recent = query.state.plays["ts"] > query.now - int(query.recipe.no_repeat_hours * HOUR)
        found.append((Removed.RECENTLY_PLAYED, among(tracks, query.played[recent])))
    return found
