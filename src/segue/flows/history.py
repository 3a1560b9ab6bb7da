"""What ran before, as the ledger has it: for people, and to tell what a run will cost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import ibis
import ibis.expr.types as ir
import msgspec

from segue.contracts.errors import NotFound
from segue.contracts.ports import Engine
from segue.contracts.tables import RUNS
from segue.flows.plan import Ranges
from segue.flows.task import WHOLE


@dataclass(frozen=True)
class Run:
    """One execution of a step, over the days `first` to `last` of one table it wrote (None: a table without days).

    `seconds` and what it read are of the execution as a whole. What an older version of Segue did not enter is None.
    """

    run: str
    step: str
    table: str
    first: date | None
    last: date | None
    rows: int
    read_rows: int | None
    read_bytes: int | None
    started_at: int
    seconds: float
    engine: str | None
    code: str


@dataclass(frozen=True)
class Made:
    """What made a partition: the run that wrote it last, the step's version and settings, and which runs had written its inputs.

    `times` is how often it was written.
    """

    day: date | None
    rows: int
    times: int
    run: Run
    version: int | None
    settings: dict[str, Any]
    inputs: Ranges


def runs(
    engine: Engine,
    *,
    step: str | None = None,
    table: str | None = None,
    day: date | None = None,
    last: int = 20,
) -> list[Run]:
    """The last runs, newest first: of that step, of that table, that wrote that day."""
    rows = engine.read(RUNS)
    if step is not None:
        rows = rows.filter(rows["step"] == step)
    if table is not None:
        rows = rows.filter(rows["table"] == table)
    if day is not None:
        wrote = rows.filter(rows["day"] == day).select("run_id", "table")
        rows = rows.semi_join(wrote, ["run_id", "table"])
    found = _grouped(rows)
    newest = found.order_by(ibis.desc("started_at"), ibis.desc("run_id"), "table").limit(last)
    return [_run(row) for row in engine.collect(newest).to_pylist()]


def made(engine: Engine, table: str, day: date | None) -> Made:
    """What made a day of a table, or a table without days. Raises NotFound where no run wrote it."""
    of_day = day or WHOLE
    rows = engine.read(RUNS)
    rows = rows.filter((rows["table"] == table) & (rows["day"] == of_day))
    written = engine.collect(rows.order_by("started_at", "run_id")).to_pylist()
    if not written:
        what = table if day is None else f"{table} of {day}"
        raise NotFound(f"no run wrote {what}; `segue runs` shows what was written", field="table")
    newest = written[-1]
    (run,) = runs(engine, table=table, day=of_day, last=1)
    return Made(
        day,
        newest["rows"],
        len(written),
        run,
        newest["version"],
        msgspec.json.decode(newest["settings"] or "{}"),
        msgspec.json.decode(newest["inputs"] or "{}", type=Ranges),
    )


def _grouped(rows: ir.Table) -> ir.Table:
    return rows.group_by("run_id", "step", "table").aggregate(
        first=rows.day.min(),
        last=rows.day.max(),
        rows=rows["rows"].sum().cast("int64"),
        **{name: rows[name].max() for name in _OF_THE_RUN},
    )


_OF_THE_RUN = ("read_rows", "read_bytes", "started_at", "seconds", "engine", "code")


def _run(row: dict[str, Any]) -> Run:
    first, last = (None if row[end] == WHOLE else row[end] for end in ("first", "last"))
    known = {name: row[name] for name in ("step", "table", "rows", *_OF_THE_RUN)}
    return Run(run=row["run_id"].hex(), first=first, last=last, **known)
