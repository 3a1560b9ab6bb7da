"""A runner killed at any instant leaves nothing behind that the next run does not put right."""

from __future__ import annotations

import multiprocessing
import random
import time
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pyarrow as pa

from segue.adapters.engines.duckdb import DuckDBDelta
from segue.contracts.ids import uuid7_column
from segue.contracts.tables import RAW_EVENTS, TABLES
from segue.contracts.vocabulary import DAY
from segue.flows.runner import Runner
from segue.flows.steps import BUILD
from segue.settings.tree import Settings, Warehouse
from segue.wiring.home import Home

ROUNDS = 6
SETTINGS = Settings(warehouse=Warehouse(memory_mb=512, threads=1, chunk_rows=250))
BUILT = [table for table in TABLES.values() if table.derived]


def _engine(home: Path) -> DuckDBDelta:
    return DuckDBDelta(home / "tables", SETTINGS.warehouse)


def _land(home: Path) -> None:
    """600 plays of eight listeners over six days."""
    dice = np.random.default_rng(1)
    n = 600
    ts = 20_513 * DAY + dice.integers(0, 6 * DAY, n)
    ids = uuid7_column(ts, dice.integers(0, 2**63, (n, 2)).astype(np.uint64))
    columns = {f.name: pa.nulls(n, f.type) for f in RAW_EVENTS.arrow} | {
        "day": pa.array((ts // DAY).astype(np.int32)).cast(pa.date32()),
        "event_id": pa.array([row.tobytes() for row in ids], pa.binary()),
        "ts": pa.array(ts),
        "received_at": pa.array(ts),
        "user_id": pa.array(dice.integers(1, 9, n)),
        "type": pa.array(["play"] * n),
        "track_id": pa.array(dice.integers(1, 21, n)),
        "ms_played": pa.array(dice.integers(0, 60_000, n).astype(np.int32)),
    }
    engine = _engine(home)
    engine.append(RAW_EVENTS, pa.table(list(columns.values()), schema=RAW_EVENTS.arrow))
    engine.close()


def _run(home: Path, begun: Connection | None = None, parallel: int = 1) -> set[str]:
    engine = _engine(home)
    states = set()
    again = partial(DuckDBDelta, home / "tables")
    for progress in Runner(engine, SETTINGS, home, Home(home, SETTINGS), BUILD, again).run(parallel=parallel):
        states.add(progress.state)
        if begun is not None:
            begun.send(True)
            begun = None
    engine.close()
    return states


def _contents(home: Path) -> dict[str, list[dict[str, object]]]:
    engine = _engine(home)
    found = {t.name: engine.collect(engine.read(t).order_by(t.names)).to_pylist() for t in BUILT}
    engine.close()
    return found


def _kill_a_run(home: Path, after: float, parallel: int) -> None:
    """Start a run in a process of its own and end it `after` seconds behind its first sign of life, as kill -9 does."""
    # Why: a fork of this process would inherit its engines' threads half-way; the server forks from a clean one.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["segue.wiring.home"])
    sign, begun = processes.Pipe(duplex=False)
    process = processes.Process(target=_run, args=(home, begun, parallel))
    process.start()
    begun.close()
    assert sign.recv()
    time.sleep(after)
    process.kill()
    process.join()
    sign.close()


def test_a_run_after_kills_gives_the_tables_of_an_undisturbed_run(tmp_path: Path) -> None:
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    for home in (undisturbed, disturbed):
        _land(home)
    begun = time.monotonic()
    _run(undisturbed)
    took = time.monotonic() - begun
    expected = _contents(undisturbed)
    for n in range(ROUNDS):
        _kill_a_run(disturbed, random.random() * took / 3, parallel=1 + n % 2)
        for name, rows in _contents(disturbed).items():
            days = {row["day"] for row in rows}
            assert rows == [row for row in expected[name] if row["day"] in days], f"half a day of {name}"
    assert "failed" not in _run(disturbed)
    assert _contents(disturbed) == expected
    assert _run(disturbed) == {"up-to-date"}
