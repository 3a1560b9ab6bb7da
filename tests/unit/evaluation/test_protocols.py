"""The temporal split against a slow reading of its rules, and its boundaries by the microsecond."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.contracts.errors import InvalidData
from segue.evaluation.metrics import rank_of_target
from segue.evaluation.protocols import (
    HOME,
    HOME_NEW,
    NEXT_UP,
    Plays,
    Task,
    default_window,
    evaluate,
    temporal_split,
    without_known,
)
from segue.models.sessions import DAY_US

AT = 10 * DAY_US
UNTIL = 16 * DAY_US


def random_plays(seed: int, n: int = 250) -> Plays:
    rng = np.random.default_rng(seed)
    session = rng.integers(0, 40, size=n)
    user = session % 9
    ts = (session * DAY_US) // 2 + rng.permutation(n) * (DAY_US // n)
    return Plays(user * 100, rng.integers(0, 25, size=n) * 7, ts, session)


def slow(plays: Plays, at: int, until: int) -> dict[str, object]:
    rows = sorted(
        zip(plays.ts.tolist(), plays.user.tolist(), plays.track.tolist(), plays.session.tolist(), strict=True)
    )
    catalogue = {track for ts, _, track, _ in rows if ts < at}
    history: dict[int, list[int]] = {}
    for ts, user, track, _ in rows:
        if ts < at:
            history.setdefault(user, []).append(track)
    sessions: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for ts, user, track, session in rows:
        sessions.setdefault((user, session), []).append((ts, track))
    cases, home = [], {}
    for (user, _), played in sessions.items():
        if not at <= played[0][0] < until:
            continue
        tracks = [track for ts, track in played if ts < until]
        for i in range(1, len(tracks)):
            prefix = tuple(t if t in catalogue else -1 for t in tracks[:i])
            cases.append((user, played[i - 1][0], prefix, tracks[i] if tracks[i] in catalogue else -1))
        if user in history:
            home.setdefault(user, set()).update(t for t in tracks if t in catalogue)
    home = {user: targets for user, targets in home.items() if targets}
    new = {user: targets - set(history[user]) for user, targets in home.items()}
    return {
        "catalogue": catalogue,
        "history": history,
        "cases": sorted(cases),
        HOME: home,
        HOME_NEW: {user: targets for user, targets in new.items() if targets},
    }


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_the_split_follows_its_rules(seed: int) -> None:
    plays = random_plays(seed)
    split = temporal_split(plays, AT, UNTIL)
    want = slow(plays, AT, UNTIL)
    assert set(split.tracks.tolist()) == want["catalogue"]

    def raw(items: np.ndarray) -> tuple[int, ...]:
        return tuple(int(split.tracks[i]) if i >= 0 else -1 for i in items)

    task = split.tasks[NEXT_UP]
    indptr, items, _ = task.prefixes(slice(0, task.n_cases))
    got = [
        (
            int(task.user[c]),
            int(task.moment[c]),
            raw(items[indptr[c] : indptr[c + 1]]),
            raw(task.targets[c : c + 1])[0],
        )
        for c in range(task.n_cases)
    ]
    assert sorted(got) == want["cases"]
    for name in (HOME, HOME_NEW):
        task = split.tasks[name]
        sets = {
            int(task.user[c]): set(raw(task.targets[task.target_indptr[c] : task.target_indptr[c + 1]]))
            for c in range(task.n_cases)
        }
        assert sets == want[name]
        indptr, items, ts = split.histories(task.listener)
        forbidden_at, forbidden = task.known_of(slice(0, task.n_cases))
        for c in range(task.n_cases):
            mine = want["history"][int(task.user[c])]  # type: ignore[index]
            assert list(raw(items[indptr[c] : indptr[c + 1]])) == mine
            assert np.all(ts[indptr[c] : indptr[c + 1]] < AT)
            known = set(raw(forbidden[forbidden_at[c] : forbidden_at[c + 1]]))
            assert known == (set(mine) if name == HOME_NEW else set())


def one_listener(*moments: int) -> Plays:
    n = len(moments)
    return Plays(np.zeros(n, np.int64), np.arange(n) % 2, np.array(moments), np.arange(n) // 2)


def test_a_play_at_the_split_is_test_and_a_microsecond_before_is_training() -> None:
    old = (0, 1)
    inside = temporal_split(one_listener(*old, AT, AT + 1), AT, UNTIL)
    assert (inside.protocol.train_plays, inside.protocol.test_plays) == (2, 2)
    with pytest.raises(InvalidData, match="test window"):
        temporal_split(one_listener(*old, AT - 1, AT), AT, UNTIL)  # the session began in training


def test_a_session_over_the_end_loses_its_later_plays() -> None:
    split = temporal_split(one_listener(0, 1, UNTIL - 1, UNTIL), AT, UNTIL)
    assert split.protocol.test_plays == 1
    assert split.tasks[NEXT_UP].n_cases == 0
    with pytest.raises(InvalidData, match="no case"):
        evaluate(split.tasks[NEXT_UP], lambda task, rows: np.zeros((0, 20), np.int32))


def test_lists_and_ranks_give_the_same_numbers_in_any_batch_size() -> None:
    split = temporal_split(random_plays(4), AT, UNTIL)
    task = split.tasks[NEXT_UP]
    rng = np.random.default_rng(0)
    scores = rng.permutation(task.n_cases * len(split.tracks)).reshape(task.n_cases, -1).astype(np.float32)

    def lists(_: Task, rows: slice) -> np.ndarray:
        return np.argsort(-scores[rows], axis=1)[:, :20].astype(np.int32)

    def ranks(task: Task, rows: slice) -> np.ndarray:
        return rank_of_target(scores[rows], task.targets[rows])

    whole = evaluate(task, lists)
    for other in (evaluate(task, ranks), evaluate(task, lists, batch=7), evaluate(task, ranks, batch=1)):
        for name, values in whole.per_case.items():
            np.testing.assert_allclose(other.per_case[name], values)
    measured = whole.metrics()
    assert measured["ndcg@20"].ci95[0] <= measured["ndcg@20"].value <= measured["ndcg@20"].ci95[1]
    some = task.user == task.user[0]
    assert whole.metrics(some)["hr@20"].value == pytest.approx(whole.per_case["hr@20"][some].mean())
    with pytest.raises(InvalidData):
        whole.metrics(np.zeros(task.n_cases, dtype=np.bool_))


def test_a_scorer_that_knows_the_answers_is_perfect_and_one_that_sleeps_is_refused() -> None:
    split = temporal_split(random_plays(4), AT, UNTIL)
    task = split.tasks[HOME]

    def oracle(task: Task, rows: slice) -> np.ndarray:
        out = np.full((rows.stop - rows.start, 50), -1, np.int32)
        for i in range(rows.start, rows.stop):
            mine = task.targets[task.target_indptr[i] : task.target_indptr[i + 1]]
            out[i - rows.start, : len(mine)] = mine
        return out

    assert evaluate(task, oracle, batch=2).metrics()["ndcg@50"].value == pytest.approx(1.0)
    with pytest.raises(InvalidData, match="answered"):
        evaluate(task, lambda task, rows: np.zeros((0, 50), np.int32))
    with pytest.raises(InvalidData, match="several targets"):
        evaluate(task, lambda task, rows: np.ones(rows.stop - rows.start))


def test_known_tracks_are_taken_out_and_the_rest_moves_up() -> None:
    split = temporal_split(random_plays(1), AT, UNTIL)
    task = split.tasks[HOME_NEW]
    every = np.tile(np.arange(len(split.tracks), dtype=np.int32), (task.n_cases, 1))
    rows = slice(0, task.n_cases)
    out = without_known(task, rows, every, 25)
    indptr, known = task.known_of(rows)
    for c in range(task.n_cases):
        want = np.setdiff1d(every[c], known[indptr[c] : indptr[c + 1]])[:25]
        np.testing.assert_array_equal(out[c][out[c] >= 0], want)


def test_the_default_window_is_the_last_fifth_of_the_days_at_most_28() -> None:
    assert default_window(np.array([0, 10 * DAY_US - 1])) == (8 * DAY_US, 10 * DAY_US)
    assert default_window(np.array([5, 400 * DAY_US])) == (373 * DAY_US, 401 * DAY_US)
    assert default_window(np.array([0, DAY_US])) == (DAY_US, 2 * DAY_US)
    for ts in (np.array([], np.int64), np.array([5, 6])):
        with pytest.raises(InvalidData):
            default_window(ts)


def test_the_protocol_says_how_the_split_was_chosen() -> None:
    plays = random_plays(2)
    assert temporal_split(plays, AT, UNTIL).protocol.chosen_by == "given"
    assert "fifth" in temporal_split(plays).protocol.chosen_by


def test_what_lies_further_back_is_left_out_as_if_it_was_not_there() -> None:
    plays = random_plays(2)
    recent = plays.ts >= AT - 4 * DAY_US
    assert not recent.all()
    left = Plays(*(column[recent] for column in (plays.user, plays.track, plays.ts, plays.session)))
    found, want = temporal_split(plays, AT, UNTIL, history_days=4), temporal_split(left, AT, UNTIL)
    assert found.protocol == want.protocol
    assert found.protocol.train_plays < temporal_split(plays, AT, UNTIL).protocol.train_plays
    for name, task in want.tasks.items():
        np.testing.assert_array_equal(found.tasks[name].targets, task.targets)
        np.testing.assert_array_equal(found.tasks[name].known, task.known)
    with pytest.raises(InvalidData, match="older than the split by at most 4 days"):
        temporal_split(plays, UNTIL + 9 * DAY_US, history_days=4)


def test_an_empty_training_side_is_refused() -> None:
    with pytest.raises(InvalidData, match="older"):
        temporal_split(random_plays(2), -1, UNTIL)
