"""Which days of a step are stale, and how they are grouped.

A day's fingerprint is a hash of the step's version, the settings it depends on, and the versions of the input days it reads.
The day is stale when that is not the fingerprint it was last built with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import reduce

import msgspec

from segue.contracts.ports import Days
from segue.flows.ledger import Entries
from segue.flows.registry import Read, Step
from segue.flows.task import WHOLE
from segue.settings.tree import Settings


@dataclass(frozen=True)
class Scope:
    """What a run was asked for: these days of daily steps, nothing later than `as_of`, also what is up to date.

    Incidents (segue.warehouse.incidents) keep some days from being built: `held`, unless from another input than that (None: from
    any), by day. `aside` are those that whole tables are read without.
    """

    days: Days | None = None
    as_of: date | None = None
    force: bool = False
    held: Mapping[date, str | None] = field(default_factory=dict)
    aside: frozenset[date] = frozenset()

    def known(self, day: date) -> bool:
        """Whether the run may see that day."""
        return self.as_of is None or day <= self.as_of

    def wanted(self, day: date) -> bool:
        """Whether the run may build that day."""
        return self.known(day) and (self.days is None or self.days.first <= day <= self.days.last)

    def waits(self, day: date, fingerprint: str) -> bool:
        """Whether the day is left as it is for the sake of an open incident.

        Not the day that the run is for: a scheduler that asks again is told again.
        """
        if self.force or day == self.as_of or day not in self.held:
            return False
        return self.held[day] in (None, fingerprint)


@dataclass(frozen=True)
class Chunk:
    """Days to be built in one go, the fingerprint each will have, and the rows of their input."""

    days: Days
    fingerprints: Mapping[date, str]
    read_rows: int


def plan(step: Step, entries: Entries, scope: Scope, settings: Settings) -> list[Chunk]:
    """What has to be built, in order of day; empty if all is up to date."""
    if step.partition == "upkeep":
        return [Chunk(Days(WHOLE, WHOLE), {WHOLE: ""}, 0)]
    if step.partition == "whole":
        return _plan_whole(step, entries, scope, settings)
    driver = step.reads[0].table.name
    candidates = sorted(day + _shift(step) for name, day in entries if name == driver)
    groups: list[list[date]] = []
    sizes: list[int] = []
    prints: dict[date, str] = {}
    beside, fewest = False, _around(step)
    for day in filter(scope.wanted, candidates):
        if _is_closed(step, entries, day, scope.force):
            beside = False
            continue
        prints[day] = _fingerprint(step, entries, Days(day, day), settings)
        stale = scope.force or _is_stale(step, entries, day, prints[day])
        if not stale or scope.waits(day, prints[day]):
            # Why: a day that is up to date is not written again, so it also ends a chunk.
            beside = False
            continue
        rows = input_rows(step, entries, day)
        if beside and (sizes[-1] + rows <= settings.warehouse.chunk_rows or len(groups[-1]) < fewest):
            groups[-1].append(day)
            sizes[-1] += rows
        else:
            groups.append([day])
            sizes.append(rows)
        beside = True
    return [
        Chunk(Days(group[0], group[-1]), {day: prints[day] for day in group}, size)
        for group, size in zip(groups, sizes, strict=True)
    ]


def window(step: Step, read: Read, days: Days) -> Days | None:
    """The days of an input that those days of the step read; None for a table without days."""
    if not read.table.daily:
        return None
    return read.window(days) if step.partition == "day" else days


def windows(step: Step, days: Days) -> dict[str, Days | None]:
    """What those days of the step read, by table (None: the whole table)."""
    return {read.table.name: window(step, read, days) for read in step.reads}


def _plan_whole(step: Step, entries: Entries, scope: Scope, settings: Settings) -> list[Chunk]:
    tracked = {r.table.name for r in step.reads if r.tracked}
    inputs = [(name, day) for name, day in entries if name in tracked and scope.known(day)]
    if not inputs:
        return []
    dated = [day for _, day in inputs if day != WHOLE] or [WHOLE]
    span = Days(min(dated), max(dated))
    fingerprint = _fingerprint(step, entries, span, settings)
    if lacking := sorted(scope.aside.intersection(dated)):
        fingerprint += f" without {', '.join(map(str, lacking))}"
    if not scope.force and not _is_stale(step, entries, WHOLE, fingerprint):
        return []
    return [Chunk(span, {WHOLE: fingerprint}, sum(entries[key].rows for key in inputs))]


def _around(step: Step) -> int:
    """How many days the step reads for one, besides that day.

    A chunk has as many of its own at least, however large they are: smaller ones would read the days around them over and over,
    and this one reads no more than twice what a single day does.
    """
    daily = [read for read in step.reads if read.table.daily]
    return max((read.before + max(0, read.after) for read in daily), default=0)


def _shift(step: Step) -> timedelta:
    """How far behind a day of the driving table the day stands that it drives."""
    return timedelta(days=max(0, -step.reads[0].after))


def input_rows(step: Step, entries: Entries, day: date) -> int:
    """Rows of the inputs of one day of a daily step, the days around it not counted."""
    keys = [(r.table.name, day - _shift(step)) for r in step.reads if r.tracked]
    return sum(entries[key].rows for key in keys if key in entries)


def _is_closed(step: Step, entries: Entries, day: date, force: bool) -> bool:
    """Whether a day is left as it is: some of its input was dropped, or its result was, unless that is asked for."""
    of_day = Days(day, day)
    keys = [
        (read.table.name, d)
        for read in step.reads
        if read.tracked and read.table.daily
        for d in read.window(of_day)
    ]
    keys += [] if force else [(table.name, day) for table in step.writes]
    return any(key in entries and entries[key].dropped for key in keys)


def _is_stale(step: Step, entries: Entries, day: date, fingerprint: str) -> bool:
    built = [entries.get((table.name, day)) for table in step.writes]
    return any(entry is None or entry.fingerprint != fingerprint for entry in built)


Ranges = dict[str, list[tuple[date | None, date | None, str]]]
"""By table: first and last day (None where it has none) and the id of the run that wrote them, or how many there were."""
MOST_RANGES = 50
"""Of one table in one entry of the ledger. What reads a year has been written by hundreds of runs: the older ones are counted."""


def inputs(step: Step, entries: Entries, days: Days) -> Ranges:
    """Which runs had written what those days of the step read, also what makes nothing stale."""
    return {read.table.name: _by_run(read, window(step, read, days), entries) for read in step.reads}


def settings_of(step: Step, settings: Settings) -> dict[str, object]:
    """The settings that the step's result depends on, by name."""
    return {name: reduce(getattr, name.split("."), settings) for name in step.settings}


