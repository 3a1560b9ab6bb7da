"""Rules and their scores against dictionaries and loops."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.contracts.errors import InvalidData
from segue.models.sequence_rules import SequenceRules, SequenceRulesConfig
from segue.models.sessions import DAY_US, Sessions
from segue.models.sparse_sum import add, best, empty_table

N_ITEMS = 15


def make_sessions(seed: int, n: int = 12) -> Sessions:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 9, size=n)
    session = np.repeat(np.arange(n), lengths)
    items = rng.integers(0, N_ITEMS, size=len(session))
    ts = session * DAY_US + np.arange(len(session)) * 60_000_000
    return Sessions.from_plays(session % 4, items, ts, session, n_items=N_ITEMS)


def rules_by_hand(sessions: Sessions, config: SequenceRulesConfig, now: int) -> dict[tuple[int, int], float]:
    weight = np.ones(sessions.n_plays)
    if config.half_life_days is not None:
        weight = 2.0 ** (-(now - sessions.ts) / (config.half_life_days * DAY_US))
    count = np.bincount(sessions.items, weights=weight, minlength=N_ITEMS)
    sums: dict[tuple[int, int], float] = defaultdict(float)
    for s in range(sessions.n_sessions):
        begin, end = sessions.indptr[s], sessions.indptr[s + 1]
        for i in range(begin, end):
            for j in range(i + 1, min(end, i + config.window + 1)):
                a, b = int(sessions.items[i]), int(sessions.items[j])
                if a != b:
                    sums[a, b] += weight[j] * (j - i) ** -config.power
                    sums[b, a] += weight[j] * (j - i) ** -config.power * config.backward
    return {
        (a, b): value * count[a] ** -config.source_damping * count[b] ** -config.target_damping
        for (a, b), value in sums.items()
        if value > 0
    }


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([0.0, 0.4]),
    st.sampled_from([None, 5.0]),
    st.integers(1, 10),
)
def test_rules_and_scores_equal_brute_force(
    seed: int, backward: float, half_life: float | None, window: int
) -> None:
    sessions = make_sessions(seed)
    now = int(sessions.ts.max()) + DAY_US
    config = SequenceRulesConfig(
        window=window,
        backward=backward,
        half_life_days=half_life,
        neighbours=N_ITEMS,
        prefix_window=3,
        prefix_power=0.7,
        seen_weight=0.25,
    )
    model = SequenceRules.fit(sessions, config, now=now)
    want = rules_by_hand(sessions, config, now)
    got = {
        (a, int(b)): float(w)
        for a in range(N_ITEMS)
        for b, w in zip(model.rules.ids[a], model.rules.weights[a], strict=True)
        if b >= 0
    }
    assert got.keys() == want.keys()
    np.testing.assert_allclose([got[p] for p in want], list(want.values()), rtol=1e-5)
    assert np.all(np.diff(model.rules.weights, axis=1) <= 1e-7)  # best first

    prefix = np.array([1, 4, -1, 4, 2], dtype=np.int32)
    scores = np.zeros(N_ITEMS)
    for back, item in enumerate(prefix[::-1][:3], start=1):
        for (a, b), value in want.items():
            if a == item:
                scores[b] += back**-0.7 * value
    scores[[1, 2, 4]] *= 0.25
    ids, values = model.score(prefix, N_ITEMS)
    dense = np.zeros(N_ITEMS)
    dense[ids] = values
    np.testing.assert_allclose(dense, scores, rtol=1e-4, atol=1e-7)
    assert np.all(np.diff(values) <= 0)


def test_only_the_best_rules_are_kept() -> None:
    sessions = make_sessions(3, n=60)
    full = SequenceRules.fit(sessions, SequenceRulesConfig(neighbours=N_ITEMS), now=0)
    short = SequenceRules.fit(sessions, SequenceRulesConfig(neighbours=4), now=0)
    np.testing.assert_array_equal(short.rules.ids, full.rules.ids[:, :4])
    np.testing.assert_array_equal(short.rules.weights, full.rules.weights[:, :4])


def test_batch_equals_one_by_one_and_arrays_round_trip() -> None:
    sessions = make_sessions(9, n=40)
    fitted = SequenceRules.fit(sessions, SequenceRulesConfig(), now=int(sessions.ts.max()))
    model = SequenceRules.from_arrays(fitted.config, fitted.arrays())
    ids, scores = model.score_batch(sessions.indptr, sessions.items, 7)
    for s in range(sessions.n_sessions):
        prefix = sessions.items[sessions.indptr[s] : sessions.indptr[s + 1]]
        one, values = fitted.score(prefix, 7)
        np.testing.assert_array_equal(ids[s][ids[s] >= 0], one)
        np.testing.assert_array_equal(scores[s, : len(one)], values)
        assert np.all(ids[s, len(one) :] == -1)


def test_an_empty_or_unknown_session_has_no_candidates() -> None:
    model = SequenceRules.fit(make_sessions(1), SequenceRulesConfig(), now=0)
    for prefix in (np.empty(0, np.int32), np.array([-1, -1], np.int32)):
        ids, scores = model.score(prefix, 5)
        assert len(ids) == len(scores) == 0


def test_sessions_are_sorted_whatever_order_plays_arrive_in() -> None:
    sessions = make_sessions(5)
    user, session = sessions.play_user(), sessions.session_of_play()
    order = np.random.default_rng(0).permutation(sessions.n_plays)
    again = Sessions.from_plays(
        user[order], sessions.items[order], sessions.ts[order], 1000 - session[order], n_items=N_ITEMS
    )
    for name in ("indptr", "items", "ts", "user"):
        np.testing.assert_array_equal(getattr(again, name), getattr(sessions, name))
    listeners = sessions.by_listener()
    assert listeners.n_sessions == len(np.unique(user))
    for s in range(listeners.n_sessions):
        assert np.all(np.diff(listeners.ts[listeners.indptr[s] : listeners.indptr[s + 1]]) >= 0)


def test_sessions_refuse_what_they_cannot_hold() -> None:
    one = np.zeros(1, np.int64)
    with pytest.raises(InvalidData, match="equally long"):
        Sessions.from_plays(one, one, one, np.zeros(2, np.int64), n_items=1)
    with pytest.raises(InvalidData, match="between 0 and 0"):
        Sessions.from_plays(one, one + 1, one, one, n_items=1)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**31 - 1), st.floats(0.125, 8, width=16)), max_size=200))
def test_sparse_sum_equals_a_dictionary(pairs: list[tuple[int, float]]) -> None:
    keys, sums = empty_table(len(pairs))
    want: dict[int, float] = defaultdict(float)
    for item, amount in pairs:
        add(keys, sums, item, amount)
        want[item] += amount
    ids, scores = best(keys, sums, 10)
    ranked = sorted(want.items(), key=lambda pair: (-np.float32(pair[1]), pair[0]))[:10]
    assert ids.tolist() == [item for item, _ in ranked]
    np.testing.assert_allclose(scores, [score for _, score in ranked], rtol=1e-6)
