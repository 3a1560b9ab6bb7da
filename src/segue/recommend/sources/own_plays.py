"""The listener's own tracks, by how often and how lately they were heard to the end."""

from __future__ import annotations

from segue.recommend.artifacts import Artifacts
from segue.recommend.query import Floats, Ids, Query
from segue.recommend.sources.ranking import best


def own_plays(query: Query, artifacts: Artifacts, limit: int) -> tuple[Ids, Floats]:
    """Tracks of the history, listens halved by age."""
    history = query.history
    return best(history.tracks, history.decayed, limit)
