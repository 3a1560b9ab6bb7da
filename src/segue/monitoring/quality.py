"""The state of the tables' quality: each measure of the last days beside what was usual, as data and as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from jinja2 import Environment, PackageLoader, StrictUndefined
from msgspec import Struct

from segue.contracts.ports import Days, Engine
from segue.contracts.schema import Table
from segue.contracts.tables import TABLES
from segue.warehouse import watch
from segue.warehouse.findings import ROWS, Finding, Part
from segue.warehouse.incidents import Incident, incidents
from segue.warehouse.measured import kept
from segue.warehouse.usual import HISTORY, Band, Counts, bands

SHOWN = 28
"""Days that are shown."""


class Line(Struct, frozen=True):
    """A part of a measure: its rows on each of the days shown, and what was usual on each (null where that is not known)."""

    measure: str
    client: str | None
    part: str
    rows: list[int]
    low: list[float | None]
    high: list[float | None]
    far: float
    severity: str | None
    """As of the last day."""

    @property
    def title(self) -> str:
        """As people are shown it."""
        return str(Part(self.measure, self.client, self.part))


class Watched(Struct, frozen=True):
    """A table: its days, its lines (of all clients together; of single ones where they are unusual), and what was told."""

    table: str
    days: list[date]
    lines: list[Line]
    told: list[Finding]


class State(Struct, frozen=True):
    """All that is watched, as of a day, and what stopped the flow, the latest first."""

    day: date | None
    tables: list[Watched]
    incidents: list[Incident]


def state(engine: Engine, day: date | None = None, only: str | None = None) -> State:
    """How things stand on a day (the newest that was counted), of one table or of all that the flow watches."""
    tables = [
        table for table in TABLES.values() if table.daily and table.derived and only in (None, table.name)
    ]
    newest = day or max((d for table in tables for d in engine.row_counts(table)), default=None)
    if newest is None:
        return State(None, [], incidents(engine))
    span = Days(newest - timedelta(days=SHOWN) - HISTORY, newest)
    found = {table.name: kept(engine, table, span) for table in tables}
    watched = [_watched(table, found[table.name], newest) for table in tables if found[table.name]]
    return State(newest, watched, incidents(engine))


def _watched(table: Table, counts: Counts, newest: date) -> Watched:
    days = sorted(day for day in counts if day > newest - timedelta(days=SHOWN))
    usual = {day: {band.part: band for band in bands(counts, day, watch.lost(table))} for day in days}
    told = [
        finding
        for day in days
        if day > newest - watch.RECENT
        for finding in watch.findings(table, day, list(usual[day].values()))
    ]
    odd = {finding.part for finding in told}
    parts = {part for day in days for part in counts[day] if part.client is None} | odd
    lines = [_line(part, days, counts, usual) for part in parts]
    return Watched(table.name, days, sorted(lines, key=_order), told)


def _line(part: Part, days: Sequence[date], counts: Counts, usual: dict[date, dict[Part, Band]]) -> Line:
    of_part = [usual[day].get(part) for day in days]
    last = of_part[-1]
    return Line(
        *part,
        [counts[day].get(part, 0) for day in days],
        [band and band.low for band in of_part],
        [band and band.high for band in of_part],
        last.far if last else 0.0,
        last.severity if last else None,
    )


def _order(line: Line) -> tuple[bool, str, str, list[str | int]]:
    """All rows first, then by measure; numbers within a part's name as numbers."""
    words = line.part.replace("<", " ").replace(">=", " ").replace(",", "").split()
    numbers: list[str | int] = [word.zfill(20) if word.isdigit() else word for word in words]
    return (line.measure != ROWS.measure, line.measure, line.client or "", numbers)


def page(found: State) -> str:
    """The state as one HTML document. It names no outside address and holds no script."""
    environment = Environment(
        loader=PackageLoader("segue.monitoring"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"plot": _plot}
    return environment.get_template("quality.html").render(state=found)


class Plot(Struct, frozen=True):
    """Points of a line and of the area that is usual, in a box of 100 by 40; `top` is the number at its upper edge."""

    line: str
    area: str
    last: tuple[float, float]
    top: float


def _plot(line: Line) -> Plot:
    top = max([*line.rows, *(high for high in line.high if high is not None), 1.0])
    step = 100 / max(len(line.rows) - 1, 1)

    def at(n: int, value: float) -> str:
        return f"{n * step:.2f},{40 - 40 * min(value, top) / top:.2f}"

    known = [n for n, low in enumerate(line.low) if low is not None]
    upper = [at(n, line.high[n] or 0.0) for n in known]
    lower = [at(n, line.low[n] or 0.0) for n in reversed(known)]
    last = len(line.rows) - 1
    return Plot(
        " ".join(at(n, rows) for n, rows in enumerate(line.rows)),
        " ".join(upper + lower),
        (last * step, 40 - 40 * line.rows[-1] / top),
        top,
    )
