"""The ledger: which run wrote which day of which table, from which inputs.

It is a table like any other (contracts.tables.RUNS) and only grows. A day's version is the count of its rows in the ledger
and the id of the last one; a step's day is up to date as long as the versions of its inputs are those it was built from.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

import pyarrow as pa

import segue
from segue.contracts.ids import new_id
from segue.contracts.ports import Engine
from segue.contracts.schema import Table
from segue.contracts.tables import RUNS

LANDING = "land"
"""The step's name in the ledger for rows that came from outside the flow."""
MAINTAIN = "maintain"
"""The step that drops days which are kept no longer."""
DROPPED = "dropped"
"""The fingerprint of such a day."""


@dataclass(frozen=True)
class Entry:
    """What the ledger says of one day of one table now.

    `dropped`: its rows are gone on purpose. Its version stays that of the rows that were there, so that nothing made from them is
    stale, and what lands on it afterwards counts for nothing.
    """

    runs: int
    run_id: bytes
    step: str
    fingerprint: str
    rows: int
    dropped: bool = False

    @property
    def version(self) -> str:
        """Changes with every write of the day."""
        return f"{self.runs}:{self.run_id.hex()}"


@dataclass(frozen=True)
class Written:
    """One row to be entered: a day of a table that a run wrote, and from which inputs (`plan.inputs`)."""

    table: str
    day: date
    rows: int
    fingerprint: str
    inputs: str | None = None


@dataclass(frozen=True)
class Circumstances:
    """Under which a step ran: its version, the settings it depends on (as JSON, None if there are none), the engine."""

    version: int | None = None
    settings: str | None = None
    engine: str | None = None


Entries = dict[tuple[str, date], Entry]
"""By table and day."""


class Ledger:
    """Reads and extends the ledger of one engine's tables."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def entries(self) -> Entries:
        """The newest entry of every day of every table."""
        runs = self._engine.read(RUNS).select(
            "table", "day", "run_id", "step", "fingerprint", "rows", "started_at"
        )
        found: Entries = {}
        for row in self._engine.collect(runs.order_by("started_at", "run_id")).to_pylist():
            key = (row["table"], row["day"])
            enter(found, key, row["run_id"], row["step"], row["fingerprint"], row["rows"])
        return found

    def record(
        self,
        step: str,
        written: Sequence[Written],
        *,
        entries: Entries | None = None,
        started_at: int,
        seconds: float = 0.0,
        read_rows: int | None = None,
        read_bytes: int | None = None,
        circumstances: Circumstances = Circumstances(),
    ) -> None:
        """Enter one run: what it wrote, when it started (UTC microseconds), how long it took, what it read.

        `entries`, where given, are those of before, and are brought up to date.
        """
        run_id = new_id()
        rows = [
            {
                "day": item.day,
                "run_id": run_id,
                "step": step,
                "table": item.table,
                "fingerprint": item.fingerprint,
                "rows": item.rows,
                "read_rows": read_rows,
                "started_at": started_at,
                "seconds": seconds,
                "code": segue.__version__,
                "read_bytes": read_bytes,
                "engine": circumstances.engine,
                "version": circumstances.version,
                "settings": circumstances.settings,
                "inputs": item.inputs,
            }
            for item in written
        ]
        if rows:
            self._engine.append(RUNS, pa.Table.from_pylist(rows, RUNS.arrow))
        if entries is not None:
            for item in written:
                enter(entries, (item.table, item.day), run_id, step, item.fingerprint, item.rows)

    def record_landing(self, table: Table, landed: Mapping[date, int]) -> None:
        """Enter that rows from outside were added to those days of a table: they, and what is built from them, are stale.

        To be called after the rows are committed. A landing that died before it could call is found by `reconcile`.
        """
        if landed:
            counts = self._engine.row_counts(table)
            self._land(table, {day: counts.get(day, 0) for day in landed})

    def record_dropped(self, table: Table, days: Iterable[date]) -> None:
        """Enter that the rows of those days are not kept any longer; to be called before they go."""
        written = [Written(table.name, day, 0, DROPPED) for day in days]
        self.record(MAINTAIN, written, started_at=time.time_ns() // 1000)

    def reconcile(self, tables: Iterable[Table]) -> Entries:
        """Enter what the ledger missed: days of those tables that hold another number of rows than it says.

        Returns the entries as they are then.
        """
        entries = self.entries()
        for table in tables:
            self._land(table, self.missed(table, entries), entries)
        return entries

    def missed(self, table: Table, entries: Entries) -> dict[date, int]:
        """The rows of each day that holds another number of them than the ledger says, of days that were not dropped."""
        counts = self._engine.row_counts(table)
        known = {day: entry for (name, day), entry in entries.items() if name == table.name}
        days = [
            day
            for day in sorted({*counts, *known})
            if day not in known or (not known[day].dropped and counts.get(day, 0) != known[day].rows)
        ]
        return {day: counts.get(day, 0) for day in days}

    def _land(self, table: Table, totals: Mapping[date, int], entries: Entries | None = None) -> None:
        written = [Written(table.name, day, rows, "") for day, rows in totals.items()]
        self.record(LANDING, written, entries=entries, started_at=time.time_ns() // 1000)


def enter(
    entries: Entries, key: tuple[str, date], run_id: bytes, step: str, fingerprint: str, rows: int
) -> None:
    """Bring entries up to date with one more write of a day; nothing is stored."""
    before = entries.get(key, Entry(0, run_id, step, fingerprint, 0))
    if fingerprint == DROPPED or (before.dropped and step == LANDING):
        entries[key] = replace(before, rows=0, dropped=True)
    else:
        entries[key] = Entry(before.runs + 1, run_id, step, fingerprint, rows)
