"""What a treatment truly does in a simulated service: everybody lives twice, once under each arm.

Both lives draw the same random numbers, so that the mean difference of a listener's two lives is the effect on these listeners,
with an error far below that of an experiment that sees each of them once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from segue.contracts.errors import InvalidData
from segue.simulation.tally import METRICS, Measure, Told
from segue.simulation.world import F64, I16

__all__ = ["Effect", "composed", "gini", "true_effects"]


class Effect(Struct, frozen=True):
    """A metric if everybody is in control and if everybody is treated; `standard_error` is the difference's, over listeners."""

    control: float
    treatment: float
    effect: float
    relative: float
    standard_error: float
    units: int


def true_effects(control: Told, treatment: Told) -> dict[str, Effect]:
    """The effect on every metric, over the listeners whom an arm answered in both lives. Raises InvalidData without any."""
    users, one, two = np.intersect1d(control.user, treatment.user, return_indices=True)
    if len(users) < 2:
        raise InvalidData(
            "fewer than two listeners were answered by the arms in both lives; let more of them live, or for longer",
            field="listeners",
            limit=">= 2",
        )
    return {name: _effect(metric, control, one, treatment, two) for name, metric in METRICS.items()}


def _effect(
    metric: Measure,
    control: Told,
    one: npt.NDArray[np.intp],
    treatment: Told,
    two: npt.NDArray[np.intp],
) -> Effect:
    (level0, part0), (level1, part1) = _linear(metric, control, one), _linear(metric, treatment, two)
    effect = level1 - level0
    return Effect(
        control=level0,
        treatment=level1,
        effect=effect,
        relative=effect / level0 if level0 else float("nan"),
        standard_error=float((part1 - part0).std(ddof=1) / np.sqrt(len(part0))),
        units=len(part0),
    )


def _linear(metric: Measure, told: Told, rows: npt.NDArray[np.intp]) -> tuple[float, F64]:
    """The level, and each listener's part in its error: of a ratio by the delta method. float64[n]."""
    top = told.sums(metric.top)[rows]
    if metric.bottom is None:
        return float(top.mean()), top
    bottom = told.sums(metric.bottom)[rows]
    if bottom.sum() == 0:
        return float("nan"), np.full(len(rows), np.nan)
    level = float(top.sum() / bottom.sum())
    return level, (top - level * bottom) / bottom.mean()


def composed(lives: Sequence[Told], arm: I16) -> Told:
    """An experiment in which listener u lives as in `lives[arm[u]]`, as if nobody heard of the others. arm int16[listeners].

    What listeners share (what is talked about, friends' libraries) is then that of the life each is taken from: right where the
    arms change little of it, and free, where an experiment lived for itself costs another life.
    """
    parts = [np.flatnonzero(arm[life.user] == number) for number, life in enumerate(lives)]
    user = np.concatenate([life.user[rows] for life, rows in zip(lives, parts, strict=True)])
    order = np.argsort(user, kind="stable")

    def joined(name: str) -> npt.NDArray[np.generic]:
        columns = [getattr(life, name)[rows] for life, rows in zip(lives, parts, strict=True)]
        return np.asarray(np.concatenate(columns)[order])

    columns = {f.name: joined(f.name) for f in fields(Told) if f.name not in ("arm", "shown", "broken")}
    return Told(
        **columns,  # type: ignore[arg-type]
        arm=arm[columns["user"]],
        shown=np.stack([life.shown.sum(axis=0) for life in lives]),  # all of a life is of its one arm
        broken=sum(life.broken for life in lives),
    )


def gini(counts: npt.NDArray[np.integer]) -> float:
    """How unequal counts are: 0 all the same, near 1 all in one. Raises InvalidData if all are 0."""
    if not counts.any():
        raise InvalidData("there is nothing to be shared unequally: all counts are 0", field="counts")
    rising = np.sort(counts).astype(np.float64)
    n = len(rising)
    return float(2 * (np.arange(1, n + 1) * rising).sum() / (n * rising.sum()) - (n + 1) / n)
