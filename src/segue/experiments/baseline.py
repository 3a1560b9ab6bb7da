"""Before the start: how long the experiment of a file must run, by what the home's units did in the weeks behind it.

As if it had run over these weeks with its own assignment and no effect: the units its surfaces had, its share of them, its
targeting and weights, each metric with its pre-period. What such an experiment would have found, the real one finds in as long.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct
from scipy.special import ndtri

from segue.contracts.errors import InvalidInput, NotFound
from segue.contracts.experiments import CONTROL, HOLDOUT, Experiment, Targeting
from segue.contracts.ports import Days, Engine
from segue.contracts.tables import EXPOSURES, LISTENERS
from segue.experiments import exposed
from segue.experiments.analysis import analyze
from segue.experiments.assignment import Split
from segue.experiments.metric import Metric, Role
from segue.experiments.outcome import Result
from segue.experiments.results import collect, micros

MOST_WEEKS: Final = 8
WEEK: Final = timedelta(days=7)


class Found(Struct, frozen=True):
    """What so many days find of a metric: the smallest relative effect of a goal, the smallest margin of a guardrail that would
    be shown to hold if there is no effect; null where nothing could be compared."""

    days: int
    units: int
    finds: float | None


class Needs(Struct, frozen=True):
    """What a metric needs. wanted: the file's `mde`, or the guardrail's margin; days: the whole weeks it takes, null where the
    weeks behind do not reach; at_least: then the days below which it cannot be, as if each brought new units."""

    metric: str
    role: Role
    wanted: float | None
    course: list[Found]
    days: int | None
    at_least: int | None


class Needed(Struct, frozen=True):
    """What an experiment needs: planned, the days of its file; days, those that all of its metrics need, null where unknown."""

    experiment: str
    first: date
    last: date
    alpha: float
    power: float
    planned: int
    days: int | None
    metrics: list[Needs]


def needed(engine: Engine, experiment: Experiment, surfaces: tuple[str, ...]) -> Needed:
    """The days that each metric that decides needs. Raises InvalidInput for what cannot be planned so, NotFound without a week
    of exposures.
    """
    _check(experiment)
    landed = engine.days(EXPOSURES)
    last = None if landed is None else min(landed.last, experiment.starts - timedelta(days=1))
    if landed is None or last is None or last - landed.first < WEEK - timedelta(days=1):
        raise NotFound(
            f"experiment {experiment.name}: there is no week of exposures before {experiment.starts} to plan from; serve, then "
            "`segue run`",
            field=EXPOSURES.name,
        )
    weeks = min((last - landed.first + timedelta(days=1)) // WEEK, MOST_WEEKS)
    results = [
        _results(engine, experiment, surfaces, Days(last - n * WEEK + timedelta(days=1), last))
        for n in range(1, weeks + 1)
    ]
    metrics = [_needs(experiment, [of[name] for of in results]) for name in results[0]]
    lasts = [one.days for one in metrics if one.wanted is not None]
    return Needed(
        experiment.name,
        last - weeks * WEEK + timedelta(days=1),
        last,
        experiment.power.alpha,
        experiment.power.power,
        (experiment.ends - experiment.starts).days,
        None if None in lasts else max((days for days in lasts if days is not None), default=None),
        metrics,
    )


def _check(experiment: Experiment) -> None:
    if experiment.interleaved or experiment.layer == HOLDOUT:
        raise InvalidInput(
            f"experiment {experiment.name}: an interleaving or a holdout compares no two crowds whose size could be planned",
            field="variants",
        )
    if experiment.unit in ("session", "artist"):
        raise InvalidInput(
            f"experiment {experiment.name}: unit: the log tells a {experiment.unit} only where an experiment asked for it; "
            "plan by listener or request",
            field="unit",
            limit="listener, request, switchback",
        )


def _results(
    engine: Engine, experiment: Experiment, surfaces: tuple[str, ...], days: Days
) -> dict[str, Result]:
    """The metrics that decide, as an experiment of those days would have had them."""
    end = micros(days.last + timedelta(days=1))
    found = collect(engine, experiment, surfaces, days, end, exposed.everyone)
    metrics = [metric for metric in found.metrics if metric.role != "info"]
    weights = {name: variant.weight for name, variant in experiment.variants.items()}
    units = _assigned(engine, experiment, found.units)
    return analyze(units, metrics, control=CONTROL, shares=weights, alpha=experiment.power.alpha).metrics


def _assigned(engine: Engine, experiment: Experiment, units: pa.Table) -> pa.Table:
    """Those who would have been in it, with the variant they would have had."""
    split = Split.of(experiment)
    if pa.types.is_integer(units["unit"].type):
        column = split.column(units["unit"].to_numpy())
        variant = pa.array((*split.names, None), pa.string()).take(pa.array(column % (len(split.names) + 1)))
    else:
        variant = pa.array([split.variant(unit) for unit in units["unit"].to_pylist()], pa.string())
    inside = pc.is_valid(variant)
    if experiment.unit == "listener" and experiment.targeting != Targeting():
        inside = pc.and_(inside, pc.is_in(units["unit"], _targeted(engine, experiment.targeting)))
    at = units.schema.get_field_index("variant")
    return units.set_column(at, "variant", variant).filter(inside)


def _targeted(engine: Engine, targeting: Targeting) -> pa.Array:
    """Listeners who fit. A request's country, where the profile has none, is not known here."""
    rows = engine.read(LISTENERS)
    if targeting.countries:
        rows = rows.filter(rows.country.isin(targeting.countries))
    if targeting.plans:
        rows = rows.filter(rows.plan.isin(targeting.plans))
    if targeting.consent is not None:
        rows = rows.filter(rows.personalization_consent == targeting.consent)
    return engine.collect(rows.select("user_id"))["user_id"].combine_chunks()


def _needs(experiment: Experiment, course: list[Result]) -> Needs:
    metric, power = course[0].metric, experiment.power
    others = (len(experiment.variants) - 1) * max(len(experiment.metrics.goals), 1)
    # Goals share alpha by Holm, planned for the strictest; a guardrail is one-sided, and each has its own.
    level = 1 - power.alpha / others / 2 if metric.role == "goal" else 1 - power.alpha
    reach = float(ndtri(level) + ndtri(power.power))
    found = [
        Found(7 * n, sum(level.n for level in one.variants.values()), _finds(one, reach))
        for n, one in enumerate(course, start=1)
    ]
    wanted = _wanted(metric)
    days = next(
        (one.days for one in found if wanted is not None and one.finds is not None and one.finds <= wanted),
        None,
    )
    longest = found[-1]
    at_least = None
    if days is None and wanted is not None and longest.finds is not None:
        at_least = int(np.ceil(longest.days * (longest.finds / wanted) ** 2))
    return Needs(metric.name, metric.role, wanted, found, days, at_least)


def _finds(result: Result, reach: float) -> float | None:
    """What the widest of the comparisons finds."""
    control = result.variants.get(CONTROL)
    errors = [one.error for one in result.comparisons]
    if control is None or not control.mean or not errors or None in errors:
        return None
    return reach * max(error for error in errors if error is not None) / abs(control.mean)


def _wanted(metric: Metric) -> float | None:
    return metric.mde if metric.role == "goal" else metric.margin
