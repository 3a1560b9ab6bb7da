"""What a step computes, as an expression over tables that need not be there: to be read as SQL, or held against a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import cast

import ibis
import ibis.expr.types as ir

from segue.contracts.errors import NotFound
from segue.contracts.ports import Days
from segue.contracts.schema import Table
from segue.flows.plan import windows
from segue.flows.registry import Step
from segue.flows.steps import BUILD
from segue.flows.task import Task, within

Reads = Callable[[Table, Days | None], ir.Table]


@dataclass(frozen=True)
class Definition:
    """A table's rows of some days, as an expression; and what it reads, with the days of each (None: the whole table)."""

    table: Table
    days: Days
    rows: ir.Table
    reads: Mapping[str, Days | None]


def definition(name: str, days: Days, steps: Sequence[Step] = BUILD) -> Definition:
    """The definition of a table that a step makes, for those days. Raises NotFound naming the nearest known table."""
    made = {table.name: (step, table) for step in steps for table in step.writes}
    if name not in made:
        near = get_close_matches(name, made, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(made)}"
        raise NotFound(f"no step makes a table {name!r}; {hint}", field="table", limit=", ".join(made))
    step, table = made[name]
    return Definition(table, days, expressions(step, days, unbound)[name], windows(step, days))


def expressions(step: Step, days: Days, read: Reads) -> dict[str, ir.Table]:
    """What a daily step writes of those days, by table, over inputs as `read` has them. Nothing is run."""
    sketch = _Sketch(days, windows(step, days), read)
    step.run(cast(Task, sketch))
    return sketch.written


def unbound(table: Table, days: Days | None = None) -> ir.Table:
    """A table that need not be there."""
    rows = ibis.table(ibis.schema(table.arrow), name=table.name)
    return rows if days is None else rows.filter(rows.day.between(days.first, days.last))


class _Sketch:
    """Stands for a `Task` where nothing is run or written."""

    def __init__(self, days: Days, windows: Mapping[str, Days | None], read: Reads) -> None:
        self.written: dict[str, ir.Table] = {}
        self._days = days
        self._windows = windows
        self._read = read

    def read(self, table: Table) -> ir.Table:
        return self._read(table, self._windows[table.name])

    def write(self, table: Table, rows: ir.Table) -> None:
        self.written[table.name] = within(table, rows, self._days)
