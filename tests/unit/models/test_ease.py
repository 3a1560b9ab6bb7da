"""EASE against the closed form written out in float64."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from segue.contracts.errors import InvalidData, InvalidSettings
from segue.models.ease import EASE, EASEConfig
from segue.models.interactions import Interactions


def random_interactions(n_users: int, n_items: int) -> Interactions:
    rng = np.random.default_rng(n_users)
    taste = rng.standard_normal((n_users, 4)) @ rng.standard_normal((4, n_items))
    users, items = np.nonzero(taste + rng.standard_normal(taste.shape) > 2)
    return Interactions.from_pairs(users, items, n_users=n_users, n_items=n_items)


def closed_form(interactions: Interactions, config: EASEConfig) -> np.ndarray:
    x = interactions.to_scipy().toarray().astype(np.float64)
    lengths = np.maximum(x.sum(1), 1)
    gram = (x.T / lengths**config.listener_exponent) @ x
    penalty = config.regularization + config.count_regularization * np.diag(gram)
    inverse = np.linalg.inv(gram + np.diag(penalty))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights * np.maximum(x.sum(0), 1) ** config.popularity_exponent


CONFIGS = [
    EASEConfig(regularization=5, count_regularization=0, listener_exponent=0, popularity_exponent=0),
    EASEConfig(regularization=2, count_regularization=0.5, listener_exponent=0.7, popularity_exponent=-0.2),
]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("shape", [(200, 50), (30, 120), (60, 1100)])
def test_both_ways_to_invert_give_the_closed_form(shape: tuple[int, int], config: EASEConfig) -> None:
    interactions = random_interactions(*shape)
    model = EASE.fit(interactions, config)
    assert model.weights.dtype == np.float32
    assert model.weights.flags.c_contiguous
    expected = closed_form(interactions, config)
    assert_allclose(model.weights, expected, atol=2e-5)
    scores = interactions.to_scipy().toarray() @ expected
    assert_allclose(model.scores(interactions), scores, atol=2e-3)


def test_blocks_of_the_mirror_join() -> None:
    config = CONFIGS[1]
    interactions = random_interactions(1400, 1100)
    assert_allclose(EASE.fit(interactions, config).weights, closed_form(interactions, config), atol=2e-5)


def test_no_row_of_the_solution_can_be_improved() -> None:
    """The gradient of the objective is zero off the diagonal: optimality, not agreement with a formula."""
    interactions = random_interactions(150, 40)
    config = CONFIGS[0]
    b = EASE.fit(interactions, config).weights.astype(np.float64)
    x = interactions.to_scipy().toarray().astype(np.float64)
    gradient = x.T @ (x @ b - x) + config.regularization * b
    np.fill_diagonal(gradient, 0)
    assert_allclose(gradient, 0, atol=1e-3)


def test_lists_are_the_largest_positive_weights() -> None:
    model = EASE.fit(random_interactions(100, 30), CONFIGS[0])
    lists = model.neighbours(8)
    for item in range(30):
        best = np.argsort(-model.weights[item], kind="stable")[:8]
        best = best[model.weights[item, best] > 0]
        assert_array_equal(lists.ids[item, : len(best)], best)
        assert_array_equal(lists.weights[item, : len(best)], model.weights[item, best])
        assert (lists.ids[item, len(best) :] == -1).all()


def test_what_cannot_be_fit_is_refused() -> None:
    interactions = random_interactions(30, 40)
    with pytest.raises(InvalidSettings, match="max_items = 39"):
        EASE.fit(interactions, EASEConfig(max_items=39))
    with pytest.raises(InvalidSettings, match="regularization"):
        EASEConfig(regularization=0)
    nothing = Interactions.from_pairs(np.empty(0, int), np.empty(0, int), n_users=3, n_items=3)
    with pytest.raises(InvalidData, match="at least one pair"):
        EASE.fit(nothing, EASEConfig())


def test_round_trip() -> None:
    model = EASE.fit(random_interactions(100, 30), CONFIGS[1])
    assert_array_equal(EASE.from_arrays(model.arrays()).weights, model.weights)
