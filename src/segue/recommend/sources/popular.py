"""What most people play: the last resort of every surface."""

from __future__ import annotations

from segue.recommend.artifacts import Artifacts
from segue.recommend.query import Floats, Ids, Query


def popular(query: Query, artifacts: Artifacts, limit: int) -> tuple[Ids, Floats]:
    """The most played tracks of all; a catalogue without plays is served newest first."""
    tracks = artifacts.indexes.most_played[:limit]
    return tracks, artifacts.plays[tracks]
