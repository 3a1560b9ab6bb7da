"""The greedy kernel against a plain-Python reading of its definition, and the guarantees one by one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.contracts.errors import InvalidInput, InvalidSettings
from segue.models.diversity import (
    DRAWN,
    MOVED_BY_DIVERSITY,
    MOVED_BY_EXPLORATION,
    MOVED_BY_SPACING,
    Selection,
    SelectionConfig,
    chances,
    select,
)


@dataclass(frozen=True)
class Case:
    scores: npt.NDArray[np.float32]
    artists: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32] | None
    pool: npt.NDArray[np.bool_]
    uniforms: npt.NDArray[np.float64]
    k: int
    config: SelectionConfig

    def run(self) -> Selection:
        return select(
            self.scores,
            self.k,
            self.config,
            artists=self.artists,
            vectors=self.vectors,
            pool=self.pool,
            uniforms=self.uniforms,
        )


@st.composite
def cases(draw: st.DrawFn, explore: bool = True) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(0, 40))
    k = draw(st.integers(0, 50))
    vectors = rng.normal(size=(n, 5)).astype(np.float32)
    vectors[rng.random(n) < 0.1] = 0.0
    config = SelectionConfig(
        strength=draw(st.sampled_from([0.0, 0.3, 0.7, 1.0])),
        artist_spacing=draw(st.integers(0, 4)),
        max_per_artist=draw(st.integers(0, 3)),
        explore=draw(st.sampled_from([0.0, 0.2, 1.0])) if explore else 0.0,
    )
    return Case(
        scores=(rng.permutation(n) / 3).astype(np.float32),  # no ties
        artists=rng.integers(-1, draw(st.integers(1, 12)), n),
        vectors=vectors if draw(st.booleans()) else None,
        pool=rng.random(n) < draw(st.sampled_from([0.0, 0.3, 1.0])),
        uniforms=rng.random((k, 2)),
        k=k,
        config=config,
    )


def allowed_by_rules(case: Case, placed: list[int]) -> tuple[list[int], list[int]]:
    """Candidates the artist limit leaves, and those of them that may stand in the next slot."""
    artists, config = case.artists, case.config
    count = Counter(int(artists[i]) for i in placed)
    under_limit = [
        i
        for i in range(len(case.scores))
        if i not in placed
        and not (artists[i] > 0 and config.max_per_artist and count[int(artists[i])] >= config.max_per_artist)
    ]
    near = {int(artists[i]) for i in placed[max(0, len(placed) - config.artist_spacing) :] if artists[i] > 0}
    spaced = [i for i in under_limit if int(artists[i]) not in near]
    return under_limit, spaced or under_limit


def mmr_value(case: Case, i: int, placed: list[int]) -> float:
    span = float(case.scores.max() - case.scores.min())
    relevance = float(case.scores[i] - case.scores.min()) / span if span else 0.0

    def similarity(j: int) -> float:
        if case.vectors is None:
            return float(case.artists[i] > 0 and case.artists[i] == case.artists[j])
        a, b = case.vectors[i].astype(float), case.vectors[j].astype(float)
        norms = np.linalg.norm(a) * np.linalg.norm(b)
        return float(a @ b / norms) if norms else 0.0

    sameness = max((similarity(j) for j in placed), default=0.0)
    return (1 - case.config.strength) * relevance - case.config.strength * sameness


@settings(max_examples=150, deadline=None)
@given(cases())
def test_each_slot_follows_the_definition(case: Case) -> None:
    got = case.run()
    placed: list[int] = []
    for slot, chosen in enumerate(got.order.tolist()):
        under_limit, allowed = allowed_by_rules(case, placed)
        assert chosen in allowed
        values = {i: mmr_value(case, i, placed) for i in allowed}
        best = max(values.values())
        pool = [i for i in allowed if case.pool[i]]
        explores = case.config.explore > 0 and bool(pool) and case.uniforms[slot, 0] < case.config.explore
        assert bool(got.moved_by[slot] & DRAWN) == explores
        if explores:
            assert chosen in pool
        else:
            assert values[chosen] == pytest.approx(best, abs=1e-5)
        placed.append(chosen)
    under_limit, _ = allowed_by_rules(case, placed)
    assert len(placed) == case.k or not under_limit


@settings(max_examples=100, deadline=None)
@given(cases(), st.integers(0, 2**32))
def test_the_order_of_the_input_does_not_matter(case: Case, seed: int) -> None:
    shuffle = np.random.default_rng(seed).permutation(len(case.scores))
    shuffled = Case(
        case.scores[shuffle],
        case.artists[shuffle],
        None if case.vectors is None else case.vectors[shuffle],
        case.pool[shuffle],
        case.uniforms,
        case.k,
        case.config,
    )
    a, b = case.run(), shuffled.run()
    np.testing.assert_array_equal(case.scores[a.order], shuffled.scores[b.order])
    np.testing.assert_array_equal(a.propensity, b.propensity)
    np.testing.assert_array_equal(a.moved_by, b.moved_by)


@settings(max_examples=100, deadline=None)
@given(cases())
def test_nothing_twice_and_ranks_are_those_of_the_scores(case: Case) -> None:
    got = case.run()
    assert len(set(got.order.tolist())) == len(got.order) <= min(case.k, len(case.scores))
    assert len(got.order) == len(got.propensity) == len(got.rank) == len(got.moved_by)
    by_score = np.argsort(-case.scores, kind="stable")
    np.testing.assert_array_equal(by_score[got.rank], got.order)


@settings(max_examples=100, deadline=None)
@given(cases(explore=False))
def test_without_exploration_everything_is_certain(case: Case) -> None:
    got = case.run()
    np.testing.assert_array_equal(got.propensity, 1.0)
    np.testing.assert_array_equal(got.order, case.run().order)
    bare = select(case.scores, case.k, case.config, artists=case.artists, vectors=case.vectors)
    np.testing.assert_array_equal(got.order, bare.order)
    assert not np.any(got.moved_by & (DRAWN | MOVED_BY_EXPLORATION))


@settings(max_examples=100, deadline=None)
@given(cases())
def test_artist_rules_hold(case: Case) -> None:
    order = case.run().order.tolist()
    if case.config.max_per_artist:
        count = Counter(int(a) for a in case.artists[order] if a > 0)
        assert max(count.values(), default=0) <= case.config.max_per_artist
    for slot, chosen in enumerate(order):
        near = order[max(0, slot - case.config.artist_spacing) : slot]
        if case.artists[chosen] > 0 and case.artists[chosen] in case.artists[near]:
            # Only when everything that was left would have clashed.
            under_limit, _ = allowed_by_rules(case, order[:slot])
            assert all(case.artists[i] > 0 and case.artists[i] in case.artists[near] for i in under_limit)


def test_strength_zero_is_the_order_of_the_scores() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=300).astype(np.float32)
    vectors = rng.normal(size=(300, 8)).astype(np.float32)
    got = select(scores, 300, SelectionConfig(strength=0.0), artists=np.zeros(300, np.int64), vectors=vectors)
    np.testing.assert_array_equal(got.order, np.argsort(-scores))
    np.testing.assert_array_equal(got.rank, np.arange(300))
    assert not got.moved_by.any()


def test_equal_scores_keep_their_order_and_are_all_relevant_alike() -> None:
    got = select(np.ones(5, np.float32), 9, SelectionConfig(), artists=np.zeros(5, np.int64))
    np.testing.assert_array_equal(got.order, np.arange(5))


def test_a_copy_of_the_first_track_waits() -> None:
    scores = np.array([1.0, 0.9, 0.5, 0.0], np.float32)
    vectors = np.array([[2, 0], [9, 0], [0, 1], [0, -1]], np.float32)
    got = select(scores, 3, SelectionConfig(strength=0.5), artists=np.zeros(4, np.int64), vectors=vectors)
    assert got.order.tolist() == [0, 2, 3]
    late = select(scores, 4, SelectionConfig(strength=0.4), artists=np.zeros(4, np.int64), vectors=vectors)
    assert late.order.tolist() == [0, 2, 1, 3]
    assert late.moved_by.tolist() == [0, 0, MOVED_BY_DIVERSITY, 0]


def test_spacing_says_whom_it_moved() -> None:
    scores = np.array([4, 3, 2, 1], np.float32)
    artists = np.array([7, 7, 8, 9])
    got = select(scores, 4, SelectionConfig(strength=0.0, artist_spacing=1), artists=artists)
    assert got.order.tolist() == [0, 2, 1, 3]
    assert got.rank.tolist() == [0, 2, 1, 3]
    assert got.moved_by.tolist() == [0, 0, MOVED_BY_SPACING, 0]


def test_an_artist_alone_is_not_held_back() -> None:
    config = SelectionConfig(strength=0.0, artist_spacing=3)
    got = select(np.array([2, 3, 1], np.float32), 3, config, artists=np.full(3, 5))
    assert got.order.tolist() == [1, 0, 2]
    assert not got.moved_by.any()


def test_exploration_says_whom_it_moved() -> None:
    scores = np.array([3, 2, 1], np.float32)
    pool = np.array([False, False, True])
    config = SelectionConfig(strength=0.0, explore=0.25)
    uniforms = np.array([[0.1, 0.9], [0.9, 0.0], [0.9, 0.0]])
    got = select(scores, 3, config, artists=np.zeros(3, np.int64), pool=pool, uniforms=uniforms)
    assert got.order.tolist() == [2, 0, 1]
    assert got.moved_by.tolist() == [DRAWN, MOVED_BY_EXPLORATION, 0]
    # Slot 0: the draw. Slots 1 and 2: the pool is used up, so the greedy choice is certain.
    np.testing.assert_allclose(got.propensity, [0.25, 1.0, 1.0])


def test_the_greedy_choice_in_the_pool_can_come_both_ways() -> None:
    config = SelectionConfig(strength=0.0, explore=0.2)
    arguments = {"artists": np.zeros(4, np.int64), "pool": np.array([True, True, False, False])}
    scores = np.array([4, 3, 2, 1], np.float32)
    got = select(scores, 1, config, uniforms=np.array([[0.9, 0.0]]), **arguments)
    np.testing.assert_allclose(got.propensity, [0.8 + 0.2 / 2])


def test_propensities_are_the_frequencies() -> None:
    rng = np.random.default_rng(1)
    n, k, runs = 6, 3, 40_000
    scores = rng.normal(size=n).astype(np.float32)
    vectors = rng.normal(size=(n, 3)).astype(np.float32)
    artists = np.array([1, 1, 2, 2, 3, 0])
    pool = np.array([True, False, True, True, False, True])
    config = SelectionConfig(strength=0.4, artist_spacing=1, explore=0.5)
    seen: Counter[tuple[int, ...]] = Counter()
    chance: dict[tuple[int, ...], float] = {}
    for uniforms in rng.random((runs, k, 2)):
        got = select(scores, k, config, artists=artists, vectors=vectors, pool=pool, uniforms=uniforms)
        path = tuple(got.order.tolist())
        seen[path] += 1
        assert chance.setdefault(path, float(got.propensity.prod())) == float(got.propensity.prod())
    assert sum(chance.values()) == pytest.approx(1.0, abs=1e-9)  # every path there is was seen, once
    for path, p in chance.items():
        assert abs(seen[path] / runs - p) < 5 * np.sqrt(p * (1 - p) / runs)


@pytest.mark.parametrize("u", [0.0, np.nextafter(1.0, 0.0)])
def test_extreme_uniforms_stay_in_the_pool(u: float) -> None:
    config = SelectionConfig(strength=0.0, explore=1.0)
    pool = np.array([False, True, True])
    uniforms = np.full((1, 2), u)
    got = select(
        np.array([3, 2, 1], np.float32),
        1,
        config,
        artists=np.zeros(3, np.int64),
        pool=pool,
        uniforms=uniforms,
    )
    assert got.order.tolist() == [1 if u == 0.0 else 2]
    np.testing.assert_allclose(got.propensity, 0.5)


def test_refusals() -> None:
    scores, artists = np.zeros(3, np.float32), np.zeros(3, np.int64)
    with pytest.raises(InvalidInput, match="k must"):
        select(scores, -1, SelectionConfig(), artists=artists)
    with pytest.raises(InvalidInput, match="artists"):
        select(scores, 1, SelectionConfig(), artists=artists[:2])
    with pytest.raises(InvalidInput, match="vectors"):
        select(scores, 1, SelectionConfig(), artists=artists, vectors=np.zeros((2, 4), np.float32))
    with pytest.raises(InvalidInput, match="finite"):
        select(np.array([0, np.nan, 1], np.float32), 1, SelectionConfig(), artists=artists)
    with pytest.raises(InvalidInput, match="uniforms"):
        select(scores, 2, SelectionConfig(explore=0.1), artists=artists, pool=np.ones(3, np.bool_))
    for bad in ({"strength": 1.1}, {"explore": -0.1}, {"artist_spacing": -1}, {"max_per_artist": -1}):
        with pytest.raises(InvalidSettings, match=next(iter(bad))):
            SelectionConfig(**bad)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_equal_weights_are_a_uniform_pool_bit_for_bit(case: Case) -> None:
    def run(pool: npt.NDArray[np.generic]) -> Selection:
        return select(
            case.scores,
            case.k,
            case.config,
            artists=case.artists,
            vectors=case.vectors,
            pool=pool,  # type: ignore[arg-type]
            uniforms=case.uniforms,
        )

    plain, weighted = run(case.pool), run(case.pool.astype(np.float64))
    for name in ("order", "propensity", "rank", "moved_by"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(weighted, name))


def test_propensities_of_weights_with_one_draw_of_a_kind_are_the_frequencies() -> None:
    rng = np.random.default_rng(2)
    n, k, runs = 6, 3, 40_000
    scores = np.arange(n, 0, -1).astype(np.float32)
    pool = np.array([0.0, 0.5, 2.0, 4.0, 1.0, 0.25])
    once = np.array([False, False, True, True, False, True])
    config = SelectionConfig(strength=0.0, artist_spacing=1, explore=0.6)
    artists = np.array([1, 1, 2, 2, 3, 0])
    seen: Counter[tuple[int, ...]] = Counter()
    chance: dict[tuple[int, ...], float] = {}
    for uniforms in rng.random((runs, k, 2)):
        got = select(scores, k, config, artists=artists, pool=pool, once=once, uniforms=uniforms)
        path = tuple(got.order.tolist())
        assert ((got.moved_by & DRAWN > 0) & once[got.order]).sum() <= 1
        seen[path] += 1
        assert chance.setdefault(path, float(got.propensity.prod())) == float(got.propensity.prod())
    assert sum(chance.values()) == pytest.approx(1.0, abs=1e-3)  # what was never seen is rarer than that
    for path, p in chance.items():
        assert abs(seen[path] / runs - p) < 5 * np.sqrt(p * (1 - p) / runs) + 1e-4


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_weights_that_are_none_are_refused(bad: float) -> None:
    with pytest.raises(InvalidInput, match="pool"):
        select(
            np.ones(2, np.float32),
            1,
            SelectionConfig(explore=0.1),
            artists=np.zeros(2, np.int64),
            pool=np.array([1.0, bad]),
            uniforms=np.zeros((1, 2)),
        )


def asked_of_itself(seed: int, config: SelectionConfig, weighed: bool = False) -> tuple[Any, Selection]:
    rng = np.random.default_rng(seed)
    n, k = 30, 8
    scores = rng.normal(size=n).astype(np.float32)
    inputs = {
        "artists": rng.integers(0, 10, n),
        "vectors": rng.normal(size=(n, 4)).astype(np.float32),
        "pool": rng.random(n) < 0.6,
    }
    if weighed:
        inputs |= {"pool": inputs["pool"] * rng.exponential(size=n), "once": rng.random(n) < 0.4}
    shown = select(scores, k, config, uniforms=rng.random((k, 2)), **inputs)
    return (scores, inputs), shown


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("explore", [0.0, 0.4])
def test_the_chance_of_what_was_shown_is_its_propensity(explore: float, weighed: bool) -> None:
    config = SelectionConfig(strength=0.3, artist_spacing=2, explore=explore)
    for seed in range(20):
        (scores, inputs), shown = asked_of_itself(seed, config, weighed)
        found = chances(scores, shown.order, config, **inputs)
        assert found.chance == pytest.approx(shown.propensity, abs=1e-12)


@pytest.mark.parametrize("weighed", [False, True])
def test_chances_of_all_candidates_add_up_to_one_and_give_the_mean_value(weighed: bool) -> None:
    config = SelectionConfig(strength=0.3, artist_spacing=2, explore=0.4)
    (scores, inputs), shown = asked_of_itself(3, config, weighed)
    values = np.random.default_rng(0).random((8, 30))
    for slot in range(8):
        above = shown.order[:slot]
        each = np.array(
            [
                chances(scores, np.append(above, i).astype(np.int32), config, **inputs).chance[-1]
                for i in range(30)
            ]
        )
        assert each.sum() == pytest.approx(1.0)
        expected = chances(scores, shown.order, config, values=values, **inputs).expected[slot]
        assert expected == pytest.approx(each @ values[slot])


@pytest.mark.parametrize("weighed", [False, True])
def test_chances_whatever_stands_above_are_those_of_many_pages(weighed: bool) -> None:
    config = SelectionConfig(strength=0.3, artist_spacing=2, explore=0.4)
    (scores, inputs), _ = asked_of_itself(5, config, weighed)
    rng = np.random.default_rng(1)
    draws = rng.random((4_000, 3, 2))
    pages = np.array([select(scores, 3, config, uniforms=u, **inputs).order for u in draws])
    for asked in (pages[0], pages[1]):
        mean = np.mean([chances(scores, asked, config, uniforms=u, **inputs).chance for u in draws], axis=0)
        assert mean == pytest.approx((pages == asked).mean(axis=0), abs=0.03)


def test_behind_what_could_not_be_shown_nothing_has_a_chance() -> None:
    config = SelectionConfig(strength=0.0, explore=0.0)
    scores = np.array([3.0, 2.0, 1.0], np.float32)
    artists = np.array([1, 2, 3])
    found = chances(
        scores, np.array([0, 2, 1], np.int32), config, artists=artists, values=np.ones((3, 3)) * 0.5
    )
    assert found.chance.tolist() == [1.0, 0.0, 0.0]
    assert found.expected.tolist() == [0.5, 0.5, 0.0]
    assert chances(scores, np.array([-1, 0], np.int32), config, artists=artists).chance.tolist() == [0.0, 0.0]
    twice = chances(scores, np.array([0, 0], np.int32), config, artists=artists)
    assert twice.chance.tolist() == [1.0, 0.0]
    assert len(chances(scores, np.array([0, 1, 2, 0, 1], np.int32), config, artists=artists).chance) == 5


def test_what_would_repeat_a_slot_above_is_told() -> None:
    """Best first, always: the page asked about has the order turned round."""
    scores, artists = np.array([3.0, 2.0, 1.0], np.float32), np.array([1, 2, 3])
    asked = np.array([1, 0, 2], np.int32)
    found = chances(scores, asked, SelectionConfig(strength=0.0), artists=artists, uniforms=np.ones((3, 2)))
    assert found.chance.tolist() == [0.0, 0.0, 1.0]
    assert found.repeated.tolist() == [0.0, 1.0, 0.0], "the second best stood above"
