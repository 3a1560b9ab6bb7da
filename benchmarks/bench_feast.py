"""The point-in-time join of samples to features of tracks and artists, beside Feast's on the same rows.

Feast joins what somebody has computed before: it is given the features of every track and artist as of each day, as Parquet with
a day's time to live, and that they had to be computed is not counted. Ours computes them from daily counts within the join. Each
join runs in a process of its own, taking turns, with samples in memory; both must come to the same values. Time is CPU, memory is
what the join adds to the most that the process held before it.

Data: a simulated service that keeps a year, as training asks for by default (`training.history_days`): 10,000 tracks; samples are
plays of the last seven days. Ours has the year's tables before it each time. What Feast is given is the two weeks that hold all
that is joined, which is what somebody hands it who cuts the features to the samples beforehand; then the year, which is the
source as it stands. Its default store merges each sample with every row of its track or artist, and only then looks at the time;
days before the two weeks are never joined, so they repeat its values. A row group a day, in order of time, is the best for it.

Feast comes in an environment of its own, since its versions conflict (`make .feast/.ready`); without it there is only our row.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import ROOT, Goal, Row, peak_mb
from segue.adapters.engines.duckdb import DuckDBDelta
from segue.contracts.ports import Days, Engine
from segue.contracts.tables import EVENTS
from segue.contracts.vocabulary import DAY
from segue.features import FEATURES
from segue.features.offline import matrix, training_join
from segue.features.relations import Artist, Entity, Track
from segue.settings import Settings
from segue.settings.tree import State, Warehouse
from segue.simulation import SimulationConfig
from segue.training.features import day_snapshot, feature_tables
from segue.wiring.flow import runner_of
from segue.wiring.home import Home
from segue.wiring.simulate import simulate_into

PYTHON = ROOT / ".feast" / "bin" / "python"
SERVICE = SimulationConfig(tracks=10_000, artists=2_000, listeners=2_000, days=365, seed=4)
TABLES = ("events", "daily-tracks", "daily-artists")
SAMPLED_DAYS, SAMPLES, REPEATS = 7, 50_000, 3
TRUE_DAYS = 2 * SAMPLED_DAYS
KEPT = {TRUE_DAYS: "features of two weeks", SERVICE.days: "features of a year"}
LONG_S = 20
"""A join that takes longer is not repeated."""
LIMIT_S, LIMIT_MB = 300, 12_000
"""What a join may take before it is stopped."""
STORES = {"dask": "its default store", "duckdb": "its DuckDB store"}
GOALS = {"dask": {"cpu": 50.0, "memory": 10.0}, "duckdb": {"cpu": 1.0}}
WAREHOUSE = Warehouse(memory_mb=2_048, threads=1)
Spent = dict[str, float]


def run() -> list[Row]:
    """Time and memory beside each of Feast's stores, given two weeks of features, then a year."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        home = Home(folder, Settings(warehouse=WAREHOUSE))
        simulate_into(home, SERVICE, lambda day: None)
        list(runner_of(home).run(TABLES))
        samples = _write_samples(home.engine, folder)
        true = {entity: _true_features(home.engine, entity) for entity in (Track, Artist)}
        home.engine.close()
        if not PYTHON.exists():
            detail = f"{samples:,} samples, {len(_names())} features of tracks and artists"
            spent = _spent(_ours(folder))
            assert spent is not None
            return [Row("point-in-time join", samples / spent["cpu"], None, None, "samples/s of CPU", detail)]
        return [row for kept in KEPT for row in _beside(folder, samples, true, kept)]


def _beside(folder: Path, samples: int, true: Mapping[Entity, list[pa.Table]], kept: int) -> list[Row]:
    """One case: Feast is given the features of `kept` days."""
    given = sum(_write(folder, entity, tables, kept) for entity, tables in true.items())
    found = _in_turns({"ours": _ours(folder)} | {store: _theirs(folder, store) for store in STORES})
    mine = found["ours"]
    assert mine is not None
    detail = f"{samples:,} samples, {len(_names())} features of tracks and artists; Feast joins {given:,} rows made before"
    rows = []
    for store, title in STORES.items():
        name, its = f"{KEPT[kept]}, beside {title}", found[store]
        if its is None:
            note = f"{detail}; it was stopped, since it took more than {LIMIT_S} s or {LIMIT_MB:,} MB"
            rows.append(Row(f"point-in-time join, {name}", mine["cpu"], None, None, "s CPU", note))
            continue
        note = (
            f"{detail}; {_agreement(folder, store)}; on the wall {mine['wall']:.2f} and {its['wall']:.2f} s"
        )
        for key, what, unit in (("cpu", "point-in-time join", "s CPU"), ("memory", "its memory", "MB more")):
            limit, ratio = GOALS[store].get(key), its[key] / mine[key]
            goal = None if limit is None else Goal(f"at least {limit:g} times better", ratio >= limit)
            rows.append(Row(f"{what}, {name}", mine[key], its[key], ratio, unit, note, goal))
    return rows


