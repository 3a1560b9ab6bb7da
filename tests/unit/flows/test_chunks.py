"""How stale days are grouped into chunks."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from made_flow import settings

from segue.contracts.ids import new_id
from segue.contracts.tables import CO_LISTENS, LISTENS
from segue.flows.ledger import LANDING, Entries, enter
from segue.flows.plan import Scope, plan
from segue.flows.registry import Read, step
from segue.flows.task import Task


@pytest.mark.parametrize(
    ("before", "after", "days"),
    [(0, 0, [2] * 15), (1, 0, [2] * 15), (2, 1, [3] * 10), (4, -1, [4] * 7 + [2]), (13, 0, [13, 13, 4])],
)
def test_a_chunk_has_as_many_days_as_its_step_reads_around_one_however_large(
    before: int, after: int, days: list[int]
) -> None:
    @step(reads=[Read(LISTENS, before=before, after=after)], writes=[CO_LISTENS], name="some")
    def some(task: Task) -> None:
        """Nothing."""

    entries: Entries = {}
    for n in range(30):
        enter(entries, (LISTENS.name, date(2026, 3, 1) + timedelta(days=n)), new_id(), LANDING, "", 1_000)
    chunks = plan(some, entries, Scope(), settings(chunk_rows=2_000))
    assert [len(chunk.fingerprints) for chunk in chunks] == days
    assert [chunk.read_rows for chunk in chunks] == [1_000 * n for n in days]
