"""A small history for the tests of this folder, and short ways to run the flow over it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa

from segue.adapters.engines.duckdb import DuckDBDelta
from segue.contracts.ids import uuid7_column
from segue.contracts.ports import Days, Engine
from segue.contracts.schema import Table
from segue.contracts.tables import EXPOSURES, RAW_EVENTS, TABLES, TRACKS
from segue.contracts.vocabulary import DAY
from segue.flows.registry import Step
from segue.flows.runner import Runner, StepProgress
from segue.flows.steps import BUILD
from segue.settings.tree import Settings, Warehouse
from segue.wiring.home import Home

FIRST = date(2026, 3, 1)
D = [FIRST + timedelta(days=n) for n in range(9)]
START = (FIRST - date(1970, 1, 1)).days * DAY
LANDED = ibis._.step == "land"
BUILT = [name for name, table in TABLES.items() if table.derived]


def settings(chunk_rows: int = 5_000_000) -> Settings:
    return Settings(warehouse=Warehouse(memory_mb=1024, threads=1, chunk_rows=chunk_rows))


def _filled(table: Table, rows: int, known: dict[str, object]) -> pa.Table:
    blank = {f.name: pa.nulls(rows, f.type) for f in table.arrow}
    columns = {n: pa.array(v) if isinstance(v, np.ndarray) else v for n, v in known.items()}
    return pa.table([(blank | columns)[f.name].cast(f.type) for f in table.arrow], schema=table.arrow)


def raw_events(days: Iterable[int], seed: int = 0, per_day: int = 60) -> pa.Table:
    """Plays and other events on those days (counted from FIRST) of eight listeners, also around midnight."""
    dice = np.random.default_rng(seed)
    day = np.repeat(np.fromiter(days, np.int64), per_day)
    offset = np.where(
        dice.random(len(day)) < 0.3, dice.integers(0, DAY // 48, len(day)), dice.integers(0, DAY, len(day))
    )
    offset = np.where(dice.random(len(day)) < 0.2, DAY - 1 - offset % (DAY // 48), offset)
    ts = START + day * DAY + offset
    ids = uuid7_column(ts, dice.integers(0, 2**63, (len(ts), 2)).astype(np.uint64))
    kinds = dice.choice(["play", "skip", "like", "impression"], len(ts), p=[0.7, 0.1, 0.1, 0.1])
    known: dict[str, object] = {
        "day": pa.array((ts // DAY).astype(np.int32)).cast(pa.date32()),
        "event_id": pa.array([row.tobytes() for row in ids]),
        "ts": ts,
        "received_at": ts + 5,
        "user_id": dice.integers(1, 9, len(ts)),
        "type": pa.array(kinds.tolist()),
        "track_id": dice.integers(1, 21, len(ts)),
        "ms_played": dice.integers(0, 60_000, len(ts)).astype(np.int32),
    }
    return _filled(RAW_EVENTS, len(ts), known)


def exposures(raw: pa.Table) -> pa.Table:
    """A slot for each tenth event, shown a minute before it."""
    chosen = raw.take(pa.array(range(0, raw.num_rows, 10)))
    ts = chosen["ts"].to_numpy() - 60_000_000
    known: dict[str, object] = {
        "day": pa.array((ts // DAY).astype(np.int32)).cast(pa.date32()),
        "request_id": chosen["event_id"].combine_chunks(),
        "ts": ts,
        "user_id": chosen["user_id"].combine_chunks(),
        "surface": pa.array(["home"] * len(ts)),
        "position": np.zeros(len(ts), np.int16),
        "track_id": chosen["track_id"].combine_chunks(),
    }
    return _filled(EXPOSURES, len(ts), known)


def tracks() -> pa.Table:
    ids = np.arange(1, 21)
    known: dict[str, object] = {
        "track_id": ids,
        "artist_id": ids % 7,
        "duration_ms": np.full(20, 40_000, np.int32),
        "uploaded_at": np.full(20, (D[0] - date(1970, 1, 1)).days * DAY),
    }
    return _filled(TRACKS, 20, known | {"explicit": np.zeros(20, bool), "public": np.ones(20, bool)})


def home_with(path: Path, raw: pa.Table) -> DuckDBDelta:
    engine = DuckDBDelta(path / "tables", settings().warehouse)
    engine.overwrite(TRACKS, tracks())
    engine.append(RAW_EVENTS, raw)
    engine.append(EXPOSURES, exposures(raw))
    return engine


def runner(
    engine: Engine, path: Path, steps: Sequence[Step] = BUILD, given: Settings | None = None
) -> Runner:
    given = given or settings()
    return Runner(engine, given, path, Home(path, given), steps, partial(DuckDBDelta, path / "tables"))


def run(engine: Engine, path: Path, **how: object) -> list[StepProgress]:
    chunk_rows = how.pop("chunk_rows", 5_000_000)
    assert isinstance(chunk_rows, int)
    return list(runner(engine, path, given=settings(chunk_rows)).run(**how))  # type: ignore[arg-type]


def work(progress: Iterable[StepProgress]) -> dict[str, list[Days]]:
    """The days each step built."""
    done: dict[str, list[Days]] = {}
    for item in progress:
        if item.state == "done" and item.days is not None:
            done.setdefault(item.step, []).append(item.days)
    return done


def contents(engine: Engine) -> dict[str, list[dict[str, object]]]:
    """Every row of every built table, in order."""
    return {
        name: engine.collect(engine.read(TABLES[name]).order_by(TABLES[name].names)).to_pylist()
        for name in BUILT
    }


def commits(path: Path) -> dict[str, int]:
    """How often each table was written."""
    logs = (path / "tables").glob("*/_delta_log")
    return {log.parent.name: len(list(log.glob("*.json"))) for log in logs}
