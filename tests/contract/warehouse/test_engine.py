"""What every engine promises: one suite, run on each of them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any, cast

import ibis
import pyarrow as pa
import pytest

from real_engines import ENGINES, OF_SPARK, EngineOf
from segue.adapters.engines.duckdb import DuckDBDelta
from segue.adapters.engines.migration import migrate
from segue.adapters.engines.on_delta import OnDelta
from segue.contracts.errors import Conflict, InvalidData, InvalidInput, NotFound, Overloaded
from segue.contracts.ports import Days, Engine
from segue.contracts.schema import Column, Table
from segue.settings.tree import Warehouse

pytestmark = OF_SPARK
SETTINGS = Warehouse(memory_mb=512, threads=2)
ON_DELTA = ("duckdb", "spark")
EPOCH = date(1970, 1, 1)
D = [date(2026, 5, 1) + timedelta(days=n) for n in range(5)]
COUNTS = Table(
    "counts",
    "A daily table with a column of every type.",
    (
        Column("day", pa.date32(), "the partition"),
        Column("id", pa.int64(), "who"),
        Column("uuid", pa.binary(), "16 bytes", nullable=True),
        Column("n16", pa.int16(), "small", nullable=True),
        Column("n32", pa.int32(), "middle", nullable=True),
        Column("f32", pa.float32(), "short", nullable=True),
        Column("f64", pa.float64(), "long", nullable=True),
        Column("yes", pa.bool_(), "or no", nullable=True),
        Column("word", pa.string(), "text", nullable=True),
        Column("words", pa.list_(pa.string()), "texts", nullable=True),
        Column("floats", pa.list_(pa.float32()), "vector", nullable=True),
    ),
    key=("id",),
    sort=("id",),
)
NAMES = Table("names", "A table without days.", (Column("id", pa.int64(), "who"),), key=("id",), daily=False)


GAPS = {
    "bigquery": {
        "test_what_was_read_stays_as_it_was_read": (
            "an expression reads a table as it is when it runs: a statement is BigQuery's unit of isolation"
        ),
        "test_the_same_rows_in_any_order_give_the_same_file": (
            "BigQuery keeps rows in no order; clustered columns lie together, and who needs an order asks for one"
        ),
        "test_what_is_read_is_told_before_it_is_read": (
            "a dry run tells; the emulator's says 0 bytes of everything"
        ),
    }
}
"""What an engine does not promise, and why. Told to readers in docs/concepts/engines.md."""


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, engine_of: EngineOf) -> Engine:
    gap = GAPS.get(request.param, {}).get(request.function.__name__)
    if gap is not None:
        pytest.skip(f"{request.param}: {gap}")
    return engine_of(request.param, SETTINGS)


@pytest.fixture(params=ON_DELTA)
def on_delta(request: pytest.FixtureRequest, engine_of: EngineOf) -> OnDelta:
    """Engines whose tables are Delta tables."""
    made = engine_of(request.param, SETTINGS)
    assert isinstance(made, OnDelta)
    return made


@pytest.fixture
def duckdb(tmp_path: Path) -> Iterator[DuckDBDelta]:
    """For what does not depend on who runs the queries."""
    made = DuckDBDelta(tmp_path / "tables", SETTINGS)
    yield made
    made.close()


def counts(*rows: tuple[date, int], **known: object) -> pa.Table:
    blank = dict.fromkeys(COUNTS.names)
    return pa.Table.from_pylist([blank | known | {"day": day, "id": n} for day, n in rows], COUNTS.arrow)


def held(engine: Engine, days: Days | None = None) -> list[tuple[date, int]]:
    rows = engine.collect(engine.read(COUNTS, days).order_by("day", "id"))
    return list(zip(rows["day"].to_pylist(), rows["id"].to_pylist(), strict=True))


def test_an_absent_table_reads_as_empty_in_its_own_types(engine: Engine) -> None:
    rows = engine.collect(engine.read(COUNTS, Days(D[0], D[1])))
    assert rows.num_rows == 0
    assert [(f.name, f.type) for f in rows.schema] == [(f.name, f.type) for f in COUNTS.arrow]
    assert engine.days(COUNTS) is None
    assert engine.row_counts(COUNTS) == {}
    assert engine.marker("anyone", COUNTS) is None


def test_values_of_every_type_come_back_as_they_were(engine: Engine) -> None:
    full = {"uuid": bytes(range(16)), "n16": -(2**15), "n32": 2**31 - 1, "f32": 0.5, "f64": 0.1, "yes": False}
    full |= {"word": "Ünïcode \U0001f3b5 'quoted'", "words": ["a", "", "b"], "floats": [1.5, -2.0]}
    rows = pa.concat_tables([counts((D[0], 2**63 - 1), **full), counts((D[0], 0))])
    engine.overwrite(COUNTS, rows, Days(D[0], D[0]))
    back = engine.collect(engine.read(COUNTS).order_by(ibis.desc("id")))
    assert back.cast(COUNTS.arrow).equals(rows)


def test_overwrite_replaces_its_days_and_no_others(engine: Engine) -> None:
    assert engine.overwrite(COUNTS, counts((D[0], 1), (D[1], 2), (D[2], 3))) == {D[0]: 1, D[1]: 1, D[2]: 1}
    written = engine.overwrite(COUNTS, counts((D[2], 5), (D[2], 4)), Days(D[1], D[3]))
    assert written == {D[1]: 0, D[2]: 2, D[3]: 0}
    assert held(engine) == [(D[0], 1), (D[2], 4), (D[2], 5)]
    assert engine.days(COUNTS) == Days(D[0], D[2])
    assert engine.row_counts(COUNTS) == {D[0]: 1, D[2]: 2}


def test_read_takes_only_the_days_asked_for(engine: Engine) -> None:
    engine.append(COUNTS, counts(*((day, n) for n, day in enumerate(D))))
    assert held(engine, Days(D[1], D[2])) == [(D[1], 1), (D[2], 2)]
    assert held(engine, Days(D[0] - timedelta(days=9), D[0])) == [(D[0], 0)]
    assert held(engine, Days(D[4] + timedelta(days=1), D[4] + timedelta(days=9))) == []


def test_an_expression_over_a_table_can_replace_that_table(engine: Engine) -> None:
    engine.overwrite(COUNTS, counts((D[0], 1), (D[0], 2)), Days(D[0], D[0]))
    rows = engine.read(COUNTS)
    engine.overwrite(COUNTS, rows.mutate(id=rows.id * 10), Days(D[0], D[0]))
    assert held(engine) == [(D[0], 10), (D[0], 20)]


def test_what_was_read_stays_as_it_was_read(engine: Engine) -> None:
    engine.overwrite(COUNTS, counts((D[0], 1)), Days(D[0], D[0]))
    before = engine.read(COUNTS)
    engine.overwrite(COUNTS, counts((D[0], 2)), Days(D[0], D[0]))
    assert engine.collect(before)["id"].to_pylist() == [1]
    assert held(engine) == [(D[0], 2)]


def test_an_empty_overwrite_empties_the_day(engine: Engine) -> None:
    engine.overwrite(COUNTS, counts((D[0], 1), (D[1], 2)))
    assert engine.overwrite(COUNTS, counts(), Days(D[1], D[1])) == {D[1]: 0}
    assert held(engine) == [(D[0], 1)]


def test_a_table_without_days_is_replaced_whole(engine: Engine) -> None:
    for ids in ([1, 2], [3]):
        assert engine.overwrite(NAMES, pa.table({"id": ids})) == {EPOCH: len(ids)}
    assert engine.collect(engine.read(NAMES)).to_pydict() == {"id": [3]}
    assert engine.row_counts(NAMES) == {EPOCH: 1}
    assert engine.days(NAMES) is None


@pytest.mark.parametrize("call", ["read", "overwrite"])
def test_days_of_a_table_without_days_are_refused(engine: Engine, call: str) -> None:
    calls: dict[str, Callable[[], object]] = {
        "read": lambda: engine.read(NAMES, Days(D[0], D[0])),
        "overwrite": lambda: engine.overwrite(NAMES, pa.table({"id": [1]}), Days(D[0], D[0])),
    }
    with pytest.raises(InvalidData, match="names has no days"):
        calls[call]()


Breakage = Callable[[pa.Table], pa.Table]
BROKEN: dict[str, tuple[Breakage, str]] = {
    "a day outside": (
        lambda rows: pa.concat_tables([rows, counts((D[3], 7))]),
        "1 rows of 2026-05-04 in a write of",
    ),
    "no value": (lambda rows: rows.set_column(1, "id", pa.nulls(len(rows), pa.int64())), "rows have no id"),
    "a column lacking": (lambda rows: rows.drop_columns(["word"]), "lacks word"),
    "a column too many": (
        lambda rows: rows.append_column("more", rows["id"]),
        "has more, which the table does not",
    ),
    "another type": (
        lambda rows: rows.set_column(1, "id", pa.array(["x"] * len(rows))),
        "column id is int64",
    ),
    "a number too large": (
        lambda rows: rows.set_column(3, "n16", pa.array([70_000] * len(rows), pa.int64())),
        "(out of range|out of bounds|does not fit|not in range)",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_breaks_the_table_is_refused_and_changes_nothing(engine: Engine, name: str) -> None:
    engine.overwrite(COUNTS, counts((D[0], 1)), Days(D[0], D[0]))
    breakage, message = BROKEN[name]
    with pytest.raises(InvalidData, match=message):
        engine.overwrite(COUNTS, breakage(counts((D[0], 2), (D[1], 3))), Days(D[0], D[1]))
    if name != "a day outside":
        with pytest.raises(InvalidData, match=message):
            engine.append(COUNTS, breakage(counts((D[0], 2))))
    assert held(engine) == [(D[0], 1)]


def test_columns_are_matched_by_name_and_numbers_widened(engine: Engine) -> None:
    rows = counts((D[0], 1)).select(list(reversed(COUNTS.names)))
    narrow = rows.set_column(rows.schema.get_field_index("id"), "id", pa.array([1], pa.int8()))
    engine.append(COUNTS, narrow)
    engine.overwrite(COUNTS, narrow, Days(D[0], D[0]))
    assert held(engine) == [(D[0], 1)]


def test_an_append_with_a_marker_happens_once(engine: Engine) -> None:
    assert engine.append(COUNTS, counts((D[0], 1)), marker=("import a/b?c", 0)) is True
    assert engine.append(COUNTS, counts((D[0], 1)), marker=("import a/b?c", 0)) is False
    assert engine.append(COUNTS, counts((D[0], 2)), marker=("import a/b?c", 5)) is True
    assert engine.append(COUNTS, counts((D[0], 3)), marker=("import a/b?c", 4)) is False
    assert engine.append(COUNTS, counts((D[0], 4)), marker=("another", 0)) is True
    assert engine.append(COUNTS, counts((D[0], 5))) is True
    assert held(engine) == [(D[0], n) for n in (1, 2, 4, 5)]
    assert (engine.marker("import a/b?c", COUNTS), engine.marker("another", COUNTS)) == (5, 0)


def test_markers_survive_overwrites(engine: Engine) -> None:
    engine.append(COUNTS, counts((D[0], 1)), marker=("source", 39))
    engine.overwrite(COUNTS, counts((D[0], 99)), Days(D[0], D[0]))
    assert engine.marker("source", COUNTS) == 39
    assert engine.append(COUNTS, counts((D[0], 1)), marker=("source", 39)) is False
    assert held(engine) == [(D[0], 99)]


def test_compaction_makes_one_file_of_many_and_keeps_markers(on_delta: OnDelta) -> None:
    for n in range(40):
        on_delta.append(COUNTS, counts((D[0], n)), marker=("source", n))
    assert on_delta.compact(COUNTS) == 40
    assert on_delta.compact(COUNTS) == 0
    assert on_delta.append(COUNTS, counts((D[0], 0)), marker=("source", 39)) is False
    assert held(on_delta) == [(D[0], n) for n in range(40)]


def test_the_same_marker_from_many_writers_at_once_lands_once(tmp_path: Path) -> None:
    landed: list[bool] = []

    def land() -> None:
        engine = DuckDBDelta(tmp_path, SETTINGS)
        landed.extend(engine.append(COUNTS, counts((D[0], s)), marker=("one", s)) for s in range(5))
        engine.close()

    writers = [threading.Thread(target=land) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    engine = DuckDBDelta(tmp_path, SETTINGS)
    assert sum(landed) == 5
    assert held(engine) == [(D[0], n) for n in range(5)]
    engine.close()


def test_a_writer_overtaken_on_the_same_day_is_refused(
    on_delta: OnDelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_delta.overwrite(COUNTS, counts((D[0], 0), (D[1], 0)))
    other = DuckDBDelta(on_delta.root, SETTINGS)
    computed = on_delta._stream
    taken: list[date] = []

    def overtaken(rows: ibis.Table) -> pa.RecordBatchReader:
        other.overwrite(COUNTS, counts((taken[0], 77)), Days(taken[0], taken[0]))
        return computed(rows)

    monkeypatch.setattr(on_delta, "_stream", overtaken)
    rows = ibis.memtable(counts((D[0], 1)))
    taken[:] = [D[0]]
    with pytest.raises(Conflict, match="another writer changed the same rows"):
        on_delta.overwrite(COUNTS, rows, Days(D[0], D[0]))
    assert held(on_delta) == [(D[0], 77), (D[1], 0)]
    taken[:] = [D[1]]
    on_delta.overwrite(COUNTS, rows, Days(D[0], D[0]))
    assert held(on_delta) == [(D[0], 1), (D[1], 77)]
    other.close()


def test_the_same_rows_in_any_order_give_the_same_file(engine: Engine) -> None:
    rows = counts(*((D[0], (n * 7919) % 5000) for n in range(5000)))
    for given in (rows, rows.take(pa.array(range(4999, -1, -1)))):
        engine.overwrite(COUNTS, given, Days(D[0], D[0]))
        assert engine.collect(engine.read(COUNTS))["id"].to_pylist() == list(range(5000))


@pytest.mark.parametrize("computed", [False, True])
def test_a_stream_goes_on_while_other_queries_run(engine: Engine, computed: bool) -> None:
    numbers = ibis.memtable(pa.table({"n": pa.array(range(150_000))}))
    with engine.staged(numbers) as held:
        rows = held.mutate(n=held.n + 1) if computed else held
        seen = 0
        for batch in engine.stream(rows):
            seen += sum(batch["n"].to_pylist())
            assert engine.collect(held.aggregate(top=held.n.max()))["top"].to_pylist() == [149_999]
    assert seen == sum(range(150_000)) + 150_000 * computed


def test_staged_rows_can_be_read_often_and_written(engine: Engine) -> None:
    engine.append(COUNTS, counts((D[0], 1), (D[0], 2)))
    rows = engine.read(COUNTS)
    with engine.staged(rows.filter(rows.id > 1)) as staged:
        assert engine.collect(staged.count().as_table()).num_rows == 1
        engine.overwrite(COUNTS, staged, Days(D[0], D[0]))
    assert held(engine) == [(D[0], 2)]


def test_a_table_of_another_schema_is_refused_by_name(engine: Engine) -> None:
    engine.append(COUNTS, counts((D[0], 1)))
    other = Table("counts", "", (*COUNTS.columns[:4], Column("n32", pa.string(), "")), key=(), sort=())
    for call in (lambda: engine.read(other), lambda: engine.row_counts(other)):
        with pytest.raises(InvalidData, match=r"another schema: .*f32 is unknown.*n32 is"):
            call()


MORE = Table(
    "counts",
    "The same table, with two columns more that may be null.",
    (
        *COUNTS.columns[:2],
        Column("gained", pa.int32(), "since later", nullable=True),
        *COUNTS.columns[2:],
        Column("labels", pa.list_(pa.string()), "since later", nullable=True),
    ),
    key=("id",),
    sort=("id",),
)


def gained(engine: Engine) -> list[tuple[int, int | None, list[str] | None]]:
    rows = engine.collect(engine.read(MORE).order_by("id")).to_pylist()
    return [(row["id"], row["gained"], row["labels"]) for row in rows]


@pytest.mark.parametrize("write", ["overwrite", "append"])
def test_a_column_that_may_be_null_is_added_by_the_first_write(engine: Engine, write: str) -> None:
    engine.overwrite(COUNTS, counts((D[0], 1), (D[1], 2)))
    assert gained(engine) == [(1, None, None), (2, None, None)]
    row = dict.fromkeys(MORE.names) | {"day": D[2], "id": 3, "gained": 7, "labels": ["new"]}
    rows = pa.Table.from_pylist([row], MORE.arrow)
    if write == "overwrite":
        assert engine.overwrite(MORE, ibis.memtable(rows), Days(D[2], D[2])) == {D[2]: 1}
    else:
        assert engine.append(MORE, rows) is True
    assert gained(engine) == [(1, None, None), (2, None, None), (3, 7, ["new"])]
    engine.overwrite(MORE, engine.read(MORE).mutate(gained=1), Days(D[0], D[2]))
    assert gained(engine) == [(1, 1, None), (2, 1, None), (3, 1, ["new"])]


def test_writers_that_add_a_column_at_once_both_write(duckdb: DuckDBDelta) -> None:
    duckdb.overwrite(COUNTS, counts((D[0], 1)))
    failed: list[Exception] = []

    def write(day: date, n: int) -> None:
        engine = DuckDBDelta(duckdb.root, SETTINGS)
        row = dict.fromkeys(MORE.names) | {"day": day, "id": n, "gained": n}
        try:
            engine.overwrite(MORE, pa.Table.from_pylist([row], MORE.arrow), Days(day, day))
        except Exception as error:
            failed.append(error)
            raise
        finally:
            engine.close()

    writers = [threading.Thread(target=write, args=(day, n)) for n, day in enumerate(D[1:], 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failed == []
    assert gained(duckdb) == [(1, None, None), *((n, n, None) for n in range(2, 6))]


def test_a_column_that_must_have_a_value_is_not_added_by_itself(on_delta: OnDelta) -> None:
    on_delta.append(COUNTS, counts((D[0], 1)))
    strict = Table("counts", "", (*COUNTS.columns, Column("must", pa.int64(), "")), key=("id",))
    with pytest.raises(InvalidData, match="another schema: must is missing"):
        on_delta.read(strict)


OTHERWISE = Table(
    "counts",
    "The same table: a column renamed, one wider, one gone, one gained.",
    (
        *COUNTS.columns[:3],
        Column("n16", pa.int64(), "wider", nullable=True),
        Column("middle", pa.int32(), "was n32", nullable=True),
        Column("gained", pa.float64(), "new", nullable=True),
        *(c for c in COUNTS.columns[5:] if c.name != "words"),
    ),
    key=("id",),
    sort=("id",),
)


def test_a_table_is_migrated_to_its_contract_in_one_commit(on_delta: OnDelta) -> None:
    row = counts((D[0], 1), n16=5, n32=7, words=["a"], word="b")
    assert on_delta.append(COUNTS, pa.concat_tables([row, counts((D[1], 2))]), marker=("import", 4))
    with pytest.raises(InvalidData, match="`segue migrate counts` rewrites it"):
        on_delta.read(OTHERWISE)
    with pytest.raises(
        InvalidInput, match="no column n32; say what becomes of it: --rename n32=NEW or --drop n32"
    ):
        migrate(on_delta.root, OTHERWISE, {}, ["words"])
    with pytest.raises(InvalidInput, match="has no column word2"):
        migrate(on_delta.root, OTHERWISE, {"n32": "middle"}, ["words", "word2"])
    before = len(list((on_delta.root / "counts" / "_delta_log").glob("*.json")))
    assert migrate(on_delta.root, OTHERWISE, {"n32": "middle"}, ["words"]) == {D[0]: 1, D[1]: 1}
    assert len(list((on_delta.root / "counts" / "_delta_log").glob("*.json"))) == before + 1
    found = on_delta.collect(on_delta.read(OTHERWISE).order_by("id")).to_pylist()
    assert [(r["day"], r["n16"], r["middle"], r["gained"], r["word"]) for r in found] == [
        (D[0], 5, 7, None, "b"),
        (D[1], None, None, None, None),
    ]
    assert on_delta.marker("import", OTHERWISE) == 4
    assert on_delta.row_counts(OTHERWISE) == {D[0]: 1, D[1]: 1}
    assert migrate(on_delta.root, OTHERWISE, {}, []) is None


def test_a_migration_that_does_not_fit_changes_nothing(duckdb: DuckDBDelta) -> None:
    duckdb.append(COUNTS, counts((D[0], 1), word="seven"))
    narrow = Table(
        "counts",
        "",
        tuple(
            Column(c.name, pa.int16() if c.name == "word" else c.type, "", c.nullable) for c in COUNTS.columns
        ),
        key=("id",),
    )
    with pytest.raises(
        InvalidData, match=r"column word of 2026-05-01 does not fit word, int16.*nothing was changed"
    ):
        migrate(duckdb.root, narrow, {}, [])
    strict = Table("counts", "", (*COUNTS.columns, Column("must", pa.int64(), "")), key=("id",))
    with pytest.raises(InvalidInput, match="must must have a value, and no stored column gives it one"):
        migrate(duckdb.root, strict, {}, [])
    with pytest.raises(NotFound, match="there is nothing to migrate"):
        migrate(duckdb.root, NAMES, {}, [])
    assert held(duckdb) == [(D[0], 1)]


def test_what_is_read_is_told_before_it_is_read(engine: Engine) -> None:
    assert engine.scan_bytes(engine.read(COUNTS)) == 0
    engine.overwrite(COUNTS, counts(*((day, n) for day in D for n in range(200))))
    sizes = [engine.scan_bytes(engine.read(COUNTS, Days(day, day))) for day in D]
    rows = engine.read(COUNTS)
    twice = rows.inner_join(rows.view(), "id").filter(ibis._.yes)
    assert all(size > 0 for size in sizes)
    assert engine.scan_bytes(rows) == engine.scan_bytes(twice) == sum(sizes)


def test_a_damaged_log_is_said_and_not_overwritten(duckdb: DuckDBDelta) -> None:
    duckdb.append(COUNTS, counts((D[0], 1)))
    log = duckdb.root / "counts" / "_delta_log" / f"{0:020}.json"
    log.write_text(log.read_text()[:40])
    with pytest.raises(InvalidData, match="its log is damaged"):
        duckdb.read(COUNTS)
    with pytest.raises(InvalidData, match="its log is damaged"):
        duckdb.overwrite(COUNTS, counts((D[0], 2)), Days(D[0], D[0]))


@pytest.mark.parametrize("damage", ["cut", "gone", "flipped"])
def test_a_damaged_data_file_is_said(on_delta: OnDelta, damage: str) -> None:
    on_delta.append(COUNTS, counts(*((D[0], n) for n in range(1000))))
    (file,) = (on_delta.root / "counts").glob("day=*/*.parquet")
    raw = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(raw[: len(raw) // 2] if damage == "cut" else raw[:-8] + b"\xff" * 8)
    with pytest.raises(InvalidData, match="cannot be read"):
        on_delta.collect(on_delta.read(COUNTS))
    with pytest.raises(InvalidData, match="cannot be read"):
        list(on_delta.stream(on_delta.read(COUNTS)))
    with pytest.raises(InvalidData, match="cannot be read"):
        on_delta.overwrite(COUNTS, on_delta.read(COUNTS), Days(D[0], D[0]))


def test_a_missing_file_is_named_with_the_way_to_have_it_again(on_delta: OnDelta) -> None:
    on_delta.append(COUNTS, counts((D[0], 1), (D[1], 2)))
    (file,) = (on_delta.root / "counts").glob(f"day={D[1]}/*.parquet")
    file.unlink()
    with pytest.raises(
        InvalidData, match=rf"its file day={D[1]}/{file.name} .*--from {D[1]} --to {D[1]} --force"
    ):
        on_delta.read(COUNTS)
    assert held(on_delta, Days(D[0], D[0])) == [(D[0], 1)], "other days are as they were"
    on_delta.overwrite(COUNTS, counts((D[1], 3)), Days(D[1], D[1]))
    assert held(on_delta) == [(D[0], 1), (D[1], 3)]


def test_files_that_were_never_committed_are_no_table(on_delta: OnDelta) -> None:
    (on_delta.root / "counts" / "day=2026-05-01").mkdir(parents=True)
    (on_delta.root / "counts" / "day=2026-05-01" / "part-0.parquet").write_bytes(b"half a file")
    assert held(on_delta) == []
    on_delta.overwrite(COUNTS, counts((D[0], 1)), Days(D[0], D[0]))
    assert held(on_delta) == [(D[0], 1)]


def test_a_full_disk_is_said_and_changes_nothing(duckdb: DuckDBDelta) -> None:
    duckdb.append(COUNTS, counts((D[0], 1)))
    program = f"""
        import resource, signal, pathlib
        import numpy as np, pyarrow as pa
        from segue.adapters.engines.duckdb import DuckDBDelta
        from segue.contracts.errors import InvalidData
        from segue.settings.tree import Warehouse
        from test_engine import COUNTS, counts, D, Days
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        engine = DuckDBDelta(pathlib.Path({str(duckdb.root)!r}), Warehouse(memory_mb=512, threads=1))
        rows = pa.concat_tables([counts((D[0], 1))] * 200_000).combine_chunks()
        noise = pa.array(np.random.default_rng(0).integers(0, 2**62, len(rows)))
        rows = rows.set_column(1, "id", noise)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        for write in (lambda: engine.overwrite(COUNTS, rows, Days(D[0], D[0])), lambda: engine.append(COUNTS, rows)):
            try:
                write()
            except InvalidData as error:
                print(error.message)
    """
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=here,
        env=os.environ | {"PYTHONPATH": str(here.parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("no room on the disk; nothing was changed") == 2, done.stdout + done.stderr
    assert held(duckdb) == [(D[0], 1)]


def test_too_little_memory_is_said_with_the_setting(tmp_path: Path) -> None:
    engine = DuckDBDelta(tmp_path, Warehouse(memory_mb=16, threads=1))
    numbers = ibis.range(3_000_000).unnest().name("n").as_table()
    words = numbers.group_by((numbers.n % 1_000_000).name("k")).aggregate(
        all=numbers.n.cast("string").collect()
    )
    with pytest.raises(Overloaded, match=r"warehouse\.memory_mb"):
        engine.collect(words)
    engine.close()


@pytest.mark.parametrize("character", ["[", "^", "|", "\\"])
def test_a_root_that_delta_cannot_open_is_refused(tmp_path: Path, character: str) -> None:
    with pytest.raises(InvalidData, match="choose another directory"):
        DuckDBDelta(tmp_path / f"a{character}b", SETTINGS)


def test_vacuum_deletes_what_no_commit_needs(duckdb: DuckDBDelta) -> None:
    for n in range(3):
        duckdb.overwrite(COUNTS, counts((D[0], n)), Days(D[0], D[0]))
    assert duckdb.vacuum(COUNTS) == 0
    assert duckdb.vacuum(COUNTS, timedelta(0)) == 2
    assert len(list((duckdb.root / "counts").rglob("*.parquet"))) == 1
    assert held(duckdb) == [(D[0], 2)]


def test_a_spark_that_has_delta_writes_natively(engine_of: EngineOf, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = cast(Any, engine_of("spark", SETTINGS))
    asked: list[Days | None] = []
    monkeypatch.setattr(engine, "_overwrite_natively", lambda table, rows, days: asked.append(days))
    rows = ibis.memtable(counts((D[0], 1)))
    engine.overwrite(COUNTS, rows, Days(D[0], D[0]))
    assert asked == []
    engine._session.conf.set("spark.sql.catalog.spark_catalog", engine.DELTA)
    engine.overwrite(COUNTS, rows, Days(D[1], D[1]))
    assert asked == [Days(D[1], D[1])]
    engine._session.conf.unset("spark.sql.catalog.spark_catalog")


def test_the_spill_of_dead_processes_is_removed(tmp_path: Path) -> None:
    first = DuckDBDelta(tmp_path, SETTINGS)
    (mine,) = (tmp_path / ".spill").iterdir()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = mine.with_name(mine.name.replace(f"-{mine.name.rsplit('-', 2)[1]}-", f"-{dead.pid}-"))
    left.mkdir()
    second = DuckDBDelta(tmp_path, SETTINGS)
    assert not left.exists()
    assert mine.exists()
    first.close()
    second.close()
    assert list((tmp_path / ".spill").iterdir()) == []
