"""Ranker samples: requests as they would have been made, by models and states that have not seen what is to be predicted."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.contracts.tables import LATEST, LISTENERS, LISTENS
from segue.contracts.vocabulary import DAY, MINUTE
from segue.recommend.artifacts import Artifacts
from segue.recommend.pipeline import Recommender
from segue.settings.tree import RankerFit, Settings, Training
from segue.training import build
from segue.training.build import train, windows
from segue.training.catalogue import load_catalogue
from segue.training.history import Plays, load_plays
from segue.training.replay import Replay
from segue.training.samples import Moments, Samples, draw, home_moments, next_moments, together
from segue.wiring.home import Home

TRACK_ID = np.arange(100, 150)
MANY = 10_000


def made(seed: int, n: int = 300, users: int = 12) -> Plays:
    """Plays of some listeners in sessions, sorted as the warehouse gives them; no two of a listener at once."""
    dice = np.random.default_rng(seed)
    user = np.sort(dice.integers(1, users, n))
    gap = np.where(dice.random(n) < 0.25, 90 * MINUTE, 3 * MINUTE) + dice.integers(1, MINUTE, n)
    ts = np.cumsum(gap) % (20 * DAY)
    order = np.lexsort((ts, user))
    user, ts = user[order], ts[order]
    begins = np.r_[True, (user[1:] != user[:-1]) | (ts[1:] - ts[:-1] > 30 * MINUTE)]
    listened = dice.random(n) < 0.8
    return Plays(
        user,
        ts,
        ts[begins][np.cumsum(begins) - 1],
        dice.integers(0, len(TRACK_ID), n).astype(np.int32),
        listened,
        ~listened & (dice.random(n) < 0.5),
    )


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), day=st.integers(0, 20), most=st.integers(1, 30))
def test_home_moments_ask_before_what_they_are_followed_by(seed: int, day: int, most: int) -> None:
    plays = made(seed)
    cut = day * DAY
    moments = home_moments(plays, TRACK_ID, cut, most, np.random.default_rng(0))
    begins = np.unique(
        np.column_stack([plays.user_id, plays.session_start])[plays.session_start >= cut], axis=0
    )
    assert len(moments) == min(most, len(begins))
    asked = np.column_stack([moments.user_id, moments.ts])
    assert {*map(tuple, asked.tolist())} <= {*map(tuple, begins.tolist())}
    assert len(np.unique(asked, axis=0)) == len(moments)
    for user, ts, session, heard, skipped in zip(
        moments.user_id, moments.ts, moments.session, moments.heard, moments.skipped, strict=True
    ):
        after = (plays.user_id == user) & (plays.ts >= ts)
        assert ts >= cut
        assert len(session) == 0
        assert set(heard) == set(TRACK_ID[plays.track[after & plays.listened]])
        assert set(skipped) == set(TRACK_ID[plays.track[after & ~plays.listened]]) - set(heard)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), day=st.integers(0, 20), most=st.integers(1, 30))
def test_next_moments_lie_between_a_play_and_a_listen(seed: int, day: int, most: int) -> None:
    plays = made(seed)
    cut = day * DAY
    moments = next_moments(plays, TRACK_ID, cut, most, np.random.default_rng(0))
    for user, ts, session, heard, skipped in zip(
        moments.user_id, moments.ts, moments.session, moments.heard, moments.skipped, strict=True
    ):
        mine = np.flatnonzero(plays.user_id == user)
        target = mine[np.searchsorted(plays.ts[mine], ts)]
        before = mine[plays.ts[mine] < ts]
        assert plays.ts[target] >= ts > plays.ts[target - 1] >= cut
        assert plays.session_start[target] == plays.session_start[target - 1] >= cut
        same_session = before[plays.session_start[before] == plays.session_start[target]]
        assert session.tolist() == TRACK_ID[plays.track[same_session]][-50:].tolist()
        assert plays.listened[target]
        assert (heard.tolist(), skipped.tolist()) == ([TRACK_ID[plays.track[target]]], [])


def test_next_moments_never_lie_behind_their_target() -> None:
    """Two plays with one timestamp, as in sources that know only minutes or days."""
    one = np.array([DAY, DAY, DAY + MINUTE])
    plays = Plays(
        np.ones(3, np.int64),
        one,
        np.full(3, DAY),
        np.arange(3, dtype=np.int32),
        np.ones(3, np.bool_),
        np.zeros(3, np.bool_),
    )
    moments = next_moments(plays, TRACK_ID, 0, MANY, np.random.default_rng(0))
    assert moments.ts.tolist() == [DAY + 1]
    assert moments.heard[0].tolist() == [TRACK_ID[2]]


@settings(max_examples=100, deadline=None)
@given(
    history=st.integers(1, 500 * DAY),
    days=st.integers(1, 60),
    most=st.integers(1, 12),
)
def test_windows_follow_each_other_in_the_later_half_of_the_history(
    history: int, days: int, most: int
) -> None:
    until = 1_000 * DAY
    plays = made(0, 2, 2)
    plays = plays.where(np.array([True, False]))
    plays.ts[:] = until - history
    found = windows(plays, until, Training(ranker_days=days, ranker_windows=most))
    assert 1 <= len(found) <= most
    assert found[0][1] == until
    for cut, end in found:
        assert 0 < end - cut <= days * DAY
    for later, earlier in itertools.pairwise(found):
        assert earlier[1] == later[0]
    assert found[-1][0] >= until - max(history // 2, 1)


@pytest.fixture(scope="module")
def plays(service: Home) -> Plays:
    catalogue, _ = load_catalogue(service.engine)
    return load_plays(service.engine, catalogue, since=0, until=LATEST)


@pytest.fixture(scope="module")
def end(plays: Plays) -> int:
    """The end of the last day."""
    return (int(plays.ts.max()) // DAY + 1) * DAY


def changed(service: Home, **training: Any) -> Settings:
    """The service's settings with other ones for training."""
    other = msgspec.structs.replace(service.settings.training, **training)
    return msgspec.structs.replace(service.settings, training=other)


