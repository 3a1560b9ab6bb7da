"""A metric's variants against each other."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy.special import ndtri

from segue.experiments.metric import Metric
from segue.experiments.outcome import AlwaysValid, Comparison, Level, NotWorse, Robust
from segue.experiments.statistics.arms import Arm, Pair, arm, pair, post_stratified
from segue.experiments.statistics.compare import Difference, difference, not_worse
from segue.experiments.statistics.quantiles import quantile_arm
from segue.experiments.statistics.sequential import always_valid_p, boundary
from segue.experiments.statistics.tails import largest_share, needed_for_normal, winsorized
from segue.experiments.units import Ints, Mask, Measured

__all__ = ["compared", "heavy_tailed", "level", "pair_of", "robust"]

ROBUST = 0.999
"""Quantile that a heavy-tailed mean is winsorized at, to be shown beside."""
ONE_UNIT = 0.01
"""Where one unit makes more of a metric's variance than this, tails are heavy whatever the skewness."""
FARTHEST = 4.0
"""Unless it is not even this many standard deviations out: of few units each makes much."""
POWER = float(ndtri(0.975) + ndtri(0.8))


def level(metric: Metric, values: Measured, variant: int) -> Level | None:
    """A variant's level as observed. None where no unit of it has the metric."""
    here = values.variant == variant
    if not here.any():
        return None
    if metric.quantile is not None:
        found = values.columns[0][here]
        return Level(float(np.quantile(found, metric.quantile)), len(np.unique(values.unit[here])), None)
    of = values.moments(variant)
    plain = arm(of, ratio=values.ratio)
    if math.isnan(plain.raw):
        return None
    return Level(plain.raw, of.n, math.sqrt(max(plain.raw_variance, 0.0)))


def pair_of(
    metric: Metric, values: Measured, treatment: int, strata: Ints | None = None, among: Mask | None = None
) -> Pair | None:
    """Control and a treatment as they are compared. None with fewer than two units in one, or too few for the quantile."""
    if metric.quantile is not None:
        arms = [_quantile(metric.quantile, values, variant, among) for variant in (0, treatment)]
        return None if arms[0] is None or arms[1] is None else Pair(arms[0], arms[1], None, "outer interval")
    of = [values.moments(variant, among) for variant in (0, treatment)]
    if min(one.n for one in of) < 2 or (values.ratio and not all(one.means[1] for one in of)):
        return None
    if strata is not None and not values.ratio:
        return _stratified(values, treatment, strata)
    return pair(
        *of,
        ratio=values.ratio,
        adjusted=values.adjusted,
        binary=metric.kind == "proportion" and not values.ratio,
    )


def _quantile(quantile: float, values: Measured, variant: int, among: Mask | None) -> Arm | None:
    here = values.variant == variant if among is None else (values.variant == variant) & among
    units = values.unit[here]
    return quantile_arm(values.columns[0][here], units, quantile)


def _stratified(values: Measured, treatment: int, strata: Ints) -> Pair:
    both = (values.variant == 0) | (values.variant == treatment)
    weights = np.bincount(strata[both]) / both.sum()
    column = replace(values, columns=values.columns[:1], adjusted=False)
    arms = [
        post_stratified(
            [column.moments(variant, strata == stratum) for stratum in range(len(weights))], weights
        )
        for variant in (0, treatment)
    ]
    return Pair(arms[0], arms[1], None, "post-stratified")


