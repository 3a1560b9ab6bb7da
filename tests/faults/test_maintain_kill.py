"""Upkeep killed at any instant drops no row that is kept, and the next one ends what it began."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import time
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from segue.adapters.engines.duckdb import DuckDBDelta
from segue.contracts.ids import uuid7_column
from segue.contracts.ports import Days
from segue.contracts.tables import RAW_EVENTS, RUNS, TABLES
from segue.contracts.vocabulary import DAY
from segue.flows.runner import Runner
from segue.flows.steps import BUILD, UPKEEP
from segue.settings.tree import KeepDays, Serving, Settings, Training, Warehouse
from segue.wiring.home import Home

ROUNDS = 8
BEGIN, LANDINGS, KEPT_RAW, KEPT = 20_513, 40, 4, 6
"""The first of nine days; the commits in which their events landed; days kept of raw and of derived tables."""
SETTINGS = Settings(
    # Why no hours: what the undisturbed upkeep deletes at once must be deleted at once after kills too.
    warehouse=Warehouse(
        memory_mb=512, threads=1, keep_days=KeepDays(raw=KEPT_RAW, derived=KEPT), vacuum_hours=0
    ),
    serving=Serving(max_event_age_days=2),
    training=Training(history_days=2),
)
DAILY = [table for table in TABLES.values() if table.daily]
DERIVED = [table for table in DAILY if table.derived]


def _engine(home: Path) -> DuckDBDelta:
    return DuckDBDelta(home / "tables", SETTINGS.warehouse)


def _land(home: Path) -> None:
    """Nine days of plays, in many small files; each day was also written once more, so that files are left behind."""
    engine, dice = _engine(home), np.random.default_rng(1)
    for _ in range(LANDINGS):
        ts = BEGIN * DAY + dice.integers(0, 9 * DAY, 40)
        ids = uuid7_column(ts, dice.integers(0, 2**63, (40, 2)).astype(np.uint64))
        columns = {f.name: pa.nulls(40, f.type) for f in RAW_EVENTS.arrow} | {
            "day": pa.array((ts // DAY).astype(np.int32)).cast(pa.date32()),
            "event_id": pa.array([row.tobytes() for row in ids], pa.binary()),
            "ts": pa.array(ts),
            "received_at": pa.array(ts),
            "user_id": pa.array(dice.integers(1, 9, 40)),
            "type": pa.array(["play"] * 40),
            "track_id": pa.array(dice.integers(1, 21, 40)),
            "ms_played": pa.array(dice.integers(0, 60_000, 40).astype(np.int32)),
        }
        engine.append(RAW_EVENTS, pa.table(list(columns.values()), schema=RAW_EVENTS.arrow))
        # A ledger of many small files.
        engine.append(RUNS, engine.collect(engine.read(RUNS).limit(0)))
    engine.close()


def _run(home: Path, steps: list[str] | None = None, begun: Connection | None = None) -> set[str]:
    engine = _engine(home)
    flow = Runner(
        engine,
        SETTINGS,
        home,
        Home(home, SETTINGS),
        (*BUILD, *UPKEEP),
        partial(DuckDBDelta, home / "tables"),
    )
    states = set()
    for progress in flow.run(steps):
        states.add(progress.state)
        if begun is not None:
            begun.send(True)
            begun = None
    engine.close()
    return states


def _contents(home: Path) -> dict[str, list[dict[str, object]]]:
    engine = _engine(home)
    found = {t.name: engine.collect(engine.read(t).order_by(t.names)).to_pylist() for t in DAILY}
    engine.close()
    return found


def _files(home: Path) -> dict[str, int]:
    """Files of rows on disk, of each table."""
    return {t.name: len(list((home / "tables" / t.name).rglob("*.parquet"))) for t in DAILY}


def _kill_upkeep(home: Path, after: float) -> None:
    """Start it in a process of its own and end it `after` seconds behind its first sign of life, as kill -9 does."""
    # Why: a fork of this process would inherit its engines' threads half-way; the server forks from a clean one.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["segue.wiring.home"])
    sign, begun = processes.Pipe(duplex=False)
    process = processes.Process(target=_run, args=(home, ["maintain"], begun))
    process.start()
    begun.close()
    assert sign.recv()
    time.sleep(after)
    process.kill()
    process.join()
    sign.close()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("built")
    _land(home)
    _run(home, [step.name for step in BUILD])
    return home


def test_upkeep_after_kills_leaves_what_an_undisturbed_one_does(built: Path, tmp_path: Path) -> None:
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    for home in (undisturbed, disturbed):
        shutil.copytree(built, home)
    before, many = _contents(built), _files(built)
    begun = time.monotonic()
    _run(undisturbed, ["maintain"])
    took = time.monotonic() - begun
    expected = _contents(undisturbed)
    kept = {row["day"] for row in expected[RAW_EVENTS.name]}
    last = max(kept)
    assert kept == set(Days(last - timedelta(days=KEPT_RAW - 1), last))
    assert len({row["day"] for row in expected["listens"]}) == KEPT
    assert _files(undisturbed)[RAW_EVENTS.name] < many[RAW_EVENTS.name] / 4
    for n in range(ROUNDS):
        _kill_upkeep(disturbed, random.random() * took)
        for name, rows in _contents(disturbed).items():
            days = {row["day"] for row in rows}
            assert rows == [row for row in before[name] if row["day"] in days], f"half a day of {name}"
            assert days >= {row["day"] for row in expected[name]}, f"a day of {name} that is kept is gone"
        if n % 2:
            # Why: what is half dropped must not be taken for news, nor be built again.
            assert _run(disturbed) == {"up-to-date"}
    assert _run(disturbed, ["maintain"]) == {"running", "done"}
    assert _contents(disturbed) == expected
    assert _files(disturbed) == _files(undisturbed)
    assert _run(disturbed) == {"up-to-date"}
    assert _contents(disturbed) == expected
