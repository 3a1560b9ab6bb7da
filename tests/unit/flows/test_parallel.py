"""Chunks built at once give the tables of chunks built one after the other, whatever goes wrong with one of them."""

from __future__ import annotations

import threading
from pathlib import Path

import ibis.expr.types as ir
import made_flow
import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from made_flow import D, contents, home_with, raw_events, run, work

from real_engines import OF_SPARK, EngineOf, Places
from segue.contracts.errors import Conflict, ContractBroken, InvalidData, InvalidInput
from segue.contracts.ports import Days
from segue.contracts.tables import EVENTS, LISTENS, RAW_EVENTS, TRACKS
from segue.flows.compare import compare
from segue.flows.ledger import Ledger
from segue.flows.runner import Runner
from segue.flows.steps import BUILD
from segue.flows.team import Team, shared
from segue.settings.tree import Warehouse
from segue.wiring.home import Home

TENFOLD = pa.concat_tables([raw_events([0, 1, 3, 4, 5]), raw_events([2], seed=2, per_day=600)])
"""A week with an empty day and one ten times as large as usual."""


def test_tables_are_those_of_one_chunk_after_the_other(tmp_path: Path) -> None:
    one, many = (home_with(tmp_path / name, TENFOLD) for name in ("one", "many"))
    run(one, tmp_path / "one")
    progress = run(many, tmp_path / "many", chunk_rows=300, parallel=3)
    assert contents(many) == contents(one)
    assert set(work(progress)["events"]) == {Days(day, day) for day in D[:6]}
    assert work(run(many, tmp_path / "many", parallel=3)) == {}
    assert {day: e.rows for (name, day), e in Ledger(many).entries().items() if name == "events"} == {
        day: one.row_counts(EVENTS).get(day, 0) for day in D[:6]
    }


def test_chunks_are_really_at_work_at_once(tmp_path: Path) -> None:
    together = threading.Barrier(3)

    def meet(engine: made_flow.Engine, job: int) -> int:
        together.wait(timeout=60)
        return job

    engines = [made_flow.DuckDBDelta(tmp_path, Warehouse(memory_mb=256, threads=1)) for _ in range(3)]
    told = list(Team(engines, made_flow.settings()).each(range(6), meet))
    assert sorted(result for _, result in told if isinstance(result, int)) == list(range(6))
    assert sum(result is None for _, result in told) == 6
    for engine in engines:
        engine.close()


@pytest.mark.parametrize("size", [1, 2])
def test_after_an_error_no_other_job_begins(tmp_path: Path, size: int) -> None:
    engines = [made_flow.DuckDBDelta(tmp_path, Warehouse(memory_mb=256, threads=1)) for _ in range(size)]
    begun: list[int] = []
    ended: dict[int, object] = {}

    def fail(engine: made_flow.Engine, job: int) -> int:
        if job == 1:
            raise ContractBroken("broken")
        return job

    def tell() -> None:
        for job, result in Team(engines, made_flow.settings()).each(range(9), fail):
            if result is None:
                begun.append(job)
            else:
                ended[job] = result

    with pytest.raises(ContractBroken, match="broken"):
        tell()
    assert isinstance(ended[1], ContractBroken)
    assert sorted(ended) == begun, "those at work are told to their end"
    assert len(begun) <= 4
    for engine in engines:
        engine.close()


def test_a_chunk_that_fails_leaves_the_others_and_is_built_by_the_next_run(tmp_path: Path) -> None:
    broken = raw_events([2], seed=6, per_day=1)
    broken = broken.set_column(
        broken.schema.get_field_index("type"), RAW_EVENTS.arrow.field("type"), [["dance"]]
    )
    history = raw_events(range(5))
    engine = home_with(tmp_path, history)
    engine.append(RAW_EVENTS, broken)
    with pytest.raises(ContractBroken, match="dance"):
        run(engine, tmp_path, chunk_rows=60, parallel=2)
    kept = sorted(engine.row_counts(EVENTS))
    assert kept
    assert D[2] not in kept
    mended = history.filter(pc.equal(history["day"], D[2]))
    engine.overwrite(RAW_EVENTS, mended, Days(D[2], D[2]))
    again = [day for days in work(run(engine, tmp_path))["events"] for day in days]
    assert D[2] in again
    undisturbed = home_with(tmp_path / "undisturbed", history)
    run(undisturbed, tmp_path / "undisturbed")
    assert contents(engine) == contents(undisturbed)


