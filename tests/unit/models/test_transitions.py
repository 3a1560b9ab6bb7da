"""The listener's own transitions against plain loops."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.models.sessions import DAY_US
from segue.models.transitions import TransitionsConfig, own_transitions, own_transitions_batch

MINUTE = 60_000_000


def by_hand(
    past: list[int],
    past_ts: list[int],
    prefix: list[int],
    prefix_ts: list[int],
    now: int,
    config: TransitionsConfig,
) -> dict[int, float]:
    sums: dict[int, float] = defaultdict(float)
    last = prefix[::-1][: config.prefix_window]
    for plays, times, backward in ((past, past_ts, config.backward), (prefix, prefix_ts, 0.0)):
        for at, item in enumerate(plays):
            if item < 0 or item not in last:
                continue
            worth = (last.index(item) + 1) ** -config.prefix_power
            if config.half_life_days is not None:
                worth *= 2.0 ** (-(now - times[at]) / (config.half_life_days * DAY_US))
            for direction, factor in ((1, 1.0), (-1, backward)):
                for step in range(1, config.window + 1):
                    other = at + direction * step
                    if not 0 <= other < len(plays):
                        break
                    if abs(times[other] - times[other - direction]) > config.max_gap_minutes * MINUTE:
                        break
                    if plays[other] >= 0:
                        sums[plays[other]] += factor * worth * step**-config.power
    for item in set(prefix):
        if item in sums:
            sums[item] *= config.seen_weight
    return {item: value for item, value in sums.items() if value > 0}


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(0, 30), st.integers(1, 8), st.sampled_from([None, 3.0]), st.booleans()
)
def test_scores_equal_loops(
    seed: int, n_past: int, n_prefix: int, half_life: float | None, both: bool
) -> None:
    rng = np.random.default_rng(seed)
    items = rng.integers(-1, 8, size=n_past + n_prefix).astype(np.int32)
    ts = np.cumsum(rng.integers(1, 90, size=n_past + n_prefix)).astype(np.int64) * MINUTE
    now = int(ts[-1]) + MINUTE
    config = TransitionsConfig(
        window=3, prefix_window=4, half_life_days=half_life, backward=0.5 if both else 0.0
    )
    args = (items[:n_past], ts[:n_past], items[n_past:], ts[n_past:])
    want = by_hand(*(a.tolist() for a in args), now, config)
    ids, scores = own_transitions(*args, now, 100, config)
    assert dict.fromkeys(ids.tolist()).keys() == want.keys()
    np.testing.assert_allclose(scores, [want[i] for i in ids.tolist()], rtol=1e-4)
    assert np.all(np.diff(scores) <= 0)


def test_batch_equals_one_by_one_with_and_without_a_past() -> None:
    rng = np.random.default_rng(2)
    past = (np.array([0, 10, 30]), rng.integers(0, 6, 30).astype(np.int32), np.arange(30) * MINUTE)
    prefix = (np.array([0, 3, 4, 8]), rng.integers(0, 6, 8).astype(np.int32), (np.arange(8) + 30) * MINUTE)
    listener = np.array([1, -1, 0])
    now = np.full(3, 50 * MINUTE)
    config = TransitionsConfig()
    ids, scores = own_transitions_batch(past, listener, prefix, now, 6, config)
    for row in range(3):
        known = listener[row] >= 0
        span = slice(past[0][listener[row]], past[0][listener[row] + 1]) if known else slice(0, 0)
        part = slice(prefix[0][row], prefix[0][row + 1])
        one, values = own_transitions(
            past[1][span], past[2][span], prefix[1][part], prefix[2][part], 50 * MINUTE, 6, config
        )
        np.testing.assert_array_equal(ids[row][ids[row] >= 0], one)
        np.testing.assert_array_equal(scores[row, : len(one)], values)
