"""Each rule of a table is found broken, by name and with the rows that break it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import ibis
import pyarrow as pa
import pytest

from segue.adapters.engines.duckdb import DuckDBDelta
from segue.contracts.errors import ContractBroken
from segue.contracts.schema import Column, Table
from segue.contracts.vocabulary import DAY, HOUR
from segue.settings.tree import Warehouse
from segue.warehouse.contract import check, check_fresh
from segue.warehouse.usual import MIN_ROWS

TABLE = Table(
    "things",
    "One column for each rule.",
    (
        Column("day", pa.date32(), ""),
        Column("id", pa.binary(), ""),
        Column("size", pa.int64(), "", ge=0, le=10),
        Column("kind", pa.string(), "", nullable=True, one_of=("a", "b")),
        Column("name", pa.string(), "", nullable=True, max_bytes=3),
        Column("share", pa.float64(), "", nullable=True),
    ),
    key=("id",),
)
GOOD = {"day": date(2026, 1, 1), "id": b"\x01", "size": 10, "kind": "a", "name": "abc", "share": 0.5}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckDBDelta]:
    made = DuckDBDelta(tmp_path_factory.mktemp("tables"), Warehouse(memory_mb=256, threads=1))
    yield made
    made.close()


def rows(*changed: dict[str, object]) -> ibis.Table:
    listed = [GOOD | {"id": bytes([n])} | row for n, row in enumerate(changed)]
    free = pa.schema([field.with_nullable(True) for field in TABLE.arrow])
    return ibis.memtable(pa.Table.from_pylist(listed, free))


def test_rows_that_keep_the_contract_pass(engine: DuckDBDelta) -> None:
    check(engine, TABLE, rows({"name": "éa"}))
    blank = {"kind": None, "name": None, "share": None}
    other_day = {"day": date(2026, 1, 2), "id": b"\x00"}
    check(engine, TABLE, rows({}, {"size": 0}, blank, other_day))
    check(engine, TABLE, rows())


@pytest.mark.parametrize(
    ("broken", "field", "rule"),
    [
        ({"size": None}, "things.size", "size is not null"),
        ({"size": -1}, "things.size", "size >= 0"),
        ({"size": 11}, "things.size", "size <= 10"),
        ({"kind": "c"}, "things.kind", "kind is one of a, b"),
        ({"name": "abcd"}, "things.name", "name has at most 3 bytes of UTF-8"),
        ({"name": "éé"}, "things.name", "name has at most 3 bytes of UTF-8"),
        ({"share": float("nan")}, "things.share", "share is a number"),
        ({"day": None}, "things.day", "day is not null"),
    ],
)
def test_a_broken_rule_is_named_with_its_row(
    engine: DuckDBDelta, broken: dict[str, object], field: str, rule: str
) -> None:
    with pytest.raises(ContractBroken) as raised:
        check(engine, TABLE, rows({}, broken | {"id": b"\xab\xcd"}, {}))
    assert f"of 3 rows 1 rows break `{rule}`" in raised.value.message
    assert "id: abcd" in raised.value.message
    assert raised.value.field == field


def test_a_repeated_key_is_found_within_a_day(engine: DuckDBDelta) -> None:
    with pytest.raises(ContractBroken, match=r"2 rows repeat a key \(day, id\).*id: 07") as raised:
        check(engine, TABLE, rows({"id": b"\x07"}, {"id": b"\x07"}, {"id": b"\x07"}, {}))
    assert raised.value.limit == "unique"


def test_every_broken_rule_is_counted_and_three_rows_are_shown(engine: DuckDBDelta) -> None:
    with pytest.raises(ContractBroken) as raised:
        check(engine, TABLE, rows(*({"size": -n, "kind": "z"} for n in range(1, 6))))
    assert "5 rows break `size >= 0`; 5 rows break `kind is one of a, b`" in raised.value.message
    assert raised.value.message.count("{") == 3


FIRST = date(2026, 1, 5)


@pytest.mark.parametrize(("rows_a_day", "refused"), [(MIN_ROWS, True), (MIN_ROWS - 1, False)])
def test_a_table_whose_newest_row_is_old_is_refused_unless_it_is_new_or_small(
    tmp_path: Path, rows_a_day: int, refused: bool
) -> None:
    kept = DuckDBDelta(tmp_path, Warehouse(memory_mb=256, threads=1))
    columns = (Column("day", pa.date32(), ""), Column("ts", pa.int64(), ""))
    aged = Table("aged", "Rows with a time.", columns, key=(), fresh_hours=12)

    def land(days: range, hours: int) -> None:
        start = (FIRST - date(1970, 1, 1)).days
        ts = [(start + n) * DAY + hours * HOUR for n in days for _ in range(rows_a_day)]
        day = pa.array([t // DAY for t in ts], pa.int32()).cast(pa.date32())
        kept.append(aged, pa.table({"day": day, "ts": pa.array(ts)}))

    land(range(13), 2)
    check_fresh(kept, aged, FIRST + timedelta(days=40))
    land(range(13, 14), 11)
    check_fresh(kept, aged, FIRST + timedelta(days=12))
    if refused:
        with pytest.raises(ContractBroken, match="13 hours older than the end of 2026-01-18; at most 12"):
            check_fresh(kept, aged, FIRST + timedelta(days=13))
        land(range(13, 14), 12)
    check_fresh(kept, aged, FIRST + timedelta(days=13))
    kept.close()
