"""Bootstrap intervals that resample listeners, not events.

Events of one listener are alike, so an interval that resamples events is too narrow. Here a group (a
listener) is drawn with all of its cases (the cluster bootstrap; Efron and Tibshirani 1993, ch. 8) and the
statistic is the mean over cases, a ratio of two sums. Only the per-group sums are kept, so a draw costs one
pass over the groups and no memory, whatever the number of draws.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
from numba import njit

from segue.contracts.errors import InvalidData

__all__ = ["Paired", "interval", "paired", "unpaired"]

Floats = npt.NDArray[np.float64]


class Paired(msgspec.Struct, frozen=True):
    """Two models on the same cases: the mean of a - b, its interval (lo, hi), and a two-sided bootstrap p."""

    difference: float
    lo: float
    hi: float
    p: float


@njit(cache=True, nogil=True)
def _draw_means(sums: Floats, sizes: Floats, rng: np.random.Generator, out: Floats) -> None:
    groups = sums.size
    for draw in range(out.size):
        total = 0.0
        size = 0.0
        for _ in range(groups):
            # random() < 1 strictly, and groups < 2**53: the product's floor stays below `groups`.
            picked = min(int(rng.random() * groups), groups - 1)
            total += sums[picked]
            size += sizes[picked]
        out[draw] = total / size


def _group_sums(values: Floats, groups: npt.NDArray[np.integer] | None) -> tuple[Floats, Floats]:
    """Sum and number of the values of each group: two ``float64[n_groups]``."""
    if groups is None:
        return values, np.ones(values.size)
    if groups.size != values.size:
        raise InvalidData(f"groups has {groups.size} entries, values {values.size}: they must agree")
    _, index = np.unique(groups, return_inverse=True)
    return np.asarray(np.bincount(index, weights=values), dtype=np.float64), np.bincount(index).astype(
        np.float64
    )


def _means(values: Floats, groups: npt.NDArray[np.integer] | None, seed: int, draws: int) -> Floats:
    if values.ndim != 1 or values.size == 0:
        raise InvalidData("a bootstrap needs a one-dimensional array of at least one value")
    sums, sizes = _group_sums(values, groups)
    out = np.empty(draws)
    _draw_means(np.ascontiguousarray(sums), sizes, np.random.default_rng(seed), out)
    return out


def interval(
    values: npt.NDArray[np.floating],
    groups: npt.NDArray[np.integer] | None = None,
    *,
    seed: int = 0,
    draws: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of ``mean(values)`` when groups are resampled with replacement.

    ``values``: ``float[n]``, one per case; ``groups``: ``int[n]``, the listener of each case (none: each case
    is its own). Returns (lo, hi). Deterministic for a seed. Raises `InvalidData` for no values or lengths
    that do not agree.
    """
    means = _means(np.asarray(values, dtype=np.float64), groups, seed, draws)
    tail = (1.0 - level) / 2.0
    lo, hi = np.quantile(means, [tail, 1.0 - tail])
    return float(lo), float(hi)


def paired(
    a: npt.NDArray[np.floating],
    b: npt.NDArray[np.floating],
    groups: npt.NDArray[np.integer] | None = None,
    *,
    seed: int = 0,
    draws: int = 1000,
    level: float = 0.95,
) -> Paired:
    """Interval of ``mean(a - b)`` over the same cases, resampling groups: the test to compare two models by.

    Far tighter than two separate intervals, for the models mostly fail and succeed on the same listeners.
    """
    if a.shape != b.shape:
        raise InvalidData(f"paired values must agree in shape, got {a.shape} and {b.shape}")
    gap = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    means = _means(gap, groups, seed, draws)
    tail = (1.0 - level) / 2.0
    lo, hi = np.quantile(means, [tail, 1.0 - tail])
    # One is added to both counts so that p is never an impossible 0 (Davison and Hinkley 1997, 4.2).
    side = min(int((means <= 0.0).sum()), int((means >= 0.0).sum()))
    return Paired(
        float(gap.mean()),
        float(lo),
        float(hi),
        min(1.0, 2.0 * (side + 1) / (draws + 1)),
    )


def unpaired(
    a: npt.NDArray[np.floating],
    b: npt.NDArray[np.floating],
    groups_a: npt.NDArray[np.integer] | None = None,
    groups_b: npt.NDArray[np.integer] | None = None,
    *,
    seed: int = 0,
    draws: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Interval of ``mean(a) - mean(b)`` over different cases, each side's groups resampled on their own."""
    gaps = _means(np.asarray(a, dtype=np.float64), groups_a, seed, draws) - _means(
        np.asarray(b, dtype=np.float64), groups_b, seed + 1, draws
    )
    tail = (1.0 - level) / 2.0
    lo, hi = np.quantile(gaps, [tail, 1.0 - tail])
    return float(lo), float(hi)
