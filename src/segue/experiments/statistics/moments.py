"""What is kept of many units: their number, the means of some columns, and the sums of products of their deviations.

Every mean, proportion, ratio and adjusted mean follows from these, and so do their variances. They add up: moments of two
chunks of units give those of both (Chan, Golub and LeVeque 1983), without the cancellation that sums of squares suffer from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "Moments", "sums_by"]

Floats = npt.NDArray[np.float64]


def sums_by(codes: npt.NDArray[np.int64], values: Floats, size: int = 0) -> Floats:
    """Sums of the values[rows] with each code, float64[size or more]."""
    return np.asarray(np.bincount(codes, weights=values, minlength=size), np.float64)


@dataclass(frozen=True, slots=True)
class Moments:
    """Of n units and k columns: means float64[k], products float64[k, k] (sums of products of deviations from the means)."""

    n: int
    means: Floats
    products: Floats

    @classmethod
    def of(cls, *columns: npt.NDArray[np.generic]) -> Moments:
        """Columns are numbers[n], one value a unit."""
        values = np.stack([np.asarray(column, np.float64) for column in columns])
        n = values.shape[1]
        if n == 0:
            return cls(0, np.zeros(len(values)), np.zeros((len(values), len(values))))
        means = values.mean(axis=1)
        apart = values - means[:, None]
        return cls(n, means, apart @ apart.T)

    def __add__(self, other: Moments) -> Moments:
        """Of the units of both."""
        n = self.n + other.n
        if n == 0:
            return self
        gap = other.means - self.means
        means = self.means + gap * (other.n / n)
        return Moments(n, means, self.products + other.products + np.outer(gap, gap) * (self.n * other.n / n))

    @property
    def covariance(self) -> Floats:
        """Of the columns, float64[k, k], with n - 1 below the line; zeros for fewer than two units."""
        return self.products / (self.n - 1) if self.n > 1 else np.zeros_like(self.products)
