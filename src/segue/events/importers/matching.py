"""Whether an import names its tracks and listeners as the rest of the home does.

Ids of text are made from the text. Two tables that write the same track in different ways, one its number and the other its
artist and title, import without a single reject, and share nothing: a catalogue without plays beside plays without a
catalogue. That can be seen only when both are there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from segue.contracts.ports import Engine
from segue.contracts.schema import Table
from segue.contracts.tables import LISTENERS, RAW_EVENTS, TRACKS
from segue.events.idset import Ids

ALIKE: Final = 0.01
"""A smaller share of ids in common than this is a mistake rather than a catalogue larger than its audience."""
MATCHED: Final = (TRACKS, LISTENERS)


def stated_alone(engine: Engine, table: Table, ids: Ids) -> str | None:
    """What to say about a table of tracks or listeners, of which (nearly) none of `ids` occurs in an event; else None."""
    key = table.key[0]
    events = engine.read(RAW_EVENTS)
    mine = ibis.memtable(pa.table({key: ids}))
    used = _count(engine, mine.semi_join(events, key))
    if len(ids) == 0 or used >= ALIKE * len(ids) or engine.days(RAW_EVENTS) is None:
        return None
    here = _example(engine, table, lambda rows: rows.semi_join(mine, key))
    there = _example(engine, table, lambda rows: rows.semi_join(events, key))
    return (
        f"{used:,} of these {len(ids):,} {table.name} occur in the events that are here: the two are named in different ways. "
        f"Here {here}, in the events {there}: map `{key}` the same way for every table of one system, under one `source`"
    )


def played_alone(engine: Engine, table: Table, known: int, ids: int) -> str | None:
    """What to say about events, of whose `ids` tracks or listeners (nearly) none was `known` before, although others were."""
    key = table.key[0]
    events = engine.read(RAW_EVENTS)
    if ids == 0 or known >= ALIKE * ids:
        return None
    unused = _count(engine, engine.read(table).anti_join(events, key))
    if unused < ids * ALIKE or unused < 2:
        return None
    here = _example(engine, table, lambda rows: rows.semi_join(events, key))
    there = _example(engine, table, lambda rows: rows.anti_join(events, key))
    return (
        f"{known:,} of the {ids:,} {table.name} in these events were known, while {unused:,} known {table.name} occur in no "
        f"event: the two are named in different ways. Here {here}, there {there}: map `{key}` the same way for every table of "
        "one system, under one `source`"
    )


def _count(engine: Engine, rows: ir.Table) -> int:
    return int(engine.collect(rows.aggregate(n=rows.count()))["n"][0].as_py())


def _example(engine: Engine, table: Table, chosen: Callable[[ir.Table], ir.Table]) -> str:
    """One row as its source writes it."""
    rows: list[dict[str, Any]] = engine.collect(
        chosen(engine.read(table)).select(table.key[0], "external_id").limit(1)
    ).to_pylist()
    if not rows:
        return "nothing"
    outside = rows[0]["external_id"]
    return str(rows[0][table.key[0]]) if outside is None else repr(outside.replace("\x1f", " + "))
