"""Each rule of a table is found broken, by name and with the rows that break it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import ibis
import pyarrow as pa
import pytest

from segue.adapters.engines.duckdb import DuckDBDelta
from segue.contracts.errors import ContractBroken
from segue.contracts.schema import Column, Table
from segue.contracts.tables import LISTENERS, TRACKS
from segue.contracts.vocabulary import DAY, HOUR
from segue.settings.tree import Warehouse
from segue.warehouse.contract import MIN_ROWS, check, check_fresh, check_references, check_volume

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


FIRST = date(2026, 1, 5)  # a Monday
FLUID = replace(TABLE, volume=10)
QUIET_SUNDAYS = [1_500 if n % 7 == 6 else 9_000 for n in range(42)]
TODAY = FIRST + timedelta(days=42)


def history(counts: list[int]) -> dict[date, int]:
    return {FIRST + timedelta(days=n): count for n, count in enumerate(counts)}


def volume_of(today: int, counts: list[int], *, whole: bool = True, day: date = TODAY) -> list[str]:
    """Check a day's rows behind a history of those counts."""
    return check_volume(FLUID, history(counts), {day: today}, day, day if whole else None)


@pytest.mark.parametrize("today", [0, 800])
def test_a_day_far_from_the_usual_is_refused_with_both_numbers(today: int) -> None:
    with pytest.raises(
        ContractBroken, match=f"2026-02-16 would hold {today:,} rows, where 9,000 are usual"
    ) as e:
        volume_of(today, QUIET_SUNDAYS)
    assert "warehouse.expect=false" in e.value.message
    assert e.value.field == "things.day"


def test_usual_is_what_that_weekday_usually_is() -> None:
    busy_sundays = [90_000 if n % 7 == 6 else 1_500 for n in range(41)]
    assert volume_of(95_000, busy_sundays, day=FIRST + timedelta(days=41)) == []
    saturday = volume_of(95_000, busy_sundays[:40], day=FIRST + timedelta(days=40))
    assert saturday == ["2026-02-14 holds 95,000 rows, where 1,500 are usual"]
    with pytest.raises(ContractBroken):
        volume_of(8_000, busy_sundays, day=FIRST + timedelta(days=41))


def test_what_is_within_the_bounds_new_small_or_unfinished_is_left_alone() -> None:
    volume_of(1_000, QUIET_SUNDAYS)
    assert volume_of(89_000, QUIET_SUNDAYS) == []
    volume_of(1, [9_000] * 13, day=FIRST + timedelta(days=13))
    volume_of(0, [MIN_ROWS - 1] * 42)
    volume_of(3, QUIET_SUNDAYS, whole=False)
    check_volume(TABLE, history(QUIET_SUNDAYS), {TODAY: 0}, TODAY, TODAY)


def test_a_day_that_is_over_is_judged_though_nobody_says_so_and_old_history_never_is() -> None:
    later = {TODAY + timedelta(days=n): 9_000 for n in range(1, 8)}
    written = {TODAY: 10} | later
    check_volume(FLUID, history(QUIET_SUNDAYS), written, max(later))
    with pytest.raises(ContractBroken, match="2026-02-16"):
        check_volume(FLUID, history(QUIET_SUNDAYS), written, TODAY + timedelta(days=2))


NAMING = Table(
    "plays",
    "Rows that name a track, where they name one.",
    (
        Column("day", pa.date32(), ""),
        Column("track_id", pa.int64(), "", nullable=True, references="tracks"),
    ),
    key=(),
    known=0.5,
)


def naming(known: int, unknown: int, none: int = 0, day: date = TODAY) -> pa.Table:
    ids = [*(n % 100 for n in range(known)), *(5_000 + n % 7 for n in range(unknown)), *([None] * none)]
    days = pa.array([day] * len(ids), pa.date32())
    return pa.table({"day": days, "track_id": pa.array(ids, pa.int64())})


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[DuckDBDelta]:
    """An engine that keeps a hundred tracks and nobody who listens."""
    made = DuckDBDelta(tmp_path, Warehouse(memory_mb=256, threads=1))
    blank = {f.name: pa.nulls(100, f.type) for f in TRACKS.arrow}
    flags = {name: pa.array([True] * 100) for name in ("explicit", "public")}
    made.append(TRACKS, pa.table({**blank, **flags, "track_id": pa.array(range(100))}))
    yield made
    made.close()


