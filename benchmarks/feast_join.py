"""What Feast does for `benchmarks.bench_feast`, in an environment of its own (.feast): `python feast_join.py FOLDER STORE`.

FOLDER has samples.parquet, and track.parquet and artist.parquet with their features as of each day. STORE is `dask`, its
default, or `duckdb`. Writes joined-STORE.parquet, and prints seconds on the wall and of CPU and the memory that the join
took, MB.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.repo_config import RepoConfig
from feast.types import Float32


def main(folder: Path, kind: str) -> None:
    """Join, timed; then write what came."""
    config = RepoConfig(
        project="bench",
        provider="local",
        registry=str(folder / f"registry-{kind}.db"),
        offline_store={"type": kind},
        online_store={"type": "sqlite", "path": str(folder / f"online-{kind}.db")},
        entity_key_serialization_version=3,
    )
    store = FeatureStore(config=config)
    views, wanted = [], []
    for name in ("track", "artist"):
        path = folder / f"{name}.parquet"
        columns = [c for c in pq.read_schema(path).names if c not in (f"{name}_id", "at")]
        entity = Entity(name=name, join_keys=[f"{name}_id"], value_type=ValueType.INT64)
        view = FeatureView(
            name=name,
            entities=[entity],
            ttl=timedelta(days=1),
            schema=[Field(name=column, dtype=Float32) for column in columns],
            source=FileSource(name=f"{name}s", path=str(path), timestamp_field="at"),
        )
        views += [entity, view]
        wanted += [f"{name}:{column}" for column in columns]
    store.apply(views)
    samples = pd.read_parquet(folder / "samples.parquet")
    before, wall, cpu = _peak(), time.perf_counter(), time.process_time()
    joined = store.get_historical_features(entity_df=samples, features=wanted).to_arrow()
    spent = {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "memory": _peak() - before,
    }
    pq.write_table(joined, folder / f"joined-{kind}.parquet")
    print(json.dumps(spent))


def _peak() -> float:
    # As benchmarks.harness.peak_mb, which is not to be had here.
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
