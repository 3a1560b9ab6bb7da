"""The difference of two variants: absolute, relative, and against a margin."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.special import stdtr, stdtrit

from segue.experiments.statistics.arms import Arm

__all__ = ["Difference", "Relative", "difference", "not_worse"]

UNSURE = 0.05
"""Where the standard error of the control's level is more than this share of it, a relative interval is Fieller's."""


@dataclass(frozen=True, slots=True)
class Relative:
    """The difference as a share of the control's observed level, with its interval and how that was made."""

    value: float
    interval: tuple[float, float]
    method: str


@dataclass(frozen=True, slots=True)
class Difference:
    """Treatment minus control: its standard error and degrees of freedom (Welch), interval, two-sided p.

    `relative` is None where the control's level cannot be told from zero.
    """

    value: float
    error: float
    freedom: float
    interval: tuple[float, float]
    p: float
    relative: Relative | None


def difference(control: Arm, treatment: Arm, level: float = 0.95) -> Difference | None:
    """The difference of two variants (Welch 1947). None where neither varies: there is no error to measure it against."""
    value = treatment.value - control.value
    of_control, of_treatment = control.variance / control.n, treatment.variance / treatment.n
    total = of_control + of_treatment
    if not total > 0.0:
        return None
    freedom = total**2 / (of_control**2 / (control.n - 1) + of_treatment**2 / (treatment.n - 1))
    error = math.sqrt(total)
    critical = float(stdtrit(freedom, (1.0 + level) / 2.0))
    return Difference(
        value,
        error,
        freedom,
        (value - critical * error, value + critical * error),
        float(2.0 * stdtr(freedom, -abs(value) / error)),
        _relative(control, value, total, critical),
    )


def _relative(control: Arm, value: float, total: float, critical: float) -> Relative | None:
    base = control.raw
    of_base = control.raw_variance / control.n
    shared = -control.covariance / control.n  # of the difference and the control's observed level
    if not base**2 > critical**2 * of_base:
        return None
    size = abs(base)  # the sign of a relative effect is that of the effect
    if math.sqrt(of_base) <= UNSURE * size:
        found = value / size
        variance = total / base**2 + value**2 * of_base / base**4 - 2.0 * value * shared / base**3
        width = critical * math.sqrt(max(variance, 0.0))
        return Relative(found, (found - width, found + width), "delta")
    # Fieller 1954: the shares s for which |value - s * base| is within its own error.
    a = base**2 - critical**2 * of_base
    b = value * base - critical**2 * shared
    c = value**2 - critical**2 * total
    root = math.sqrt(max(b**2 - a * c, 0.0))
    low, high = sorted((math.copysign(1.0, base) * (b - root) / a, math.copysign(1.0, base) * (b + root) / a))
    return Relative(value / size, (low, high), "fieller")


def not_worse(control: Arm, treatment: Arm, margin: float, better: int) -> tuple[float, float]:
    """How many standard errors the treatment is above being worse by `margin`, a share of the control's level; one-sided p.

    A small p means that it is not worse by so much.

    `better` is +1 where more is better, -1 where less is. The margin is taken of the control's observed level, with that level's
    own error.
    """
    worst = margin * abs(control.raw)
    found = better * (treatment.value - control.value) + worst
    of_control, of_treatment = control.variance / control.n, treatment.variance / treatment.n
    shared = -control.covariance / control.n
    sign = math.copysign(1.0, control.raw)
    total = of_control + of_treatment + margin**2 * control.raw_variance / control.n
    total += 2.0 * margin * better * sign * shared
    if not total > 0.0:
        return float("nan"), float("nan")
    freedom = (of_control + of_treatment) ** 2 / (
        of_control**2 / (control.n - 1) + of_treatment**2 / (treatment.n - 1)
    )
    z = found / math.sqrt(total)
    return z, float(stdtr(freedom, -z))
