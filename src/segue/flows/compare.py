"""The flow's tables on several engines, row by row: the same definitions must give the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import pyarrow as pa

from segue.contracts.ports import Days, Engine
from segue.contracts.schema import Table
from segue.flows.registry import Step

PART_ROWS = 100_000
"""Rows brought from an engine at once, unless a day has more: a year of small days is a few questions, not hundreds."""


@dataclass(frozen=True)
class Compared:
    """One table: its rows on each engine, whether they are all equal, and where not the first difference, in words."""

    rows: dict[str, int]
    equal: bool
    difference: str | None = None


def sources(steps: Sequence[Step]) -> list[Table]:
    """The tables the steps read that come from outside the flow."""
    reads = [read.table for made in steps for read in made.reads if not read.table.derived]
    return list({table.name: table for table in reads}.values())


def copy(table: Table, source: Engine, target: Engine) -> None:
    """Bring the table's rows from one engine to another, some days at a time."""
    for days in _parts(table, source.row_counts(table)):
        target.overwrite(table, source.collect(source.read(table, days)), days)


def compare(table: Table, engines: Mapping[str, Engine]) -> Compared:
    """Hold the table of each engine against that of the first, some days at a time."""
    counts = {name: engine.row_counts(table) for name, engine in engines.items()}
    rows = {name: sum(days.values()) for name, days in counts.items()}
    first, *others = engines
    for name in others:
        if counts[name] != counts[first]:
            day = min(
                d for d in {*counts[first], *counts[name]} if counts[first].get(d) != counts[name].get(d)
            )
            said = f"{counts[first].get(day, 0):,} on {first}, {counts[name].get(day, 0):,} on {name}"
            return Compared(rows, False, f"rows of {day}: {said}")
    for days in _parts(table, counts[first]):
        wanted = _rows(table, engines[first], days)
        for name in others:
            difference = _difference(wanted, _rows(table, engines[name], days), first, name)
            if difference is not None:
                return Compared(rows, False, difference)
    return Compared(rows, True)


def _parts(table: Table, counts: Mapping[date, int]) -> Iterator[Days | None]:
    """The table in pieces of some days each, of about PART_ROWS rows; None for a table without days."""
    if not table.daily:
        yield from [None] if counts else []
        return
    first, rows, last = None, 0, max(counts, default=None)
    for day in counts:
        first, rows = first or day, rows + counts[day]
        if rows >= PART_ROWS or day == last:
            yield Days(first, day)
            first, rows = None, 0


def _rows(table: Table, engine: Engine, days: Days | None) -> pa.Table:
    found = engine.collect(engine.read(table, days)).cast(table.arrow)
    order = [(field.name, "ascending") for field in table.arrow if not pa.types.is_nested(field.type)]
    return found.sort_by(order).combine_chunks()


def _difference(wanted: pa.Table, found: pa.Table, first: str, name: str) -> str | None:
    if found.equals(wanted):
        return None
    for one, other in zip(wanted.to_pylist(), found.to_pylist(), strict=True):
        if one != other:
            columns = [column for column in one if one[column] != other[column]]
            values = "; ".join(
                f"{column} is {one[column]} on {first}, {other[column]} on {name}" for column in columns
            )
            return f"{ {c: one[c] for c in list(one)[:3]} }: {values}"
    return None