@pytest.mark.parametrize("surface", ["home", "next-up"])
def test_no_candidate_score_sees_what_happens_at_its_moment_or_later(
    service: Home, plays: Plays, end: int, surface: str
) -> None:
    """Against states folded from a history that ends at the moment itself: the same candidates, the same columns."""
    cut = end - 4 * DAY
    recommender = Recommender(
        Artifacts.load(service.bundles.open()), service.settings.surfaces, lambda _: None, 200
    )
    choose = home_moments if surface == "home" else next_moments
    track_id = recommender.artifacts.catalogue.track_id
    moments = choose(plays, track_id, cut, 12, np.random.default_rng(4))
    everything = Replay.load(service.engine, moments.user_id, end, service.settings.state)
    compared = 0
    for n in range(len(moments)):
        one = Moments(surface, *(column[n : n + 1] for column in columns_of(moments)))
        until_then = Replay.load(service.engine, one.user_id, int(one.ts[0]), service.settings.state)
        with_future = draw(recommender, everything, one, MANY, np.random.default_rng(0))
        without = draw(recommender, until_then, one, MANY, np.random.default_rng(0))
        assert (with_future is None) == (without is None)
        if with_future is not None and without is not None:
            np.testing.assert_array_equal(with_future.track_id, without.track_id)
            np.testing.assert_array_equal(with_future.columns, without.columns)
            np.testing.assert_array_equal(with_future.played, np.isin(with_future.track_id, one.heard[0]))
            compared += 1
    assert compared >= 3


def columns_of(moments: Moments) -> tuple[object, ...]:
    """The columns of moments, without the surface."""
    return moments.user_id, moments.ts, moments.until, moments.session, moments.heard, moments.skipped


