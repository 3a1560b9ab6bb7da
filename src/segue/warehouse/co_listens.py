"""Pairs of tracks heard close together in a session.

A pair counts 1/distance, up to five plays apart. The sum is kept in sixtieths (60 is divisible by 1..5) as an integer
until the end: added up in any order, on any engine, it is the same number.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from segue.contracts.tables import CO_LISTENS

REACH = 5
"""Plays apart at which two tracks still count as heard together."""
UNITS = 60
"""Least common multiple of the distances: weights are whole in 1/UNITS."""


def co_listens(listens: ir.Table) -> ir.Table:
    """CO_LISTENS from LISTENS. A pair stands in the day of its later play; a day needs the day before it as well."""
    after = ibis.window(group_by=["user_id", "session_start"], order_by=[listens.ts, listens.track_id])
    rows = listens.select(
        "track_id",
        **{f"other_{k}": listens.track_id.lead(k).over(after) for k in range(1, REACH + 1)},
        **{f"day_{k}": listens.day.lead(k).over(after) for k in range(1, REACH + 1)},
    )
    pairs = ibis.union(*(_at_distance(rows, k) for k in range(1, REACH + 1)))
    once = pairs.group_by("day", "low", "high").aggregate(
        units=pairs.units.sum().cast("int64"), pairs=pairs.count().cast("int64")
    )
    both = ibis.union(_directed(once, "low", "high"), _directed(once, "high", "low"))
    return both.select(*CO_LISTENS.names)


def _at_distance(rows: ir.Table, k: int) -> ir.Table:
    other = rows[f"other_{k}"]
    return rows.filter(other.notnull() & (other != rows.track_id)).select(
        day=rows[f"day_{k}"],
        low=ibis.least(rows.track_id, other),
        high=ibis.greatest(rows.track_id, other),
        units=ibis.literal(UNITS // k, "int64"),
    )


def _directed(once: ir.Table, track: str, other: str) -> ir.Table:
    return once.select(
        "day",
        "pairs",
        track_id=once[track],
        other_id=once[other],
        weight=once.units.cast("float64") / UNITS,
    )
