"""A/A: many experiments in which nothing differs, to see how often the analysis says that something does.

Listeners come one after another over the days, listen to very different amounts, and go on as they did before: what the
statistics find hardest. Each run is looked at every day, as people do. The code that judges is that of an analysis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from scipy.special import ndtri

from segue.contracts.errors import InvalidData
from segue.experiments.statistics.arms import arm, pair
from segue.experiments.statistics.compare import Difference, difference
from segue.experiments.statistics.moments import Floats, Moments
from segue.experiments.statistics.ratio_check import MISMATCH, sample_ratio
from segue.experiments.statistics.sequential import always_valid_p
from segue.experiments.units import Ints

__all__ = ["Checked", "FalsePositives", "LeakCheck", "Listeners", "check", "made_up"]

ALPHA = 0.05
PLAYS = 3.0
"""Plays a day of the average listener."""
SPREAD = 1.0
"""Standard deviation of the logarithm of how much listeners listen: the top 1% make a tenth of all plays."""
BURSTS = 0.5
"""Shape of the gamma that a listener's days vary by: half of their plays fall on a few days."""
BEFORE = 14
"""Days of the pre-period."""
COMES = 0.2
"""Chance of a listener who has not been seen yet to come on a day."""
SKIPPED = (2.0, 5.0)
"""Beta of the share of plays that a listener skips."""
LEAK = 0.01
LEAK_POWER = 0.95


@dataclass(frozen=True)
class Listeners:
    """plays by day float[days, n] (0 before they came), plays before float[n], the day they came int[n], skips float[n]."""

    daily: Floats
    before: Floats
    came: Ints
    skips: Floats


class FalsePositives(msgspec.Struct, frozen=True):
    """Share of runs that said there is an effect: once at the end, or on any of the days."""

    fixed: float
    fixed_cuped: float
    fixed_ratio: float
    always_valid_daily_peeking: float
    always_valid_cuped_daily_peeking: float
    fixed_daily_peeking: float
    """What looking every day at fixed-horizon p-values does: why it must not be done."""


class LeakCheck(msgspec.Struct, frozen=True):
    """How often the sample-ratio check notices that `leak` of one variant's units is lost, at `units` in all before the loss."""

    leak: float
    units: int
    runs: int
    detected: float
    expected: float
    false_alarms: float
    threshold: float


class Checked(msgspec.Struct, frozen=True):
    """What `runs` A/A experiments found."""

    runs: int
    units: int
    days: int
    seed: int
    listeners: str
    false_positive_rate: FalsePositives
    monte_carlo_error: float
    """Standard error of a rate that is 5%."""
    p_uniform_ks: float
    """p of the runs' fixed-horizon p-values being uniform (Kolmogorov and Smirnov)."""
    p_uniform_ks_cuped: float
    cuped_width_ratio: float
    """Width of the interval with the pre-period over that without it: the median of the runs."""
    cuped_width_ratio_theory: float
    """sqrt(1 - correlation^2), with the correlation that the listeners are made with."""
    srm: LeakCheck


def check(
    runs: int,
    units: int,
    days: int,
    seed: int,
    real: Listeners | None = None,
    told: Callable[[int], None] = lambda done: None,
) -> Checked:
    """Run them. With `real` listeners the variants are drawn anew in each run, at most `units` of them."""
    from scipy.stats import kstest

    rng = np.random.default_rng(seed)
    found = []
    for done in range(runs):
        here = made_up(rng, units, days) if real is None else _some(rng, real, units)
        found.append(_run(rng, here))
        told(done + 1)
    fixed, cuped, ratio, peeked, valid, valid_cuped, width = np.array(found).T
    return Checked(
        runs=runs,
        units=units if real is None else min(units, len(real.before)),
        days=days if real is None else len(real.daily),
        seed=seed,
        listeners="made up" if real is None else "of the home, drawn into variants anew in each run",
        false_positive_rate=FalsePositives(
            fixed=_rate(fixed),
            fixed_cuped=_rate(cuped),
            fixed_ratio=_rate(ratio),
            always_valid_daily_peeking=_rate(valid),
            always_valid_cuped_daily_peeking=_rate(valid_cuped),
            fixed_daily_peeking=_rate(peeked),
        ),
        monte_carlo_error=math.sqrt(ALPHA * (1 - ALPHA) / runs),
        p_uniform_ks=float(kstest(fixed, "uniform").pvalue),
        p_uniform_ks_cuped=float(kstest(cuped, "uniform").pvalue),
        cuped_width_ratio=float(np.median(width)),
        cuped_width_ratio_theory=theory(days) if real is None else _width_of(real),
        srm=_leak(rng, runs),
    )


def _rate(p: Floats) -> float:
    return float(np.mean(p < ALPHA))


def made_up(rng: np.random.Generator, n: int, days: int) -> Listeners:
    """Listeners with heavy tails, whose past tells of their future."""
    liking = PLAYS * np.exp(SPREAD * rng.standard_normal(n) - SPREAD**2 / 2)
    came = np.minimum(rng.geometric(COMES, n) - 1, days - 1)
    # A Poisson number of plays a day, of a gamma that differs from day to day, is negative binomial; 14 days are the sum of
    # so many.
    plays = rng.negative_binomial(BURSTS, BURSTS / (BURSTS + liking), (days, n)).astype(np.float64)
    plays[np.arange(days)[:, None] < came] = 0.0
    before = rng.negative_binomial(BURSTS * BEFORE, BURSTS / (BURSTS + liking)).astype(np.float64)
    total = plays.sum(axis=0)
    skips = rng.binomial(total.astype(np.int64), rng.beta(*SKIPPED, n)).astype(np.float64)
    return Listeners(plays, before, came.astype(np.int64), skips)


