"""A day of a table against the days before it, before it is written: what is unusual, and what of that stops the flow.

Only the last days are held against earlier ones: history that is loaded once is as it is. The newest day that there is may
still be filling up, so it is left alone, unless whoever runs the flow says that it is over.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, timedelta
from statistics import median
from typing import Final

import ibis
import ibis.expr.types as ir

from segue.contracts.ports import Days, Engine
from segue.contracts.schema import Table
from segue.warehouse.contract import EXAMPLES, shortened
from segue.warehouse.findings import ROWS, Breach, Finding, Part
from segue.warehouse.measured import count, examples, history
from segue.warehouse.usual import HISTORY, MIN_ROWS, Band, Counts, bands

RECENT: Final = timedelta(days=7)
"""The days before the newest that are held against earlier ones."""
KEPT: Final = HISTORY + RECENT
"""What lies further back is not counted: no day would ever be held against it."""


def measure(engine: Engine, table: Table, rows: ir.Table, days: Collection[date], newest: date) -> Counts:
    """The counts of those of the days that later days may be held against; none of a table so small that chance rules it."""
    if not table.daily:
        return {}
    recent = {day for day in days if newest == date.max or day > newest - KEPT}
    there = [rows for day, rows in engine.row_counts(table).items() if day not in recent]
    if len(recent) < len(days):
        rows = rows.filter(rows.day.isin(sorted(recent)))
    size = rows.group_by("day").aggregate(rows=ibis._.count())
    sizes = {row["day"]: row["rows"] for row in engine.collect(size).to_pylist()}
    if max(*sizes.values(), 0, median(there or [0])) < MIN_ROWS:
        return {}
    return count(engine, table, rows, recent)


def unusual(
    engine: Engine,
    table: Table,
    counts: Counts,
    newest: date,
    whole: date | None,
    suspects: Collection[date] = (),
) -> list[Finding]:
    """What is unusual in those days, which are not written yet; the worst first.

    `whole` is the last day that is said to be over, `suspects` are days that are held against others however old they are.
    """
    judged = sorted(
        d
        for d in counts
        if d in suspects or (d > newest - RECENT and (d < newest or (whole is not None and d <= whole)))
    )
    if not judged:
        return []
    past = Days(judged[0] - HISTORY, judged[-1])
    known = {**history(engine, table, past), **counts}
    return [finding for day in judged for finding in findings(table, day, bands(known, day, lost(table)))]


def lost(table: Table) -> dict[str, float]:
    """By measure, below which share of the usual a part has lost what real listeners sent."""
    return {measure.name: measure.lost for measure in table.measures}


def findings(table: Table, day: date, found: Collection[Band]) -> list[Finding]:
    """What is unusual among the parts of a day; the worst first."""
    odd = [band for band in found if band.severity is not None]
    return [_finding(table, day, band, found) for band in sorted(odd, key=_weight)]


def breach(engine: Engine, table: Table, rows: ir.Table, stopping: list[Finding]) -> Breach:
    """The error that says what stops the flow. `rows` are those that would have been written."""
    first = stopping[0]
    more = f", and {len(stopping) - 1} more" if len(stopping) > 1 else ""
    assert first.day is not None
    shown = [] if first.gone_to is None else examples(engine, table, rows, first.day, first.gone_to, EXAMPLES)
    return Breach(
        f"{table.name}: {first.said}{more}. Nothing was written",
        stopping,
        field=f"{table.name}.{first.part.measure}",
        limit=f"{first.low:,.0f} rows" if first.low is not None else "",
        examples=[shortened(row) for row in shown],
    )


def _finding(table: Table, day: date, band: Band, of_day: Collection[Band]) -> Finding:
    what = "" if band.part == ROWS else f" with {band.part}"
    said = f"{day} holds {band.seen:,} rows{what}, where {band.low:,.0f} to {band.high:,.0f} are usual"
    severity = band.severity or "warn"
    return Finding(
        table.name,
        day,
        band.part,
        severity,
        band.seen,
        said,
        band.low,
        band.high,
        _gone_to(band.part, of_day),
    )


def _gone_to(part: Part, of_day: Collection[Band]) -> Part | None:
    """Where the rows may be that this part has lost: the part of the same measure that has gained most."""
    beside = [
        band for band in of_day if band.part[:2] == part[:2] and band.part != part and band.seen > band.usual
    ]
    return max(beside, key=lambda band: band.seen - band.usual).part if beside else None


def _weight(band: Band) -> tuple[bool, bool, float]:
    """Breaches first, of them what concerns all clients, of these what most rows are gone from."""
    return band.severity != "breach", band.part.client is not None, -abs(band.usual - band.seen)
