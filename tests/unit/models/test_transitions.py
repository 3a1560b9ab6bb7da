"""The listener's own transitions against plain loops."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.models.sessions import DAY_US
from segue.models.transitions import TransitionsConfig, own_transitions

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