def compared(
    metric: Metric,
    values: Measured,
    names: tuple[str, ...],
    treatment: int,
    planned: int,
    strata: Ints | None,
) -> tuple[Comparison, str | None]:
    """A treatment against the control, and a warning where there is one."""
    who = (names[treatment], names[0])
    found = pair_of(metric, values, treatment, strata)
    if found is None:
        return Comparison(*who, None, None, None, None), (
            f"{metric.name}: {names[0]} or {names[treatment]} has too few units with a value: they are not compared"
        )
    gap = difference(found.control, found.treatment)
    if gap is None:
        value = found.treatment.value - found.control.value
        return Comparison(*who, value, None, None, None), (
            f"{metric.name} has no variance: every unit of {names[0]} and {names[treatment]} has the same value"
            f"{' but for what its pre-period says' if values.adjusted else ''}, so there is no interval"
        )
    warning = None
    value, base = gap.value, found.control.raw
    if found.method == "agresti-caffo":
        levels = [float(values.columns[0][values.variant == one].mean()) for one in (0, treatment)]
        value, base = levels[1] - levels[0], levels[0]
        warning = f"{metric.name}: fewer than 10 units have it or have it not: interval and p are Agresti and Caffo's"
    elif min(found.control.variance, found.treatment.variance) <= 0.0:
        warning = (
            f"{metric.name} has no variance in {names[0]} or {names[treatment]}: its interval is too narrow"
        )
    return _comparison(metric, who, found, gap, (value, base), planned), warning


def _comparison(
    metric: Metric,
    who: tuple[str, str],
    found: Pair,
    gap: Difference,
    observed: tuple[float, float],
    planned: int,
) -> Comparison:
    """`observed` are the effect and the control's level, without what an interval for few adds to both."""
    value, base = observed
    n = found.control.n + found.treatment.n
    reach = boundary(n, planned, freedom=gap.freedom) * gap.error
    held = None
    if metric.margin is not None and metric.role == "guardrail":
        z, p = not_worse(found.control, found.treatment, metric.margin, metric.better)
        held = NotWorse(metric.margin, p, always_valid_p(max(z, 0.0), n, planned, freedom=gap.freedom))
    relative = gap.relative
    method = found.method + ("+fieller" if relative and relative.method == "fieller" else "")
    return Comparison(
        *who,
        effect=value,
        relative=None if relative is None or not base else value / abs(base),
        ci95=gap.interval,
        p=gap.p,
        relative_ci95=None if relative is None else relative.interval,
        error=gap.error,
        method=method,
        variance_saved=None if found.by is None else found.by.saved,
        detectable=None if relative is None else POWER * gap.error / abs(found.control.raw),
        always_valid=AlwaysValid(
            (gap.value - reach, gap.value + reach),
            always_valid_p(gap.value / gap.error, n, planned, freedom=gap.freedom),
        ),
        not_worse=held,
    )


def heavy_tailed(metric: Metric, values: Measured, names: tuple[str, ...]) -> str | None:
    """A warning where a mean's tails are too heavy for its number of units."""
    if metric.kind not in ("mean", "ratio") or metric.winsorize is not None:
        return None
    fewest = min(int((values.variant == n).sum()) for n in range(len(names)))
    if fewest == 0 or (values.ratio and values.columns[1].sum() == 0.0):
        return None  # that is another trouble
    # Of a ratio what counts is how far each unit's numerator is from its denominator's due.
    column = values.columns[0]
    if values.ratio:
        column = column - values.columns[1] * (column.sum() / values.columns[1].sum())
    needed, one = needed_for_normal(column), largest_share(column)
    if needed <= fewest and one <= max(ONE_UNIT, FARTHEST**2 / len(column)):
        return None
    beside = "set winsorize" if values.ratio else "read the winsorized comparison beside it"
    largest = f"one unit makes {one:.1%} of its variance (the largest is {values.columns[0].max():,.6g})"
    if needed > fewest:
        largest += f", and a variant needs about {_rounded(needed)} units for a normal mean (the smallest has {fewest:,})"
    return f"{metric.name} has heavy tails: {largest}: {beside}"


def _rounded(value: float) -> str:
    """With two digits that count."""
    return f"{float(f'{value:.2g}'):,.0f}"


def robust(metric: Metric, values: Measured, treatment: int) -> Robust | None:
    """The comparison with the extreme values of all variants together set to a quantile of them. A ratio has none."""
    if values.ratio:
        return None
    capped, cap = winsorized(values.columns[0], ROBUST)
    found = pair_of(metric, replace(values, columns=(capped, *values.columns[1:])), treatment)
    gap = None if found is None else difference(found.control, found.treatment)
    return None if gap is None else Robust(ROBUST, cap, gap.value, gap.interval, gap.p)
