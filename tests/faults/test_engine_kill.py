"""A run on BigQuery or Spark killed at any instant: no day is ever half there, and the next run puts right what is left.

`test_runner_kill` does so on DuckDB, more often.
"""

from __future__ import annotations

import multiprocessing
import random
import time
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from real_engines import OF_SPARK, RAN, Places
from segue.contracts.ports import Engine
from segue.flows.compare import copy, sources
from segue.flows.runner import Runner
from segue.flows.steps import BUILD
from segue.settings.tree import Settings, Warehouse
from segue.simulation import SimulationConfig
from segue.wiring.home import Home
from segue.wiring.simulate import simulate_into

ROUNDS = {"bigquery": 2, "spark": 1}
"""Each starts another Java for Spark."""
SERVICE = SimulationConfig(tracks=60, artists=20, listeners=25, days=2, seed=9)
BUILT = [table for step in BUILD for table in step.writes]


def _run(home: Home, begun: Connection | None = None) -> set[str]:
    states = set()
    for progress in Runner(home.engine, home.settings, home.root, home, BUILD).run():
        states.add(progress.state)
        if begun is not None:
            begun.send(True)
            begun = None
    return states


def _kill_a_run(home: Home, after: float) -> None:
    """Start a run in a process of its own and end it `after` seconds behind its first sign of life, as kill -9 does."""
    # Why: a fork of this process would inherit its connections half-way; the server forks from a clean one.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["segue.wiring.home"])
    sign, begun = processes.Pipe(duplex=False)
    process = processes.Process(target=_run, args=(home, begun))
    process.start()
    begun.close()
    assert sign.recv()
    time.sleep(after)
    process.kill()
    process.join()
    sign.close()


def _contents(engine: Engine) -> dict[str, list[dict[str, object]]]:
    found: dict[str, pa.Table] = {table.name: engine.collect(engine.read(table)) for table in BUILT}
    return {
        table.name: found[table.name].sort_by([(name, "ascending") for name in table.names]).to_pylist()
        for table in BUILT
    }


@OF_SPARK
@pytest.mark.parametrize("kind", list(ROUNDS))
def test_a_run_after_kills_gives_the_tables_of_an_undisturbed_run(
    kind: str, places: Places, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    settings = Settings(warehouse=places.settings(kind, Warehouse()))
    on_duckdb = msgspec.structs.replace(settings.warehouse, engine="duckdb", threads=1)
    undisturbed = Home(tmp_path / "undisturbed", msgspec.structs.replace(settings, warehouse=on_duckdb))
    disturbed = Home(tmp_path / "disturbed", settings)
    disturbed.root.mkdir()
    simulate_into(undisturbed, SERVICE, lambda day: None)
    for table in sources(BUILD):
        copy(table, undisturbed.engine, disturbed.engine)
    assert "failed" not in _run(undisturbed)
    expected = _contents(undisturbed.engine)
    for _ in range(ROUNDS[kind]):
        _kill_a_run(Home(disturbed.root, settings), random.uniform(0.2, 3.0))
        for name, rows in _contents(disturbed.engine).items():
            days = {row["day"] for row in rows}
            assert rows == [row for row in expected[name] if row["day"] in days], f"half a day of {name}"
    assert "failed" not in _run(disturbed)
    assert _contents(disturbed.engine) == expected
    assert _run(disturbed) == {"up-to-date"}
    request.node.user_properties.append((RAN, kind))
    undisturbed.engine.close()
    disturbed.engine.close()
