"""Repeat scores against dictionaries."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.models.recency import own_plays
from segue.models.sessions import DAY_US


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 20), st.integers(1, 10))
def test_own_plays_equal_decayed_counts(seed: int, n: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    items = rng.integers(0, 10, size=n).astype(np.int32)
    ts = np.cumsum(rng.integers(1, 3 * DAY_US, size=n)).astype(np.int64)
    want: dict[int, float] = defaultdict(float)
    for item, at in zip(items.tolist(), ts.tolist(), strict=True):
        want[item] += 2.0 ** (-(int(ts[-1]) - at) / (5.0 * DAY_US))
    ids, scores = own_plays(items, ts, k, 5.0)
    assert len(set(ids.tolist())) == len(ids) == min(k, len(want))
    np.testing.assert_allclose(scores, sorted(want.values(), reverse=True)[:k], rtol=1e-5)
    np.testing.assert_allclose(scores, [want[i] for i in ids.tolist()], rtol=1e-5)


def test_a_long_silence_keeps_the_newest_first() -> None:
    ts = np.array([0, 100_000 * DAY_US], np.int64)
    ids, scores = own_plays(np.array([3, 4], np.int32), ts, 5, 5.0)
    assert ids.tolist() == [4, 3]
    assert scores[0] == 1
