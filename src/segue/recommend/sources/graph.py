"""The linear graph filter over the whole history."""

from __future__ import annotations

from segue.recommend.artifacts import Artifacts
from segue.recommend.query import Floats, Ids, Query


def graph(query: Query, artifacts: Artifacts, limit: int) -> tuple[Ids, Floats]:
    """Tracks that the listeners of the history's tracks play, hubs damped."""
    return artifacts.retrieval.graph.score(query.taste.tracks, query.taste.weights, limit)
