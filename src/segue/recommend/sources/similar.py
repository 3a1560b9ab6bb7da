"""Tracks near the seed: in the space of co-listening taste where it has been played, and by content in any case."""

from __future__ import annotations

import numpy as np

from segue.recommend.artifacts import Artifacts
from segue.recommend.query import Floats, Ids, Query
from segue.recommend.sources.ranking import NOTHING, best


def similar(query: Query, artifacts: Artifacts, limit: int) -> tuple[Ids, Floats]:
    """The mean of both cosines; a track that only one side knows keeps half."""
    tracks, weights = query.at_hand
    if len(tracks) == 0:
        return NOTHING
    taste = weights @ artifacts.unit_factors(tracks)
    by_taste, taste_scores = artifacts.indexes.by_cosine.search(_unit(taste)[None, :], limit)
    by_words, word_scores = artifacts.alike(artifacts.retrieval.content.profile(tracks, weights), limit)
    ids = np.concatenate([by_taste[0], by_words])
    scores = np.concatenate([taste_scores[0], word_scores])
    good = (ids >= 0) & (scores > 0)
    distinct, place = np.unique(ids[good], return_inverse=True)
    return best(
        distinct.astype(np.int32),
        (np.bincount(place, scores[good], len(distinct)) / 2).astype(np.float32),
        limit,
    )


def _unit(vector: Floats) -> Floats:
    length = float(np.linalg.norm(vector))
    return (vector / length if length > 0 else vector).astype(np.float32)
