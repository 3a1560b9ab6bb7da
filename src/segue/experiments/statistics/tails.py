"""Heavy tails: how far a mean may be trusted, and what it is without its most extreme units."""

from __future__ import annotations

import numpy as np

from segue.experiments.statistics.moments import Floats

__all__ = ["largest_share", "needed_for_normal", "winsorized"]

PER_SKEWNESS = 355
"""Units a variant needs per squared skewness for its mean to be normal enough (Kohavi et al. 2014, rule 7)."""


def winsorized(values: Floats, quantile: float) -> tuple[Floats, float]:
    """Values above the quantile of all of them (of all variants together: never of each) set to it; and it.

    Where there are negative values, those below the opposite quantile are raised to that likewise.
    """
    top = float(np.quantile(values, quantile, method="inverted_cdf"))
    bottom = (
        float(np.quantile(values, 1.0 - quantile, method="inverted_cdf")) if values.min() < 0 else -np.inf
    )
    return np.clip(values, bottom, top), top


def needed_for_normal(values: Floats) -> float:
    """Units a variant needs for the mean of such values to be normal enough; 0 where they do not vary."""
    apart = values - values.mean()
    variance = float(np.mean(apart**2))
    return PER_SKEWNESS * float(np.mean(apart**3)) ** 2 / variance**3 if variance > 0 else 0.0


def largest_share(values: Floats) -> float:
    """What one unit alone makes of the variance of the values: 1/n-ish where tails are light."""
    apart = (values - values.mean()) ** 2
    total = float(apart.sum())
    return float(apart.max()) / total if total > 0 else 0.0