def theory(days: int) -> float:
    """How much narrower the interval of made-up listeners must be for their pre-period."""
    square = PLAYS**2 * math.exp(SPREAD**2)  # of a listener's mean plays a day
    variance = square - PLAYS**2
    of_day = PLAYS + square / BURSTS
    chances = [COMES * (1 - COMES) ** day for day in range(days - 1)]
    stays = [*((days - day, chance) for day, chance in enumerate(chances)), (1, 1 - sum(chances))]
    stay, stay_square = sum(s * c for s, c in stays), sum(s * s * c for s, c in stays)
    before = BEFORE * of_day + BEFORE**2 * variance
    after = stay * of_day + stay_square * square - stay**2 * PLAYS**2
    return math.sqrt(1 - (BEFORE * stay * variance) ** 2 / (before * after))


def _width_of(real: Listeners) -> float:
    return math.sqrt(1 - float(np.corrcoef(real.daily.sum(axis=0), real.before)[0, 1]) ** 2)


def _some(rng: np.random.Generator, real: Listeners, n: int) -> Listeners:
    if len(real.before) <= n:
        return real
    some = np.sort(rng.choice(len(real.before), n, replace=False))
    return Listeners(real.daily[:, some], real.before[some], real.came[some], real.skips[some])


def _run(rng: np.random.Generator, here: Listeners) -> tuple[float, ...]:
    """p at the end, of the mean, with CUPED, and of the ratio; the smallest daily one, and the always-valid ones; widths'
    ratio.
    """
    n = len(here.before)
    # By variant, and by the day they came: who is there on a day is then a slice.
    order = np.lexsort((here.came, rng.permutation(n) % 2))
    sides = np.split(order, [(n + 1) // 2])
    sums = [np.cumsum(here.daily[:, side], axis=0) for side in sides]
    ps: list[tuple[float, float, float]] = []
    plain = adjusted = None
    for day, there in _days(here, sides):
        of = [
            Moments.of(sums[v][day, : there[v]], here.before[side[: there[v]]])
            for v, side in enumerate(sides)
        ]
        plain, adjusted = _both(of)
        if plain is None or adjusted is None:
            continue
        seen = sum(there)
        valid, valid_adjusted = (
            always_valid_p(gap.value / gap.error, seen, n, freedom=gap.freedom) for gap in (plain, adjusted)
        )
        ps.append((plain.p, valid, valid_adjusted))
    if plain is None or adjusted is None:
        raise InvalidData(
            "these listeners do not differ from one another: an A/A says nothing", field="listeners"
        )
    of = [Moments.of(here.skips[side], sums[v][-1]) for v, side in enumerate(sides)]
    ratio = difference(arm(of[0], ratio=True), arm(of[1], ratio=True))
    least = np.min(ps, axis=0)
    return (
        plain.p,
        adjusted.p,
        1.0 if ratio is None else ratio.p,
        *(float(p) for p in least),
        adjusted.error / plain.error,
    )


def _days(here: Listeners, sides: list[Any]) -> Iterator[tuple[int, list[int]]]:
    """Each day on which both variants have two listeners or more, with how many."""
    for day in range(len(here.daily)):
        there = [int(np.searchsorted(here.came[side], day, side="right")) for side in sides]
        if min(there) >= 2:
            yield day, there


def _both(of: list[Moments]) -> tuple[Difference | None, Difference | None]:
    control, treatment = of
    plain = pair(
        *(Moments(one.n, one.means[:1], one.products[:1, :1]) for one in of), ratio=False, adjusted=False
    )
    adjusted = pair(control, treatment, ratio=False, adjusted=True)
    return difference(*plain[:2]), difference(*adjusted[:2])


def _leak(rng: np.random.Generator, runs: int) -> LeakCheck:
    """Lose a share of one variant's units at random, at the size where the chi-square test finds it with LEAK_POWER."""
    share = (1 - LEAK) / (2 - LEAK)
    reach = float(ndtri(1 - MISMATCH / 2) + ndtri(LEAK_POWER))
    left = reach**2 * 0.25 / (0.5 - share) ** 2
    units = round(left / (1 - LEAK / 2), -3)
    treated = rng.binomial(int(units), 0.5, runs)
    lost = rng.binomial(treated, LEAK)
    shares = {"control": 1.0, "treatment": 1.0}
    checks = [
        (
            sample_ratio({"control": int(units - t), "treatment": int(t - gone)}, shares).mismatch,
            sample_ratio({"control": int(units - t), "treatment": int(t)}, shares).mismatch,
        )
        for t, gone in zip(treated, lost, strict=True)
    ]
    detected, false = np.mean(checks, axis=0)
    return LeakCheck(LEAK, int(units), runs, float(detected), LEAK_POWER, float(false), MISMATCH)
