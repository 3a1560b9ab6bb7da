"""The graph filter against products of dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from segue.contracts.errors import InvalidData, InvalidSettings
from segue.models.graph_filter import GraphFilter, GraphFilterConfig
from segue.models.interactions import Interactions

CONFIG = GraphFilterConfig(history_exponent=0.8, listener_exponent=0.6, target_exponent=0.3)


def random_interactions(seed: int, n_users: int = 70, n_items: int = 40) -> Interactions:
    rng = np.random.default_rng(seed)
    users, items = np.nonzero(rng.random((n_users, n_items)) < rng.uniform(0.0, 0.3, n_items))
    weights = rng.uniform(0.5, 2, len(users))
    return Interactions.from_pairs(users, items, weights, n_users=n_users, n_items=n_items)


def dense_filter(interactions: Interactions, config: GraphFilterConfig) -> np.ndarray:
    r = interactions.to_scipy().toarray().astype(np.float64)
    n_i, n_u = np.maximum((r > 0).sum(0), 1), np.maximum((r > 0).sum(1), 1)
    middle = (r.T / n_u**config.listener_exponent) @ r
    return middle / n_i[:, None] ** config.history_exponent / n_i**config.target_exponent


def test_two_hops_are_the_dense_product() -> None:
    interactions, others = random_interactions(0), random_interactions(1, n_users=9)
    model = GraphFilter.fit(interactions, CONFIG)
    for histories in (interactions, others):
        expected = histories.to_scipy().toarray() @ dense_filter(interactions, CONFIG)
        assert_allclose(model.scores(histories), expected, rtol=1e-4, atol=1e-5)


def test_with_the_exponents_of_gf_cf_it_is_its_linear_filter() -> None:
    interactions = random_interactions(2).binary()
    config = GraphFilterConfig(history_exponent=0.5, listener_exponent=1.0, target_exponent=0.5)
    r = interactions.to_scipy().toarray().astype(np.float64)
    normalised = r / np.sqrt(np.maximum(r.sum(1), 1))[:, None] / np.sqrt(np.maximum(r.sum(0), 1))
    assert_allclose(
        GraphFilter.fit(interactions, config).scores(interactions),
        r @ (normalised.T @ normalised),
        rtol=1e-4,
        atol=1e-5,
    )


def test_lists_are_the_strongest_of_each_row_itself_among_them() -> None:
    interactions = random_interactions(3)
    expected = dense_filter(interactions, CONFIG)
    lists = GraphFilter.fit(interactions, CONFIG).neighbours(6)
    for item in range(40):
        best = np.sort(expected[item])[::-1][:6]
        count = np.count_nonzero(best)
        assert_allclose(lists.weights[item, :count], best[:count], rtol=1e-4)
        assert_allclose(expected[item, lists.ids[item, :count]], best[:count], rtol=1e-4)
        assert (lists.ids[item, count:] == -1).all()


def test_weights_of_zero_and_empty_histories_reach_nobody() -> None:
    interactions = random_interactions(4)
    nothing = Interactions(
        np.array([0, 0, 1]), np.array([3], np.int32), np.zeros(1, np.float32), interactions.n_items
    )
    assert_array_equal(GraphFilter.fit(interactions, CONFIG).scores(nothing), 0)


def test_what_cannot_be_fit_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="target_exponent"):
        GraphFilterConfig(target_exponent=3)
    nothing = Interactions.from_pairs(np.empty(0, int), np.empty(0, int), n_users=3, n_items=3)
    with pytest.raises(InvalidData, match="at least one pair"):
        GraphFilter.fit(nothing, CONFIG)
