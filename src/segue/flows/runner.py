"""Runs the flow in this process: builds what is stale, step by step, and enters each day in the ledger.

A kill between the commit of a day and its entry in the ledger only means that the day is built again, to the same rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Literal

from segue.contracts.ports import Days, Engine
from segue.contracts.schema import Table
from segue.contracts.tables import QUALITY, RUNS
from segue.flows.ledger import Entries, Ledger, Written
from segue.flows.lock import exclusive
from segue.flows.plan import Chunk, Scope, plan, window
from segue.flows.registry import Step, chosen, in_order, with_tables
from segue.flows.task import Stores, Task, quiet
from segue.settings.tree import Settings
from segue.warehouse import incidents
from segue.warehouse.contract import check_fresh
from segue.warehouse.findings import Breach

State = Literal["up-to-date", "running", "done", "failed"]


@dataclass(frozen=True)
class StepProgress:
    """Where the flow is. `days` is the range at work (None: nothing to do), `part` of `parts` the chunk, from 1."""

    step: str
    state: State
    days: Days | None = None
    part: int = 0
    parts: int = 0
    read_rows: int = 0
    written_rows: int = 0
    seconds: float = 0.0


class Runner:
    """The flow over one engine's tables. `home` holds the lock, `stores` what steps write that is no table."""

    def __init__(
        self, engine: Engine, settings: Settings, home: Path, stores: Stores, steps: Sequence[Step]
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._home = home
        self._stores = stores
        self._ledger = Ledger(engine)
        self.steps = in_order(steps)

    def run(
        self,
        steps: Collection[str] | None = None,
        days: Days | None = None,
        *,
        as_of: date | None = None,
        force: bool = False,
        wait: float = 0.0,
        first: Callable[[], None] = lambda: None,
        say: Callable[[str, str], None] = quiet,
    ) -> Iterator[StepProgress]:
        """Build what is stale, step by step, and tell how it goes. Nothing happens unless the progress is consumed.

        `steps` limits the run to those names, and the tables they read where those are stale; `days` to those days of daily
        steps; `as_of` hides all later days, also from steps that read whole tables; `force` builds what is up to date as well.
        `first` is called as soon as the home is ours, for `wait` seconds of waiting at most: to take in what came. `say` is
        told what a step is at.

        Raises InvalidInput for an unknown step, Conflict if somebody else writes this home, Breach if a step's rows
        break their contract (behind a last progress of state "failed"): steps behind it do not run.
        """
        wanted = chosen(self.steps, steps)
        scope = Scope(days, as_of, force)
        with exclusive(self._home, _title(steps), wait):
            first()
            # Why: the ledger is read before any table is. What lands meanwhile is built now, and found stale next time.
            todo = with_tables(self.steps, wanted)
            entries = self._take_in(todo)
            for step in todo:
                if step in wanted:
                    chunks = plan(step, entries, scope, self._settings) or self._lost(
                        step, entries, scope, say
                    )
                    if not chunks:
                        yield StepProgress(step.name, "up-to-date")
                else:
                    chunks = plan(step, entries, replace(scope, force=False), self._settings)
                for part, chunk in enumerate(chunks, 1):
                    yield from self._run_chunk(step, entries, chunk, part, len(chunks), scope, say)
                if as_of is not None and self._settings.warehouse.expect:
                    for table in step.writes:
                        self._check_fresh(step, table, as_of)
            for table in (RUNS, QUALITY):
                self._engine.compact(table)

    def _lost(
        self, step: Step, entries: Entries, scope: Scope, say: Callable[[str, str], None]
    ) -> list[Chunk]:
        """What has to be made again of a step that is up to date by the ledger, because its result is gone."""
        gone = step.gone(self._stores)
        if gone is None:
            return []
        say(step.name, gone)
        return plan(step, entries, replace(scope, force=True), self._settings)

    def _take_in(self, steps: Sequence[Step]) -> Entries:
        """Bring what landed from outside into the ledger, and its many small files into few. Returns the ledger."""
        reads = [read for step in steps for read in step.reads]
        sources = {r.table.name: r.table for r in reads if r.tracked and not r.table.derived}
        for table in sources.values():
            self._engine.compact(table)
        return self._ledger.reconcile(sources.values())

    def _run_chunk(
        self,
        step: Step,
        entries: Entries,
        chunk: Chunk,
        part: int,
        parts: int,
        scope: Scope,
        say: Callable[[str, str], None],
    ) -> Iterator[StepProgress]:
        def progress(state: State, written_rows: int = 0, seconds: float = 0.0) -> StepProgress:
            return StepProgress(
                step.name, state, chunk.days, part, parts, chunk.read_rows, written_rows, seconds
            )

        yield progress("running")
        started = time.time_ns() // 1000
        clock = time.monotonic()
        try:
            newest = _newest(step, entries, scope)
            written = self._build(step, chunk, scope, newest, lambda what: say(step.name, what))
        except Exception as error:
            yield progress("failed", seconds=time.monotonic() - clock)
            if isinstance(error, Breach):
                raise self._stopped(step, error) from error
            raise
        seconds = time.monotonic() - clock
        self._ledger.record(
            step.name,
            written,
            entries=entries,
            started_at=started,
            seconds=seconds,
            read_rows=chunk.read_rows,
        )
        yield progress("done", sum(item.rows for item in written), seconds)

    def _check_fresh(self, step: Step, table: Table, as_of: date) -> None:
        try:
            check_fresh(self._engine, table, as_of)
        except Breach as breach:
            found = {(finding.table, finding.day, finding.part) for finding in breach.findings}
            if not found <= set(incidents.accepted(self._engine)):
                raise self._stopped(step, breach) from breach

    def _stopped(self, step: Step, breach: Breach) -> Breach:
        """The breach, kept as an incident, with the steps that do not run because of it."""
        made, behind = {table.name for table in step.writes}, []
        for later in self.steps:
            if made.intersection(read.table.name for read in later.reads):
                made |= {table.name for table in later.writes}
                behind.append(later.name)
        return incidents.record(self._engine, self._home, breach, step.name, behind)

    def _build(
        self, step: Step, chunk: Chunk, scope: Scope, newest: date, say: Callable[[str], None]
    ) -> list[Written]:
        """Run the step over one chunk. Returns what has to be entered in the ledger."""
        task = Task(
            self._engine,
            self._settings,
            self._stores,
            chunk.days,
            windows={r.table.name: window(step, r, chunk.days) for r in step.reads},
            builds=frozenset(chunk.fingerprints) if step.partition == "day" else None,
            say=say,
            as_of=scope.as_of,
            newest=newest,
            step=step.name,
        )
        step.run(task)
        forgotten = [t.name for t in step.writes if t.name not in task.written]
        if forgotten:
            raise ValueError(f"step {step.name} declares that it writes {', '.join(forgotten)}, and did not")
        return [
            Written(table.name, day, task.written[table.name].get(day, 0), fingerprint)
            for table in step.writes
            for day, fingerprint in chunk.fingerprints.items()
        ]


def _newest(step: Step, entries: Entries, scope: Scope) -> date:
    """The last day, in the run's sight, that the table which drives the step has."""
    driver = step.reads[0].table.name
    days = (day for (name, day), entry in entries.items() if name == driver and entry.rows)
    return max(filter(scope.known, days), default=date.max)


def _title(steps: Collection[str] | None) -> str:
    return "the flow" if steps is None else f"step {', '.join(steps)}"
