"""Feature assembly: what the request knows of each candidate, beside what features define for track, artist and listener."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from segue.features.online import Moment
from segue.recommend.artifacts import Artifacts
from segue.recommend.candidates import Candidates, blend
from segue.recommend.query import Query
from segue.recommend.sources import SOURCES

Floats = npt.NDArray[np.float32]

RECENT = 20
"""Latest tracks a candidate is compared with."""


def candidate_columns(query: Query, artifacts: Artifacts, candidates: Candidates) -> dict[str, Floats]:
    """Candidate features by name, float32[n] each; the definitions are in segue.features.candidates."""
    n = len(candidates)
    missing = np.full(n, np.nan, np.float32)
    columns: dict[str, Floats] = {}
    for name in SOURCES:
        known = name in candidates.sources
        column = candidates.sources.index(name) if known else -1
        columns[f"source_{name}_score"] = candidates.scores[:, column] if known else missing
        columns[f"source_{name}_rank"] = candidates.ranks[:, column] if known else missing
        columns[f"source_{name}_share"] = _share(candidates.scores[:, column]) if known else missing
    columns["sources"] = np.count_nonzero(~np.isnan(candidates.ranks), axis=1).astype(np.float32)
    columns["agreement"] = candidates.agreement()
    columns["blend"] = blend(candidates, query.recipe.scorer.blend)
    columns["best_rank"] = np.fmin.reduce(candidates.ranks, axis=1) if candidates.ranks.size else missing
    return columns | _similarity(query, artifacts, candidates)


def feature_matrix(query: Query, artifacts: Artifacts, candidates: Candidates, ranker: str) -> Floats:
    """The input of a ranker, float32[n, f] in the order of its spec."""
    columns = candidate_columns(query, artifacts, candidates)
    moment = Moment(query.now, query.request.surface)
    return artifacts.online[ranker].assemble(query.state, moment, candidates.tracks, columns)


def _share(scores: Floats) -> Floats:
    """Scores as a share of the source's best: comparable between requests, as raw scores are not."""
    top = np.nanmax(scores, initial=0.0)
    return (scores / top if top > 0 else scores).astype(np.float32)


def _similarity(query: Query, artifacts: Artifacts, candidates: Candidates) -> dict[str, Floats]:
    recent = query.at_hand[0][:RECENT]
    if len(recent) == 0:
        missing = np.full(len(candidates), np.nan, np.float32)
        return dict.fromkeys(("similarity_recent_max", "similarity_recent_mean", "similarity_last"), missing)
    factors = artifacts.unit_factors
    cosine = factors[candidates.tracks] @ factors[recent].T
    return {
        "similarity_recent_max": cosine.max(axis=1),
        "similarity_recent_mean": cosine.mean(axis=1),
        "similarity_last": np.ascontiguousarray(cosine[:, 0]),
    }
