"""What a run will cost, before it runs: told from the tables that are there, and from what earlier runs needed.

A step's inputs are there, or will be made by a step before it. Of those that are there the engine says what reading them
takes. For the others, and for what comes out, earlier runs of the step tell: the median of the runs whose input was nearest
in size, since a day and a year do not cost the same a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from math import log
from statistics import median
from typing import Literal

from segue.contracts.errors import Overloaded
from segue.contracts.ids import new_id
from segue.contracts.ports import Days, Engine
from segue.contracts.schema import Table
from segue.flows.definitions import expressions
from segue.flows.history import Run, runs
from segue.flows.ledger import Entries, enter
from segue.flows.plan import Chunk, input_rows, window, windows
from segue.flows.registry import Step
from segue.flows.task import WHOLE
from segue.settings.tree import Warehouse

Basis = Literal["tables", "history", "guess"]
NEAREST = 9
"""Runs that are asked at most; KNOWN is among how many of a step's last ones they are looked for."""
KNOWN = 200
ROW_BYTES = 40
"""Of a stored event, where nothing better is known."""


@dataclass(frozen=True)
class Estimate:
    """One chunk of a step. `reads` has the days of each input (None: the whole table).

    `read_from` says what `read_rows` and `read_bytes` are known from: the tables as they are, the history of the step, or a guess
    where it has none, `ROW_BYTES` a row. `made_from` says it of `rows` and `seconds`; the guess is a row out for each row in, and
    no idea of the time.
    """

    step: str
    days: Days
    reads: dict[str, Days | None]
    read_rows: int
    read_bytes: int
    read_from: Basis
    rows: int | None
    seconds: float | None
    made_from: Basis


class Forecast:
    """Tells one chunk after the other, in the order in which they would run. Nothing is written.

    `entries` are those of the ledger, and are brought up to date with what each chunk is expected to write: what comes after it
    finds its input there.
    """

    def __init__(self, engine: Engine, settings: Warehouse, entries: Entries) -> None:
        self._engine = engine
        self._settings = settings
        self._entries = entries
        self._expected: set[tuple[str, date]] = set()
        self._past: dict[str, list[Run]] = {}

    def of(self, step: Step, chunk: Chunk) -> Estimate:
        """What a chunk costs, when those before it have been told."""
        if step.name not in self._past:
            self._past[step.name] = runs(self._engine, step=step.name, last=KNOWN)
        past = self._past[step.name]
        here = _nearest([run for run in past if run.engine in (None, self._settings.engine)], chunk.read_rows)
        past = _nearest(past, chunk.read_rows)
        read_bytes, read_from = self._reading(step, chunk, here)
        rows = [self._writing(step, table, chunk, past) for table in step.writes]
        seconds = _ratio([(run.seconds, run) for run in here])
        return Estimate(
            step.name,
            chunk.days,
            windows(step, chunk.days),
            chunk.read_rows,
            read_bytes,
            read_from,
            None if None in rows else sum(n or 0 for n in rows),
            None if seconds is None else seconds * chunk.read_rows,
            "guess" if seconds is None else "history",
        )

    def _reading(self, step: Step, chunk: Chunk, past: Sequence[Run]) -> tuple[int, Basis]:
        reads = windows(step, chunk.days).items()
        if not any((name, day) in self._expected for name, days in reads for day in days or (WHOLE,)):
            return scan_bytes(self._engine, step, chunk.days), "tables"
        ratio = _ratio([(run.read_bytes, run) for run in past if run.read_bytes is not None])
        if ratio is not None:
            return round(ratio * chunk.read_rows), "history"
        return ROW_BYTES * chunk.read_rows, "guess"

    def _writing(self, step: Step, table: Table, chunk: Chunk, past: Sequence[Run]) -> int | None:
        """Rows that the chunk writes, of which later steps learn; None where nobody knows."""
        known = _ratio([(run.rows, run) for run in past if run.table == table.name])
        ratio = known if known is not None else float(step.partition == "day")
        total = 0
        for day, fingerprint in chunk.fingerprints.items():
            read_rows = chunk.read_rows if day == WHOLE else input_rows(step, self._entries, day)
            rows = round(ratio * read_rows)
            enter(self._entries, (table.name, day), new_id(), step.name, fingerprint, rows)
            self._expected.add((table.name, day))
            total += rows
        return None if known is None and step.partition == "whole" else total


def scan_bytes(engine: Engine, step: Step, days: Days) -> int:
    """Bytes the step has to read for those days, of inputs as they are."""
    if step.partition == "day":
        return sum(map(engine.scan_bytes, expressions(step, days, engine.read).values()))
    reads = ((read.table, window(step, read, days)) for read in step.reads if read.table.columns)
    return sum(engine.scan_bytes(engine.read(*read)) for read in reads)


def check_budget(found: Iterable[Estimate], budget: int) -> None:
    """Raise Overloaded, saying what costs most, if more would be read than `budget` bytes; 0 means that there is none."""
    per_step: dict[str, int] = {}
    for one in found:
        per_step[one.step] = per_step.get(one.step, 0) + one.read_bytes
    total = sum(per_step.values())
    if not 0 < budget < total:
        return
    most = sorted(per_step.items(), key=lambda item: -item[1])[:3]
    raise Overloaded(
        f"the run would read about {total:,} bytes, and warehouse.budget is {budget:,}; most of it for "
        f"{', '.join(f'{step} ({n:,})' for step, n in most)}. No table was built: ask for fewer days (--from, --to) or steps, "
        f"or raise warehouse.budget; `segue run --dry-run` shows every step",
        field="warehouse.budget",
        limit=f"{budget} bytes",
    )


def _nearest(past: Sequence[Run], read_rows: int) -> list[Run]:
    """The runs whose input was nearest in size: the nearest, and others about as near (within a factor of two)."""
    apart = sorted(
        ((abs(log(run.read_rows / max(read_rows, 1))), n) for n, run in enumerate(past) if run.read_rows),
    )
    return [past[n] for far, n in apart[:NEAREST] if far <= apart[0][0] + log(2)]


def _ratio(known: Sequence[tuple[float, Run]]) -> float | None:
    """The median per row read; None of nothing."""
    return median(value / (run.read_rows or 1) for value, run in known) if known else None
