"""Feature assembly: what the request knows of each candidate, beside what features define for track, artist and listener."""

# mypy: disallow-untyped-decorators=False
from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from segue.features.online import Known, Moment
from segue.recommend.artifacts import Artifacts
from segue.recommend.candidates import Candidates, agreement, blend, weights_of
from segue.recommend.query import Query
from segue.recommend.sources import SOURCES

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int32]

RECENT = 20
"""Latest tracks a candidate is compared with."""
_OF_SOURCE: Final = ("score", "rank", "share")
_OF_ALL: Final = ("sources", "agreement", "blend", "best_rank")
_OF_FACTORS: Final = ("similarity_recent_max", "similarity_recent_mean", "similarity_last")
_NAMES: Final = (
    *(f"source_{source}_{what}" for source in SOURCES for what in _OF_SOURCE),
    *_OF_ALL,
    *_OF_FACTORS,
)
_COLUMNS: Final = len(_NAMES)
_COUNT, _AGREEMENT, _BLEND, _BEST_RANK = range(
    _COLUMNS - len(_OF_FACTORS) - len(_OF_ALL), _COLUMNS - len(_OF_FACTORS)
)
_SIMILARITY: Final = _COLUMNS - len(_OF_FACTORS)


def candidate_columns(query: Query, artifacts: Artifacts, candidates: Candidates) -> Known:
    """Candidate features; the definitions are in segue.features.candidates."""
    values: Floats = _columns(
        candidates.scores,
        candidates.ranks,
        _places(candidates.sources),
        weights_of(candidates.sources, query.recipe.scorer.blend),
        candidates.tracks,
        query.at_hand[0][:RECENT],
        artifacts.retrieval.ials.item_factors,
        artifacts.indexes.one_over_length,
    )
    return Known(_NAMES, values)


def feature_matrix(query: Query, artifacts: Artifacts, candidates: Candidates, ranker: str) -> Floats:
    """The input of a ranker, float32[n, f] in the order of its spec."""
    known = candidate_columns(query, artifacts, candidates)
    moment = Moment(query.now, query.request.surface)
    return artifacts.online[ranker].assemble(query.state, moment, candidates.tracks, known, query.played)


@cache
def _places(sources: tuple[str, ...]) -> Ids:
    """Where the first column of each source is; -1 where none is."""
    known = tuple(SOURCES)
    return np.array(
        [len(_OF_SOURCE) * known.index(name) if name in SOURCES else -1 for name in sources], np.int32
    )


@njit(cache=True, nogil=True)
def _columns(
    scores: Floats,
    ranks: Floats,
    places: Ids,
    weights: npt.NDArray[np.float64],
    tracks: Ids,
    recent: Ids,
    factors: Floats,
    one_over_length: Floats,
) -> Floats:
    """The features float32[n, m] in the order of _NAMES; NaN of sources that were not asked, and without recent tracks."""
    n = len(scores)
    out = np.full((n, _COLUMNS), np.nan, np.float32)
    out[:, _COUNT] = 0
    for source in range(len(places)):
        place = places[source]
        top = np.float32(0)
        for row in range(n):
            if scores[row, source] > top:
                top = scores[row, source]
        for row in range(n):
            if np.isnan(ranks[row, source]):
                continue
            out[row, _COUNT] += np.float32(1)
            if not out[row, _BEST_RANK] <= ranks[row, source]:
                out[row, _BEST_RANK] = ranks[row, source]
            if place >= 0:
                out[row, place] = scores[row, source]
                out[row, place + 1] = ranks[row, source]
                # Of its source's best: comparable between requests, as raw scores are not.
                out[row, place + 2] = scores[row, source] / (top if top > 0 else np.float32(1))
    out[:, _AGREEMENT] = agreement(ranks)
    out[:, _BLEND] = blend(scores, weights)
    if len(recent) > 0:
        _cosines(factors, one_over_length, tracks, recent, out[:, _SIMILARITY:])
    return out


# Fastmath lets the compiler reorder the sums, which is what vectorizes them.
@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _cosines(vectors: Floats, weight: Floats, tracks: Ids, recent: Ids, out: Floats) -> None:
    """Of each track: its greatest cosine with one of `recent`, their mean, and that with the first of them."""
    others = np.empty((len(recent), vectors.shape[1]), np.float32)
    for j in range(len(recent)):
        others[j] = vectors[recent[j]] * weight[recent[j]]
    for i in range(len(tracks)):
        vector = vectors[tracks[i]]
        total, largest = np.float32(0), np.float32(-np.inf)
        for j in range(len(recent)):
            cosine = np.float32(0)
            for c in range(len(vector)):
                cosine += vector[c] * others[j, c]
            cosine *= weight[tracks[i]]
            total += cosine
            largest = max(largest, cosine)
            if j == 0:
                out[i, 2] = cosine
        out[i, 0], out[i, 1] = largest, total / np.float32(len(recent))
