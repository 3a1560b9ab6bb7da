"""iALS with the listener folded in from their latest plays: nothing about them needs to have been trained."""

from __future__ import annotations

from segue.recommend.artifacts import Artifacts
from segue.recommend.query import Floats, Ids, Query
from segue.recommend.sources.ranking import NOTHING


def fold_in(query: Query, artifacts: Artifacts, limit: int) -> tuple[Ids, Floats]:
    """Tracks nearest to the folded-in factors of the seed or the session, else of the listener's history."""
    history = query.now_or_taste
    if len(history.tracks) == 0:
        return NOTHING
    model = artifacts.retrieval.ials
    listener = model.fold_in(history.tracks, history.weights)
    tracks, scores = artifacts.indexes.by_product.search(listener[None, :], limit)
    found = tracks[0] >= 0
    return tracks[0][found], scores[0][found]
