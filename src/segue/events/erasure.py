"""Listeners who are erased: who they are, so that nothing of theirs comes in again."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from segue.contracts.ports import Engine
from segue.contracts.schema import Table
from segue.contracts.tables import ERASURES

ERASED: Final = "erased"
"""What landings and imports count such rows under. They are kept nowhere, among the rejects neither."""


def naming(table: Table) -> list[str]:
    """The columns of a table that name a listener."""
    return [column.name for column in table.columns if column.references == "listeners"]


def enter(engine: Engine, users: list[int], now: int) -> int:
    """Enter the listeners as erased from now on (UTC microseconds). Returns how many were not yet."""
    new = np.setdiff1d(np.array(users, np.int64), _erased(engine).to_numpy())
    rows = {"user_id": pa.array(new), "at": pa.array(np.full(len(new), now), pa.int64())}
    if len(new):
        engine.append(ERASURES, pa.table(rows, schema=ERASURES.arrow))
    return len(new)


def without_erased(engine: Engine, table: Table, rows: pa.Table) -> pa.Table:
    """The rows, in loose columns of that table, that name nobody who is erased."""
    names = [name for name in naming(table) if name in rows.column_names]
    if not names or rows.num_rows == 0:
        return rows
    erased = _erased(engine)
    for name in names if len(erased) else ():
        rows = rows.filter(pc.invert(pc.is_in(rows[name], value_set=erased)))
    return rows


def _erased(engine: Engine) -> pa.Array:
    return engine.collect(engine.read(ERASURES).select("user_id"))["user_id"].combine_chunks()
