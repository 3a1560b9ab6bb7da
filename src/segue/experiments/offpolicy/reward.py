"""A model of the reward for the direct method and the doubly robust ones: logistic, ridge, cross-fitted.

What a row is given was never learnt from that row's own part: with the row's reward inside its own model, doubly robust loses
its lack of bias (Chernozhukov et al., 2018). Parts are units, not rows. The penalty is the one that predicts held-out parts best:
with few rewards it grows until only the base rate is left, which is then the best that the log can tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve
from scipy.special import expit

from segue.contracts.errors import InvalidData
from segue.experiments.offpolicy.logged import Floats, Longs

FOLDS: Final = 10
PENALTIES: Final = (1.0, 10.0, 100.0, 1e3, 1e4)
STEPS: Final = 30


@dataclass(frozen=True)
class Logistic:
    """reward = top * sigmoid(bias + columns . slopes): slopes float64[d]."""

    bias: float
    slopes: Floats
    top: float

    def predict(self, columns: Floats) -> Floats:
        """Expected rewards. columns float64[..., d]."""
        expected: Floats = self.top * expit(self.bias + columns @ self.slopes)
        return expected


@dataclass(frozen=True)
class CrossFitted:
    """A model per part, fitted without it; part int64[n] of each row."""

    part: Longs
    models: list[Logistic]
    penalty: float

    def predict(self, columns: Floats, part: Longs) -> Floats:
        """For rows of these parts. columns float64[m, d], part int64[m]."""
        out = np.empty(len(columns))
        for number, model in enumerate(self.models):
            out[part == number] = model.predict(columns[part == number])
        return out


def parts_of(unit: Longs, folds: int = FOLDS, seed: int = 0) -> Longs:
    """A part for each row, the same for all rows of a unit. int64[n]."""
    _, place = np.unique(unit, return_inverse=True)
    units = int(place.max()) + 1
    if units < folds:
        raise InvalidData(
            f"unit: {units} are too few to fit a model of the reward on some and use it on others; at least {folds} are needed",
            field="unit",
            limit=f"at least {folds}",
        )
    drawn = np.random.default_rng(seed).permutation(units) % folds
    parts: Longs = drawn[place].astype(np.int64)
    return parts


def cross_fit(
    columns: Floats, reward: Floats, part: Longs, rows: Floats | None = None, top: float | None = None
) -> CrossFitted:
    """Models of rewards of 0 and more. columns float64[n, d], of like scale. Rows that are alike can be given once, with how many
    they are (`rows` float64[n]), their mean reward, and the largest reward there is (`top`).

    Raises InvalidData for a negative reward.
    """
    if (reward < 0).any():
        raise InvalidData(
            "reward: the model of the reward wants none below 0; shift it", field="reward", limit=">= 0"
        )
    rows = np.ones(len(reward)) if rows is None else rows
    top = max(float(reward.max()) if top is None else top, 1e-12)
    share = reward / top
    numbers = range(int(part.max()) + 1)
    fitted, losses = [], []
    for penalty in PENALTIES:
        models = [fit(columns, share, rows * (part != number), penalty, top) for number in numbers]
        found = CrossFitted(part, models, penalty)
        chance = np.clip(found.predict(columns, part) / top, 1e-12, 1 - 1e-12)
        losses.append(-float(rows @ (share * np.log(chance) + (1 - share) * np.log1p(-chance))))
        fitted.append(found)
    return fitted[int(np.argmin(losses))]


def fit(
    columns: Floats, share: Floats, rows: npt.NDArray[np.float64], penalty: float, top: float
) -> Logistic:
    """Newton's method on the penalised likelihood; the bias is not penalised. share float64[n] in [0, 1]."""
    n, d = columns.shape
    wide = np.column_stack([np.ones(n), columns])
    ridge = np.diag([1e-6, *([penalty] * d)])
    rate = np.clip(float(rows @ share) / max(float(rows.sum()), 1e-12), 1e-9, 1 - 1e-9)
    beta = np.array([np.log(rate / (1 - rate)), *np.zeros(d)])
    for _ in range(STEPS):
        chance = expit(wide @ beta)
        slope = wide.T @ (rows * (share - chance)) - ridge @ beta
        bend = (wide * (rows * chance * (1 - chance))[:, None]).T @ wide + ridge
        step = solve(bend, slope, assume_a="pos")
        beta = beta + np.clip(step, -2.0, 2.0)
        if float(np.abs(step).max()) < 1e-8:
            break
    return Logistic(float(beta[0]), beta[1:], top)
