"""Weights of a contextual bandit whose propensities are known exactly.

Two ways to weigh actions by what they promise. Either ends in weights, and an action is drawn with the chance `weight / sum of
the weights`: what is logged is a quotient, whatever went into the weights.

Inverse-gap weighting (Abe & Long, ICML 1999; Foster & Rakhlin, ICML 2020, SquareCB) over a base measure (Zhu & Mineiro, ICML
2022, SmoothIGW): an action's share of the base measure, divided by one plus a multiple of how much less reward it promises than
the best one.

Thompson sampling (Biometrika 1933; Russo et al., A tutorial, 2018) draws every action's reward from its posterior and takes the
best. Who does that cannot say how likely the taken one was; so the chance of being the best is integrated first, and the draw is
from these. A tenth is spread over the base measure: no action's chance is 0, and off-policy estimates have support.
"""

# mypy: disallow-untyped-decorators=False
from __future__ import annotations

from math import erf, exp, log, sqrt
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

Floats = npt.NDArray[np.float64]

FOCUS: Final = 10.0
"""What promises half of the best one's reward is drawn a sixth as often."""
KEPT: Final = 0.1
"""Share of Thompson sampling's draws that follow the base measure alone."""
CELLS: Final = 64
"""Cells of the quadrature, over the range in which the best reward lies."""
FAR: Final = 4.0
"""Standard deviations behind which a reward is taken not to be."""


def inverse_gap_weights(base: Floats, reward: Floats, focus: float = FOCUS) -> Floats:
    """Weights to draw actions by, float64[n], from their base measure and expected reward, both float64[n] and not negative.

    The gap to the best reward is taken as a share of it. With focus 0 the base measure alone counts; the higher it is, the
    fewer are drawn that promise less.
    """
    best = float(reward.max(initial=0.0))
    if best <= 0.0:
        return base.copy()
    weights: Floats = base / (1.0 + focus * (1.0 - reward / best))
    return weights


def thompson_weights(base: Floats, reward: Floats, spread: Floats) -> Floats:
    """Weights to draw actions by, float64[n]: the base measure times the chance that an action's reward is the best.

    Posteriors are normal and independent, with mean `reward` and standard deviation `spread`, both float64[n].
    """
    total = float(base.sum())
    if total <= 0.0:
        return base.copy()
    chance = base * best_chances(reward, spread)
    summed = float(chance.sum())
    if summed <= 0.0:
        return base.copy()
    weights: Floats = (1.0 - KEPT) * chance / summed + KEPT * base / total
    return weights


@njit(cache=True, nogil=True)
def best_chances(mean: Floats, spread: Floats) -> Floats:
    """The chance of each of n independent normal numbers to be the largest, float64[n]; they sum to one.

    A Riemann-Stieltjes sum: an action's chance to fall into a cell, times that of all others to fall below its middle. A spread
    of 0 stands for a millionth of the widest, or for nothing where all are 0: then the largest mean is the best for certain.
    """
    n = mean.size
    chance = np.zeros(n)
    if n == 0:
        return chance
    widest = spread.max()
    if widest <= 0.0:
        chance[np.argmax(mean)] = 1.0
        return chance
    width = np.maximum(spread, 1e-6 * widest) * sqrt(2.0)
    reach = FAR / sqrt(2.0)
    low, high = (mean - reach * width).max(), (mean + reach * width).max()
    step = (high - low) / CELLS
    below = np.empty(n)
    for i in range(n):
        below[i] = 0.5 * (1.0 + erf((low - mean[i]) / width[i]))
    logs = np.empty(n)
    for cell in range(CELLS):
        middle, edge = low + (cell + 0.5) * step, low + (cell + 1) * step
        total = 0.0
        for i in range(n):
            logs[i] = log(max(0.5 * (1.0 + erf((middle - mean[i]) / width[i])), 1e-300))
            total += logs[i]
        for i in range(n):
            upto = 0.5 * (1.0 + erf((edge - mean[i]) / width[i]))
            chance[i] += (upto - below[i]) * exp(total - logs[i])
            below[i] = upto
    summed = chance.sum()
    if summed <= 0.0:
        chance[np.argmax(mean)] = 1.0
        return chance
    chance /= summed
    return chance


def share_of_draws(wanted: float, slots: int, explore: float) -> float:
    """Share of a page's exploration draws that makes it show a certain kind with probability `wanted`; 1 at most.

    Each of the page's slots explores with probability `explore`; the first draw of the kind is the only one.
    """
    if explore <= 0.0 or slots < 1:
        return 0.0
    if wanted >= 1.0:
        return 1.0
    return float(min(1.0, (1.0 - (1.0 - max(wanted, 0.0)) ** (1.0 / slots)) / explore))
