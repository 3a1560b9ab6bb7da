"""One variant's level of a metric with its variance: by one linearization for means, ratios and both with a pre-period.

A metric is a smooth function g of column means; its variance is that of its gradient times the columns (the delta method;
Deng, Knoblich and Lu 2018). Columns of the moments are, in this order: the value (a ratio's numerator), a ratio's
denominator, and the same again of the pre-period where there is one.

CUPED (Deng, Xu, Kohavi and Walker 2013): from the level is taken theta times how far the variant's pre-period lies from
everybody's. theta is the slope of the linearized metric on the linearized pre-period over all units of the variants that are
compared, so a ratio is adjusted as a mean is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import NamedTuple

import numpy as np

from segue.experiments.statistics.moments import Floats, Moments

__all__ = [
    "Arm",
    "Pair",
    "Theta",
    "arm",
    "few",
    "pair",
    "post_stratified",
    "proportion",
    "theta",
    "with_two_of_each",
]

FEW = 10
"""With fewer units that have it, or that have it not, a proportion's normal interval covers too little."""


@dataclass(frozen=True, slots=True)
class Arm:
    """A variant: its level, adjusted and as observed; the variances of both and their covariance, per unit; units."""

    n: int
    value: float
    variance: float
    raw: float
    raw_variance: float
    covariance: float

    @classmethod
    def plain(cls, n: int, value: float, variance: float) -> Arm:
        """Without an adjustment."""
        return cls(n, value, variance, value, variance, variance)


@dataclass(frozen=True, slots=True)
class Theta:
    """How much of the pre-period's distance is taken off, the pre-period's level of all units, and how much variance that
    saves.
    """

    slope: float
    centre: float
    saved: float


class Pair(NamedTuple):
    """Control and treatment, what they were adjusted by, and the name of the method."""

    control: Arm
    treatment: Arm
    by: Theta | None
    method: str


def arm(of: Moments, *, ratio: bool = False, adjust: Theta | None = None) -> Arm:
    """A variant's level of a mean, or of a ratio of two means."""
    level, gradient = _level(of, 0, ratio)
    spread = of.covariance
    raw_variance = float(gradient @ spread @ gradient)
    if adjust is None:
        return Arm.plain(of.n, level, raw_variance)
    before, slope = _level(of, _width(ratio), ratio)
    adjusted = gradient - adjust.slope * slope
    return Arm(
        of.n,
        level - adjust.slope * (before - adjust.centre),
        float(adjusted @ spread @ adjusted),
        level,
        raw_variance,
        float(adjusted @ spread @ gradient),
    )


def theta(arms: Iterable[Moments], *, ratio: bool = False) -> Theta | None:
    """From the units of all variants that are compared. None where the pre-period does not vary: there is nothing to adjust
    by.
    """
    every = reduce(add, arms)
    _, metric = _level(every, 0, ratio)
    centre, before = _level(every, _width(ratio), ratio)
    spread = every.covariance
    total, variance = metric @ spread @ metric, before @ spread @ before
    if not variance > 0.0 or not total > 0.0:
        return None
    shared = float(metric @ spread @ before)
    return Theta(shared / float(variance), centre, shared**2 / float(variance * total))


def proportion(n: int, successes: float) -> Arm:
    """A share of units, with the binomial's variance."""
    share = successes / n
    return Arm.plain(n, share, share * (1.0 - share))


def few(n: int, successes: float) -> bool:
    """Whether the normal interval of a proportion covers too little."""
    return min(successes, n - successes) < FEW


def with_two_of_each(n: int, successes: float) -> Arm:
    """A share as if one more unit had it and one more had it not: what the interval for few is made from (Agresti and Caffo
    2000).
    """
    return proportion(n + 2, successes + 1)


def pair(control: Moments, treatment: Moments, *, ratio: bool, adjusted: bool, binary: bool = False) -> Pair:
    """Both variants as they are compared: adjusted where there is a pre-period that tells something."""
    if binary and not adjusted:
        counts = [(of.n, round(float(of.n * of.means[0]))) for of in (control, treatment)]
        if any(few(*count) for count in counts):
            return Pair(with_two_of_each(*counts[0]), with_two_of_each(*counts[1]), None, "agresti-caffo")
        return Pair(proportion(*counts[0]), proportion(*counts[1]), None, "welch")
    by = theta((control, treatment), ratio=ratio) if adjusted else None
    method = ("delta" if ratio else "welch") + ("+cuped" if by else "")
    return Pair(arm(control, ratio=ratio, adjust=by), arm(treatment, ratio=ratio, adjust=by), by, method)


def post_stratified(strata: Sequence[Moments], weights: Floats) -> Arm:
    """The mean over strata, each weighted by its share of the units of all variants (Miratrix, Sekhon and Yu 2013).

    `strata` hold one column each, of this variant; weights float64[strata], summing to 1.
    """
    n = sum(of.n for of in strata)
    means = np.array([of.means[0] for of in strata])
    variances = np.array([of.covariance[0, 0] / of.n for of in strata])
    return Arm.plain(n, float(weights @ means), n * float(weights**2 @ variances))


def _width(ratio: bool) -> int:
    return 2 if ratio else 1


def _level(of: Moments, first: int, ratio: bool) -> tuple[float, Floats]:
    """The level of the columns from `first` on, and its gradient float64[k]."""
    gradient = np.zeros(len(of.means))
    value = float(of.means[first])
    if not ratio:
        gradient[first] = 1.0
        return value, gradient
    below = float(of.means[first + 1])
    if below == 0.0:
        return float("nan"), np.full(len(of.means), np.nan)
    gradient[first] = 1.0 / below
    gradient[first + 1] = -value / below**2
    return value / below, gradient
