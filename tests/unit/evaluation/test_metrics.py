"""Metrics against plain-Python definitions on random small cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.contracts.errors import InvalidData
from segue.evaluation import metrics


def _by_hand(top: list[int], targets: set[int], k: int) -> dict[str, float]:
    hits = [item in targets and item >= 0 for item in top[:k]]
    gain = sum(1 / math.log2(i + 2) for i, hit in enumerate(hits) if hit)
    best = sum(1 / math.log2(i + 2) for i in range(min(k, len(targets))))
    first = next((1 / (i + 1) for i, hit in enumerate(hits) if hit), 0.0)
    return {
        "recall": sum(hits) / len(targets),
        "ndcg": gain / best,
        "hr": float(any(hits)),
        "mrr": first,
    }


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 6))
def test_top_k_metrics_equal_the_definitions(seed: int, width: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    top = np.stack([rng.permutation(12)[:width] for _ in range(rows)]).astype(np.int32)
    top[rng.random(top.shape) < 0.15] = -1
    sets = [set(rng.permutation(14)[: rng.integers(1, 9)].tolist()) for _ in range(rows)]
    sets[0] = {-1} | sets[0]  # a target outside the catalogue is never found and always counted
    indptr = np.concatenate([[0], np.cumsum([len(s) for s in sets])]).astype(np.int64)
    flat = np.concatenate([np.array(list(s), dtype=np.int32) for s in sets])
    cuts = sorted({1, width, max(1, width // 2)})
    got = metrics.top_k_metrics(top, indptr, flat, cuts)
    for row in range(rows):
        for cut in cuts:
            for name, value in _by_hand(top[row].tolist(), sets[row], cut).items():
                assert got[f"{name}@{cut}"][row] == pytest.approx(value)


def test_a_repeated_item_is_one_hit() -> None:
    got = metrics.top_k_metrics(
        np.array([[3, 3, 3]], np.int32),
        np.array([0, 2]),
        np.array([3, 4], np.int32),
        [3],
    )
    assert got["recall@3"][0] == 0.5


@pytest.mark.parametrize(
    ("cuts", "indptr"),
    [([0], [0, 1]), ([4], [0, 1]), ([], [0, 1]), ([1], [0, 0]), ([1], [0, 1, 1])],
)
def test_impossible_input_is_refused(cuts: list[int], indptr: list[int]) -> None:
    with pytest.raises(InvalidData):
        metrics.top_k_metrics(
            np.zeros((1, 3), np.int32),
            np.array(indptr),
            np.zeros(indptr[-1], np.int32),
            cuts,
        )


def test_rank_metrics_agree_with_lists_of_one_target() -> None:
    top = np.array([[5, 6, 7], [6, 5, 7], [6, 7, 8]], np.int32)
    lists = metrics.top_k_metrics(top, np.arange(4), np.full(3, 5, np.int32), [2, 3])
    ranks = metrics.rank_metrics(np.array([1.0, 2.0, np.inf]), [2, 3])
    for name, values in ranks.items():
        np.testing.assert_allclose(values, lists[name])


def test_rank_metrics_refuse_rank_zero() -> None:
    with pytest.raises(InvalidData):
        metrics.rank_metrics(np.array([0.0]), [1])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6))
def test_rank_of_target_is_the_expected_rank_under_random_tie_breaks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, size=(5, 9)).astype(np.float32)
    target = rng.integers(-1, 9, size=5)
    got = metrics.rank_of_target(scores, target)
    for row in range(5):
        if target[row] < 0:
            assert got[row] == np.inf
            continue
        others = np.delete(scores[row], target[row])
        mine = scores[row, target[row]]
        assert got[row] == 1 + (others > mine).sum() + 0.5 * (others == mine).sum()


def test_catalogue_metrics_on_known_extremes() -> None:
    even = np.array([[0, 1], [2, 3]], np.int32)
    one = np.array([[0, -1], [0, -1]], np.int32)
    assert metrics.coverage(even, 4) == 1.0
    assert metrics.coverage(one, 4) == 0.25
    assert metrics.gini(even, 4) == pytest.approx(0.0)
    assert metrics.gini(one, 4) == pytest.approx(0.75)
    assert metrics.gini(np.full((2, 2), -1, np.int32), 4) == 0.0


def test_gini_equals_mean_absolute_difference() -> None:
    rng = np.random.default_rng(3)
    top = (rng.random((50, 5)) ** 3 * 20).astype(np.int32)
    counts = np.bincount(top.ravel(), minlength=20).astype(float)
    by_pairs = np.abs(counts[:, None] - counts[None, :]).sum() / (2 * 20**2 * counts.mean())
    assert metrics.gini(top, 20) == pytest.approx(by_pairs)


def test_novelty_is_mean_bits() -> None:
    plays = np.array([6, 0, 0, 0])  # smoothed to 7, 1, 1, 1
    got = metrics.novelty(np.array([[0, 1], [1, -1], [-1, -1]], np.int32), plays)
    np.testing.assert_allclose(got, [(math.log2(10 / 7) + math.log2(10)) / 2, math.log2(10), 0.0])


def test_intra_list_diversity_equals_pairs() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(10, 4)).astype(np.float32)
    vectors[3] = 0.0
    top = np.array([[0, 3, 5, 7], [1, 2, -1, -1], [4, -1, -1, -1]], np.int32)
    got = metrics.intra_list_diversity(top, vectors)

    def distance(i: int, j: int) -> float:
        norms = np.linalg.norm(vectors[i]) * np.linalg.norm(vectors[j])
        return 1.0 if norms == 0 else 1.0 - float(vectors[i] @ vectors[j]) / norms

    pairs = [distance(i, j) for a, i in enumerate([0, 3, 5, 7]) for j in [0, 3, 5, 7][a + 1 :]]
    np.testing.assert_allclose(got, [np.mean(pairs), distance(1, 2), 0.0], atol=1e-5)


def test_artist_diversity_counts_each_unknown_alone() -> None:
    artist = np.array([7, 7, 8, 0, -1, 9])
    top = np.array([[0, 1, 2], [3, 4, 0], [0, 1, -1], [-1, -1, -1]], np.int32)
    np.testing.assert_allclose(metrics.artist_diversity(top, artist), [2 / 3, 1.0, 0.5, 0.0])
