"""What came of an experiment, from the tables of a home: its units, what they did, and the analysis of that."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import ibis.expr.types as ir
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct
from msgspec.structs import replace

from segue.contracts.errors import NotFound
from segue.contracts.experiments import CONTROL, HOLDOUT, Experiment
from segue.contracts.ids import format_id
from segue.contracts.ports import Days, Engine
from segue.contracts.tables import ARTISTS, DAILY_ARTISTS, EVENTS, EXPOSURES, LISTENERS, OUTCOMES, TRACKS
from segue.contracts.vocabulary import DAY
from segue.experiments import exposed
from segue.experiments.analysis import Analysis, analyze
from segue.experiments.decision import Decision
from segue.experiments.exposed import PRE, REST, column
from segue.experiments.metric import Metric, Role
from segue.experiments.metrics import PRE_DAYS, Definition, of_unit
from segue.experiments.sources import Tables
from segue.experiments.store import Kept

SEGMENTS: Final = ("country", "plan")


class Creators(Struct, frozen=True):
    """How a variant's slots fell on artists: how many artists had any, and the Gini index of slots among those."""

    artists: int
    slots: int
    gini: float


class Results(Struct, frozen=True):
    """An experiment's analysis, over the days it is of, and what was left out.

    `left_out`: units `forced` into a variant, and those whose variant could never be given (`failed`). Units in two variants are
    counted by the analysis. `unmeasured` metrics have no data.
    """

    experiment: str
    first: date
    last: date
    left_out: dict[str, int]
    unmeasured: list[str]
    creators: dict[str, Creators]
    analysis: Analysis


class Collected(Struct, frozen=True):
    """An experiment's tables as `analyze` reads them, and what was left out of them."""

    units: pa.Table
    days: pa.Table
    metrics: list[Metric]
    left_out: dict[str, int]
    creators: dict[str, Creators]


def results(engine: Engine, kept: Kept, surfaces: tuple[str, ...], now: int) -> Results:
    """The results as of a moment (UTC microseconds). Raises NotFound where nothing of it has landed, InvalidData as `analyze`."""
    experiment = kept.experiment
    days, end = span(engine, kept, now)
    found = collect(engine, experiment, surfaces, days, end)
    measured, unmeasured = _with_data(found.units, found.metrics)
    power = experiment.power
    analysis = analyze(
        found.units,
        measured,
        control=CONTROL,
        shares=_shares(experiment),
        days=found.days,
        segments=[name for name in SEGMENTS if name in found.units.column_names],
        alpha=power.alpha,
        running=early(kept, now),
        planned=planned_units(engine, experiment, surfaces),
        until=awaited(kept, now),
    )
    if kept.stopped_at is not None and analysis.decision.verdict == "wait":
        ended = replace(analysis.decision, verdict="stop", said="stop: it was stopped before it was settled")
        analysis = replace(analysis, decision=ended)
    return Results(
        experiment.name,
        days.first,
        days.last,
        found.left_out,
        unmeasured,
        found.creators,
        _told(analysis, found, unmeasured),
    )


def span(engine: Engine, kept: Kept, now: int) -> tuple[Days, int]:
    """The days that an experiment has run, as far as they have landed, and the moment it is counted up to."""
    experiment = kept.experiment
    landed = engine.days(EXPOSURES)
    moments = [micros(experiment.ends), now + 1, *([kept.stopped_at] if kept.stopped_at is not None else [])]
    if landed is not None:
        moments.append(micros(landed.last + timedelta(days=1)))
    end = min(moments)
    last = datetime.fromtimestamp((end - 1) / 1e6, UTC).date()
    if landed is None or last < experiment.starts:
        raise NotFound(
            f"experiment {experiment.name}: no exposures from {experiment.starts} on have landed yet; `segue run` lands them",
            field=EXPOSURES.name,
        )
    return Days(experiment.starts, last), end


def early(kept: Kept, now: int) -> bool:
    """Whether its numbers must hold at every look: more is to come, or somebody stopped it before its end, having looked."""
    until = now if kept.stopped_at is None else min(now, kept.stopped_at)
    return until < micros(kept.experiment.ends)


def awaited(kept: Kept, now: int) -> date | None:
    """The day on which an experiment ends that is still running."""
    ends = kept.experiment.ends
    return ends if kept.stopped_at is None and now < micros(ends) else None


