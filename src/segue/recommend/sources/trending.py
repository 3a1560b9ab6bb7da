"""What is played now where the listener is and in the genres they play; for a stranger, what everyone plays."""

# mypy: disallow-untyped-decorators=False
from __future__ import annotations

import numpy as np
from numba import njit

from segue.models.order import rising
from segue.models.popularity import ANY
from segue.recommend.artifacts import Artifacts
from segue.recommend.query import Floats, Ids, Query
from segue.recommend.sources.ranking import best

GENRES = 3
"""Genres of the listener that are looked at."""


def trending(query: Query, artifacts: Artifacts, limit: int) -> tuple[Ids, Floats]:
    """Decayed popularity of the country and of the listener's main genres, each list at its own scale."""
    cells = [(query.country, ANY), *((query.country, genre) for genre in _genres(query))]
    lists = [artifacts.retrieval.popularity.ranked(country, genre) for country, genre in cells]
    tracks = np.concatenate([tracks[:limit] for tracks, _ in lists])
    shares = np.concatenate([scores[:limit] / (scores[0] if len(scores) else 1.0) for _, scores in lists])
    distinct, highest = _highest(tracks, shares)
    return best(distinct, highest, limit)


@njit(cache=True, nogil=True)
def _highest(tracks: Ids, shares: Floats) -> tuple[Ids, Floats]:
    """Each track once, with its highest share."""
    distinct, highest = np.empty(len(tracks), np.int32), np.empty(len(tracks), np.float32)
    found = 0
    for at in rising(tracks.astype(np.uint64)):
        if found == 0 or distinct[found - 1] != tracks[at]:
            distinct[found], highest[found] = tracks[at], shares[at]
            found += 1
        else:
            highest[found - 1] = max(highest[found - 1], shares[at])
    return distinct[:found].copy(), highest[:found].copy()


def _genres(query: Query) -> list[int]:
    tracks = query.seeds if len(query.seeds) else query.history.tracks
    genres = query.catalogue.genre[tracks]
    counts = np.bincount(genres[genres >= 0], minlength=1)
    order = np.argsort(-counts, kind="stable")[:GENRES]
    return [int(genre) for genre in order if counts[genre] > 0]
