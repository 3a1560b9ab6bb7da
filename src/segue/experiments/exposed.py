"""Who was exposed to an experiment, to which variant, and what they did from then on: tables by unit, and by unit and day.

A unit counts from its first exposure on, not from its assignment: whoever never came to a surface where the treatment could
differ only dilutes it. Everything is an expression that DuckDB, Spark and BigQuery run alike: integers, no as-of join.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import ibis
import ibis.expr.types as ir

from segue.contracts.experiments import CONTROL, FAILED, FORCED, HOLDOUT, Experiment
from segue.contracts.vocabulary import DAY, MINUTE
from segue.experiments.metrics import PRE_DAYS, Definition, Sum
from segue.experiments.sources import Tables, rows_of
from segue.warehouse.measures import day_of, times

REST: Final = "everyone-else"
"""What those are to a holdout who are not held out."""
PRE: Final = "_pre"
"""Behind a sum's column: of the PRE_DAYS before the unit's first exposure."""


def given(exposures: ir.Table, experiment: Experiment) -> ir.Table:
    """One row an answer: unit, request_id, ts, and `variant` as it was logged.

    `exposures` is of the experiment's days and surfaces. A listener's and a slot's unit is int64, a request's its 16 bytes,
    others' are text.
    """
    answers = exposures.filter(exposures.position == 0)
    named = named_in(answers, experiment)
    if experiment.layer == HOLDOUT:
        variant = ibis.ifelse(named, CONTROL, REST)
    else:
        answers = answers.filter(named)
        variant = logged_variant(answers, experiment)
    rows = answers.select(
        unit=_unit(answers, experiment), request_id=answers.request_id, ts=answers.ts, variant=variant
    )
    return rows.filter(rows.unit.notnull())


def everyone(exposures: ir.Table, experiment: Experiment) -> ir.Table:
    """The same of all answers, as if everybody had been in control: what an experiment is planned from."""
    answers = exposures.filter(exposures.position == 0)
    rows = answers.select(
        unit=_unit(answers, experiment),
        request_id=answers.request_id,
        ts=answers.ts,
        variant=ibis.literal(CONTROL),
    )
    return rows.filter(rows.unit.notnull())


def named_in(exposures: ir.Table, experiment: Experiment) -> ir.BooleanValue:
    """Whether a row is of an answer in which the experiment could make a difference."""
    # Names are small letters, digits and dashes, and JSON is written without blanks: nothing else can look like this.
    return exposures.variants.contains(f'"{experiment.name}":').fill_null(False)


def logged_variant(exposures: ir.Table, experiment: Experiment) -> ir.StringValue:
    """The variant of a row that names the experiment, with its mark, as it was logged."""
    return exposures.variants.re_extract(_logged(experiment), 1)


def units(answers: ir.Table) -> ir.Table:
    """One row a unit: `first` exposure (µs), `low` and `high` variant by name, which differ for a unit in two, and how many
    answers were `forced` or `failed`.
    """
    forced = answers.variant.startswith(FORCED)
    failed = answers.variant.startswith(FAILED)
    sound = ~(forced | failed)
    clean = ibis.ifelse(sound, answers.variant, ibis.null("string"))
    return answers.group_by("unit").aggregate(
        first=answers.ts.min(where=sound),
        low=clean.min(),
        high=clean.max(),
        forced=times(forced),
        failed=times(failed),
    )


def facts(
    who: ir.Table,
    answers: ir.Table,
    tables: Tables,
    experiment: Experiment,
    metrics: Sequence[Definition],
    end: int,
) -> ir.Table:
    """All that the metrics add up, a row each: unit, first, ts, whether it is `after` the first exposure (and before `end`) or of
    the days before it, and a column a sum, 0 where the row has none of it.
    """
    sums = wanted(metrics)
    parts = []
    for source in dict.fromkeys(part.source for part in sums):
        rows = rows_of(source, tables)
        known = who.filter(who["first"].notnull()).select("unit", "first")
        if experiment.unit == "listener":
            found = known.inner_join(rows, known.unit == rows.user_id)
        else:
            found = _sound(answers).inner_join(known, "unit").inner_join(rows, "request_id")
        columns = {
            part.name: found[part.column] if part.source is source else ibis.literal(0, "int64")
            for part in sums
        }
        parts.append(found.select(unit=found.unit, first=found["first"], ts=found.ts, **columns))
    every = parts[0] if len(parts) == 1 else ibis.union(*parts)
    return every.mutate(
        after=(every.ts >= every["first"]) & (every.ts < end),
        before=(every.ts < every["first"]) & (every.ts >= every["first"] - PRE_DAYS * DAY),
    )


def by_unit(who: ir.Table, found: ir.Table, metrics: Sequence[Definition]) -> ir.Table:
    """The units with their sums after the first exposure, and before it (PRE behind the name)."""
    added = {}
    for part, window in _columns(metrics):
        added[column(part, window)] = _sum(found, part, _within(found, window))
        added[column(part, window) + PRE] = _sum(found, part, found.before)
    sums = found.group_by("unit").aggregate(**added)
    rows = who.left_join(sums, "unit").drop("unit_right")
    return rows.mutate(**{name: rows[name].fill_null(0).cast("int64") for name in added})


def by_day(found: ir.Table, metrics: Sequence[Definition]) -> ir.Table:
    """The sums after the first exposure, by unit and UTC day; days on which a unit did nothing are not there."""
    rows = found.filter(found.after).mutate(day=day_of(found.ts))
    added = {
        column(part, window): _sum(rows, part, _within(rows, window)) for part, window in _columns(metrics)
    }
    return rows.group_by("unit", "day").aggregate(**added)


def shown_to(who: ir.Table, slots: ir.Table) -> ir.Table:
    """How unevenly artists were shown: by variant, how many artists (`artists`) got so many slots (`slots`).

    `slots` has the unit and artist_id of each slot after the unit's first exposure.
    """
    of = who.filter((who.low == who.high) & (who.forced == 0)).select(unit="unit", variant="low")
    rows = of.inner_join(slots, "unit")
    each = rows.group_by("variant", "artist_id").aggregate(slots=rows.count().cast("int64"))
    return each.group_by("variant", "slots").aggregate(artists=each.count().cast("int64"))


def slots_of(who: ir.Table, answers: ir.Table, tables: Tables, experiment: Experiment, end: int) -> ir.Table:
    """The slots on the experiment's surfaces from a unit's first exposure on: unit, artist_id."""
    known = who.filter(who["first"].notnull()).select("unit", "first")
    music = tables.tracks.filter(tables.tracks.artist_id.notnull()).select("track_id", "artist_id")
    slots = tables.outcomes.select("user_id", "request_id", "ts", "track_id").inner_join(music, "track_id")
    if experiment.unit == "listener":
        found = known.inner_join(slots, known.unit == slots.user_id)
    else:
        found = _sound(answers).inner_join(known, "unit").inner_join(slots, "request_id")
    return found.filter((found.ts >= found["first"]) & (found.ts < end)).select("unit", "artist_id")


def wanted(metrics: Sequence[Definition]) -> tuple[Sum, ...]:
    """The sums that metrics are made of, each once."""
    return tuple(dict.fromkeys(part for metric in metrics for part in metric.sums))


def column(part: Sum, window: int | None) -> str:
    """The column of a sum, over a window of days."""
    return part.name if window is None else f"{part.name}_{window}d"


def _sound(answers: ir.Table) -> ir.Table:
    """The answers that were what their variant says: unit, request_id."""
    marked = answers.variant.startswith(FORCED) | answers.variant.startswith(FAILED)
    return answers.filter(~marked).select("unit", "request_id")


def _columns(metrics: Sequence[Definition]) -> list[tuple[Sum, int | None]]:
    return list(dict.fromkeys((part, metric.window_days) for metric in metrics for part in metric.sums))


def _within(found: ir.Table, window: int | None) -> ir.BooleanValue:
    return found.after if window is None else found.after & (found.ts < found["first"] + window * DAY)


def _sum(rows: ir.Table, part: Sum, where: ir.BooleanValue) -> ir.IntegerScalar:
    return rows[part.name].sum(where=where).fill_null(0).cast("int64")


def _logged(experiment: Experiment) -> str:
    """Where a variant, with its mark, and its unit stand in `exposures.variants`."""
    return f'"{experiment.name}":"((?:{FORCED}|{FAILED})?[a-z0-9-]+)(?:@([^"]*))?"'


def _unit(answers: ir.Table, experiment: Experiment) -> ir.Value:
    match experiment.unit:
        case "listener":
            return answers.user_id
        case "request":
            return answers.request_id
        case "switchback":
            length = (experiment.slot_minutes or 1) * MINUTE
            return ((answers.ts - answers.ts % length) / length).cast("int64")
        case "session" | "artist":
            return answers.variants.re_extract(_logged(experiment), 2).nullif("")
