"""New uploads close to the listener's taste by content alone, so that a track needs no plays to be found."""

from __future__ import annotations

import numpy as np

from segue.contracts.vocabulary import DAY
from segue.models.nearest import products
from segue.recommend.artifacts import Artifacts
from segue.recommend.query import Floats, Ids, Query
from segue.recommend.sources.ranking import NOTHING, best

MAX_AGE_DAYS = 21
EVERY_ONE_AS_IT_IS = np.empty(0, np.float32)
POOL = 5_000
"""Newest uploads that are looked at."""


def fresh(query: Query, artifacts: Artifacts, limit: int) -> tuple[Ids, Floats]:
    """Uploads of the last three weeks by similarity to what the listener plays."""
    uploaded = artifacts.catalogue.uploaded_at
    pool = artifacts.indexes.uploads(POOL)
    pool = pool[uploaded[pool] > query.now - MAX_AGE_DAYS * DAY]
    tracks, weights = query.at_hand
    if len(pool) == 0 or len(tracks) == 0:
        return NOTHING
    content = artifacts.retrieval.content
    scores = products(content.profile(tracks, weights), pool, content.vectors, EVERY_ONE_AS_IT_IS)
    close = scores > 0
    return best(pool[close], scores[close], limit)
