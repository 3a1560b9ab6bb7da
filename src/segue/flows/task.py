"""What a step is given when it runs: the days to build, its tables, and a way to write them that nobody can misuse."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Protocol

import ibis.expr.types as ir

from segue.bundle import BundleStore
from segue.contracts.ports import Days, Engine, Factorizer
from segue.contracts.schema import Table
from segue.flows.verdicts import Comparison
from segue.listener.states import ListenerStates
from segue.settings.tree import Settings
from segue.warehouse import incidents, watch
from segue.warehouse.contract import check
from segue.warehouse.findings import Finding
from segue.warehouse.measured import keep
from segue.warehouse.usual import Counts

WHOLE = date(1970, 1, 1)
"""The day under which the ledger keeps what has no days."""


class Stores(Protocol):
    """Where a step writes what is no table, and what it computes elsewhere. Opened on first use."""

    @property
    def bundles(self) -> BundleStore:
        """Models."""

    @property
    def state(self) -> ListenerStates:
        """Listener state."""

    def evidence(self, challenger: str, rungs: Sequence[str], say: Callable[[str], None]) -> list[Comparison]:
        """What rungs of evidence say of a bundle against the champion."""

    @property
    def factorizer(self) -> Factorizer | None:
        """What fits iALS; None for this process."""


def quiet(_step: str, _what: str) -> None:
    """Says nothing."""


@dataclass(frozen=True)
class Task:
    """One run of a step.

    `days` is the range to build; for a step without days, the range of its inputs. `windows` holds, per daily table the
    step declared, the days it may read (None for a table without days); `builds` the single days of the range, where some
    have nothing to build. `stores` is where things go that are no tables. `as_of`, where given, is the last day of the run, and
    says that it is over; `newest` is the last day there is of what drives the step, whose name is `step`. `written` and `scanned`
    tell afterwards what was written, in rows per day, and what was read for it, in bytes, by table written.
    """

    engine: Engine
    settings: Settings
    stores: Stores
    days: Days
    windows: Mapping[str, Days | None]
    builds: frozenset[date] | None = None
    say: Callable[[str], None] = lambda what: None
    step: str = ""
    as_of: date | None = None
    newest: date = date.max
    written: dict[str, dict[date, int]] = field(default_factory=dict)
    scanned: dict[str, int] = field(default_factory=dict)

    def read(self, table: Table) -> ir.Table:
        """The days of the table that the step declared. Raises KeyError for a table it did not declare."""
        return self.engine.read(table, self.windows[table.name])

    def write(self, table: Table, rows: ir.Table) -> None:
        """Replace the task's days of the table by those of `rows` that fall on them; rows of other days are left out.

        Raises Breach, with nothing written, if they break the table's contract, or have lost what is usual.
        """
        asked = within(table, rows, self.days, self.builds)
        self.scanned[table.name] = self.engine.scan_bytes(asked)
        with self.engine.staged(asked) as held:
            check(self.engine, table, held)
            counts = watch.measure(self.engine, table, held, self.builds or frozenset(self.days), self.newest)
            if self.settings.warehouse.expect:
                self._compare(table, held, counts)
            self.written[table.name] = self.engine.overwrite(table, held, self.days if table.daily else None)
            keep(self.engine, table, counts)

    def wrote(self, output: Table, rows: int = 0) -> None:
        """Say that an output that is no table of the warehouse (models, a bundle) was made, and of how many rows."""
        self.written[output.name] = {WHOLE: rows}

    def _compare(self, table: Table, held: ir.Table, counts: Counts) -> None:
        """Hold the days against those before: say what is unusual, raise Breach for what was lost and nobody accepted."""
        found = watch.unusual(self.engine, table, counts, self.newest, self.as_of)
        lost = [finding for finding in found if finding.severity == "breach"]
        stopping = self._not_accepted(table, lost) if lost else []
        if stopping:
            raise watch.breach(self.engine, table, held, stopping)
        if found:
            more = f", and {len(found) - 1} more (`segue quality`)" if len(found) > 1 else ""
            self.say(f"{found[0].said}{more}")

    def _not_accepted(self, table: Table, lost: list[Finding]) -> list[Finding]:
        """What still stops the flow: not what follows from something accepted in a table that this one is made of."""
        accepted = incidents.accepted(self.engine)
        above = {
            (name, day): incident for (name, day, _), incident in accepted.items() if name in self.windows
        }
        left = [finding for finding in lost if (finding.table, finding.day, finding.part) not in accepted]
        follows: dict[str, list[Finding]] = {}
        for finding in left:
            causes = [above[name, finding.day] for name in self.windows if (name, finding.day) in above]
            if causes:
                follows.setdefault(causes[0], []).append(finding)
        for incident, excused in follows.items():
            incidents.excuse(self.engine, incident, self.step, excused, f"it follows from {incident}")
        return [finding for finding in left if not any(finding in excused for excused in follows.values())]


def within(table: Table, rows: ir.Table, days: Days, builds: frozenset[date] | None = None) -> ir.Table:
    """The rows that fall on those days, and of these on one to be built; all rows of a table without days."""
    if not table.daily:
        return rows
    kept = rows.filter(rows.day.between(days.first, days.last))
    if builds is not None and len(builds) < len(days):
        kept = kept.filter(kept.day.isin(sorted(builds)))
    return kept
