"""Item-kNN and the list kernels against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from segue.contracts.errors import InvalidData, InvalidSettings
from segue.models.interactions import Interactions, top_k
from segue.models.item_knn import ADDITIONS, FEWEST, ItemKNNConfig, Neighbours, fit_item_knn


def random_interactions(
    seed: int, n_users: int = 60, n_items: int = 40, density: float = 0.1
) -> Interactions:
    rng = np.random.default_rng(seed)
    users, items = np.nonzero(rng.random((n_users, n_items)) < density)
    weights = rng.uniform(0.5, 3.0, len(users))
    return Interactions.from_pairs(users, items, weights, n_users=n_users, n_items=n_items)


def dense_similarity(interactions: Interactions, shrink: float) -> np.ndarray:
    x = interactions.to_scipy().toarray().astype(np.float64)
    norms = np.linalg.norm(x, axis=0)
    with np.errstate(invalid="ignore"):
        similarity = np.nan_to_num((x.T @ x) / (np.outer(norms, norms) + shrink))
    np.fill_diagonal(similarity, 0)
    return similarity


@pytest.mark.parametrize("shrink", [0.0, 5.0])
@pytest.mark.parametrize("k", [3, 100])
def test_lists_are_the_best_of_the_dense_similarity(shrink: float, k: int) -> None:
    interactions = random_interactions(1)
    model = fit_item_knn(interactions, ItemKNNConfig(neighbours=k, shrink=shrink))
    expected = dense_similarity(interactions, shrink)
    assert model.ids.shape == model.weights.shape == (40, k)
    for item in range(40):
        best = np.sort(expected[item])[::-1][:k]
        best = best[best > 0]
        count = len(best)
        assert (model.ids[item, :count] >= 0).all()
        assert (model.ids[item, count:] == -1).all()
        assert len(set(model.ids[item, :count].tolist()) | {item}) == count + 1
        assert_allclose(model.weights[item, :count], best, rtol=1e-5)
        assert_allclose(expected[item, model.ids[item, :count]], best, rtol=1e-5)
        assert (model.weights[item, count:] == 0).all()


def test_one_listener_equals_the_batch_and_the_dense_product() -> None:
    interactions = random_interactions(2)
    model = fit_item_knn(interactions, ItemKNNConfig(neighbours=7, shrink=1.0))
    matrix = np.zeros((40, 40))
    for item in range(40):
        known = model.ids[item] >= 0
        matrix[item, model.ids[item, known]] = model.weights[item, known]
    expected = interactions.to_scipy().toarray() @ matrix
    assert_allclose(model.scores(interactions), expected, rtol=1e-4, atol=1e-6)
    for user in range(interactions.n_users):
        items, scores = model.score(*interactions.row(user), 10)
        assert_allclose(scores, expected[user, items], rtol=1e-4)
        assert_allclose(scores, np.sort(expected[user])[::-1][: len(items)], rtol=1e-4)
        assert len(items) == min(10, np.count_nonzero(expected[user]))


def test_lists_that_name_more_than_was_made_room_for_at_first_are_summed_all_the_same() -> None:
    rng = np.random.default_rng(0)
    n_items, k, n = 80_000, FEWEST, 500
    ids = rng.integers(0, n_items, (n, k)).astype(np.int32)
    weights = -np.sort(-rng.random((n, k)).astype(np.float32), axis=1)
    items, times = np.arange(n, dtype=np.int32), rng.random(n).astype(np.float32)
    dense = np.zeros(n_items)
    np.add.at(dense, ids, weights * times[:, None].astype(np.float64))
    assert np.count_nonzero(dense) > 20_000
    found, scores = Neighbours(ids, weights).score(items, times, 25_000)
    assert_array_equal(np.sort(found), np.flatnonzero(dense))
    assert_allclose(scores, dense[found], rtol=1e-6)


@pytest.mark.parametrize("history", [40, 50, 51, 130, 400])
def test_of_a_long_history_the_heads_of_its_lists_are_summed(history: int) -> None:
    rng = np.random.default_rng(history)
    ids = rng.integers(0, 1_000, (500, 200)).astype(np.int32)
    lists = Neighbours(ids, rng.random((500, 200), np.float32))
    items, weights = np.arange(history, dtype=np.int32), rng.random(history).astype(np.float32)
    heads = min(200, max(FEWEST, ADDITIONS // history))
    assert heads == {40: 200, 50: 200, 51: 196, 130: 76, 400: 50}[history]
    wanted = np.zeros(1_000)
    for item, weight in zip(items, weights, strict=True):
        np.add.at(wanted, ids[item, :heads], weight * lists.weights[item, :heads].astype(np.float64))
    found, scores = lists.score(items, weights, 1_000)
    assert_allclose(scores, wanted[found], rtol=1e-6)
    assert len(found) == np.count_nonzero(wanted)


def test_ties_go_to_the_lower_item_whatever_the_order_of_the_history() -> None:
    ids = np.array([[3, 2], [1, -1], [-1, -1], [-1, -1]], np.int32)
    model = Neighbours(ids, np.where(ids >= 0, 1, 0).astype(np.float32))
    for history in ([0, 1], [1, 0]):
        items, scores = model.score(np.array(history, np.int32), np.ones(2, np.float32), 2)
        assert_array_equal(items, [1, 2])
        assert_array_equal(scores, [1, 1])


def test_empty_histories_and_unknown_items_say_nothing() -> None:
    model = fit_item_knn(random_interactions(3), ItemKNNConfig(neighbours=5))
    for history in ([], [-1]):
        items, scores = model.score(np.array(history, np.int32), np.ones(len(history), np.float32), 5)
        assert len(items) == len(scores) == 0


def test_items_without_listeners_have_no_neighbours() -> None:
    interactions = Interactions.from_pairs(np.array([0, 0]), np.array([1, 3]), n_users=1, n_items=5)
    model = fit_item_knn(interactions, ItemKNNConfig(neighbours=2, shrink=0.0))
    assert_array_equal(model.ids, [[-1, -1], [3, -1], [-1, -1], [1, -1], [-1, -1]])
    assert_allclose(model.weights[[1, 3], 0], 1.0)


def test_round_trip() -> None:
    model = fit_item_knn(random_interactions(4), ItemKNNConfig(neighbours=5))
    again = Neighbours.from_arrays(model.arrays())
    assert_array_equal(again.ids, model.ids)


def test_settings_are_checked() -> None:
    with pytest.raises(InvalidSettings, match="neighbours"):
        ItemKNNConfig(neighbours=0)
    with pytest.raises(InvalidSettings, match="shrink"):
        ItemKNNConfig(shrink=-1.0)


def test_interactions_add_up_repeated_pairs_and_refuse_bad_ones() -> None:
    built = Interactions.from_pairs(
        np.array([1, 0, 1]), np.array([2, 1, 2]), np.array([1.0, 2.0, 0.5]), n_users=3, n_items=4
    )
    assert_allclose(built.to_scipy().toarray(), [[0, 2, 0, 0], [0, 0, 1.5, 0], [0, 0, 0, 0]])
    assert (built.indptr.dtype, built.indices.dtype, built.data.dtype) == (np.int64, np.int32, np.float32)
    with pytest.raises(InvalidData, match="items"):
        Interactions.from_pairs(np.array([0]), np.array([4]), n_users=1, n_items=4)
    with pytest.raises(InvalidData, match="equally long"):
        Interactions.from_pairs(np.array([0]), np.array([1, 2]), n_users=1, n_items=4)
    with pytest.raises(InvalidData, match="finite"):
        Interactions.from_pairs(np.array([0]), np.array([1]), np.array([np.nan]), n_users=1, n_items=4)


def test_views_of_interactions_agree_with_scipy() -> None:
    interactions = random_interactions(5)
    dense = interactions.to_scipy().toarray()
    assert_array_equal(interactions.transpose().to_scipy().toarray(), dense.T)
    assert_array_equal(interactions.rows(10, 30).to_scipy().toarray(), dense[10:30])
    chosen = np.array([5, 0, 59, 5])
    assert_array_equal(interactions.select(chosen).to_scipy().toarray(), dense[chosen])
    assert_array_equal(interactions.item_counts(), np.count_nonzero(dense, axis=0))
    scaled = interactions.scaled(np.arange(60.0), np.arange(40.0)).to_scipy().toarray()
    assert_allclose(scaled, dense * np.arange(60.0)[:, None] * np.arange(40.0), rtol=1e-6)
    batches = [rows.to_scipy().toarray() for _, rows in interactions.batches(7)]
    assert_array_equal(np.concatenate(batches), dense)


@settings(deadline=None)  # the first call may compile
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_top_k_is_a_stable_sort_without_the_excluded(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, (5, 9)).astype(np.float32)
    scores[rng.random((5, 9)) < 0.1] = np.nan
    excluded = rng.random((5, 9)) < 0.3
    exclude = Interactions.from_pairs(*np.nonzero(excluded), n_users=5, n_items=9)
    items, values = top_k(scores, k, exclude)
    for row in range(5):
        allowed = np.flatnonzero(~excluded[row] & ~np.isnan(scores[row]))
        expected = allowed[np.argsort(-scores[row, allowed], kind="stable")][:k]
        assert_array_equal(items[row, : len(expected)], expected)
        assert (items[row, len(expected) :] == -1).all()
        assert_array_equal(values[row, : len(expected)], scores[row, expected])
