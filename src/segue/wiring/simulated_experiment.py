"""An experiment's file, run on simulated listeners: analysed as a real one is, with the truth beside.

The home's service lives on for as long as the file says. Its listeners are assigned by the file's own assignment; those in the
experiment are answered, on its surfaces, by the home's recommender as their variant has it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jinja2 import Environment, PackageLoader, StrictUndefined

from segue.contracts.errors import InvalidInput
from segue.contracts.experiments import CONTROL, Experiment, Targeting
from segue.contracts.ports import Days
from segue.contracts.tables import DAILY_LISTENERS
from segue.experiments.analysis import Analysis, analyze
from segue.experiments.assignment import Split
from segue.experiments.definition import check, surfaces_of
from segue.experiments.metric import Metric
from segue.experiments.metrics import PRE_DAYS
from segue.experiments.report import render
from segue.simulation.catalogue import generate_catalogue
from segue.simulation.effects import Effect, gini
from segue.simulation.service import read_config
from segue.simulation.tally import METRICS
from segue.simulation.world import FLAGS, I16, USER_BASE
from segue.wiring.closed_loop import AB, Arm, Plan, run_ab
from segue.wiring.home import Home
from segue.wiring.simulated_home import check_free, lived_on

__all__ = ["Held", "SimulatedExperiment", "assigned", "before", "page_of", "planned", "simulate_experiment"]


class Held(msgspec.Struct, frozen=True):
    """A metric's estimate by the experiment, and the truth: what everybody treated differs from everybody in control."""

    metric: str
    variant: str
    effect: float | None
    ci95: tuple[float, float] | None
    truth: Effect
    covered: bool | None
    """Whether the interval holds the truth."""


class SimulatedExperiment(msgspec.Struct, frozen=True):
    """What a simulated experiment says, and what is true."""

    experiment: str
    listeners: int
    days: int
    seed: int
    surfaces: tuple[str, ...]
    analysis: Analysis
    held: list[Held]
    exposure_gini: dict[str, float]
    """By variant: how unequally its slots were shared among tracks."""
    broken_guarantees: int
    seconds: float


def simulate_experiment(
    home: Home,
    experiment: Experiment,
    *,
    listeners: int | None = None,
    days: int | None = None,
    seed: int = 1,
    workers: int | None = None,
    into: Path | None = None,
    say: Callable[[str], None] = lambda what: None,
) -> SimulatedExperiment:
    """Run it; `into` keeps the home that has lived it. Raises InvalidInput for one that cannot be simulated, NotFound where the
    home has no simulated service.
    """
    started = time.perf_counter()
    check(experiment, home.settings)
    if into is not None:
        check_free(home, into)
    ab, plan = lived(
        home,
        experiment,
        listeners,
        days,
        seed,
        workers,
        lambda done, of: say(f"{done} of {of} lives lived"),
        logs=into is not None,
    )
    if into is not None:
        lived_on(home, into, experiment, ab.logs, say).engine.close()
    metrics = _metrics(experiment)
    weights = {name: variant.weight for name, variant in experiment.variants.items()}
    analysis = analyze(
        ab.units,
        metrics,
        control=CONTROL,
        shares={name: weight / sum(weights.values()) for name, weight in weights.items()},
        days=ab.days,
        alpha=experiment.power.alpha,
        running=False,
    )
    return SimulatedExperiment(
        experiment=experiment.name,
        listeners=ab.units.num_rows,
        days=plan.days,
        seed=seed,
        surfaces=plan.surfaces,
        analysis=analysis,
        held=_held(analysis, ab),
        exposure_gini={name: gini(counts) for name, counts in ab.shown.items() if counts.any()},
        broken_guarantees=ab.broken,
        seconds=time.perf_counter() - started,
    )


