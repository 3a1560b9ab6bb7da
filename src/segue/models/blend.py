"""A blend of models at the level of their scores.

Each model's scores of one listener are standardised over the catalogue (mean 0, deviation 1), because their
scales say nothing about each other, and added with fixed weights. The weights are chosen on held-out plays by
`choose_weights`: coordinate ascent over a small grid, which is enough for a handful of models and cannot overfit
a few thousand listeners by much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from numba import njit

from segue.contracts.errors import InvalidSettings
from segue.models.interactions import Interactions

Floats = npt.NDArray[np.float32]

GRID = (0.0, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
"""Weights tried for each model."""


class Scorer(Protocol):
    """A model that can score the whole catalogue for a batch of listeners."""

    def scores(self, histories: Interactions) -> Floats:
        """float32[n, n_items]: every item for every listener."""


@dataclass(frozen=True, slots=True)
class Blend:
    """The weighted sum of the standardised scores of `models`, itself a model."""

    models: tuple[Scorer, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.models) != len(self.weights) or not any(self.weights):
            raise InvalidSettings(
                f"a blend needs one weight a model and one that is not zero, got {len(self.models)} models and "
                f"weights {self.weights}",
                field="blend.weights",
            )

    def scores(self, histories: Interactions) -> Floats:
        """float32[n, n_items]; models of weight zero are not asked."""
        parts = zip(self.models, self.weights, strict=True)
        return combine((model.scores(histories), weight) for model, weight in parts if weight)


def combine(parts: Iterable[tuple[Floats, float]]) -> Floats:
    """The weighted sum of standardised scores; each part is float32[n, n_items] and is not changed."""
    total: Floats | None = None
    for scores, weight in parts:
        if total is None:
            total = np.zeros(scores.shape, np.float32)
        _add_standardised(total, np.ascontiguousarray(scores), np.float32(weight))
    if total is None:
        raise InvalidSettings("a blend needs at least one part", field="blend.weights")
    return total


def choose_weights(
    parts: Sequence[Floats],
    quality: Callable[[Floats], float],
    rounds: int = 2,
) -> tuple[float, ...]:
    """Weights of `parts` (each float32[n, n_items]) that make `quality` of the blend largest.

    Starts from the best part alone; then each other weight in turn takes its best value of `GRID`, `rounds`
    times. The best part keeps weight one: only ratios matter.
    """
    standardised = [combine([(scores, 1.0)]) for scores in parts]
    alone = [quality(scores) for scores in standardised]
    leader = int(np.argmax(alone))
    weights = [float(n == leader) for n in range(len(parts))]
    best = alone[leader]
    for _ in range(rounds):
        for n in range(len(parts)):
            if n == leader:
                continue
            rest = np.zeros_like(standardised[n])
            for other, scores in enumerate(standardised):
                if other != n:
                    rest += np.float32(weights[other]) * scores
            for weight in GRID:
                reached = quality(rest + np.float32(weight) * standardised[n])
                if reached > best:
                    best, weights[n] = reached, weight
    return tuple(weights)


@njit(cache=True, nogil=True)
def _add_standardised(total: Floats, scores: Floats, weight: np.float32) -> None:
    """total += weight * (scores - mean) / deviation, row by row; a constant row adds nothing."""
    n_items = scores.shape[1]
    for row in range(len(scores)):
        first, second = 0.0, 0.0
        for item in range(n_items):
            first += scores[row, item]
        mean = first / n_items
        for item in range(n_items):
            second += (scores[row, item] - mean) ** 2
        deviation = np.sqrt(second / n_items)
        if deviation > 0:
            for item in range(n_items):
                total[row, item] += np.float32(weight * (scores[row, item] - mean) / deviation)
