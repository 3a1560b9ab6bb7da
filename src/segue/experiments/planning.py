"""Before the start: how long an experiment must run for the effect that matters."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from segue.contracts.errors import InvalidInput
from segue.experiments.aa import Listeners
from segue.experiments.statistics.power import detectable, units_needed

__all__ = ["Horizon", "Plan", "from_history", "from_numbers"]


class Horizon(msgspec.Struct, frozen=True):
    """An experiment of so many days: its units, their mean and standard deviation, and the smallest relative effect it finds.

    `correlation` is that with the days before; with it `mde_cuped` is what the experiment finds when its metric is adjusted.
    """

    days: float
    units: int
    mean: float
    sd: float
    mde: float
    correlation: float | None = None
    mde_cuped: float | None = None


class Plan(msgspec.Struct, frozen=True):
    """Horizons, and the units (of all variants) and days that `mde` needs; None where it is not reached or not asked for."""

    metric: str
    alpha: float
    power: float
    shares: list[float]
    horizons: list[Horizon]
    mde: float | None
    units: int | None
    days: float | None


def from_numbers(
    metric: str,
    mean: float,
    sd: float,
    traffic: float | None,
    mde: float | None,
    correlation: float | None,
    shares: Sequence[float],
    alpha: float,
    power: float,
) -> Plan:
    """From a unit's mean and standard deviation; `traffic` is new units a day of all variants. Raises `InvalidInput`."""
    _checked(mean, sd, shares, alpha, power, mde)
    if correlation is not None and not -1 < correlation < 1:
        raise InvalidInput(f"correlation {correlation} must be above -1 and below 1", field="correlation")
    if traffic is not None and not traffic > 0:
        raise InvalidInput(f"traffic {traffic} must be above 0 units a day", field="traffic", limit="> 0")
    kept = 1.0 - (correlation or 0.0) ** 2
    horizons = []
    for days in (7, 14, 21, 28, 42, 56) if traffic is not None else ():
        units = int(days * (traffic or 0))
        if units < 2:
            continue
        plain = detectable(sd**2, units, shares, alpha, power) / abs(mean)
        adjusted = None if correlation is None else plain * kept**0.5
        horizons.append(Horizon(days, units, mean, sd, plain, correlation, adjusted))
    needed = None if mde is None else units_needed(sd**2 * kept, mde * abs(mean), shares, alpha, power)
    lasts = None if needed is None or traffic is None else needed / traffic
    return Plan(metric, alpha, power, list(shares), horizons, mde, needed, lasts)


def from_history(
    metric: str,
    history: Listeners,
    mde: float | None,
    share: float,
    shares: Sequence[float],
    alpha: float,
    power: float,
) -> Plan:
    """From what listeners did: as if the experiment had run over the last days, with `share` of the listeners in it.

    Listeners who come back are no new units: that is why twice the days are fewer than twice the units.
    """
    horizons = []
    for days in range(7, len(history.daily) + 1, 7):
        there = history.came < days
        plays, before = history.daily[:days, there].sum(axis=0), history.before[there]
        units, mean, sd = int(share * there.sum()), float(plays.mean()), float(plays.std(ddof=1))
        _checked(mean, sd, shares, alpha, power, mde)
        plain = detectable(sd**2, units, shares, alpha, power) / abs(mean)
        alike = float(np.corrcoef(plays, before)[0, 1]) if before.std() > 0 else 0.0
        horizons.append(Horizon(days, units, mean, sd, plain, alike, plain * (1 - alike**2) ** 0.5))
    if not horizons:
        raise InvalidInput(
            "the home has less than three weeks of history: a pre-period of 14 days and a week to plan from",
            field="days",
        )
    reached = (
        None if mde is None else next((one for one in horizons if (one.mde_cuped or one.mde) <= mde), None)
    )
    return Plan(
        metric,
        alpha,
        power,
        list(shares),
        horizons,
        mde,
        None if reached is None else reached.units,
        None if reached is None else reached.days,
    )


def _checked(
    mean: float, sd: float, shares: Sequence[float], alpha: float, power: float, mde: float | None
) -> None:
    for name, value, good, limit in (
        ("mean", mean, mean != 0 and np.isfinite(mean), "any number but 0: a relative effect needs one"),
        ("sd", sd, sd > 0 and np.isfinite(sd), "> 0: where units do not vary there is nothing to plan"),
        ("alpha", alpha, 0 < alpha < 0.5, "above 0 and below 0.5"),
        ("power", power, 0.5 <= power < 1, "0.5 or more, and below 1"),
        ("mde", mde, mde is None or mde > 0, "> 0"),
        ("shares", shares, len(shares) > 1 and min(shares, default=0) > 0, "two or more, each above 0"),
    ):
        if not good:
            raise InvalidInput(f"{name} {value} must be {limit}", field=name, limit=limit)
