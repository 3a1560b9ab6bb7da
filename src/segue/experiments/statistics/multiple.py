"""Many p-values at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from segue.experiments.statistics.moments import Floats

__all__ = ["benjamini_hochberg", "holm"]


def holm(ps: Sequence[float]) -> list[float]:
    """Adjusted p-values (Holm 1979): the chance of even one false alarm among those at or below alpha is at most alpha."""
    found = np.asarray(ps, float)
    order = np.argsort(found, kind="stable")
    steps = np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1))
    return _back(steps, order)


def benjamini_hochberg(ps: Sequence[float]) -> list[float]:
    """Adjusted p-values (Benjamini and Hochberg 1995): of those at or below q, a share of at most q is false on average."""
    found = np.asarray(ps, float)
    order = np.argsort(found, kind="stable")
    steps = found[order] * len(found) / np.arange(1, len(found) + 1)
    return _back(np.minimum.accumulate(steps[::-1])[::-1], order)


def _back(steps: Floats, order: npt.NDArray[np.int64]) -> list[float]:
    out = np.empty(len(steps))
    out[order] = np.minimum(steps, 1.0)
    return [float(p) for p in out]
