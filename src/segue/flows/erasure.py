"""Erase listeners: out of every table and file, out of listener state, and never to land again.

First they are entered in `erasures`, which every landing and import looks at; then their rows go, day by day, and the files that
held them; then what files of incidents show of them; then their state. Killed anywhere and begun again it ends the same. What was
computed from their rows together with those of others (counts, models) is stale now, and the next run makes it anew without them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from datetime import date, timedelta
from functools import reduce
from operator import or_
from pathlib import Path

import ibis.expr.types as ir

from segue.contracts.ports import Days, Engine
from segue.contracts.schema import Table
from segue.contracts.tables import ERASURES, REJECTS, TABLES
from segue.events.erasure import enter, naming
from segue.flows.ledger import Ledger
from segue.flows.task import WHOLE
from segue.listener.states import ListenerStates
from segue.warehouse.incidents import forget

Mine = Callable[[ir.Table], ir.BooleanValue]
"""Which rows of a table are theirs."""


def erase(
    engine: Engine,
    states: ListenerStates,
    home: Path,
    users: Collection[int],
    say: Callable[[str], None] = lambda what: None,
) -> dict[str, int]:
    """Erase those listeners; to be called under the home's lock. Returns the rows removed, by table, and from files of incidents.

    Whoever reads a table while its files go has to begin again. Raises Unavailable if listener state does not answer.
    """
    ids = sorted(set(users))
    enter(engine, ids, time.time_ns() // 1000)
    removed = {}
    for table in TABLES.values():
        mine = _mine(table, ids)
        if mine is not None:
            say(table.name)
            removed[table.name] = _remove(engine, table, mine)
            # Why always: a run that was killed may have left the files of rows that it removed.
            engine.vacuum(table, timedelta(0))
    say("incidents")
    removed["incidents"] = forget(home, ids)
    say("listener state")
    states.forget(ids)
    return removed


def _mine(table: Table, ids: list[int]) -> Mine | None:
    """None for a table that names no listener."""
    if table is REJECTS:
        # Rows as they came, in any form: whatever has one of the numbers in it.
        pattern = rf"(^|[^0-9])({'|'.join(map(str, ids))})([^0-9]|$)"
        return lambda rows: rows.content.re_search(pattern).fill_null(False)
    names = [] if table is ERASURES else naming(table)
    if not names:
        return None
    return lambda rows: reduce(or_, (rows[name].isin(ids).fill_null(False) for name in names))


def _remove(engine: Engine, table: Table, mine: Mine) -> int:
    rows = engine.read(table)
    theirs = rows.filter(mine(rows))
    if table.daily:
        found = engine.collect(theirs.group_by("day").aggregate(n=theirs.count())).to_pylist()
        counts: dict[date, int] = {row["day"]: row["n"] for row in found}
    else:
        n = engine.collect(theirs.aggregate(n=theirs.count()))["n"][0].as_py()
        counts = {WHOLE: n} if n else {}
    for day in sorted(counts):
        days = Days(day, day) if table.daily else None
        held = engine.read(table, days)
        engine.overwrite(table, held.filter(~mine(held)), days)
    if counts and not table.derived:
        Ledger(engine).record_landing(table, counts)
    return sum(counts.values())
