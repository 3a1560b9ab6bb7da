"""The flow's tables on several engines, row by row: the same definitions must give the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from segue.contracts.ports import Days, Engine
from segue.contracts.schema import Table
from segue.flows.registry import Step


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
    """Bring the table's rows from one engine to another, a day at a time."""
    for days in _parts(table, source):
        target.overwrite(table, source.collect(source.read(table, days)), days)


def compare(table: Table, engines: Mapping[str, Engine]) -> Compared:
    """Hold the table of each engine against that of the first, a day at a time."""
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
    for days in _parts(table, engines[first]):
        wanted = _rows(table, engines[first], days)
        for name in others:
            difference = _difference(wanted, _rows(table, engines[name], days), first, name)
            if difference is not None:
                return Compared(rows, False, difference)
    return Compared(rows, True)


def _parts(table: Table, engine: Engine) -> Iterator[Days | None]:
    counts = engine.row_counts(table)
    if not table.daily and counts:
        yield None
    elif table.daily:
        yield from (Days(day, day) for day in counts)


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
