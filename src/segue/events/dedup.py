"""Each event once: within a batch, and against what the days it touches already hold."""

from __future__ import annotations

from datetime import date
from typing import cast

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from segue.contracts.ports import Days, Engine
from segue.contracts.schema import Table
from segue.events.columns import single


def first_of_each(rows: pa.Table, key: str) -> pa.Table:
    """The first row of each value of the binary(16) column `key`, in the order given."""
    fixed = single(rows[key]).cast(pa.binary(16))
    n = len(fixed)
    if n == 0:
        return rows
    halves = (
        np.frombuffer(fixed.buffers()[1], ">u8")
        .reshape(-1, 2)[fixed.offset : fixed.offset + n]
        .astype(np.uint64)
    )
    order = np.lexsort((np.arange(n), halves[:, 1], halves[:, 0]))
    ordered = halves[order]
    first = np.append(True, (ordered[1:] != ordered[:-1]).any(axis=1))
    return rows if first.all() else rows.take(pa.array(np.sort(order[first])))


def not_yet_there(engine: Engine, table: Table, rows: pa.Table, key: str) -> pa.Table:
    """The rows whose `key` no row of the same days has yet.

    The engine joins the batch's keys with that one column of those days; only the keys found come back, so memory is
    bounded by the batch however full the days are.
    """
    if rows.num_rows == 0:
        return rows
    days = sorted(cast(list[date], pc.unique(rows["day"]).to_pylist()))
    held = engine.read(table, Days(days[0], days[-1]))
    held = held.filter(held.day.isin(days))
    keys = ibis.memtable(rows.select([key]))
    known = engine.collect(held.semi_join(keys, key).select(key))[key]
    if len(known) == 0:
        return rows
    return rows.filter(pc.invert(pc.is_in(rows[key], value_set=known)))


def rows_by_day(rows: pa.Table) -> dict[date, int]:
    """How many rows each day has."""
    counts = pc.value_counts(single(rows["day"])).to_pylist()
    return {cast(date, c["values"]): int(c["counts"]) for c in counts}
