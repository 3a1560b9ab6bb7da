"""Feature assembly: what the request knows of each candidate, beside what features define for track, artist and listener."""

# mypy: disallow-untyped-decorators=False
from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from segue.features.online import Moment
from segue.recommend.artifacts import Artifacts
from segue.recommend.candidates import Candidates, blend, of_sources
from segue.recommend.query import Query
from segue.recommend.sources import SOURCES

Floats = npt.NDArray[np.float32]

RECENT = 20
"""Latest tracks a candidate is compared with."""
_OF_SOURCE = {name: tuple(f"source_{name}_{what}" for what in ("score", "rank", "share")) for name in SOURCES}


def candidate_columns(query: Query, artifacts: Artifacts, candidates: Candidates) -> dict[str, Floats]:
    """Candidate features by name, float32[n] each; the definitions are in segue.features.candidates."""
    n = len(candidates)
    missing = np.full(n, np.nan, np.float32)
    scores, ranks = np.ascontiguousarray(candidates.scores.T), np.ascontiguousarray(candidates.ranks.T)
    shares, count, best_rank = of_sources(candidates.scores, candidates.ranks)
    known = dict(zip(candidates.sources, zip(scores, ranks, shares, strict=True), strict=True))
    columns: dict[str, Floats] = {}
    for name, named in _OF_SOURCE.items():
        columns |= zip(named, known.get(name, (missing,) * 3), strict=True)
    columns["sources"] = count
    columns["agreement"] = candidates.agreement()
    columns["blend"] = blend(candidates, query.recipe.scorer.blend)
    columns["best_rank"] = best_rank
    return columns | _similarity(query, artifacts, candidates)


def feature_matrix(query: Query, artifacts: Artifacts, candidates: Candidates, ranker: str) -> Floats:
    """The input of a ranker, float32[n, f] in the order of its spec."""
    columns = candidate_columns(query, artifacts, candidates)
    moment = Moment(query.now, query.request.surface)
    return artifacts.online[ranker].assemble(query.state, moment, candidates.tracks, columns, query.played)


def _similarity(query: Query, artifacts: Artifacts, candidates: Candidates) -> dict[str, Floats]:
    recent = query.at_hand[0][:RECENT]
    if len(recent) == 0:
        missing = np.full(len(candidates), np.nan, np.float32)
        return dict.fromkeys(("similarity_recent_max", "similarity_recent_mean", "similarity_last"), missing)
    factors, weight = artifacts.retrieval.ials.item_factors, artifacts.indexes.one_over_length
    most, mean, last = _cosines(factors, weight, candidates.tracks, recent)
    return {"similarity_recent_max": most, "similarity_recent_mean": mean, "similarity_last": last}


# Fastmath lets the compiler reorder the sums, which is what vectorizes them.
@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _cosines(
    vectors: Floats, weight: Floats, tracks: npt.NDArray[np.int32], recent: npt.NDArray[np.int32]
) -> tuple[Floats, Floats, Floats]:
    """Of each track: its greatest cosine with one of `recent`, their mean, and that with the first of them."""
    most, mean, first = (
        np.empty(len(tracks), np.float32),
        np.empty(len(tracks), np.float32),
        np.empty(len(tracks), np.float32),
    )
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
                first[i] = cosine
        most[i], mean[i] = largest, total / np.float32(len(recent))
    return most, mean, first
