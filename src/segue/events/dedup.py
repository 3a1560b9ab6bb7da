"""Each event once: within a batch, and against what the days it touches already hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, cast

import ibis
import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segue.contracts.ports import Days, Engine
from segue.contracts.schema import Table
from segue.contracts.tables import EARLIEST, LATEST
from segue.contracts.vocabulary import SECOND
from segue.events.columns import different, single

_EPOCH: Final = date(1970, 1, 1).toordinal()


@dataclass(frozen=True)
class Once:
    """Rows, each told once. `repeated` counts what was told again; `conflicts` are rows whose key was another row's before."""

    rows: pa.Table
    repeated: int
    conflicts: pa.Table


def first_of_each(rows: pa.Table, key: str) -> pa.Table:
    """The first row of each value of the binary(16) column `key`, in the order given."""
    first = _first(rows, key)
    at = np.arange(rows.num_rows)
    return rows if (first == at).all() else rows.take(pa.array(at[first == at]))


def once_each(rows: pa.Table, key: str, content: Sequence[str]) -> Once:
    """The first row of each value of `key`. Others with equal `content` columns are repeated, the rest are conflicts."""
    first = _first(rows, key)
    later = np.flatnonzero(first != np.arange(rows.num_rows))
    if len(later) == 0:
        return Once(rows, 0, rows.slice(0, 0))
    mine, theirs = rows.take(pa.array(later)), rows.take(pa.array(first[later]))
    differs = np.zeros(len(later), np.bool_)
    for name in content:
        differs |= different(single(mine[name]), single(theirs[name]))
    conflicts = mine.filter(pa.array(differs))
    return Once(first_of_each(rows, key), len(later) - conflicts.num_rows, conflicts)


def _first(rows: pa.Table, key: str) -> npt.NDArray[np.int64]:
    """Of each row, the number of the first row with the same key."""
    fixed = single(rows[key]).cast(pa.binary(16))
    n = len(fixed)
    if n == 0:
        return np.empty(0, np.int64)
    halves = (
        np.frombuffer(fixed.buffers()[1], ">u8")
        .reshape(-1, 2)[fixed.offset : fixed.offset + n]
        .astype(np.uint64)
    )
    order = np.lexsort((np.arange(n), halves[:, 1], halves[:, 0]))
    ordered = halves[order]
    begins = np.append(True, (ordered[1:] != ordered[:-1]).any(axis=1))
    first = np.empty(n, np.int64)
    first[order] = order[begins][np.cumsum(begins) - 1]
    return first


def once_there(engine: Engine, table: Table, rows: pa.Table, key: str, content: Sequence[str]) -> Once:
    """The rows whose `key` the table does not have yet (see `not_yet_there`); the others told apart as in `once_each`."""
    fresh = not_yet_there(engine, table, rows, key)
    if fresh.num_rows == rows.num_rows:
        return Once(rows, 0, rows.slice(0, 0))
    known = rows.filter(pc.invert(pc.is_in(rows[key], value_set=single(fresh[key]))))
    met = _near(engine, table, known, key).inner_join(ibis.memtable(known.select([key, *content])), key)
    alike = met.filter(*(met[name].identical_to(met[f"{name}_right"]) for name in content))
    repeated = single(engine.collect(alike.select(key).distinct())[key])
    conflicts = known.filter(pc.invert(pc.is_in(known[key], value_set=repeated)))
    return Once(fresh, known.num_rows - conflicts.num_rows, conflicts)


def not_yet_there(engine: Engine, table: Table, rows: pa.Table, key: str) -> pa.Table:
    """The rows whose `key` (a UUIDv7) no row has yet, of the same days or of the day that the key itself names.

    The engine joins the batch's keys with that one column of those days; only the keys found come back, so memory is
    bounded by the batch however full the days are.
    """
    if rows.num_rows == 0:
        return rows
    held = _near(engine, table, rows, key)
    known = engine.collect(held.semi_join(ibis.memtable(rows.select([key])), key).select(key))[key]
    if len(known) == 0:
        return rows
    return rows.filter(pc.invert(pc.is_in(rows[key], value_set=known)))


def _near(engine: Engine, table: Table, rows: pa.Table, key: str) -> ir.Table:
    """The days of the table on which rows with such keys may be.

    Two rows of one key may say different times. The key was made when the first of them happened: its day is looked at, too.
    """
    days = sorted({*cast(list[date], pc.unique(rows["day"]).to_pylist()), *_days_of_ids(rows[key])})
    held = engine.read(table, Days(days[0], days[-1]))
    return held.filter(held.day.isin(days))


def _days_of_ids(ids: pa.ChunkedArray) -> set[date]:
    raw = np.frombuffer(b"".join(single(ids).to_pylist()), np.uint8).reshape(-1, 16)
    made = raw[raw[:, 6] >> 4 == 7]  # the version
    seconds = made[:, :6].astype(np.int64) @ (1 << np.arange(40, -1, -8)) // 1_000
    sane = seconds[(seconds * SECOND >= EARLIEST) & (seconds * SECOND <= LATEST)]
    return {date.fromordinal(_EPOCH + int(day)) for day in np.unique(sane // 86_400)}


def rows_by_day(rows: pa.Table) -> dict[date, int]:
    """How many rows each day has."""
    counts = pc.value_counts(single(rows["day"])).to_pylist()
    return {cast(date, c["values"]): int(c["counts"]) for c in counts}
