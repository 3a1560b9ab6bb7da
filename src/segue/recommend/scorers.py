"""Scorers: the ranker's objectives combined by the recipe's weights, or a blend of the sources' own scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segue.recommend.artifacts import Artifacts
from segue.recommend.candidates import Candidates, blend, weights_of
from segue.recommend.features import feature_matrix
from segue.recommend.query import Query

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scored:
    """final float32[n]; features float32[n, f] and their names where a ranker was used."""

    final: Floats
    features: Floats | None = None
    names: tuple[str, ...] = ()


def score(query: Query, artifacts: Artifacts, candidates: Candidates) -> Scored:
    """Score candidates as the recipe says; without a ranker, or for a stranger to it, by the blend."""
    recipe = query.recipe.scorer
    ranker = artifacts.rankers.get(recipe.ranker)
    if ranker is None or not len(query.taste.tracks):
        return Scored(blend(candidates.scores, weights_of(candidates.sources, recipe.blend)))
    x = feature_matrix(query, artifacts, candidates, recipe.ranker)
    weights = np.array([recipe.weights.get(objective, 0.0) for objective in ranker.spec.objectives])
    chances = 1.0 / (1.0 + np.exp(-ranker.scorer.score_many(x)))
    return Scored((weights @ chances).astype(np.float32), x, ranker.spec.features)
