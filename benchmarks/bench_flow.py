"""The flow from raw events to the inputs of the features: clean events, sessions, listens, daily counts, co-listens.

There is no peer: the rows tell what a million events cost on one thread, step by step and together, with the reading, the
contract checks and the Delta commits in it, and how many bytes an event takes on disk.

Data: a million events of 25,000 listeners over 15 days, in sessions of eight; 70% plays, 10% skips, 15% impressions, 5%
likes; 100,000 tracks with cubic popularity.
"""

from __future__ import annotations

import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.harness import Row
from segue.adapters.engines.duckdb import DuckDBDelta
from segue.contracts.ids import uuid7_column
from segue.contracts.schema import Table
from segue.contracts.tables import EVENTS, RAW_EVENTS, TRACKS
from segue.contracts.vocabulary import DAY, MINUTE
from segue.flows.runner import Runner
from segue.flows.steps import BUILD
from segue.settings.tree import Settings, Warehouse
from segue.wiring.home import Home

EVENT_COUNT, LISTENERS, TRACK_COUNT, DAYS, IN_SESSION = 1_000_000, 25_000, 100_000, 15, 8
SETTINGS = Settings(warehouse=Warehouse(memory_mb=2048, threads=1))
MILLION = 1e6


def run() -> list[Row]:
    """One row for each step, one for the whole, one for the size."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        engine = DuckDBDelta(home / "warehouse", SETTINGS.warehouse)
        engine.overwrite(TRACKS, _tracks())
        engine.append(RAW_EVENTS, _events())
        spent = _cpu_seconds(Runner(engine, SETTINGS, home, Home(home, SETTINGS), BUILD))
        stored = sum(file.stat().st_size for file in (home / "warehouse" / EVENTS.name).rglob("*.parquet"))
        engine.close()
    rows = [
        Row(f"step {step}", EVENT_COUNT / seconds, None, None, "raw events/s", f"{seconds:.1f} s CPU")
        for step, seconds in spent.items()
    ]
    total = sum(spent.values())
    tables = ", ".join(spent)
    rows.append(Row("raw events to features' inputs", EVENT_COUNT / total, None, None, "events/s", tables))
    rows.append(
        Row(
            "clean events on disk",
            stored / EVENT_COUNT,
            None,
            None,
            "bytes/event",
            "zstd, sorted by listener",
        )
    )
    return rows


def _cpu_seconds(runner: Runner) -> dict[str, float]:
    """CPU seconds of each step that had something to build."""
    spent: dict[str, float] = {}
    before = time.process_time()
    for progress in runner.run():
        now = time.process_time()
        if progress.state == "done":
            spent[progress.step] = spent.get(progress.step, 0.0) + now - before
        before = now
    return spent


def _events() -> pa.Table:
    dice = np.random.default_rng(1)
    sessions = EVENT_COUNT // IN_SESSION
    start = (date(2026, 1, 1) - date(1970, 1, 1)).days * DAY
    begun = np.repeat(dice.integers(0, DAYS * DAY, sessions), IN_SESSION)
    step = np.tile(np.arange(IN_SESSION), sessions) * 3 * MINUTE + dice.integers(0, MINUTE, EVENT_COUNT)
    ts = start + np.minimum(begun + step, DAYS * DAY - 1)
    kind = dice.choice(["play", "skip", "impression", "like"], EVENT_COUNT, p=[0.7, 0.1, 0.15, 0.05])
    ids = uuid7_column(ts, dice.integers(0, 2**63, (EVENT_COUNT, 2)).astype(np.uint64))
    packed = pa.Array.from_buffers(pa.binary(16), EVENT_COUNT, [None, pa.py_buffer(ids.tobytes())])
    heard = np.isin(kind, ["play", "skip"])
    return _filled(
        RAW_EVENTS,
        EVENT_COUNT,
        {
            "day": pa.array((ts // DAY).astype(np.int32)).cast(pa.date32()),
            "event_id": packed.cast(pa.binary()),
            "ts": pa.array(ts),
            "received_at": pa.array(ts + dice.integers(0, 5_000_000, EVENT_COUNT)),
            "user_id": pa.array(np.repeat(dice.integers(0, LISTENERS, sessions), IN_SESSION)),
            "type": pa.array(kind),
            "track_id": pa.array((TRACK_COUNT * dice.random(EVENT_COUNT) ** 3).astype(np.int64)),
            "ms_played": pa.array(dice.integers(0, 240_000, EVENT_COUNT).astype(np.int32), mask=~heard),
            "surface": pa.array(np.full(EVENT_COUNT, "home")),
        },
    )


def _tracks() -> pa.Table:
    ids = np.arange(TRACK_COUNT)
    known = {
        "track_id": pa.array(ids),
        "artist_id": pa.array(ids % 5_000),
        "duration_ms": pa.array(np.full(TRACK_COUNT, 200_000, np.int32)),
        "explicit": pa.array(np.zeros(TRACK_COUNT, bool)),
        "public": pa.array(np.ones(TRACK_COUNT, bool)),
    }
    return _filled(TRACKS, TRACK_COUNT, known)


def _filled(table: Table, rows: int, known: dict[str, pa.Array]) -> pa.Table:
    columns = {f.name: pa.nulls(rows, f.type) for f in table.arrow} | known
    return pa.table([columns[f.name].cast(f.type) for f in table.arrow], schema=table.arrow)
