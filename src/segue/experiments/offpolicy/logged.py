"""The columns of a decision log that an estimate is made of, checked: a wrong propensity is refused, never divided by."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from segue.contracts.errors import InvalidData

Floats = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]

LARGEST = 1e100
"""Of rewards, and of one over a propensity: no number holds the powers of what is larger."""
ROUNDING = 1e-6
"""A probability may be above 1 by so much: it was rounded when it was logged."""


@dataclass(frozen=True)
class Logged:
    """Decisions that one policy took and another is judged by; make it with `logged`, which checks. All of length n.

    reward float64[n]; propensity float64[n] in (0, 1], the chance the log's policy gave to what it chose; target
    float64[n] in [0, 1], the chance the judged policy gives to it; unit int64[n], who the rows are alike for (the
    listener): intervals resample units. modelled float64[n] is what a model of the reward expects of what was chosen and
    expected float64[n] what it expects of the judged policy's choice; both None without a model.
    """

    reward: Floats
    propensity: Floats
    target: Floats
    unit: Longs
    modelled: Floats | None = None
    expected: Floats | None = None

    def __len__(self) -> int:
        return len(self.reward)

    @cached_property
    def weight(self) -> Floats:
        """Importance weights target / propensity. float64[n]."""
        weight: Floats = self.target / self.propensity
        return weight


def logged(
    reward: npt.ArrayLike,
    propensity: npt.ArrayLike | None,
    target: npt.ArrayLike,
    unit: npt.ArrayLike | None = None,
    modelled: npt.ArrayLike | None = None,
    expected: npt.ArrayLike | None = None,
) -> Logged:
    """Checked columns. Without `unit` each row is its own.

    Raises InvalidData for no rows, columns that do not fit together, rewards that are not finite, and propensities that are
    absent, missing, 0, negative or above 1: each with how many rows, the first of them, and what to do.
    """
    if propensity is None:
        raise InvalidData(
            "propensity: the log has none; off-policy estimates divide by the chance that the log's policy gave to what it "
            "chose: log it at the moment of the choice, it cannot be made up afterwards",
            field="propensity",
            limit="a column in (0, 1]",
        )
    rewards = _column("reward", reward)
    n = len(rewards)
    if n == 0:
        raise InvalidData("reward: the log has no rows, so there is nothing to estimate from", field="reward")
    _refuse("reward", rewards, ~np.isfinite(rewards), "missing or infinite", "give every row a number")
    _refuse("reward", rewards, np.abs(rewards) > LARGEST, f"beyond {LARGEST:g}", "take another unit")
    return Logged(
        rewards,
        propensities(_fits("propensity", propensity, n)),
        probabilities("target", _fits("target", target, n)),
        np.arange(n) if unit is None else _fits("unit", unit, n, np.int64),
        None if modelled is None else _finite("modelled", _fits("modelled", modelled, n)),
        None if expected is None else _finite("expected", _fits("expected", expected, n)),
    )


def propensities(column: Floats) -> Floats:
    """A column of propensities in (0, 1], if it is one. Raises InvalidData."""
    checked = probabilities("propensity", column)
    _refuse(
        "propensity",
        column,
        column == 0.0,
        "0",
        "what was shown cannot have had no chance: log the chance it had, or leave out the rows of that policy",
    )
    _refuse(
        "propensity",
        column,
        column < 1 / LARGEST,
        f"below {1 / LARGEST:g}",
        "what has next to no chance is not shown: see what writes it",
    )
    return checked


def probabilities(name: str, column: Floats) -> Floats:
    """A column of numbers in [0, 1], if it is one. Raises InvalidData."""
    _refuse(
        name,
        column,
        np.isnan(column),
        "missing",
        "log it for every row, or leave out whole requests that lack it",
    )
    _refuse(name, column, column < 0.0, "below 0", "it is a probability: see what writes it")
    _refuse(
        name,
        column,
        column > 1.0 + ROUNDING,
        "above 1",
        "it is a probability: is it a weight, a score, or in percent?",
    )
    return np.minimum(column, 1.0)


def _column(name: str, values: npt.ArrayLike, kind: Any = np.float64) -> npt.NDArray[Any]:
    column = np.asarray(values, kind)
    if column.ndim != 1:
        raise InvalidData(f"{name}: must be one column, got shape {column.shape}", field=name)
    return column


def _fits(name: str, values: npt.ArrayLike, n: int, kind: Any = np.float64) -> npt.NDArray[Any]:
    column = _column(name, values, kind)
    if len(column) != n:
        raise InvalidData(
            f"{name}: has {len(column)} rows, reward {n}: they must agree", field=name, limit=f"{n} rows"
        )
    return column


def _finite(name: str, column: Floats) -> Floats:
    _refuse(name, column, ~np.isfinite(column), "missing or infinite", "see the model that made it")
    return column


def _refuse(name: str, column: Floats, wrong: npt.NDArray[np.bool_], what: str, advice: str) -> None:
    if wrong.any():
        first = int(np.argmax(wrong))
        raise InvalidData(
            f"{name}: {int(wrong.sum()):,} of {len(column):,} rows are {what}, the first is row {first} "
            f"({column[first]:g}); {advice}",
            field=name,
            limit="(0, 1]" if name == "propensity" else None,
        )
