"""The ledger notices every landing, whatever the clocks say and whoever forgot to tell it."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_flow import D, DuckDBDelta, raw_events, settings

from segue.contracts.ports import Days
from segue.contracts.tables import RAW_EVENTS, RUNS
from segue.flows.ledger import Ledger, Written


@pytest.fixture
def engine(tmp_path: Path) -> DuckDBDelta:
    return DuckDBDelta(tmp_path, settings().warehouse)


def test_the_newest_entry_of_a_day_counts(engine: DuckDBDelta) -> None:
    ledger = Ledger(engine)
    ledger.record(
        "events", [Written("events", D[0], 5, "old"), Written("events", D[1], 6, "old")], started_at=1
    )
    ledger.record("events", [Written("events", D[0], 7, "new")], started_at=2, seconds=0.5, read_rows=9)
    entries = ledger.entries()
    first = entries["events", D[0]]
    assert (first.rows, first.fingerprint, first.runs) == (7, "new", 2)
    assert entries["events", D[1]].rows == 6


def test_a_run_entered_with_a_clock_that_goes_wrong_still_changes_the_version(engine: DuckDBDelta) -> None:
    ledger = Ledger(engine)
    ledger.record("land", [Written("raw_events", D[0], 1, "")], started_at=1_000)
    before = ledger.entries()["raw_events", D[0]].version
    ledger.record("land", [Written("raw_events", D[0], 2, "")], started_at=10)
    assert ledger.entries()["raw_events", D[0]].version != before


def test_entries_brought_up_to_date_are_those_read_again(engine: DuckDBDelta) -> None:
    ledger = Ledger(engine)
    entries = ledger.entries()
    for n in range(3):
        ledger.record("events", [Written("events", D[n % 2], n, str(n))], entries=entries, started_at=n)
    assert entries == ledger.entries()


def test_a_landing_is_entered_with_what_its_days_hold(engine: DuckDBDelta) -> None:
    ledger = Ledger(engine)
    for seed in (1, 2):
        engine.append(RAW_EVENTS, raw_events([0], seed=seed, per_day=10))
        ledger.record_landing(RAW_EVENTS, {D[0]: 10})
    entry = ledger.entries()["raw_events", D[0]]
    assert (entry.rows, entry.runs) == (20, 2)
    ledger.record_landing(RAW_EVENTS, {})
    assert engine.collect(engine.read(RUNS)).num_rows == 2


def test_reconcile_enters_what_was_not_recorded_and_nothing_twice(engine: DuckDBDelta) -> None:
    ledger = Ledger(engine)
    engine.append(RAW_EVENTS, raw_events([0, 1], per_day=10))
    entries = ledger.reconcile([RAW_EVENTS])
    assert {key: entry.rows for key, entry in entries.items()} == {
        ("raw_events", D[0]): 10,
        ("raw_events", D[1]): 10,
    }
    assert ledger.reconcile([RAW_EVENTS]) == entries
    engine.overwrite(RAW_EVENTS, raw_events([]), Days(D[1], D[1]))
    assert ledger.reconcile([RAW_EVENTS])["raw_events", D[1]].rows == 0
    assert ledger.reconcile([RAW_EVENTS])["raw_events", D[1]].runs == 2