def planned_units(engine: Engine, experiment: Experiment, surfaces: tuple[str, ...]) -> int | None:
    """Units there will be in the end: those that its surfaces had in as many days before it began, its share of them.

    From before, so that nothing that came of it decides how it is read. None where nothing tells.
    """
    first = experiment.starts - (experiment.ends - experiment.starts)
    shown = engine.read(EXPOSURES, Days(first, experiment.starts - timedelta(days=1)))
    shown = shown.filter(shown.surface.isin(surfaces) & (shown.position == 0))
    unit = shown.user_id if experiment.unit == "listener" else shown.request_id
    if experiment.unit not in ("listener", "request"):
        return None
    counted = engine.collect(shown.aggregate(units=unit.nunique()))["units"][0].as_py()
    share = 1.0 if experiment.layer == HOLDOUT else experiment.share
    return max(round(share * counted), 2) if counted else None


def collect(
    engine: Engine,
    experiment: Experiment,
    surfaces: tuple[str, ...],
    days: Days,
    end: int,
    given: Callable[[ir.Table, Experiment], ir.Table] = exposed.given,
) -> Collected:
    """The units of an experiment, exposed in those days, with what they did until `end`; `given` says which answers are its."""
    tables = read_tables(engine, surfaces, days, end)
    metrics = list(of_unit(experiment.unit).values())
    during = tables.exposures.filter(
        tables.exposures.day.between(days.first, days.last) & (tables.exposures.ts < end)
    )
    with (
        engine.staged(given(during, experiment)) as answers,
        engine.staged(exposed.units(answers)) as who,
    ):
        with engine.staged(exposed.facts(who, answers, tables, experiment, metrics, end)) as found:
            rows = engine.collect(_with_segments(engine, experiment, exposed.by_unit(who, found, metrics)))
            by_day = engine.collect(exposed.by_day(found, metrics))
        slots = exposed.slots_of(who, answers, tables, experiment, end)
        shown = engine.collect(exposed.shown_to(who, slots))
    if rows.num_rows == 0:
        raise NotFound(
            f"experiment {experiment.name}: nobody was exposed to it from {days.first} to {days.last}; is it put into the home "
            "that serves, and do its surfaces get requests?",
            field=EXPOSURES.name,
        )
    forced, nothing = pc.greater(rows["forced"], 0), pc.is_null(rows["low"])
    left_out = {
        "forced": pc.sum(forced).as_py() or 0,
        "failed": pc.sum(pc.and_(nothing, pc.greater(rows["failed"], 0))).as_py() or 0,
    }
    sound = rows.filter(pc.and_(pc.invert(forced), pc.invert(nothing)))
    return Collected(
        _named(_each_variant(sound), metrics, pre=experiment.unit == "listener"),
        _named(by_day, metrics),
        [_asked(metric, experiment) for metric in metrics],
        left_out,
        _creators(shown),
    )


def read_tables(engine: Engine, surfaces: tuple[str, ...], days: Days, end: int) -> Tables:
    """The tables that metrics need for an experiment of those days, up to a moment: a day that it ends in is active by what was
    heard before it.
    """
    wide = days.widen(before=PRE_DAYS)
    before = Days(wide.first, days.first - timedelta(days=1))
    shown, answered = engine.read(EXPOSURES, wide), engine.read(OUTCOMES, wide)
    events = engine.read(EVENTS, wide)
    return Tables(
        events=events.filter(events.ts < end),
        outcomes=answered.filter(answered.surface.isin(surfaces)),
        exposures=shown.filter(shown.surface.isin(surfaces)),
        tracks=engine.read(TRACKS),
        artists=engine.read(ARTISTS),
        before=engine.read(DAILY_ARTISTS, before),
    )


def _with_segments(engine: Engine, experiment: Experiment, rows: ir.Table) -> ir.Table:
    if experiment.unit != "listener":
        return rows
    people = engine.read(LISTENERS).select(user_id="user_id", country="country", plan="plan")
    joined = rows.left_join(people, rows.unit == people.user_id).drop("user_id")
    return joined.mutate(**{name: joined[name].fill_null("unknown") for name in SEGMENTS})


def _each_variant(rows: pa.Table) -> pa.Table:
    """A row for each variant that a unit was in: the analysis counts those in two, and leaves them out."""
    twice = rows.filter(pc.not_equal(rows["low"], rows["high"]))
    names = [name for name in rows.column_names if name not in ("low", "high")]
    parts = [
        part.select(names).append_column("variant", part[side])
        for part, side in ((rows, "low"), (twice, "high"))
    ]
    return pa.concat_tables(parts)


