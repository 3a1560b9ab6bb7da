"""The ledger tells what made a partition: code, settings, inputs; also a ledger that an older version began."""

from __future__ import annotations

import shutil
from pathlib import Path

import made_flow
import msgspec
import pyarrow as pa
import pytest
from made_flow import D, home_with, raw_events, run, work

import segue
from segue.contracts.errors import NotFound
from segue.contracts.ports import Days
from segue.contracts.schema import Table
from segue.contracts.tables import EVENTS, LISTENS, RAW_EVENTS, RUNS
from segue.flows.history import made, runs
from segue.flows.ledger import Entry, Ledger
from segue.flows.plan import MOST_RANGES, inputs
from segue.flows.registry import Read, step
from segue.flows.steps import BUILD, build_events
from segue.flows.task import Task


def run_of(engine: made_flow.DuckDBDelta, table: Table, day: object) -> str:
    return Ledger(engine).entries()[table.name, day].run_id.hex()  # type: ignore[index]


def test_a_partition_knows_what_it_was_made_from(tmp_path: Path) -> None:
    engine = home_with(tmp_path, raw_events(range(4)))
    run(engine, tmp_path)
    found = made(engine, "events", D[2])
    landed = run_of(engine, RAW_EVENTS, D[2])
    assert found.inputs == {"raw_events": [(D[1], D[2], landed)], "tracks": []}
    assert (found.rows, found.times, found.version, found.settings) == (60, 1, build_events.version, {})
    of_run = found.run
    assert (of_run.step, of_run.first, of_run.last, of_run.rows) == ("events", D[0], D[3], 240)
    assert (of_run.read_rows, of_run.engine, of_run.code) == (240, "duckdb", segue.__version__)
    assert of_run.read_bytes is not None
    assert of_run.read_bytes > engine.scan_bytes(engine.read(RAW_EVENTS))
    first = run_of(engine, EVENTS, D[2])
    engine.append(RAW_EVENTS, raw_events([2], seed=3))
    run(engine, tmp_path)
    again = made(engine, "listens", D[2])
    assert again.times == 2
    ((_, _, by),) = again.inputs["events"]
    assert by == run_of(engine, EVENTS, D[2]) != first
    late = run_of(engine, RAW_EVENTS, D[2])
    assert made(engine, "events", D[3]).inputs["raw_events"] == [(D[2], D[2], late), (D[3], D[3], landed)]


def test_runs_are_found_by_step_table_and_day(tmp_path: Path) -> None:
    engine = home_with(tmp_path, raw_events(range(3)))
    run(engine, tmp_path)
    engine.append(RAW_EVENTS, raw_events([2], seed=3))
    run(engine, tmp_path)
    newest_first = runs(engine, step="events")
    assert [(r.first, r.last) for r in newest_first] == [(D[2], D[2]), (D[0], D[2])]
    assert runs(engine, table="events") == newest_first
    assert runs(engine, table="events", day=D[0]) == newest_first[1:]
    assert runs(engine, last=3) == runs(engine)[:3]
    assert {r.step for r in runs(engine, last=100)} == {"land", *(s.name for s in BUILD)}
    with pytest.raises(NotFound, match="no run wrote events of 2026-03-09"):
        made(engine, "events", D[8])


def test_settings_that_mattered_are_kept(tmp_path: Path) -> None:
    output = Table("models", "", (), key=(), daily=False)

    @step(reads=[Read(LISTENS)], writes=[output], partition="whole", settings=["training.seed"])
    def train(task: Task) -> None:
        """Nothing."""
        task.wrote(output, 7)

    engine = home_with(tmp_path, raw_events(range(2)))
    list(made_flow.runner(engine, tmp_path, (*BUILD, train)).run())
    found = made(engine, "models", None)
    assert (found.rows, found.settings) == (7, {"training.seed": 1})
    assert (found.run.first, found.run.read_bytes) == (None, engine.scan_bytes(engine.read(LISTENS)))
    assert found.inputs == {"listens": [(D[0], D[1], run_of(engine, LISTENS, D[0]))]}


def test_a_year_of_daily_runs_is_kept_short() -> None:
    days = Days(D[0], D[0].replace(year=2027))

    @step(reads=[Read(LISTENS)], writes=[Table("w", "", (), (), False)], partition="whole")
    def whole(task: Task) -> None:
        """Nothing."""

    entries = {("listens", day): Entry(1, n.to_bytes(16, "big"), "x", "", 1) for n, day in enumerate(days)}
    (older, *newer) = inputs(whole, entries, days)["listens"]
    assert older == (
        D[0],
        newer[0][0].fromordinal(newer[0][0].toordinal() - 1),
        f"{len(days) - MOST_RANGES} runs",
    )  # type: ignore[union-attr]
    assert len(newer) == MOST_RANGES
    assert newer[-1] == (days.last, days.last, (len(days) - 1).to_bytes(16, "big").hex())


OLD = Table("runs", RUNS.doc, RUNS.columns[:10], RUNS.key, daily=False, derived=False)


def test_a_ledger_of_an_older_version_goes_on(tmp_path: Path) -> None:
    engine = home_with(tmp_path, raw_events(range(3)))
    run(engine, tmp_path)
    kept = engine.collect(engine.read(RUNS)).select(OLD.names)
    shutil.rmtree(tmp_path / "tables" / "runs")
    engine.append(OLD, kept)
    assert {item.state for item in run(engine, tmp_path)} == {"up-to-date"}
    old = made(engine, "events", D[1])
    assert (old.run.read_bytes, old.run.engine, old.version, old.inputs) == (None, None, None, {})
    engine.append(RAW_EVENTS, raw_events([2], seed=3))
    told = made_flow.runner(engine, tmp_path).estimate()
    assert {one.made_from for one in told} == {"history"}
    assert work(run(engine, tmp_path))["events"] == [Days(D[2], D[2])]
    assert made(engine, "events", D[1]) == old
    assert made(engine, "events", D[2]).run.engine == "duckdb"
    assert engine.collect(engine.read(RUNS)).num_rows > kept.num_rows


def test_settings_in_the_ledger_are_json(tmp_path: Path) -> None:
    engine = home_with(tmp_path, raw_events([0]))
    run(engine, tmp_path)
    rows: pa.Table = engine.collect(engine.read(RUNS))
    texts = [text for text in rows["inputs"].to_pylist() if text is not None]
    assert len(texts) == len(BUILD)
    assert all(isinstance(msgspec.json.decode(text), dict) for text in texts)