def _by_run(read: Read, days: Days | None, entries: Entries) -> list[tuple[date | None, date | None, str]]:
    found: list[tuple[date | None, date | None, str]] = []
    for day in days or (WHOLE,):
        entry = entries.get((read.table.name, day))
        if entry is None:
            continue
        run, dated = entry.run_id.hex(), day if read.table.daily else None
        if found and found[-1][2] == run:
            found[-1] = (found[-1][0], dated, run)
        else:
            found.append((dated, dated, run))
    older, newer = found[:-MOST_RANGES], found[-MOST_RANGES:]
    return [(older[0][0], older[-1][1], f"{len(older)} runs"), *newer] if older else newer


def _fingerprint(step: Step, entries: Entries, days: Days, settings: Settings) -> str:
    digest = hashlib.blake2b(f"{step.name} {step.version}\n".encode(), digest_size=16)
    for name, value in settings_of(step, settings).items():
        digest.update(name.encode() + b"=" + msgspec.json.encode(value, order="deterministic") + b"\n")
    for read in step.reads:
        if read.tracked:
            for day in window(step, read, days) or (WHOLE,):
                entry = entries.get((read.table.name, day))
                if entry is not None:
                    digest.update(f"{read.table.name} {day} {entry.version}\n".encode())
    return digest.hexdigest()