def _named(rows: pa.Table, metrics: list[Definition], *, pre: bool = False) -> pa.Table:
    """The columns as `analyze` looks for them: NAME, or NAME.numerator and NAME.denominator; NAME.pre and so on."""
    columns: dict[str, Any] = {
        name: rows[name] for name in ("variant", "day", *SEGMENTS) if name in rows.column_names
    }
    unit = rows["unit"]
    columns["unit"] = pa.array(map(format_id, unit.to_pylist())) if pa.types.is_binary(unit.type) else unit
    for metric in metrics:
        for mark, suffix in (("", ""), (".pre", PRE)) if pre else (("", ""),):
            ends = ("",) if metric.denominator is None else (".numerator", ".denominator")
            for part, end in zip(metric.sums, ends, strict=True):
                values = rows[column(part, metric.window_days) + suffix]
                columns[f"{metric.name}{mark}{end}"] = pc.multiply(values.cast(pa.float64()), part.scale)
    return pa.table(columns)


def _asked(metric: Definition, experiment: Experiment) -> Metric:
    chosen = experiment.metrics
    role: Role = (
        "goal" if metric.name in chosen.goals else "guardrail" if metric.name in chosen.guardrails else "info"
    )
    return Metric(
        metric.name,
        "mean" if metric.denominator is None else "ratio",
        metric.direction,
        role,
        margin=chosen.guardrails.get(metric.name),
        mde=experiment.power.mde if role == "goal" else None,
    )


def _with_data(rows: pa.Table, metrics: list[Metric]) -> tuple[list[Metric], list[str]]:
    """The metrics of which there is anything to compare, those that decide first, and the names of the others."""
    lacking = [
        m.name for m in metrics if m.kind == "ratio" and not pc.sum(rows[f"{m.name}.denominator"]).as_py()
    ]
    order = {"goal": 0, "guardrail": 1, "info": 2}
    return sorted((m for m in metrics if m.name not in lacking), key=lambda m: order[m.role]), lacking


def _shares(experiment: Experiment) -> dict[str, float]:
    if experiment.layer == HOLDOUT:
        return {CONTROL: experiment.share, REST: 1 - experiment.share}
    return {name: variant.weight for name, variant in experiment.variants.items()}


def _told(analysis: Analysis, found: Collected, unmeasured: list[str]) -> Analysis:
    """The analysis, with what it cannot know: what was left out of its table, and what there is no data of."""
    warnings = list(analysis.warnings)
    if found.left_out["forced"]:
        warnings.append(f"{found.left_out['forced']:,} units were forced into a variant: left out")
    if found.left_out["failed"]:
        warnings.append(
            f"{found.left_out['failed']:,} units never got their variant, since it could not be given: left out, so that the "
            "ratio of units is not to be trusted"
        )
    deciding = [m.name for m in found.metrics if m.name in unmeasured and m.role != "info"]
    if deciding:
        warnings.append(f"there is no data of {', '.join(deciding)}")
    decision = analysis.decision
    if deciding and decision.verdict == "ship":
        decision = Decision("wait", f"wait: {', '.join(deciding)} was not measured", None, decision.reasons)
    return msgspec.structs.replace(analysis, warnings=warnings, decision=decision)


def _creators(shown: pa.Table) -> dict[str, Creators]:
    found = {}
    for variant in sorted(set(shown["variant"].to_pylist())):
        rows = shown.filter(pc.equal(shown["variant"], variant)).sort_by("slots")
        slots, artists = rows["slots"].to_numpy(), rows["artists"].to_numpy()
        found[variant] = Creators(int(artists.sum()), int((slots * artists).sum()), gini(slots, artists))
    return found


def gini(values: np.ndarray, counts: np.ndarray) -> float:
    """The Gini index of `counts` things with each of the ascending `values`: 0 if all have the same, near 1 if one has all."""
    n, mass = counts.sum(), values * counts
    # The mean rank of the things of one value, from 1 to n.
    rank = np.cumsum(counts) - (counts - 1) / 2
    return float(2 * (rank * mass).sum() / (n * mass.sum()) - (n + 1) / n)


def micros(day: date) -> int:
    """The beginning of a UTC day, microseconds."""
    return (day - date(1970, 1, 1)).days * DAY
