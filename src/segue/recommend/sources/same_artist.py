"""Tracks by the artist of the seed."""

from __future__ import annotations

import numpy as np

from segue.recommend.artifacts import Artifacts
from segue.recommend.query import Floats, Ids, Query
from segue.recommend.sources.ranking import NOTHING, best


def same_artist(query: Query, artifacts: Artifacts, limit: int) -> tuple[Ids, Floats]:
    """Their most played tracks."""
    artist = query.seed_artist
    if artist < 0 and len(query.seeds):
        artist = int(query.catalogue.artist[query.seeds[0]])
    if artist < 0:
        return NOTHING
    tracks = artifacts.indexes.tracks_of(artist, limit)
    return best(tracks, np.log1p(artifacts.plays[tracks]), limit)