def _in_turns(commands: Mapping[str, list[str]]) -> dict[str, Spent | None]:
    """Medians of what the joins took; None for one that was stopped."""
    found: dict[str, list[Spent | None]] = {name: [] for name in commands}
    for _ in range(REPEATS):
        for name, command in commands.items():
            if not found[name] or ((last := found[name][-1]) and last["wall"] < LONG_S):
                found[name].append(_spent(command))
    ended = {name: [one for one in spent if one] for name, spent in found.items()}
    return {name: _medians(spent) if spent else None for name, spent in ended.items()}


def _medians(found: list[Spent]) -> Spent:
    return {key: statistics.median(one[key] for one in found) for key in found[0]}


def join(folder: Path) -> Spent:
    """Ours, in a process of its own; writes joined.npy, rows as sampled."""
    engine = DuckDBDelta(folder / "warehouse", WAREHOUSE)
    samples = pq.read_table(folder / "ours.parquet")
    before, wall, cpu = peak_mb(), time.perf_counter(), time.process_time()
    moments = samples["ts"].to_numpy()
    tables = feature_tables(engine, _names(), int(moments.min()), int(moments.max()))
    joined = engine.collect(training_join(ibis.memtable(samples), tables, State(), _names()))
    spent = {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "memory": peak_mb() - before,
    }
    engine.close()
    np.save(folder / "joined.npy", matrix(joined.sort_by("row"), _names()))
    return spent


def _names() -> list[str]:
    return [name for name, feature in FEATURES.items() if feature.entity in (Track, Artist)]


def _write_samples(engine: Engine, folder: Path) -> int:
    days = engine.days(EVENTS)
    assert days is not None
    events = engine.read(EVENTS, Days(days.last - timedelta(days=SAMPLED_DAYS - 1), days.last))
    chosen = events.filter((events.type == "play") & events.artist_id.notnull())
    rows = engine.collect(
        chosen.order_by("event_id").select("user_id", "ts", "track_id", "artist_id").limit(SAMPLES)
    )
    numbers = pa.array(np.arange(rows.num_rows))
    mine = rows.select(["user_id", "ts", "track_id"]).append_column("row", numbers)
    mine = mine.append_column("request_id", numbers).append_column(
        "surface", pa.array(["home"] * len(numbers))
    )
    pq.write_table(mine, folder / "ours.parquet")
    at = rows["ts"].cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    its = pa.table({"track_id": rows["track_id"], "artist_id": rows["artist_id"], "event_timestamp": at})
    pq.write_table(its.append_column("row", numbers), folder / "samples.parquet")
    return int(rows.num_rows)


def _true_features(engine: Engine, entity: Entity) -> list[pa.Table]:
    """Every track or artist as of each of the days that hold what is joined, the last day first."""
    days = engine.days(EVENTS)
    assert days is not None
    last = (days.last - date(1970, 1, 1)).days
    return [engine.collect(day_snapshot(engine, entity, (last - back) * DAY)) for back in range(TRUE_DAYS)]


def _write(folder: Path, entity: Entity, true: list[pa.Table], kept: int) -> int:
    """Those features, and before them the same again as those of earlier days. Returns the rows."""
    last = (true[0]["day"][0].as_py() - date(1970, 1, 1)).days
    written = 0
    with pq.ParquetWriter(folder / f"{entity.name}.parquet", _schema(entity)) as writer:
        for back in reversed(range(kept)):
            rows = true[back % TRUE_DAYS].drop_columns(["day"])
            at = pa.array(np.full(rows.num_rows, (last - back) * DAY), pa.timestamp("us", "UTC"))
            writer.write_table(rows.append_column("at", at).cast(_schema(entity)))
            written += rows.num_rows
    return written


def _schema(entity: Entity) -> pa.Schema:
    names = [name for name, feature in FEATURES.items() if feature.entity is entity]
    fields = [pa.field(entity.key, pa.int64()), *(pa.field(name, pa.float32()) for name in names)]
    return pa.schema([*fields, pa.field("at", pa.timestamp("us", "UTC"))])


def _agreement(folder: Path, store: str) -> str:
    """In how many values both came to the same. Raises AssertionError where rows are missing."""
    ours = np.load(folder / "joined.npy")
    joined = pq.read_table(folder / f"joined-{store}.parquet").sort_by("row")
    theirs = np.column_stack([joined[name].to_numpy().astype(np.float32) for name in _names()])
    assert theirs.shape == ours.shape
    same = np.isclose(ours, theirs, rtol=1e-5, equal_nan=True)
    return f"{same.mean():.2%} of the values are the same"


def _ours(folder: Path) -> list[str]:
    return [sys.executable, "-m", "benchmarks.bench_feast", str(folder)]


def _theirs(folder: Path, store: str) -> list[str]:
    return [str(PYTHON), str(ROOT / "benchmarks" / "feast_join.py"), str(folder), store]


def _spent(command: list[str]) -> Spent | None:
    """What a join took; None if it was stopped at a limit."""
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    started = time.monotonic()
    while child.poll() is None:
        time.sleep(0.1)
        if time.monotonic() - started > LIMIT_S or peak_mb(child.pid) > LIMIT_MB:
            child.kill()
            child.communicate()
            return None
    said, _ = child.communicate()
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    found: Spent = json.loads(said.strip().splitlines()[-1])
    return found


if __name__ == "__main__":
    print(json.dumps(join(Path(sys.argv[1]))))
