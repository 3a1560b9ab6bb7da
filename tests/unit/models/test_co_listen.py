"""Co-listening lists against counting all pairs."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.models.co_listen import CoListenConfig, fit_co_listens
from segue.models.sessions import DAY_US, Sessions

N_ITEMS = 12


def make_sessions(seed: int) -> Sessions:
    rng = np.random.default_rng(seed)
    session = np.sort(rng.integers(0, 10, size=60))
    items = rng.integers(0, N_ITEMS, size=60)
    ts = session * DAY_US + np.cumsum(rng.integers(1, DAY_US // 50, size=60))
    return Sessions.from_plays(session % 3, items, ts, session, n_items=N_ITEMS)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([None, 0.5]), st.sampled_from([None, 4.0]), st.booleans())
def test_weights_equal_all_pairs(seed: int, gap: float | None, half_life: float | None, whole: bool) -> None:
    sessions = make_sessions(seed)
    sessions = sessions.by_listener() if whole else sessions
    now = int(sessions.ts.max())
    config = CoListenConfig(
        window=4, power=0.8, gap_half_life_days=gap, half_life_days=half_life, neighbours=N_ITEMS
    )
    model = fit_co_listens(sessions, config, now=now)
    weight = sessions.play_weights(now, half_life).astype(np.float64)
    count = np.bincount(sessions.items, weights=weight, minlength=N_ITEMS)
    want = np.zeros((N_ITEMS, N_ITEMS))
    owner = sessions.session_of_play()
    for i in range(sessions.n_plays):
        for j in range(i + 1, min(i + 5, sessions.n_plays)):
            a, b = sessions.items[i], sessions.items[j]
            if owner[i] != owner[j] or a == b:
                continue
            amount = weight[j] * (j - i) ** -0.8
            if gap is not None:
                amount *= 2.0 ** (-(sessions.ts[j] - sessions.ts[i]) / (gap * DAY_US))
            want[a, b] += amount
            want[b, a] += amount
    scale = np.maximum(count, 1e-12)
    want *= scale[:, None] ** -config.source_damping * scale[None, :] ** -config.target_damping
    got = np.zeros_like(want)
    for a in range(N_ITEMS):
        kept = model.ids[a] >= 0
        got[a, model.ids[a][kept]] = model.weights[a][kept]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-9)


def test_score_sums_weighted_lists() -> None:
    sessions = make_sessions(1)
    fitted = fit_co_listens(sessions, CoListenConfig(neighbours=5), now=0)
    ids, scores = fitted.score(np.array([3, -1, 4], np.int32), np.array([1.0, 9.0, 0.5], np.float32), N_ITEMS)
    want = np.zeros(N_ITEMS)
    for item, weight in ((3, 1.0), (4, 0.5)):
        kept = fitted.ids[item] >= 0
        want[fitted.ids[item][kept]] += weight * fitted.weights[item][kept]
    dense = np.zeros(N_ITEMS)
    dense[ids] = scores
    np.testing.assert_allclose(dense, want, rtol=1e-5)


def test_popularity_damping_lets_a_close_pair_beat_a_hit() -> None:
    # Item 1 follows 0 twice and only there; item 2 is everywhere, and follows 0 three times.
    pairs = [(0, 1)] * 2 + [(0, 2)] * 3 + [(n, 2) for n in range(3, 9)] * 3
    session = np.repeat(np.arange(len(pairs)), 2)
    items = np.array(pairs).ravel()
    sessions = Sessions.from_plays(session, items, np.arange(len(items)), session, n_items=9)
    plain = fit_co_listens(sessions, CoListenConfig(target_damping=0.0), now=0)
    damped = fit_co_listens(sessions, CoListenConfig(target_damping=0.5), now=0)
    assert plain.ids[0, 0] == 2
    assert damped.ids[0, 0] == 1
