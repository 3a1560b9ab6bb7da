"""What BigQuery's engine leaves behind and asks for, besides what every engine promises."""

from __future__ import annotations

from datetime import date
from typing import Any, cast

import ibis
import pyarrow as pa
import pytest

from real_engines import EngineOf
from segue.contracts.errors import InvalidData
from segue.contracts.ports import Days
from segue.contracts.tables import LISTENS
from segue.settings.tree import Warehouse

DAY = Days(date(2026, 5, 1), date(2026, 5, 1))


@pytest.fixture
def engine(engine_of: EngineOf) -> Any:
    return cast(Any, engine_of("bigquery", Warehouse()))


def listens(*tracks: int | None, day: date = DAY.first) -> pa.Table:
    blank = dict.fromkeys(LISTENS.names) | {"day": day, "ts": 1, "user_id": 2, "session_start": 1}
    return pa.Table.from_pylist([blank | {"track_id": track} for track in tracks], LISTENS.arrow)


def tables(engine: Any) -> set[str]:
    return {table.table_id for table in engine._jobs._client.list_tables(engine._dataset)}


def statements(engine: Any) -> set[str]:
    """The latest statements, by name."""
    return {job.job_id for job in engine._jobs._client.list_jobs()}


def test_a_table_is_partitioned_by_day(engine: Any) -> None:
    engine.append(LISTENS, listens(1))
    made = engine._jobs._client.get_table(engine._jobs.table("listens"))
    assert (made.time_partitioning.type_, made.time_partitioning.field) == ("DAY", "day")
    # The emulator forgets clustering; tests/unit/wiring/test_bigquery_sql.py looks at the statement.


def test_nothing_that_was_staged_is_left_behind(engine: Any) -> None:
    engine.append(LISTENS, listens(1), marker=("source", 1))
    engine.overwrite(LISTENS, ibis.memtable(listens(1, 2)), DAY)
    for rows in (listens(1, None), ibis.memtable(listens(1, day=date(2026, 5, 9)))):
        with pytest.raises(InvalidData):
            engine.overwrite(LISTENS, rows, DAY)
    wanted = ibis.memtable(pa.table({"track_id": [2]}))
    assert engine.collect(engine.read(LISTENS).semi_join(wanted, "track_id")).num_rows == 1
    assert tables(engine) == {"listens", "_markers"}


def test_rows_are_read_where_they_lie_without_a_statement(engine: Any) -> None:
    engine.append(LISTENS, listens(*range(50_000)))
    rows = engine.read(LISTENS, DAY).select("track_id", "day")
    before = statements(engine)
    assert engine.collect(rows).column_names == ["track_id", "day"]
    assert sorted(engine.collect(rows)["track_id"].to_pylist()) == list(range(50_000))
    assert engine.collect(engine.read(LISTENS, Days(date(2026, 5, 2), date(2026, 5, 9)))).num_rows == 0
    assert statements(engine) <= before
    assert engine.collect(rows.order_by("track_id").limit(2))["track_id"].to_pylist() == [0, 1]
    assert len(statements(engine) - before) == 1


def test_a_dry_run_runs_nothing(engine: Any) -> None:
    engine.append(LISTENS, listens(1))
    # The emulator says 0 bytes of everything.
    assert engine.scan_bytes(engine.read(LISTENS)) >= 0
    assert engine.collect(engine.read(LISTENS)).num_rows == 1
