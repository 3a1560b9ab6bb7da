"""Runs the flow in this process: builds what is stale, step by step, and enters each day in the ledger.

A kill between the commit of a day and its entry in the ledger only means that the day is built again, to the same rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Literal

import msgspec

from segue.contracts.ids import new_id
from segue.contracts.ports import Days, Engine
from segue.contracts.schema import Table
from segue.contracts.tables import QUALITY, RUNS
from segue.flows.estimate import Estimate, Forecast, check_budget, scan_bytes
from segue.flows.ledger import LANDING, Circumstances, Entries, Ledger, Written, enter
from segue.flows.lock import exclusive
from segue.flows.plan import Chunk, Scope, inputs, plan, settings_of, windows
from segue.flows.registry import Step, chosen, in_order, with_tables
from segue.flows.task import WHOLE, Stores, Task, quiet
from segue.flows.team import OpenEngine, Team, opened, shared
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
    read_bytes: int = 0
    written_rows: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class _Built:
    """What came of a chunk: what has to be entered in the ledger, when it began (UTC microseconds), and what it cost."""

    written: list[Written]
    started_at: int
    seconds: float
    read_bytes: int


class Runner:
    """The flow over one engine's tables.

    `home` holds the lock, `stores` what steps write that is no table. `open_engine` opens the engine once more, for chunks that
    are built side by side.
    """

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        home: Path,
        stores: Stores,
        steps: Sequence[Step],
        open_engine: OpenEngine | None = None,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._home = home
        self._stores = stores
        self._open_engine = open_engine
        self._ledger = Ledger(engine)
        self.steps = in_order(steps)

    def run(
        self,
        steps: Collection[str] | None = None,
        days: Days | None = None,
        *,
        as_of: date | None = None,
        force: bool = False,
        alone: bool = False,
        wait: float = 0.0,
        parallel: int = 1,
        first: Callable[[], None] = lambda: None,
        say: Callable[[str, str], None] = quiet,
    ) -> Iterator[StepProgress]:
        """Build what is stale, step by step, and tell how it goes. Nothing happens unless the progress is consumed.

        `steps` limits the run to those names, and the tables they read where those are stale; without it all run but upkeep.
        `alone` leaves these tables as they are: whoever calls has built them. `days` limits it to those days of daily steps;
        `as_of` hides all later days, also from steps that read whole tables; `force` builds what is up to date as well.
        `parallel` chunks of a daily step are built at once. `first` is called as soon as the home is ours, for `wait` seconds of
        waiting at most: to take in what came. `say` is told what a step is at, by several threads where chunks are built at once.

        Raises InvalidInput for an unknown step, Conflict if somebody else writes this home, Overloaded if more would be read
        than `warehouse.budget` allows, Breach if a step's rows break their contract (behind a last progress of state
        "failed"): steps behind it do not run.
        """
        wanted = chosen(self.steps, steps)
        scope = Scope(days, as_of, force)
        with exclusive(self._home, _title(steps), wait), self._team(parallel) as team:
            todo = wanted if alone else with_tables(self.steps, wanted)
            self._check_budget(todo, wanted, scope)
            first()
            # Why: what has landed just now costs too.
            self._check_budget(todo, wanted, scope)
            # Why: the ledger is read before any table is. What lands meanwhile is built now, and found stale next time.
            entries = self._take_in(todo)
            one = Team([self._engine], self._settings)
            for step in todo:
                workers = team if step.partition == "day" else one
                chunks = self._stale(step, step in wanted, entries, scope, workers.settings, say)
                if not chunks and step in wanted:
                    yield StepProgress(step.name, "up-to-date")
                yield from self._run_chunks(step, chunks, entries, scope, workers, say)
                if as_of is not None and self._settings.warehouse.expect:
                    for table in step.writes:
                        self._check_fresh(step, table, as_of)
            for table in (RUNS, QUALITY):
                self._engine.compact(table)

    def estimate(
        self,
        steps: Collection[str] | None = None,
        days: Days | None = None,
        *,
        as_of: date | None = None,
        force: bool = False,
        parallel: int = 1,
    ) -> list[Estimate]:
        """What `run` would build of what has landed, a line a chunk, and what that would cost. Nothing is written."""
        wanted = chosen(self.steps, steps)
        settings = shared(self._settings, parallel)
        return self._estimate(with_tables(self.steps, wanted), wanted, Scope(days, as_of, force), settings)

    def _estimate(
        self, todo: Sequence[Step], wanted: Sequence[Step], scope: Scope, settings: Settings
    ) -> list[Estimate]:
        entries = self._ledger.entries()
        for table in _sources(todo):
            for day, rows in self._ledger.missed(table, entries).items():
                enter(entries, (table.name, day), new_id(), LANDING, "", rows)
        forecast = Forecast(self._engine, settings.warehouse, entries)
        found: list[Estimate] = []
        for step in todo:
            chunks = self._stale(step, step in wanted, entries, scope, settings, quiet)
            found += [forecast.of(step, chunk) for chunk in chunks]
        return found

    def _check_budget(self, todo: Sequence[Step], wanted: Sequence[Step], scope: Scope) -> None:
        budget = self._settings.warehouse.budget
        if budget:
            check_budget(self._estimate(todo, wanted, scope, self._settings), budget)

    def _team(self, size: int) -> AbstractContextManager[Team]:
        if size == 1:
            return nullcontext(Team([self._engine], self._settings))
        if self._open_engine is None:
            raise ValueError("a runner that builds chunks side by side needs to know how to open engines")
        return opened(self._open_engine, self._settings, size)

    def _stale(
        self,
        step: Step,
        wanted: bool,
        entries: Entries,
        scope: Scope,
        settings: Settings,
        say: Callable[[str, str], None],
    ) -> list[Chunk]:
        """What has to be built of a step; of one that is not wanted for itself, what is stale.

        Also what is up to date by the ledger, where its result is gone.
        """
        if not wanted:
            return plan(step, entries, replace(scope, force=False), settings)
        chunks = plan(step, entries, scope, settings)
        if chunks or (gone := step.gone(self._stores)) is None:
            return chunks
        say(step.name, gone)
        return plan(step, entries, replace(scope, force=True), settings)

    def _take_in(self, steps: Sequence[Step]) -> Entries:
        """Bring what landed from outside into the ledger, and its many small files into few. Returns the ledger."""
        sources = _sources(steps)
        for table in sources:
            self._engine.compact(table)
        return self._ledger.reconcile(sources)

    def _run_chunks(
        self,
        step: Step,
        chunks: Sequence[Chunk],
        entries: Entries,
        scope: Scope,
        team: Team,
        say: Callable[[str, str], None],
    ) -> Iterator[StepProgress]:
        newest = _newest(step, entries, scope)

        def build(engine: Engine, job: tuple[int, Chunk]) -> _Built:
            return self._build(engine, team.settings, step, job[1], scope, newest, say)

        try:
            for (part, chunk), came in team.each(list(enumerate(chunks, 1)), build):
                progress = StepProgress(step.name, "running", chunk.days, part, len(chunks), chunk.read_rows)
                if isinstance(came, _Built):
                    self._enter(step, chunk, came, entries)
                    rows = sum(item.rows for item in came.written)
                    progress = replace(
                        progress,
                        state="done",
                        read_bytes=came.read_bytes,
                        written_rows=rows,
                        seconds=came.seconds,
                    )
                elif came is not None:
                    progress = replace(progress, state="failed")
                yield progress
        except Breach as breach:
            raise self._stopped(step, breach) from breach

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
        self,
        engine: Engine,
        settings: Settings,
        step: Step,
        chunk: Chunk,
        scope: Scope,
        newest: date,
        say: Callable[[str, str], None],
    ) -> _Built:
        """Run the step over one chunk."""
        task = Task(
            engine,
            settings,
            self._stores,
            chunk.days,
            windows=windows(step, chunk.days),
            builds=frozenset(chunk.fingerprints) if step.partition == "day" else None,
            say=lambda what: say(step.name, what),
            as_of=scope.as_of,
            newest=newest,
            step=step.name,
        )
        started, clock = time.time_ns() // 1000, time.monotonic()
        whole = scan_bytes(engine, step, chunk.days) if step.partition == "whole" else 0
        step.run(task)
        seconds = time.monotonic() - clock
        forgotten = [t.name for t in step.writes if t.name not in task.written]
        if forgotten:
            raise ValueError(f"step {step.name} declares that it writes {', '.join(forgotten)}, and did not")
        written = [
            Written(table.name, day, task.written[table.name].get(day, 0), fingerprint)
            for table in step.writes
            for day, fingerprint in chunk.fingerprints.items()
        ]
        return _Built(written, started, seconds, whole or sum(task.scanned.values()))

    def _enter(self, step: Step, chunk: Chunk, built: _Built, entries: Entries) -> None:
        """Put into the ledger what was built, and what from."""
        dependent = settings_of(step, self._settings)
        circumstances = Circumstances(
            step.version,
            msgspec.json.encode(dependent).decode() if dependent else None,
            self._settings.warehouse.engine,
        )
        read = {
            day: msgspec.json.encode(
                inputs(step, entries, chunk.days if day == WHOLE else Days(day, day))
            ).decode()
            for day in chunk.fingerprints
        }
        self._ledger.record(
            step.name,
            [replace(item, inputs=read[item.day]) for item in built.written],
            entries=entries,
            started_at=built.started_at,
            seconds=built.seconds,
            read_rows=chunk.read_rows,
            read_bytes=built.read_bytes,
            circumstances=circumstances,
        )


def _sources(steps: Sequence[Step]) -> list[Table]:
    """The tables the steps read that come from outside and make them stale."""
    reads = [read for step in steps for read in step.reads if read.tracked and not read.table.derived]
    return list({read.table.name: read.table for read in reads}.values())


def _newest(step: Step, entries: Entries, scope: Scope) -> date:
    """The last day, in the run's sight, that the table which drives the step has."""
    driver = step.reads[0].table.name if step.reads else ""
    days = (day for (name, day), entry in entries.items() if name == driver and entry.rows)
    return max(filter(scope.known, days), default=date.max)


def _title(steps: Collection[str] | None) -> str:
    return "the flow" if steps is None else f"step {', '.join(steps)}"
