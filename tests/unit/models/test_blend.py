"""Blends against NumPy, and the choice of weights on a problem with a known answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from segue.contracts.errors import InvalidSettings
from segue.models.blend import Blend, choose_weights, combine
from segue.models.interactions import Interactions


@dataclass
class Fixed:
    """A model that always answers the same."""

    answer: np.ndarray

    def scores(self, histories: Interactions) -> np.ndarray:
        return self.answer


HISTORIES = Interactions.from_pairs(np.arange(6), np.arange(6), n_users=6, n_items=20)


def standardised(scores: np.ndarray) -> np.ndarray:
    return (scores - scores.mean(1, keepdims=True)) / scores.std(1, keepdims=True)


def test_blend_is_the_weighted_sum_of_standardised_scores() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 6, 20)).astype(np.float32)
    blend = Blend((Fixed(a), Fixed(100 * b - 7)), (1.0, 0.5))
    before = a.copy()
    assert_allclose(blend.scores(HISTORIES), standardised(a) + 0.5 * standardised(b), atol=1e-5)
    assert_array_equal(a, before)


def test_a_model_that_says_nothing_changes_nothing() -> None:
    a = np.random.default_rng(1).standard_normal((6, 20)).astype(np.float32)
    blend = Blend((Fixed(a), Fixed(np.full((6, 20), 3, np.float32))), (1.0, 2.0))
    assert_allclose(blend.scores(HISTORIES), standardised(a), atol=1e-5)


def test_read_only_broadcast_scores_are_accepted() -> None:
    row = np.arange(20, dtype=np.float32)
    assert_allclose(
        combine([(np.broadcast_to(row, (6, 20)), 1.0)]), np.tile(standardised(row[None]), (6, 1)), atol=1e-5
    )


def test_weights_are_found_for_a_known_mixture() -> None:
    rng = np.random.default_rng(2)
    a, b, noise = rng.standard_normal((3, 40, 200)).astype(np.float32)
    truth = standardised(a) + 0.5 * standardised(b)

    def quality(scores: np.ndarray) -> float:
        return float(np.mean([np.corrcoef(s, t)[0, 1] for s, t in zip(scores, truth, strict=True)]))

    assert choose_weights([noise, a, b], quality) == (0.0, 1.0, 0.5)


def test_wrong_weights_are_refused() -> None:
    model = Fixed(np.zeros((6, 20), np.float32))
    for weights in ((), (1.0, 1.0), (0.0,)):
        with pytest.raises(InvalidSettings, match="weight"):
            Blend((model,), weights)
