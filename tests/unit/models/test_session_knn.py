"""Session kNN against a direct reading of its definition."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.models.session_knn import SessionKNN, SessionKNNConfig
from segue.models.sessions import DAY_US, Sessions

N_ITEMS = 20


def make_sessions(seed: int, n: int = 30) -> Sessions:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 10, size=n)
    session = np.repeat(np.arange(n), lengths)
    items = (rng.random(len(session)) ** 2 * N_ITEMS).astype(np.int64)
    ts = session * DAY_US + np.arange(len(session)) * 60_000_000
    return Sessions.from_plays(session % 7, items, ts, session, n_items=N_ITEMS)


def by_hand(
    sessions: Sessions, config: SessionKNNConfig, prefix: list[int], now: int
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    all_items = [
        sessions.items[sessions.indptr[s] : sessions.indptr[s + 1]].tolist()
        for s in range(sessions.n_sessions)
    ]
    start = sessions.ts[sessions.indptr[:-1]]
    newest = sorted(range(len(all_items)), key=lambda s: -start[s])
    last = prefix[::-1][: config.prefix_window]
    plays = np.maximum(sessions.item_counts(), 1)
    similarity: dict[int, float] = {}
    for item in set(last) - {-1}:
        worth = (last.index(item) + 1) ** -config.prefix_power * (
            sessions.n_plays / plays[item]
        ) ** config.rarity
        for s in [s for s in newest if item in all_items[s]][: config.sessions_per_track]:
            similarity[s] = similarity.get(s, 0.0) + worth
    for s in similarity:
        similarity[s] *= len(all_items[s]) ** -config.length_power
        if config.half_life_days is not None:
            similarity[s] *= 2.0 ** (-(now - start[s]) / (config.half_life_days * DAY_US))
    nearest = sorted(similarity, key=lambda s: (-np.float32(similarity[s]), s))[: config.neighbours]
    scores = np.zeros(N_ITEMS)
    for s in nearest:
        nearest_shared = min(last.index(i) for i in all_items[s] if i in last)
        anchor = max(at for at, i in enumerate(all_items[s]) if i == last[nearest_shared])
        for at, item in enumerate(all_items[s]):
            if at != anchor:
                side = 1.0 if at > anchor else config.backward
                scores[item] += similarity[s] * side * abs(at - anchor) ** -config.distance_power
    for item in set(prefix) - {-1}:
        scores[item] *= config.seen_weight
    return scores


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 8), st.sampled_from([None, 10.0]))
def test_scores_equal_the_definition(seed: int, length: int, half_life: float | None) -> None:
    sessions = make_sessions(seed)
    prefix = np.random.default_rng(seed + 1).integers(-1, N_ITEMS, size=length).astype(np.int32)
    now = int(sessions.ts.max()) + DAY_US
    config = SessionKNNConfig(
        sessions_per_track=6,
        neighbours=500,
        prefix_window=4,
        half_life_days=half_life,
        length_power=0.5,
        backward=0.3,
    )
    ids, scores = SessionKNN.fit(sessions, config).score(prefix, now, N_ITEMS)
    dense = np.zeros(N_ITEMS)
    dense[ids] = scores
    np.testing.assert_allclose(dense, by_hand(sessions, config, prefix.tolist(), now), rtol=1e-4, atol=1e-7)


def test_only_the_nearest_sessions_speak() -> None:
    # Sessions 0 and 1 share one track with the prefix, session 2 shares two: alone it decides.
    items = np.array([0, 5, 1, 6, 0, 1, 7])
    session = np.array([0, 0, 1, 1, 2, 2, 2])
    sessions = Sessions.from_plays(session, items, np.arange(7), session, n_items=8)
    model = SessionKNN.fit(sessions, SessionKNNConfig(neighbours=1, rarity=0.0))
    ids, _ = model.score(np.array([0, 1], np.int32), 10, 8)
    assert ids[0] == 7
    assert 5 not in ids
    assert 6 not in ids


def test_the_index_is_bounded_and_holds_the_newest() -> None:
    sessions = make_sessions(4, n=80)
    model = SessionKNN.fit(sessions, SessionKNNConfig(sessions_per_track=3))
    indptr, sessions_of = model.index.track_indptr, model.index.track_sessions
    lengths = np.diff(indptr)
    assert lengths.max() == 3
    for item in range(N_ITEMS):
        mine = sessions_of[indptr[item] : indptr[item + 1]]
        holders = np.unique(sessions.session_of_play()[sessions.items == item])
        newest = holders[np.argsort(-model.index.start[holders], kind="stable")][:3]
        np.testing.assert_array_equal(mine, newest)


def test_batch_equals_one_by_one_and_arrays_round_trip() -> None:
    sessions = make_sessions(8)
    fitted = SessionKNN.fit(sessions, SessionKNNConfig())
    model = SessionKNN.from_arrays(fitted.config, fitted.arrays())
    now = np.full(sessions.n_sessions, sessions.ts.max())
    ids, scores = model.score_batch(sessions.indptr, sessions.items, now, 5)
    for s in range(sessions.n_sessions):
        prefix = sessions.items[sessions.indptr[s] : sessions.indptr[s + 1]]
        one, values = fitted.score(prefix, int(now[0]), 5)
        np.testing.assert_array_equal(ids[s][ids[s] >= 0], one)
        np.testing.assert_array_equal(scores[s, : len(one)], values)
