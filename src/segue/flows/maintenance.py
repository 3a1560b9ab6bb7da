"""Look after the tables: drop the days that are kept no longer, merge small files, delete files that no reader needs.

A day is entered in the ledger as dropped before its rows go. From then on nobody takes it for missing: what was made from it
stays as it is, and it is not built again. Killed anywhere and begun again this ends the same.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

from segue.contracts.errors import InvalidSettings
from segue.contracts.ports import Days, Engine
from segue.contracts.schema import Table
from segue.contracts.tables import RAW_EVENTS, TABLES
from segue.flows.ledger import Ledger
from segue.settings.tree import Settings

LOOKED_BACK = 2
"""Days that may still come in are read together with one before them; that one has to be there as well."""


def maintain(
    engine: Engine,
    settings: Settings,
    as_of: date | None = None,
    say: Callable[[str], None] = lambda what: None,
) -> int:
    """Look after every table; to be called under the home's lock. Returns the rows dropped.

    Days are counted back from the last day of raw events: so nothing of a history that was imported years later is too old. A day
    that lies in the future does not count, nor one behind `as_of`. Raises InvalidSettings, with nothing dropped, for days that
    are still needed.
    """
    check_keep_days(settings)
    dropped = 0
    for table in TABLES.values():
        before = _horizon(engine, table, settings, as_of)
        rows = _drop(engine, table, before) if before is not None else 0
        merged = engine.compact(table)
        deleted = engine.vacuum(table, timedelta(hours=settings.warehouse.vacuum_hours))
        if rows or merged or deleted:
            gone = f"{rows:,} rows from before {before} dropped, " if rows else ""
            say(f"{table.name}: {gone}{merged:,} files merged, {deleted:,} deleted")
        dropped += rows
    return dropped


def check_keep_days(settings: Settings) -> None:
    """Raise InvalidSettings where days would be dropped that may still change, or that training learns from."""
    keep, age, history = (
        settings.warehouse.keep_days,
        settings.serving.max_event_age_days + LOOKED_BACK,
        settings.training.history_days,
    )
    if 0 < keep.raw < age:
        raise InvalidSettings(
            f"warehouse.keep_days.raw is {keep.raw}: events may come {settings.serving.max_event_age_days} days late "
            f"(serving.max_event_age_days), and their days are built again from raw events; keep at least {age} days",
            field="warehouse.keep_days.raw",
            limit=f">= {age}, or 0 for ever",
        )
    if 0 < keep.derived < history:
        raise InvalidSettings(
            f"warehouse.keep_days.derived is {keep.derived}: training learns from {history} days (training.history_days); "
            f"keep at least as many, or lower that",
            field="warehouse.keep_days.derived",
            limit=f">= {history}, or 0 for ever",
        )


def _horizon(engine: Engine, table: Table, settings: Settings, as_of: date | None) -> date | None:
    """The first day of the table that is kept; None where all are."""
    keep = settings.warehouse.keep_days
    kept = keep.derived if table.derived else keep.raw
    there = engine.days(RAW_EVENTS) if table.daily and kept else None
    if there is None:
        return None
    last = min(there.last, as_of or there.last, datetime.now(UTC).date())
    return last - timedelta(days=kept - 1)


def _drop(engine: Engine, table: Table, before: date) -> int:
    old = {day: rows for day, rows in engine.row_counts(table).items() if day < before}
    if old:
        Ledger(engine).record_dropped(table, old)
        engine.overwrite(table, table.arrow.empty_table(), Days(min(old), max(old)))
    return sum(old.values())