@pytest.fixture
def played(catalogue: DuckDBDelta) -> DuckDBDelta:
    """Twenty days on which 1,000 rows named a known track."""
    for n in range(1, 21):
        catalogue.append(NAMING, naming(1_000, 10, 5, TODAY - timedelta(days=n)))
    return catalogue


def references(
    engine: DuckDBDelta, rows: pa.Table, whole: date | None = TODAY, table: Table = NAMING
) -> None:
    check_references(engine, table, ibis.memtable(rows), TODAY, whole)


def test_ids_that_were_shifted_are_found_and_named(played: DuckDBDelta) -> None:
    with pytest.raises(ContractBroken) as raised:
        references(played, naming(499, 1_100, 5_000))
    assert "on 2026-02-16 499 rows name a track_id that table tracks has, where 1,000 are usual" in (
        raised.value.message
    )
    assert "5000 (158 rows), 5001 (157 rows), 5002 (157 rows)" in raised.value.message
    assert (raised.value.field, raised.value.limit) == (
        "plays.track_id",
        "at least 50% of the usual rows known to tracks",
    )
    with pytest.raises(ContractBroken, match="2026-02-16 0 rows"):
        references(played, naming(0, 1_100))


def test_strangers_cannot_stop_the_flow_with_events_of_tracks_that_nobody_has(played: DuckDBDelta) -> None:
    references(played, naming(1_000, 50_000))
    references(played, naming(500, 50_000))
    unfinished = naming(20, 50_000)
    references(played, unfinished, whole=None)
    references(
        played, naming(0, 499)
    )  # nothing came that day but a few of theirs: that is the volume's to judge


def test_ids_of_a_new_or_small_home_or_of_what_is_not_kept_are_left_alone(
    catalogue: DuckDBDelta, played: DuckDBDelta
) -> None:
    listeners = replace(NAMING.columns[1], references=LISTENERS.name)
    references(played, naming(0, 2_000), table=replace(NAMING, columns=(NAMING.columns[0], listeners)))
    references(played, naming(0, 2_000, day=TODAY - timedelta(days=10)))
    references(played, naming(0, 2_000), table=replace(NAMING, name="new"))


@pytest.mark.parametrize(("rows_a_day", "refused"), [(MIN_ROWS, True), (MIN_ROWS - 1, False)])
def test_a_table_whose_newest_row_is_old_is_refused_unless_it_is_new_or_small(
    catalogue: DuckDBDelta, rows_a_day: int, refused: bool
) -> None:
    columns = (Column("day", pa.date32(), ""), Column("ts", pa.int64(), ""))
    aged = Table("aged", "Rows with a time.", columns, key=(), fresh_hours=12)

    def land(days: range, hours: int) -> None:
        start = (FIRST - date(1970, 1, 1)).days
        ts = [(start + n) * DAY + hours * HOUR for n in days for _ in range(rows_a_day)]
        day = pa.array([t // DAY for t in ts], pa.int32()).cast(pa.date32())
        catalogue.append(aged, pa.table({"day": day, "ts": pa.array(ts)}))

    land(range(13), 2)
    check_fresh(catalogue, aged, FIRST + timedelta(days=40))
    land(range(13, 14), 11)
    check_fresh(catalogue, aged, FIRST + timedelta(days=12))
    if refused:
        with pytest.raises(ContractBroken, match="13 hours older than the end of 2026-01-18; at most 12"):
            check_fresh(catalogue, aged, FIRST + timedelta(days=13))
        land(range(13, 14), 12)
    check_fresh(catalogue, aged, FIRST + timedelta(days=13))
