"""Distance-weighted sequence rules over the current session, or over the seed of a station."""

from __future__ import annotations

from segue.recommend.artifacts import Artifacts
from segue.recommend.query import Floats, Ids, Query


def rules(query: Query, artifacts: Artifacts, limit: int) -> tuple[Ids, Floats]:
    """What usually comes after the last tracks."""
    return artifacts.retrieval.rules.score(query.prefix, limit)
