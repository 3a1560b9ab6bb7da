"""How good the checks of data quality are: the daily flow of a service that nothing is wrong with, held against itself day by
day, and then with faults.

A home's own tables are not touched. The flow's steps run as they do every day, but what they would write is only checked and
counted. Each day that is judged is made as the newest, without the events of the day after.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date, timedelta
from statistics import fmean

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from msgspec import Struct
from scipy.stats import binomtest

from segue.contracts.ports import Days, Engine
from segue.contracts.schema import Table
from segue.contracts.tables import RAW_EVENTS, TABLES
from segue.flows.plan import window
from segue.flows.steps import BUILD
from segue.flows.task import Stores, Task, within
from segue.settings.tree import Settings
from segue.simulation.faults import Happening
from segue.warehouse import watch
from segue.warehouse.contract import check
from segue.warehouse.findings import Breach, Finding
from segue.warehouse.measured import count
from segue.warehouse.usual import Counts, bands

LEARNS = timedelta(days=28)
"""Days that are only history."""
TIMES = 4
"""How often each thing happens."""
LASTS = 2
"""Days that it lasts each time."""
APART = 16
"""Days from one time to the next: each begins on another weekday."""
NAMED = 5
"""Measures that are named, of those that told."""

History = Mapping[str, Counts]
"""By table."""


class Found(Struct, frozen=True):
    """What the checks made of something that happened `times` times: how often it was told on its first day, how often within
    LASTS days, after how many days in the mean (0 is the first), how often it stopped the flow, and which measures told first.
    """

    name: str
    doc: str
    expected: str
    times: int
    at_once: int
    in_time: int
    stopped: int
    days: float | None
    by: dict[str, int]

    @property
    def as_expected(self) -> bool:
        """Whether it always was on the first day what it should be."""
        if self.expected == "pass":
            return self.stopped == 0
        return self.at_once == self.times and (self.expected == "tell" or self.stopped == self.times)


class Alarms(Struct, frozen=True):
    """Alarms on days on which nothing happened. `stopped` and `told` count days, `*_tables` a table of a day each; the 95%
    intervals are of the share of days (Clopper and Pearson).
    """

    days: int
    tables: int
    stopped: int
    told: int
    stopped_tables: int
    told_tables: int
    stopped_ci95: tuple[float, float]
    told_ci95: tuple[float, float]
    by: dict[str, int]


class Rehearsed(Struct, frozen=True):
    """What was found out, and of which service: its days and its events a day."""

    days: int
    events_a_day: float
    alarms: Alarms
    found: list[Found]


@dataclass(frozen=True)
class _Dry(Task):
    """A task whose tables are checked, counted, and held for the steps behind it, instead of written."""

    near: Mapping[str, frozenset[date]] = field(default_factory=dict)
    held: dict[str, ir.Table] = field(default_factory=dict)
    counts: dict[str, Counts] = field(default_factory=dict)
    stack: ExitStack = field(default_factory=ExitStack)

    def read(self, table: Table) -> ir.Table:
        """What a step before it made, or the table; only days near those that are built."""
        rows = self.held[table.name] if table.name in self.held else super().read(table)
        return rows.filter(rows.day.isin(sorted(self.near[table.name]))) if table.daily else rows

    def write(self, table: Table, rows: ir.Table) -> None:
        """Check and count. Raises Breach if rows break a rule."""
        made = self.stack.enter_context(self.engine.staged(within(table, rows, self.days, self.builds)))
        check(self.engine, table, made)
        self.held[table.name] = made
        self.counts[table.name] = count(self.engine, table, made, self.builds or frozenset(self.days))


@dataclass(frozen=True)
class Rehearsal:
    """The checks over the events of a service that nothing is wrong with. `seed` is that of what happens to it; `events`
    are those of the days that things happen to, fetched once.
    """

    engine: Engine
    settings: Settings
    stores: Stores
    seed: int = 1
    events: dict[date, pa.Table] = field(default_factory=dict)

    def run(
        self, happenings: Sequence[Happening], say: Callable[[str], None] = lambda what: None
    ) -> Rehearsed:
        """False alarms, and what is made of each happening."""
        sizes = self.engine.row_counts(RAW_EVENTS)
        say("history")
        history = dict(self._made(frozenset(sizes)))
        judged = sorted(day for day in sizes if day >= min(sizes) + LEARNS)
        say("days on which nothing happens")
        halves = [dict(self._made(frozenset(half))) for half in (judged[::2], judged[1::2])]
        newest = {name: {**halves[0][name], **halves[1][name]} for name in history}
        alarms = _alarms(history, newest, judged)
        found = []
        for happening in happenings:
            say(happening.name)
            found.append(self._befall(happening, history, judged[: -LASTS + 1 : APART][:TIMES]))
        return Rehearsed(len(sizes), sum(sizes.values()) / len(sizes), alarms, found)

    def _befall(self, happening: Happening, history: History, starts: Sequence[date]) -> Found:
        """Let it happen from each start on; each day is held against what would have been written before it."""
        found: dict[tuple[date, int], list[Finding]] = {
            (start, n): [] for start in starts for n in range(LASTS)
        }
        days = frozenset(start + timedelta(days=n) for start, n in found)
        try:
            for name, counts in self._made(days, happening):
                for (start, n), findings in found.items():
                    days_before = {
                        day: counts[day] for day in (start + timedelta(days=k) for k in range(n + 1))
                    }
                    said = _findings(name, {**history[name], **days_before}, start + timedelta(days=n))
                    if not _stops(findings):
                        findings[:] = said if _stops(said) else [*findings, *said]
                if all(_stops(found[start, 0]) for start in starts):
                    break
        except Breach as breach:
            # Why all: what breaks a rule of a column breaks it every day.
            found |= {key: [breach.findings[0]] for key in found}
        return _found(happening, [[found[start, n] for n in range(LASTS)] for start in starts])

    def _made(
        self, days: frozenset[date], happening: Happening | None = None
    ) -> Iterator[tuple[str, Counts]]:
        """Each table's counts of those days, if that happens on all of them. Raises Breach where rows break a rule."""
        span = Days(min(days), max(days))
        with ExitStack() as stack:
            held = {} if happening is None else {RAW_EVENTS.name: self._befallen(days, happening)}
            for made in BUILD:
                near = {
                    read.table.name: frozenset(
                        day + timedelta(days=n) for day in days for n in range(-read.before, read.after + 1)
                    )
                    for read in made.reads
                }
                windows = {read.table.name: window(made, read, span) for read in made.reads}
                task = _Dry(
                    self.engine,
                    self.settings,
                    self.stores,
                    span,
                    windows,
                    builds=days,
                    near=near,
                    held=held,
                    stack=stack,
                )
                made.run(task)
                yield from task.counts.items()

    def _befallen(self, days: frozenset[date], happening: Happening) -> ir.Table:
        """The events of those days after it, and those of the days before them as they were."""
        rows = []
        for day in sorted({day - timedelta(days=n) for day in days for n in (0, 1)}):
            if day not in self.events:
                of_day = self.engine.collect(self.engine.read(RAW_EVENTS, Days(day, day)))
                self.events[day] = of_day.cast(RAW_EVENTS.arrow)
            events = self.events[day]
            if day in days and len(events):
                dice = np.random.default_rng(
                    [self.seed, zlib.crc32(happening.name.encode()), day.toordinal()]
                )
                events = happening.change(events, dice)
            rows.append(events)
        return ibis.memtable(pa.concat_tables(rows))


