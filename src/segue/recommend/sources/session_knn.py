"""Sessions like the current one, and where they went."""

from __future__ import annotations

from segue.recommend.artifacts import Artifacts
from segue.recommend.query import Floats, Ids, Query


def session_knn(query: Query, artifacts: Artifacts, limit: int) -> tuple[Ids, Floats]:
    """Tracks of the nearest earlier sessions of everyone."""
    return artifacts.retrieval.session_knn.score(query.prefix, query.now, limit)
