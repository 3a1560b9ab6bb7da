"""Before the start: how many units an effect needs, and what so many units can see."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.special import ndtri

__all__ = ["detectable", "units_needed"]


def units_needed(
    variance: float,
    effect: float,
    shares: Sequence[float] = (1.0, 1.0),
    alpha: float = 0.05,
    power: float = 0.8,
) -> int:
    """Units of all variants together, for the comparison of the first (control) with the smallest other one.

    variance: of a unit's value; effect: the absolute difference to be found; shares need not sum to 1. Two-sided.
    """
    return math.ceil(_reach(alpha, power) ** 2 * variance * _spread(shares) / effect**2)


def detectable(
    variance: float,
    units: float,
    shares: Sequence[float] = (1.0, 1.0),
    alpha: float = 0.05,
    power: float = 0.8,
) -> float:
    """The smallest absolute difference that is found with that power."""
    return _reach(alpha, power) * math.sqrt(variance * _spread(shares) / units)


def _reach(alpha: float, power: float) -> float:
    return float(ndtri(1.0 - alpha / 2.0) + ndtri(power))


def _spread(shares: Sequence[float]) -> float:
    whole = sum(shares)
    return whole / shares[0] + whole / min(shares[1:])
