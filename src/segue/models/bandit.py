"""Weights of a contextual bandit whose propensities are known in closed form.

Inverse-gap weighting (Abe & Long, ICML 1999; Foster & Rakhlin, ICML 2020, SquareCB) over a base measure (Zhu & Mineiro, ICML
2022, SmoothIGW): an action's chance is its share of the base measure, divided by one plus a multiple of how much less reward it
promises than the best one. Nothing is sampled to get there, as Thompson sampling would: the chance of what was drawn is a
quotient, and is logged as such.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def inverse_gap_weights(base: Floats, reward: Floats, focus: float) -> Floats:
    """Weights to draw actions by, float64[n], from their base measure and expected reward, both float64[n] and not negative.

    The gap to the best reward is taken as a share of it. With focus 0 the base measure alone counts; the higher it is, the
    fewer are drawn that promise less.
    """
    best = float(reward.max(initial=0.0))
    if best <= 0.0:
        return base.copy()
    weights: Floats = base / (1.0 + focus * (1.0 - reward / best))
    return weights


def share_of_draws(wanted: float, slots: int, explore: float) -> float:
    """Share of a page's exploration draws that makes it show a certain kind with probability `wanted`; 1 at most.

    Each of the page's slots explores with probability `explore`; the first draw of the kind is the only one.
    """
    if explore <= 0.0 or slots < 1:
        return 0.0
    if wanted >= 1.0:
        return 1.0
    return float(min(1.0, (1.0 - (1.0 - max(wanted, 0.0)) ** (1.0 / slots)) / explore))
