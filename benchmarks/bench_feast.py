"""The point-in-time join of samples to features of tracks and artists, beside Feast's on the same rows.

Feast joins what somebody has computed before: it is given the features of every track and artist as of each day, as Parquet with
a day's time to live, and that they had to be computed is not counted. Ours computes them from daily counts within the join. Each
join runs in a process of its own, taking turns, with samples in memory; both must come to the same values. Time is CPU, memory is
what the join adds to the most that the process held before it.

Data: a simulated service, 10,000 tracks, 40 days; samples are plays of the last seven. Feast comes in an environment of its
own, since its versions conflict (`make .feast/.ready`); without it there is only our row.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
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
from segue.flows.steps import BUILD
from segue.settings import Settings
from segue.settings.tree import State, Warehouse
from segue.simulation import SimulationConfig
from segue.training.features import day_snapshot, feature_tables
from segue.wiring.flow import runner_of
from segue.wiring.home import Home
from segue.wiring.simulate import simulate_into

PYTHON = ROOT / ".feast" / "bin" / "python"
SERVICE = SimulationConfig(tracks=10_000, artists=2_000, listeners=2_000, days=40, seed=4)
SAMPLED_DAYS, SAMPLES, REPEATS = 7, 50_000, 3
STORES = {"dask": "its default store", "duckdb": "its DuckDB store"}
WAREHOUSE = Warehouse(memory_mb=2_048, threads=1)
Spent = dict[str, float]


def run() -> list[Row]:
    """Time and memory beside each of Feast's stores."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        home = Home(folder, Settings(warehouse=WAREHOUSE))
        simulate_into(home, SERVICE, lambda day: None)
        list(runner_of(home).run([step.name for step in BUILD]))
        samples = _write_samples(home.engine, folder)
        given = _write_features(home.engine, folder)
        home.engine.close()
        ours: list[Spent] = []
        theirs: dict[str, list[Spent]] = {store: [] for store in STORES if PYTHON.exists()}
        for _ in range(REPEATS):
            ours.append(_spent([sys.executable, "-m", "benchmarks.bench_feast", made]))
            for store, found in theirs.items():
                found.append(_spent([str(PYTHON), str(ROOT / "benchmarks" / "feast_join.py"), made, store]))
        agreed = {store: _agreement(folder, store) for store in theirs}
    detail = f"{samples:,} samples, {len(_names())} features of tracks and artists"
    mine = {name: statistics.median(one[name] for one in ours) for name in ours[0]}
    if not theirs:
        return [Row("point-in-time join", samples / mine["cpu"], None, None, "samples/s of CPU", detail)]
    rows = []
    for store, found in theirs.items():
        its = {name: statistics.median(one[name] for one in found) for name in found[0]}
        note = (
            f"{detail}; Feast joins {given:,} rows that were made before; {agreed[store]}; on the wall "
            f"{mine['wall']:.2f} and {its['wall']:.2f} s"
        )
        faster, less = (50.0, 10.0) if store == "dask" else (1.0, None)
        for name, unit, limit in (("cpu", "s CPU", faster), ("memory", "MB more", less)):
            ratio = its[name] / max(mine[name], 1e-9)
            goal = None if limit is None else Goal(f"at least {limit:g} times better", ratio >= limit)
            what = "point-in-time join" if name == "cpu" else "its memory"
            rows.append(
                Row(f"{what}, beside {STORES[store]}", mine[name], its[name], ratio, unit, note, goal)
            )
    return rows


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


def _write_features(engine: Engine, folder: Path) -> int:
    """Every track and artist as of each of the sampled days and as many before them. Returns the rows."""
    days = engine.days(EVENTS)
    assert days is not None
    return sum(_write(engine, entity, days.last, folder) for entity in (Track, Artist))


def _write(engine: Engine, entity: Entity, last: date, folder: Path) -> int:
    written = 0
    with pq.ParquetWriter(folder / f"{entity.name}.parquet", _schema(entity)) as writer:
        for back in reversed(range(2 * SAMPLED_DAYS)):
            start = ((last - date(1970, 1, 1)).days - back) * DAY
            rows = engine.collect(day_snapshot(engine, entity, start)).drop_columns(["day"])
            at = pa.array(np.full(rows.num_rows, start), pa.timestamp("us", "UTC"))
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


def _spent(command: list[str]) -> Spent:
    done = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    found: Spent = json.loads(done.stdout.strip().splitlines()[-1])
    return found


if __name__ == "__main__":
    print(json.dumps(join(Path(sys.argv[1]))))
