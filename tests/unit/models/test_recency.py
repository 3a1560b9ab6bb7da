"""Repeat scores and their spread against dictionaries."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.models.recency import RecencyConfig, RecencyKNN, own_plays, own_plays_batch
from segue.models.sessions import DAY_US

N_ITEMS = 10
CONFIG = RecencyConfig(half_life_days=5.0, longest=8, repeat_power=0.5, self_weight=0.3)


def history(seed: int, n: int) -> tuple[np.ndarray, np.ndarray, int]:
    rng = np.random.default_rng(seed)
    items = rng.integers(-1, N_ITEMS, size=n).astype(np.int32)
    ts = np.cumsum(rng.integers(1, 3 * DAY_US, size=n)).astype(np.int64)
    return items, ts, int(ts[-1]) + 3 * DAY_US


def profile_by_hand(items: np.ndarray, ts: np.ndarray) -> dict[int, float]:
    sums: dict[int, float] = defaultdict(float)
    for item, at in list(zip(items.tolist(), ts.tolist(), strict=True))[-CONFIG.longest :]:
        if item >= 0:
            sums[item] += 2.0 ** (-(int(ts[-1]) - at) / (5.0 * DAY_US))
    return sums


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 20))
def test_own_plays_equal_decayed_counts(seed: int, n: int) -> None:
    items, ts, now = history(seed, n)
    want = profile_by_hand(items, ts)
    ids, scores = own_plays(items, ts, now, N_ITEMS, CONFIG)
    assert set(ids.tolist()) == want.keys()
    np.testing.assert_allclose(scores, [want[i] for i in ids.tolist()], rtol=1e-4)
    assert np.all(np.diff(scores) <= 0)


def test_a_long_silence_does_not_erase_the_order() -> None:
    items = np.array([3, 4], np.int32)
    ts = np.array([0, DAY_US], np.int64)
    ids, scores = own_plays(items, ts, 100_000 * DAY_US, 5, CONFIG)
    assert ids.tolist() == [4, 3]
    assert scores.min() > 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 20), st.sampled_from([0.0, 0.3]))
def test_spread_equals_sums_over_lists(seed: int, n: int, self_weight: float) -> None:
    rng = np.random.default_rng(seed)
    neighbours = np.stack([rng.permutation(N_ITEMS)[:4] for _ in range(N_ITEMS)]).astype(np.int32)
    neighbours[rng.integers(0, N_ITEMS), 2:] = -1
    weights = rng.random((N_ITEMS, 4)).astype(np.float32)
    config = RecencyConfig(half_life_days=5.0, longest=8, repeat_power=0.5, self_weight=self_weight)
    items, ts, now = history(seed, n)
    want = np.zeros(N_ITEMS)
    for item, decayed in profile_by_hand(items, ts).items():
        kept = neighbours[item] >= 0
        want[neighbours[item][kept]] += decayed**0.5 * weights[item][kept]
        want[item] += self_weight * decayed**0.5
    ids, scores = RecencyKNN(config, neighbours, weights).score(items, ts, now, N_ITEMS)
    dense = np.zeros(N_ITEMS)
    dense[ids] = scores
    np.testing.assert_allclose(dense, want, rtol=1e-4, atol=1e-7)


def test_batches_equal_one_by_one() -> None:
    parts = [history(seed, n) for seed, n in ((1, 5), (2, 1), (3, 12))]
    indptr = np.cumsum([0] + [len(p[0]) for p in parts]).astype(np.int64)
    ragged = (indptr, np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]))
    now = np.array([p[2] for p in parts])
    rng = np.random.default_rng(0)
    lists = np.stack([rng.permutation(N_ITEMS)[:4] for _ in range(N_ITEMS)]).astype(np.int32)
    model = RecencyKNN(CONFIG, lists, rng.random((N_ITEMS, 4)).astype(np.float32))
    own, own_scores = own_plays_batch(ragged, now, 6, CONFIG)
    ids, scores = model.score_batch(ragged, now, 6)
    for row, (items, ts, moment) in enumerate(parts):
        one, values = own_plays(items, ts, moment, 6, CONFIG)
        np.testing.assert_array_equal(own[row][own[row] >= 0], one)
        np.testing.assert_array_equal(own_scores[row, : len(one)], values)
        one, values = model.score(items, ts, moment, 6)
        np.testing.assert_array_equal(ids[row][ids[row] >= 0], one)
        np.testing.assert_array_equal(scores[row, : len(one)], values)
