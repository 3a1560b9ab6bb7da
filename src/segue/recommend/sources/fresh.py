"""New uploads close to the listener's taste by content alone, so that a track needs no plays to be found."""

from __future__ import annotations

from segue.contracts.vocabulary import DAY
from segue.recommend.artifacts import Artifacts
from segue.recommend.query import Floats, Ids, Query
from segue.recommend.sources.ranking import NOTHING, best

MAX_AGE_DAYS = 21


def fresh(query: Query, artifacts: Artifacts, limit: int) -> tuple[Ids, Floats]:
    """Uploads of the last three weeks by similarity to what the listener plays."""
    tracks, weights = query.at_hand
    if len(tracks) == 0:
        return NOTHING
    profile = artifacts.retrieval.content.profile(tracks, weights)
    found, scores = best(*artifacts.uploads_like(profile, query.now - MAX_AGE_DAYS * DAY), limit)
    like = scores > 0
    return found[like], scores[like]