def test_what_was_shown_and_not_played_is_always_a_negative(service: Home, plays: Plays, end: int) -> None:
    recommender = Recommender(
        Artifacts.load(service.bundles.open()), service.settings.surfaces, lambda _: None, 200
    )
    track_id = recommender.artifacts.catalogue.track_id
    moments = home_moments(plays, track_id, end - 4 * DAY, 40, np.random.default_rng(4))
    replay = Replay.load(service.engine, moments.user_id, end, service.settings.state)
    every = draw(recommender, replay, moments, MANY, np.random.default_rng(0))
    few = draw(recommender, replay, moments, 1, np.random.default_rng(0))
    assert every is not None
    assert few is not None
    ignored = 0
    for n in np.unique(few.request).tolist():
        seen = replay.shown(int(moments.user_id[n]), int(moments.ts[n]), end)
        proposed = every.track_id[every.request == n]
        kept = few.track_id[few.request == n]
        assert np.isin(np.intersect1d(seen, proposed), kept).all()
        ignored += len(np.setdiff1d(np.intersect1d(seen, proposed), moments.heard[n]))
    assert ignored > 0
    assert len(few) < len(every) / 2


def test_retrieval_is_fitted_strictly_before_the_moments_it_is_asked_about(
    service: Home, end: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[tuple[int, int]] = []
    asked: list[tuple[int, int, int]] = []
    fit, replayed = build.fit_retrieval, build.draw

    def watched_fit(before: Plays, *rest: object) -> object:
        fitted.append((int(before.ts.max()), int(rest[3])))  # type: ignore[call-overload]
        return fit(before, *rest)  # type: ignore[arg-type]

    def watched_draw(recommender: Recommender, replay: Replay, moments: Moments, *rest: object) -> object:
        asked.append((len(fitted), int(moments.ts.min()), int(moments.ts.max())))
        return replayed(recommender, replay, moments, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(build, "fit_retrieval", watched_fit)
    monkeypatch.setattr(build, "draw", watched_draw)
    small = {surface: RankerFit(trees=2, requests=400) for surface in ("home", "next-up")}
    train(
        service.engine, changed(service, ranker_days=2, ranker_windows=3, rankers=small), end, lambda _: None
    )
    assert len({number for number, *_ in asked}) > 1, "several windows"
    for number, first, last in asked:
        latest_play, now = fitted[number - 1]
        assert latest_play < now <= first <= last < end
    assert fitted[-1][1] == end


def test_training_is_repeatable_by_its_seed(service: Home, end: int) -> None:
    def trained(seed: int) -> tuple[dict[str, tuple[str, ...]], npt.NDArray[np.float32]]:
        found = train(service.engine, changed(service, seed=seed), end, lambda _: None)
        return {
            name: ranker.texts for name, ranker in found.rankers.items()
        }, found.retrieval.ials.item_factors

    rankers, factors = trained(1)
    again, factors_again = trained(1)
    other, other_factors = trained(2)
    assert rankers == again
    np.testing.assert_array_equal(factors, factors_again)
    assert rankers != other
    assert not np.array_equal(factors, other_factors)


def test_windows_put_together_keep_their_requests_apart() -> None:
    def part(requests: list[int], name: str) -> Samples:
        n = len(requests)
        rows = np.arange(n)
        flags = np.zeros(n, np.bool_)
        return Samples(
            name,
            np.array(requests, np.int32),
            rows,
            rows,
            rows,
            flags,
            flags,
            flags,
            np.ones((n, 2), np.float32),
            ("a", "b"),
        )

    joined = together([part([0, 0, 3], "home"), part([1, 1, 2], "home"), part([0], "home")])
    assert joined.request.tolist() == [0, 0, 3, 5, 5, 6, 7]
    assert len(joined) == 7


def test_listeners_without_consent_are_not_learnt_from(service: Home, plays: Plays) -> None:
    listeners = service.engine.collect(service.engine.read(LISTENERS))
    withheld = listeners.filter(pc.invert(listeners["personalization_consent"]))["user_id"].to_numpy()
    played = service.engine.collect(service.engine.read(LISTENS).select("user_id").distinct())
    assert np.isin(withheld, played["user_id"].to_numpy()).any()
    assert len(plays)
    assert not np.isin(plays.user_id, withheld).any()
