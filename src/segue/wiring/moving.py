"""A home whose warehouse is chosen anew, from files to BigQuery, brings along what came in before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec

from segue.contracts.tables import QUALITY, RAW_EVENTS, RUNS, TABLES
from segue.flows.compare import copy
from segue.wiring.home import Home

CAME_IN = [table for table in TABLES.values() if not table.derived and table not in (RUNS, QUALITY)]
"""Not the ledger and the counts of what was built: building writes them anew."""

MOVING = "moving"
"""Below the home while tables are copied: a copy that was broken off is made again, from its beginning."""


def in_files(home: Home) -> Home | None:
    """The same home over the tables that it has in files, where its warehouse is elsewhere; None where there are none."""
    if home.settings.warehouse.engine != "bigquery" or not (home.warehouse / RAW_EVENTS.name).exists():
        return None
    warehouse = msgspec.structs.replace(home.settings.warehouse, engine="duckdb")
    return replace(home, settings=msgspec.structs.replace(home.settings, warehouse=warehouse))


def bring(home: Home, say: Callable[[str], None]) -> None:
    """Copy what came in from outside, where the warehouse holds no events and files of this home do; under the home's lock.

    What was computed is not copied: the next run makes it. The files stay as they are. `say` is told the table.
    """
    left = in_files(home)
    mark = home.root / MOVING
    if left is None or not (mark.exists() or home.engine.days(RAW_EVENTS) is None):
        return
    mark.touch()
    for table in CAME_IN:
        rows = sum(left.engine.row_counts(table).values())
        if rows:
            say(f"{rows:>12,} rows of {table.name}, from {left.warehouse} to BigQuery")
        copy(table, left.engine, home.engine)
    left.engine.close()
    mark.unlink()
