"""Quantiles of rows, whose units may have many rows each."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from segue.experiments.statistics.arms import Arm, arm
from segue.experiments.statistics.moments import Floats, Moments

__all__ = ["quantile_arm"]

Z = float(ndtri(0.975))


def quantile_arm(values: Floats, units: npt.NDArray[np.int64] | None, quantile: float) -> Arm | None:
    """The quantile of values float64[rows]; units int[rows] say whose they are (None: each is its own).

    The variance comes from the outer interval of order statistics, which needs no density, stretched by how much the share
    of rows below the quantile varies more between units than it would between independent rows (Deng, Knoblich and Lu 2018,
    section 4). None with too few rows for that quantile.
    """
    n = len(values)
    reach = Z * math.sqrt(quantile * (1.0 - quantile) / n) if n else 1.0
    if n < 2 or quantile - reach <= 0.0 or quantile + reach >= 1.0:
        return None
    level, low, high = np.quantile(values, [quantile, quantile - reach, quantile + reach])
    variance = ((high - low) / (2.0 * Z)) ** 2  # of the quantile, were rows independent
    many = n
    if units is not None:
        codes = np.unique(units, return_inverse=True)[1]
        rows = np.bincount(codes).astype(np.float64)
        below = np.bincount(codes, weights=values <= level)
        share = arm(Moments.of(below, rows), ratio=True)
        many = len(rows)
        variance *= (share.variance / many) / (quantile * (1.0 - quantile) / n)
    return Arm.plain(many, float(level), float(variance) * (many - 1))
