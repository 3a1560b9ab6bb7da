"""Tracks by artists the listener follows."""

from __future__ import annotations

import numpy as np

from segue.listener.state import FOLLOW
from segue.recommend.artifacts import Artifacts
from segue.recommend.query import Floats, Ids, Query
from segue.recommend.sources.ranking import NOTHING, best

ARTISTS = 50
"""Most recently followed artists that are looked at."""


def followed(query: Query, artifacts: Artifacts, limit: int) -> tuple[Ids, Floats]:
    """The most played tracks of followed artists, a fair share each."""
    artists = query.marked(FOLLOW)[:ARTISTS]
    if len(artists) == 0:
        return NOTHING
    share = max(2, -(-limit // len(artists)))
    tracks = artifacts.indexes.tracks_of_each(artists, share)
    return best(tracks, np.log1p(artifacts.plays[tracks]), limit)