def page_of(found: SimulatedExperiment) -> str:
    """The analysis as one HTML document, the truth at its top."""
    environment = Environment(
        loader=PackageLoader("segue.wiring"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["signed"] = lambda share: f"{share:+.2%}".replace("-", "\N{MINUS SIGN}")
    truth = environment.get_template("truth.html").render(found=found)
    return render(found.analysis, f"{found.experiment}, simulated").replace("<main>", f"<main>\n{truth}", 1)


def lived(
    home: Home,
    experiment: Experiment,
    listeners: int | None,
    days: int | None,
    seed: int,
    workers: int | None,
    say: Callable[[int, int], None],
    *,
    logs: bool = False,
) -> tuple[AB, Plan]:
    """The experiment as it was lived, and its truth."""
    plan = msgspec.structs.replace(planned(home, experiment, listeners, days, seed), logs=logs)
    order = [CONTROL, *(name for name in experiment.variants if name != CONTROL)]
    arms = [Arm(name, experiment.variants[name].set, experiment.variants[name].bundle) for name in order]
    ab = run_ab(
        home,
        arms,
        assigned(home, experiment, order),
        plan,
        before=before(home),
        workers=workers,
        say=say,
    )
    return ab, plan


def planned(home: Home, experiment: Experiment, listeners: int | None, days: int | None, seed: int) -> Plan:
    """How the file is lived. Raises InvalidInput where it cannot be."""
    if experiment.unit != "listener":
        raise InvalidInput(
            f"experiment {experiment.name}: unit: {experiment.unit} cannot be simulated, only listeners live twice; "
            'write unit = "listener"',
            field="unit",
            limit="listener",
        )
    if days is not None and days < 1:
        raise InvalidInput(f"--days: {days} must be 1 or more", field="days", limit=">= 1")
    return Plan(
        surfaces=surfaces_of(experiment, home.settings),
        days=days or (experiment.ends - experiment.starts).days,
        seed=seed,
        listeners=listeners,
        experiment=experiment.name,
    )


def assigned(home: Home, experiment: Experiment, order: list[str]) -> I16:
    """The place in `order` of each simulated listener's variant, -1 for those outside. int16[listeners]."""
    config, split = read_config(home.truth), Split.of(experiment)
    column = split.column(np.arange(config.listeners, dtype=np.int64) + USER_BASE)
    place = np.array([order.index(name) for name in split.names], np.int16)
    inside = column >= 0
    if experiment.targeting != Targeting():
        inside &= _targeted(generate_catalogue(config).listeners, experiment.targeting)
    return np.where(inside, place[column], np.int16(-1))


def _targeted(listeners: pa.Table, targeting: Targeting) -> FLAGS:
    """bool[listeners]: who may be in it."""
    chosen = np.ones(len(listeners), np.bool_)
    for name, allowed in (("country", targeting.countries), ("plan", targeting.plans)):
        if allowed:
            chosen &= pc.is_in(listeners[name], pa.array(allowed)).to_numpy()
    if targeting.consent is not None:
        chosen &= listeners["personalization_consent"].to_numpy() == targeting.consent
    return chosen


def _metrics(experiment: Experiment) -> list[Metric]:
    """What the file names and a simulation has, then the rest for information. Raises InvalidInput where no goal is left."""
    goals = [name for name in experiment.metrics.goals if name in METRICS]
    if not goals:
        raise InvalidInput(
            f"experiment {experiment.name}: metrics.goals: a simulation has none of {', '.join(experiment.metrics.goals)}; "
            f"it has {', '.join(METRICS)}",
            field="metrics.goals",
            limit=", ".join(METRICS),
        )
    found = []
    for name, measure in METRICS.items():
        margin = experiment.metrics.guardrails.get(name)
        found.append(
            Metric(
                name,
                kind="mean" if measure.bottom is None else "ratio",
                direction="up" if measure.better > 0 else "down",
                role="goal" if name in goals else "info" if margin is None else "guardrail",
                margin=margin,
                mde=experiment.power.mde if name in goals else None,
            )
        )
    return sorted(found, key=lambda metric: ("goal", "guardrail", "info").index(metric.role))


def before(home: Home) -> pa.Table:
    """The pre-period of every listener: the days before the history's end, summed up."""
    last = read_config(home.truth).end
    rows = home.engine.read(DAILY_LISTENERS, Days(last - timedelta(days=PRE_DAYS - 1), last))
    summed = rows.group_by("user_id").aggregate(
        listens=rows.listens.sum(),
        skips=rows.skips.sum(),
        minutes=rows.ms_played.sum() / 60_000,
        active=(rows.listens > 0).cast("int64").sum(),
    )
    table = home.engine.collect(summed)
    columns = {
        name: table[name].cast(pa.float64()).combine_chunks().to_numpy() for name in table.column_names[1:]
    }
    return pa.table(
        {
            "unit": table["user_id"],
            "listens_per_listener.pre": columns["listens"],
            "minutes_per_listener.pre": columns["minutes"],
            "days_active.pre": columns["active"],
            "skip_rate.pre.numerator": columns["skips"],
            "skip_rate.pre.denominator": columns["skips"] + columns["listens"],
        }
    )


def _held(analysis: Analysis, ab: AB) -> list[Held]:
    found = []
    for name, result in analysis.metrics.items():
        for one in result.comparisons:
            truth = ab.truth[one.variant][name]
            covered = None if one.ci95 is None else one.ci95[0] <= truth.effect <= one.ci95[1]
            found.append(Held(name, one.variant, one.effect, one.ci95, truth, covered))
    return found
