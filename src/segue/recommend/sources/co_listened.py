"""Item-item co-listening: what is played in one session with the seeds, or with the listener's latest tracks."""

from __future__ import annotations

from segue.recommend.artifacts import Artifacts
from segue.recommend.query import Floats, Ids, Query


def co_listened(query: Query, artifacts: Artifacts, limit: int) -> tuple[Ids, Floats]:
    """Neighbours of what is at hand: the seeds of the request, else the session, else the recent history."""
    tracks, weights = query.at_hand
    return artifacts.retrieval.co_listens.score(tracks, weights, limit)
