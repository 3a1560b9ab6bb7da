"""Each estimator against a computation by hand, a simulation of what it promises, or what must not change it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segue.experiments.statistics.arms import Arm, arm, pair, post_stratified, theta
from segue.experiments.statistics.compare import Difference, difference, not_worse
from segue.experiments.statistics.moments import Moments
from segue.experiments.statistics.multiple import benjamini_hochberg, holm
from segue.experiments.statistics.power import detectable, units_needed
from segue.experiments.statistics.quantiles import quantile_arm
from segue.experiments.statistics.ratio_check import sample_ratio
from segue.experiments.statistics.sequential import always_valid_p, boundary
from segue.experiments.statistics.shrinkage import shrunk
from segue.experiments.statistics.tails import largest_share, needed_for_normal, winsorized

FINITE = st.floats(-1e6, 1e6, allow_nan=False)
COLUMNS = arrays(np.float64, st.tuples(st.just(2), st.integers(4, 30)), elements=FINITE)


def sure(found: Difference | None) -> Difference:
    assert found is not None
    return found


def covered(hits: list[bool], least: float = 0.925, most: float = 0.975) -> None:
    """400 intervals or more of 95% hold the truth about as often as they say."""
    assert len(hits) >= 400
    assert least <= np.mean(hits) <= most


# --- moments


@given(COLUMNS, st.integers(1, 29))
def test_chunks_add_up(columns: np.ndarray, cut: int) -> None:
    whole = Moments.of(*columns)
    parts = Moments.of(*columns[:, :cut]) + Moments.of(*columns[:, cut:])
    assert parts.n == whole.n
    np.testing.assert_allclose(parts.means, whole.means, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(parts.products, whole.products, rtol=1e-9, atol=1e-2)


def test_large_means_cost_no_digits() -> None:
    few = np.array([1e9 + 4, 1e9 + 7, 1e9 + 13, 1e9 + 16])
    assert Moments.of(few).covariance[0, 0] == pytest.approx(30.0)
    assert sum((Moments.of(few[n : n + 1]) for n in range(1, 4)), Moments.of(few[:1])).covariance[
        0, 0
    ] == pytest.approx(30.0)


# --- by hand


def test_welch_by_hand() -> None:
    # Means 2 and 5, variances 1 and 4 (of 3 and 4 units): error^2 = 1/3 + 4/4.
    gap = sure(difference(Arm.plain(3, 2.0, 1.0), Arm.plain(4, 5.0, 4.0)))
    assert gap.value == 3.0
    assert gap.error == pytest.approx(math.sqrt(4 / 3))
    assert gap.freedom == pytest.approx((4 / 3) ** 2 / ((1 / 3) ** 2 / 2 + 1 / 3))
    assert gap.interval[0] == pytest.approx(
        3 - 2.645 * math.sqrt(4 / 3), abs=0.01
    )  # t, 4.57 degrees of freedom


def test_a_ratio_by_hand() -> None:
    # 1 of 2, 1 of 4, 4 of 6: ratio 1/2; deviations of numerator - ratio * denominator: 0, -1, 1; mean denominator 4.
    found = arm(Moments.of(np.array([1.0, 1, 4]), np.array([2.0, 4, 6])), ratio=True)
    assert found.value == 0.5
    assert found.variance == pytest.approx(((0 + 1 + 1) / 2) / 4**2)


def test_a_pre_period_takes_off_what_is_due() -> None:
    # Value = 2 * pre + 10 exactly, but 11 in the treatment: adjusted, the effect is 1 without any error.
    pre = [np.array([1.0, 2, 3, 6]), np.array([2.0, 5, 5, 8])]
    sides = [Moments.of(2 * pre[v] + 10 + v, pre[v]) for v in (0, 1)]
    by = theta([Moments.of(np.array([1.0, 3, 5]), np.array([1.0, 2, 3]))])
    assert by is not None
    assert by.slope == pytest.approx(2.0)
    assert by.saved == pytest.approx(1.0)
    control, treatment = (arm(side, adjust=by) for side in sides)
    assert treatment.value - control.value == pytest.approx(1.0)
    assert control.variance == pytest.approx(0.0, abs=1e-9)
    assert control.raw == pytest.approx(16.0)


def test_a_pre_period_that_does_not_vary_is_not_used() -> None:
    sides = [Moments.of(np.arange(5.0), np.ones(5)) for _ in (0, 1)]
    found = pair(*sides, ratio=False, adjusted=True)
    assert found.by is None
    assert found.method == "welch"


def test_post_stratification_by_hand() -> None:
    # Strata of means 10 and 20 that everybody is in half and half, but this variant 1 to 3.
    strata = [Moments.of(np.array([9.0, 11])), Moments.of(np.array([19.0, 21, 18, 22, 20, 20]))]
    found = post_stratified(strata, np.array([0.5, 0.5]))
    assert found.value == pytest.approx(15.0)
    assert found.variance == pytest.approx(8 * (0.25 * 2.0 / 2 + 0.25 * 2.0 / 6))


def test_not_worse_by_hand() -> None:
    control, treatment = Arm.plain(100, 10.0, 4.0), Arm.plain(100, 9.9, 4.0)
    # -0.1 + 0.05 * 10 = 0.4; variance 0.04 + 0.04 - 2 * 0.05 * 0.04 + 0.05^2 * 0.04.
    z = 0.4 / math.sqrt(0.04 + 0.04 - 2 * 0.05 * 0.04 + 0.05**2 * 0.04)
    assert not_worse(control, treatment, 0.05, 1)[0] == pytest.approx(z)
    assert not_worse(control, treatment, 0.05, 1)[1] == pytest.approx(
        0.5 * math.erfc(z / math.sqrt(2)), rel=0.05
    )
    # Where less is better, what is smaller is not worse.
    assert not_worse(control, treatment, 0.05, -1)[1] < not_worse(control, treatment, 0.05, 1)[1]


def test_winsorizing_by_hand() -> None:
    values = np.array([0.0, 1, 2, 3, 4, 5, 6, 7, 8, 1000])
    capped, cap = winsorized(values, 0.9)
    assert cap == 8
    assert capped.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 8]
    both, _ = winsorized(np.array([-1000.0, -1, 0, 1, 2, 3, 4, 5, 6, 1000]), 0.9)
    assert (both.min(), both.max()) == (-1000, 6)  # the lowest tenth is that one value


def test_tails() -> None:
    rng = np.random.default_rng(0)
    assert needed_for_normal(rng.standard_normal(10_000)) < 20
    heavy = np.append(rng.exponential(1.0, 10_000), 1000.0)
    assert needed_for_normal(heavy) > 1_000_000
    assert largest_share(heavy) > 0.9
    assert largest_share(np.ones(5)) == needed_for_normal(np.ones(5)) == 0.0


def test_the_sample_ratio_by_hand() -> None:
    found = sample_ratio({"a": 40, "b": 60}, {"a": 1, "b": 1})
    assert found.statistic == pytest.approx(4.0)
    assert found.p == pytest.approx(0.0455, abs=1e-4)
    assert not found.mismatch
    assert (found.most_off, found.excess) == ("a", -10)
    three = sample_ratio({"a": 1000, "b": 1000, "c": 1300}, {"a": 1, "b": 1, "c": 1})
    assert three.mismatch
    assert (three.most_off, three.excess) == ("c", 200)


def test_the_sample_ratio_looked_at_every_day() -> None:
    rng = np.random.default_rng(8)
    once, always = [], []
    for _ in range(1000):
        counts = np.cumsum(rng.multinomial(300, [0.5, 0.3, 0.2], 20), axis=0)
        days = [dict(zip("abc", map(int, day), strict=True)) for day in counts]
        shares = {"a": 5.0, "b": 3.0, "c": 2.0}
        once.append(any(sample_ratio(day, shares).mismatch for day in days))
        always.append(any(sample_ratio(day, shares, 6000).mismatch for day in days))
    assert np.mean(once) > 0.03
    assert np.mean(always) <= 0.01
    lost = {"a": 3000, "b": 1800, "c": 1000}
    assert sample_ratio(lost, shares, 6000).mismatch


def test_many_p_values_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert benjamini_hochberg([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.04, 0.04])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_corrections_only_raise_and_keep_the_order(ps: list[float]) -> None:
    for correct in (holm, benjamini_hochberg):
        found = correct(ps)
        assert all(p - 1e-12 <= new <= 1 for p, new in zip(ps, found, strict=True))
        order = np.argsort(ps, kind="stable")
        assert np.all(np.diff(np.array(found)[order]) >= -1e-12)
    assert all(a >= b - 1e-12 for a, b in zip(holm(ps), benjamini_hochberg(ps), strict=True))


def test_power_by_hand() -> None:
    # 16 * variance / effect^2 for each of two equal variants, as the rule of thumb has it (15.7 exactly).
    assert units_needed(4.0, 0.5) == pytest.approx(2 * 15.7 * 4 / 0.25, rel=0.002)
    assert detectable(4.0, units_needed(4.0, 0.5)) == pytest.approx(0.5, rel=1e-3)
    assert units_needed(1.0, 0.1, (1, 9)) > units_needed(1.0, 0.1, (1, 1))


# --- what must not change


@given(st.integers(0, 10_000))
def test_the_order_of_units_is_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sides = [rng.gamma(2.0, 3.0 + v, (2, 30)) for v in (0, 1)]

    def gap(sides: list[np.ndarray]) -> Difference:
        found = pair(*(Moments.of(*side) for side in sides), ratio=False, adjusted=True)
        return sure(difference(found.control, found.treatment))

    first, second = gap(sides), gap([rng.permutation(side, axis=1) for side in sides])
    assert second.value == pytest.approx(first.value, rel=1e-9, abs=1e-9)
    assert second.p == pytest.approx(first.p, rel=1e-9)


@given(st.floats(1e-3, 1e3), st.integers(0, 10_000))
def test_the_scale_of_a_metric_is_nothing(scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sides = [rng.gamma(2.0, 3.0 + v, (4, 40)) + 0.1 for v in (0, 1)]

    def gap(by: float, ratio: bool) -> Difference:
        scaled = [Moments.of(by * side[0], side[1], by * side[2], side[3]) for side in sides]
        if not ratio:
            scaled = [Moments.of(by * side[0], by * side[2]) for side in sides]
        found = pair(*scaled, ratio=ratio, adjusted=True)
        return sure(difference(found.control, found.treatment))

    for ratio in (False, True):
        one, other = gap(1.0, ratio), gap(scale, ratio)
        assert other.value == pytest.approx(scale * one.value, rel=1e-9)
        assert other.p == pytest.approx(one.p, rel=1e-9)
        assert (one.relative is None) == (other.relative is None)
        if one.relative and other.relative:
            assert other.relative.interval == pytest.approx(one.relative.interval, rel=1e-9)


def test_exchanging_the_variants_turns_the_sign() -> None:
    a, b = Arm.plain(50, 3.0, 2.0), Arm.plain(70, 3.4, 5.0)
    there, back = sure(difference(a, b)), sure(difference(b, a))
    assert back.value == -there.value
    assert back.p == there.p
    assert back.interval == (-there.interval[1], -there.interval[0])


def test_nothing_varies() -> None:
    assert difference(Arm.plain(5, 1.0, 0.0), Arm.plain(5, 2.0, 0.0)) is None


# --- what is promised


def test_relative_intervals_cover_where_the_control_is_uncertain() -> None:
    rng = np.random.default_rng(1)
    hits, methods = [], set()
    for _ in range(1500):
        control, treatment = (Moments.of(rng.exponential(mean, 25)) for mean in (1.0, 1.5))
        found = sure(difference(arm(control), arm(treatment))).relative
        if found is None:
            continue
        methods.add(found.method)
        hits.append(found.interval[0] <= 0.5 <= found.interval[1])
    assert "fieller" in methods
    covered(hits, least=0.92)


def test_fieller_and_delta_agree_where_the_control_is_certain() -> None:
    sure_control, treatment = Arm.plain(1000, 10.0, 100.0), Arm.plain(1000, 11.0, 100.0)
    delta = sure(difference(sure_control, treatment)).relative
    assert delta is not None
    assert delta.method == "delta"
    unsure = Arm.plain(100, 10.0, 25.1)
    fieller = sure(difference(unsure, Arm.plain(100, 11.0, 25.0))).relative
    assert fieller is not None
    assert fieller.method == "fieller"
    below = [
        sure(difference(Arm.plain(100, 10.0, v), Arm.plain(100, 11.0, 25.0))).relative for v in (24.9, 25.1)
    ]
    assert below[0] is not None
    assert below[1] is not None
    assert below[0].interval == pytest.approx(below[1].interval, abs=0.02)


def test_a_negative_control_keeps_the_sign_of_the_effect() -> None:
    gap = sure(difference(Arm.plain(1000, -10.0, 4.0), Arm.plain(1000, -9.0, 4.0)))
    assert gap.relative is not None
    assert gap.relative.value == pytest.approx(0.1)
    assert gap.relative.interval[0] < 0.1 < gap.relative.interval[1]
    mirrored = sure(difference(Arm.plain(1000, 10.0, 4.0), Arm.plain(1000, 9.0, 4.0))).relative
    assert mirrored is not None
    assert gap.relative.interval == pytest.approx((-mirrored.interval[1], -mirrored.interval[0]))


def test_a_control_like_zero_has_no_relative_effect() -> None:
    assert sure(difference(Arm.plain(100, 0.1, 4.0), Arm.plain(100, 1.0, 4.0))).relative is None


def test_ratios_with_a_pre_period_cover_and_are_narrower() -> None:
    rng = np.random.default_rng(2)
    hits, widths = [], []
    for _ in range(600):
        sides = []
        for variant in (0, 1):
            liking, rate = rng.lognormal(1.0, 0.7, 400), rng.beta(4, 8, 400)
            plays, before = rng.poisson(liking * 5) + 1, rng.poisson(liking * 5) + 1
            skips = rng.binomial(plays, np.minimum(rate * (1 + 0.1 * variant), 1))
            sides.append(Moments.of(skips, plays, rng.binomial(before, rate), before))
        gaps = []
        for adjusted in (True, False):
            found = pair(*sides, ratio=True, adjusted=adjusted)
            gaps.append(sure(difference(found.control, found.treatment)))
        truth = 0.1 * 4 / 12
        hits.append(gaps[0].interval[0] <= truth <= gaps[0].interval[1])
        widths.append(gaps[0].error / gaps[1].error)
    covered(hits)
    assert np.mean(widths) < 0.8


def test_few_successes_are_covered() -> None:
    rng = np.random.default_rng(3)
    hits = []
    for _ in range(2000):
        sides = [Moments.of(rng.random(150) < p) for p in (0.02, 0.05)]
        found = pair(*sides, ratio=False, adjusted=False, binary=True)
        low, high = sure(difference(found.control, found.treatment)).interval
        hits.append(low <= 0.03 <= high)
    covered(hits, most=0.99)


@pytest.mark.parametrize("quantile", [0.5, 0.95])
def test_quantiles_of_alike_rows_are_covered(quantile: float) -> None:
    rng = np.random.default_rng(4)
    level = math.exp(float(np.sqrt(0.5**2 + 0.3**2)) * {0.5: 0.0, 0.95: 1.6448536}[quantile])
    hits, naive = [], []
    for _ in range(500):
        unit = np.repeat(np.arange(200), 8)
        values = np.exp(np.repeat(0.5 * rng.standard_normal(200), 8) + 0.3 * rng.standard_normal(1600))
        for units, into in ((unit, hits), (None, naive)):
            found = quantile_arm(values, units, quantile)
            assert found is not None
            reach = 1.96 * math.sqrt(found.variance / found.n)
            into.append(abs(found.value - level) <= reach)
    covered(hits, least=0.91)
    assert np.mean(naive) < 0.9  # rows taken for independent: the error that clustering is there for


def test_a_quantile_of_too_few_rows_is_none() -> None:
    assert quantile_arm(np.arange(10.0), None, 0.99) is None


def test_always_valid_intervals_hold_at_every_look() -> None:
    rng = np.random.default_rng(5)
    runs, steps = 2000, 1000
    walks = np.cumsum(rng.standard_normal((runs, steps)), axis=1)
    n = np.arange(1, steps + 1)
    z = np.abs(walks) / np.sqrt(n)
    for planned in (50, 500):
        edge = np.array([boundary(int(k), planned) for k in n])
        assert np.mean((z > edge).any(axis=1)) <= 0.05
    # At about `planned` the interval is narrowest for its number of units.
    assert boundary(500, 500) < min(boundary(500, 50), boundary(500, 5000))


def test_always_valid_numbers_hold_from_the_first_units_on() -> None:
    """Of a ratio, looked at from 2 units a variant on, where few are planned: the error is a guess then."""
    rng = np.random.default_rng(8)
    looks = np.unique(np.geomspace(2, 300, 30).astype(int))
    wrong, runs = 0, 300
    for _ in range(runs):
        plays = 1 + rng.geometric(0.1, (2, 300))
        skips = rng.binomial(plays, rng.beta(1, 9, (2, 300)))
        seen = []
        for n in looks:
            of = [Moments.of(skips[v, :n], plays[v, :n]) for v in (0, 1)]
            gap = difference(*(arm(one, ratio=True) for one in of))
            if gap is not None:
                seen.append(always_valid_p(gap.value / gap.error, 2 * n, 100, freedom=gap.freedom))
        wrong += min(seen) < 0.05
    assert wrong <= 0.05 * runs + 3 * np.sqrt(0.05 * 0.95 * runs)


@given(
    st.floats(0, 6),
    st.integers(2, 10**6),
    st.integers(2, 10**6),
    st.sampled_from([1.0, 3.5, 40.0, 1e5, np.inf]),
)
def test_always_valid_p_and_interval_say_the_same(z: float, n: int, planned: int, freedom: float) -> None:
    edge = boundary(n, planned, freedom=freedom)
    if abs(z - edge) > 1e-6:
        assert (always_valid_p(z, n, planned, freedom=freedom) < 0.05) == (z > edge)


def test_stratification_covers_and_narrows() -> None:
    rng = np.random.default_rng(6)
    hits, widths = [], []
    for _ in range(500):
        stratum = rng.integers(0, 3, 600)
        variant = rng.integers(0, 2, 600)
        values = 5.0 * stratum + rng.standard_normal(600) + 0.4 * variant
        weights = np.bincount(stratum) / 600
        arms = [
            post_stratified([Moments.of(values[(variant == v) & (stratum == s)]) for s in range(3)], weights)
            for v in (0, 1)
        ]
        found = sure(difference(*arms))
        plain = sure(difference(*(arm(Moments.of(values[variant == v])) for v in (0, 1))))
        hits.append(found.interval[0] <= 0.4 <= found.interval[1])
        widths.append(found.error / plain.error)
    covered(hits)
    assert np.mean(widths) < 0.4


def test_shrunken_effects_err_less_and_cover() -> None:
    rng = np.random.default_rng(7)
    hits: list[bool] = []
    raw, pulled = [], []
    for _ in range(500):
        truth = 0.2 + 0.1 * rng.standard_normal(12)
        errors = rng.uniform(0.05, 0.4, 12)
        seen = truth + errors * rng.standard_normal(12)
        found = shrunk(seen, errors)
        raw.append(np.mean((seen - truth) ** 2))
        pulled.append(np.mean((found.effects - truth) ** 2))
        hits += ((found.low <= truth) & (truth <= found.high)).tolist()
    assert np.mean(pulled) < 0.5 * np.mean(raw)
    covered(hits)


def test_equal_effects_shrink_into_one() -> None:
    found = shrunk(np.full(4, 0.3), np.array([0.1, 0.2, 0.1, 0.3]))
    assert found.effects == pytest.approx(np.full(4, 0.3))
    assert found.spread < 0.2
    assert found.same_p == 1.0