def test_each_has_its_share_of_memory(tmp_path: Path) -> None:
    opened: list[Warehouse] = []

    def open_engine(settings: Warehouse) -> made_flow.DuckDBDelta:
        opened.append(settings)
        return made_flow.DuckDBDelta(tmp_path / "tables", settings)

    given = made_flow.settings()
    given = msgspec.structs.replace(given, warehouse=Warehouse(memory_mb=1200, threads=4))
    engine = home_with(tmp_path, raw_events([0]))
    list(Runner(engine, given, tmp_path, Home(tmp_path, given), BUILD, open_engine).run(parallel=4))
    assert [(one.memory_mb, one.threads, one.chunk_rows) for one in opened] == [(300, 1, 1_250_000)] * 4
    with pytest.raises(InvalidInput, match=r"5 engines would have 240 MB each.*ask for at most 4"):
        shared(given, 5)


def test_of_two_machines_at_the_same_day_one_wins_and_the_other_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two homes over one warehouse: their locks do not see each other."""
    engine = home_with(tmp_path, raw_events(range(3)))
    other = made_flow.DuckDBDelta(tmp_path / "tables", made_flow.settings().warehouse)
    computed = engine._stream

    def overtaken(rows: ir.Table) -> pa.RecordBatchReader:
        monkeypatch.undo()
        assert "events" in work(run(other, tmp_path / "elsewhere"))
        return computed(rows)

    monkeypatch.setattr(engine, "_stream", overtaken)
    with pytest.raises(
        Conflict, match=r"table events: another writer changed the same rows meanwhile.*run the step again"
    ):
        run(engine, tmp_path)
    assert work(run(engine, tmp_path)) == {}, "the one that won built everything"
    alone = home_with(tmp_path / "alone", raw_events(range(3)))
    run(alone, tmp_path / "alone")
    assert contents(engine) == contents(alone)


def test_a_day_whose_file_is_gone_is_built_again_by_force(tmp_path: Path) -> None:
    engine = home_with(tmp_path, raw_events(range(3)))
    run(engine, tmp_path)
    before = contents(engine)
    (file,) = (tmp_path / "tables" / "events").glob(f"day={D[1]}/*.parquet")
    file.unlink()
    with pytest.raises(InvalidData, match=f"--from {D[1]} --to {D[1]} --force"):
        contents(engine)
    run(engine, tmp_path, steps=["events"], days=Days(D[1], D[1]), force=True)
    assert contents(engine) == before


@OF_SPARK
def test_on_spark_too(tmp_path: Path, engine_of: EngineOf, places: Places) -> None:
    raw = raw_events(range(4))
    duckdb = home_with(tmp_path / "duckdb", raw)
    steps = ["events", "listens"]
    run(duckdb, tmp_path / "duckdb", steps=steps)
    spark = engine_of("spark", Warehouse())
    share = places.settings("spark", Warehouse(chunk_rows=120))
    given = msgspec.structs.replace(made_flow.settings(), warehouse=share)
    for table in (TRACKS, RAW_EVENTS):
        spark.overwrite(table, duckdb.collect(duckdb.read(table)))

    def again(settings: Warehouse) -> made_flow.Engine:
        return engine_of("spark", settings)

    runner = Runner(spark, given, tmp_path, Home(tmp_path, given), BUILD, again)
    assert len(work(runner.run(steps, parallel=2))["events"]) == 4
    for table in (EVENTS, LISTENS):
        assert compare(table, {"duckdb": duckdb, "spark": spark}).difference is None
