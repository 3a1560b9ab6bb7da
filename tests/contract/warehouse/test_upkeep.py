"""Upkeep on every engine: the days that go, go; the others are as they were; what an engine does by itself is said."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from real_engines import ENGINES, OF_SPARK, EngineOf
from segue.contracts.ports import Days
from segue.contracts.tables import RAW_EVENTS
from segue.contracts.vocabulary import DAY
from segue.flows.ledger import Ledger
from segue.flows.maintenance import maintain
from segue.settings.tree import KeepDays, Settings, Warehouse

FIRST = date(2026, 3, 1)
D = [FIRST + timedelta(days=n) for n in range(40)]
GAPS = {"bigquery": "BigQuery merges and deletes files by itself"}
"""Engines whose files are none of ours."""


def _events(day: date) -> pa.Table:
    ts = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000 + DAY // 2
    known = {
        "day": day,
        "event_id": ts.to_bytes(16),
        "ts": ts,
        "received_at": ts,
        "user_id": 1,
        "type": "play",
    }
    return pa.Table.from_pylist(
        [dict.fromkeys(RAW_EVENTS.names) | known | {"track_id": 1}], schema=RAW_EVENTS.arrow
    )


@OF_SPARK
@pytest.mark.parametrize("kind", ENGINES)
def test_days_that_are_kept_no_longer_go_and_the_others_stay(kind: str, engine_of: EngineOf) -> None:
    warehouse = Warehouse(keep_days=KeepDays(raw=35))
    engine, said = engine_of(kind, warehouse), list[str]()
    for day in (D[0], D[1], D[5], D[39]):
        engine.overwrite(RAW_EVENTS, _events(day), Days(day, day))
    kept = engine.read(RAW_EVENTS, Days(D[5], D[5])).union(engine.read(RAW_EVENTS, Days(D[39], D[39])))
    before = engine.collect(kept.order_by("ts"))
    assert maintain(engine, Settings(warehouse=warehouse), say=said.append) == 2
    assert engine.row_counts(RAW_EVENTS) == {D[5]: 1, D[39]: 1}
    assert engine.collect(engine.read(RAW_EVENTS).order_by("ts")) == before
    assert said == ["raw_events: 2 rows from before 2026-03-06 dropped, 0 files merged, 0 deleted"]
    ledger = Ledger(engine)
    assert {day for (name, day), entry in ledger.entries().items() if entry.dropped} == {D[0], D[1]}
    assert ledger.missed(RAW_EVENTS, ledger.entries()) == {D[5]: 1, D[39]: 1}, "which nobody had entered"
    assert maintain(engine, Settings(warehouse=warehouse)) == 0
    deleted = engine.vacuum(RAW_EVENTS, timedelta(0))
    assert deleted == (0 if kind in GAPS else 2)
    assert engine.collect(engine.read(RAW_EVENTS).order_by("ts")) == before