def _findings(name: str, counts: Counts, day: date) -> list[Finding]:
    table = TABLES[name]
    return watch.findings(table, day, bands(counts, day, watch.lost(table)))


def _stops(findings: Sequence[Finding]) -> bool:
    return bool(findings) and findings[0].severity == "breach"


def _alarms(history: History, newest: History, days: Sequence[date]) -> Alarms:
    stopped, told = set[tuple[str, date]](), set[tuple[str, date]]()
    by: Counter[str] = Counter()
    for name in newest:
        for day in days:
            found = _findings(name, {**history[name], day: newest[name][day]}, day)
            if found:
                (stopped if _stops(found) else told).add((name, day))
                by.update(f"{name}: {finding.part}" for finding in found)
    of_days = [{day for _, day in alarms} for alarms in (stopped, told)]
    low_high = [binomtest(len(found), len(days)).proportion_ci() for found in of_days]
    return Alarms(
        len(days),
        len(days) * len(newest),
        len(of_days[0]),
        len(of_days[1]),
        len(stopped),
        len(told),
        (low_high[0].low, low_high[0].high),
        (low_high[1].low, low_high[1].high),
        dict(by.most_common()),
    )


def _found(happening: Happening, times: Sequence[Sequence[Sequence[Finding]]]) -> Found:
    """`times`: what was found each time on each day."""
    told = [next((n for n, found in enumerate(days) if found), None) for days in times]
    heard = [n for n in told if n is not None]
    by = Counter(
        f"{days[n][0].table}: {days[n][0].part}" for days, n in zip(times, told, strict=True) if n is not None
    )
    return Found(
        happening.name,
        happening.doc,
        happening.expected,
        len(times),
        heard.count(0),
        len(heard),
        sum(any(map(_stops, days)) for days in times),
        fmean(heard) if heard else None,
        dict(by.most_common(NAMED)),
    )
