"""Tracks, artists, listeners and friendships merged by key: what is new is added, what is known is completed or updated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

import ibis
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segue.contracts.ports import Engine
from segue.contracts.schema import Table
from segue.events.columns import Mask, different, single

Positions: TypeAlias = npt.NDArray[np.int64]

DEFAULTS: Final[dict[str, bool]] = {
    "explicit": False,
    "public": True,
    "explicit_ok": True,
    "personalization_consent": True,
}
"""Required columns that a source need not have, and what a row that is new gets. A row that is known keeps its own."""


class Known(Enum):
    """What happens to a row whose key is there already."""

    FILL = "fill"
    """Only its nulls are filled: what an event says in passing never overrules what was stated."""
    UPDATE = "update"
    """What the source states wins; what it leaves out stays."""


@dataclass(frozen=True)
class Merged:
    """How many rows a merge added, changed, and found as they are."""

    added: int
    changed: int
    same: int

    def __add__(self, other: Merged) -> Merged:
        return Merged(self.added + other.added, self.changed + other.changed, self.same + other.same)

    @property
    def total(self) -> int:
        """All rows that were merged."""
        return self.added + self.changed + self.same


def merge(
    engine: Engine,
    table: Table,
    rows: pa.Table,
    known: Known,
    *,
    changing: Callable[[], None] = lambda: None,
) -> Merged:
    """Merge `rows` (columns of the contract; the first of several rows with one key counts) into `table`.

    New rows are appended; the table is rewritten only if a known row changes. `changing` is called before it is: that rows
    changed can be told from nothing else, as their number does not, so it must be known even if we die behind it.
    """
    keys = list(table.key)
    incoming = _first_of_each(rows, keys)
    if incoming.num_rows == 0:
        return Merged(0, 0, 0)
    held = engine.read(table)
    there = engine.collect(held.semi_join(ibis.memtable(incoming.select(keys)), keys))
    mine, theirs = _pair(incoming, there, keys)
    new = incoming.take(pa.array(np.setdiff1d(np.arange(incoming.num_rows), mine)))
    before = there.take(pa.array(theirs))
    after, differs = _combine(table, incoming.take(pa.array(mine)), before, known)
    changed = after.filter(pa.array(differs))
    if changed.num_rows:
        changing()
        rest = held.anti_join(ibis.memtable(changed.select(keys)), keys)
        # Ibis unites tables of the same types only, and one that may be null is another type: leave that to the engine.
        nullable = pa.table(changed.columns, names=list(table.names))
        engine.overwrite(table, rest.select(*table.names).union(ibis.memtable(nullable), distinct=False))
    if new.num_rows:
        engine.append(table, _complete(table, new))
    return Merged(new.num_rows, changed.num_rows, len(mine) - changed.num_rows)


def _first_of_each(rows: pa.Table, keys: list[str]) -> pa.Table:
    numbered = rows.select(keys).append_column("#at", pa.array(np.arange(rows.num_rows)))
    first = numbered.group_by(keys, use_threads=False).aggregate([("#at", "min")])["#at_min"]
    return rows if len(first) == rows.num_rows else rows.take(pa.array(np.sort(np.asarray(first, np.int64))))


def _pair(left: pa.Table, right: pa.Table, keys: list[str]) -> tuple[Positions, Positions]:
    """Row numbers (left, right) of equal keys, in the left's order."""
    numbered = left.select(keys).append_column("#l", pa.array(np.arange(left.num_rows)))
    other = right.select(keys).append_column("#r", pa.array(np.arange(right.num_rows)))
    both = numbered.join(other, keys, join_type="inner").sort_by("#l")
    return np.asarray(both["#l"], np.int64), np.asarray(both["#r"], np.int64)


def _combine(table: Table, rows: pa.Table, before: pa.Table, known: Known) -> tuple[pa.Table, Mask]:
    """Known rows after the merge, and which of them differ from before."""
    columns, differs = [], np.zeros(before.num_rows, np.bool_)
    for column in table.columns:
        old = single(before[column.name]).cast(column.type)
        if column.name in rows.column_names and column.name not in table.key:
            stated = single(rows[column.name])
            new = pc.coalesce(stated, old) if known is Known.UPDATE else pc.coalesce(old, stated)
            differs |= different(old, new)
            old = new
        columns.append(old)
    return pa.table(columns, schema=table.arrow), differs


def _complete(table: Table, rows: pa.Table) -> pa.Table:
    """All columns of the contract: absent ones are null, or the default where null is not allowed."""
    columns = []
    for column in table.columns:
        if column.name in rows.column_names:
            columns.append(single(rows[column.name]).cast(column.type))
        else:
            fill = DEFAULTS.get(column.name) if not column.nullable else None
            columns.append(pa.array([fill] * rows.num_rows, column.type))
    return pa.table(columns, schema=table.arrow)
