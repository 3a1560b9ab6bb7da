"""The flow's tables, from their one definition, on every engine: equal row by row."""

from __future__ import annotations

import gc
from datetime import date
from pathlib import Path

import ibis
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from real_engines import ENGINES, OF_SPARK, RAN, Places
from segue.contracts.ports import Engine
from segue.contracts.tables import ARTISTS, DAILY_ARTISTS, DAILY_TRACKS, EVENTS, LISTENERS, TRACKS
from segue.contracts.vocabulary import DAY, Surface
from segue.events.importers import choose_importer, import_path
from segue.features import FEATURES
from segue.features.offline import training_join
from segue.features.relations import Artist, Candidate, Track
from segue.flows.compare import copy
from segue.flows.runner import Runner
from segue.flows.steps import BUILD
from segue.settings import Settings
from segue.settings.tree import State, Warehouse
from segue.simulation import SimulationConfig
from segue.training.features import day_snapshot, feature_tables
from segue.wiring.compare import compare_engines
from segue.wiring.home import Home
from segue.wiring.simulate import simulate_into

pytestmark = OF_SPARK
END = (date(2026, 11, 21) - date(1970, 1, 1)).days * DAY
SERVICE = SimulationConfig(tracks=150, artists=40, listeners=60, days=4, end=date(2026, 11, 21), seed=5)
PLAYS = 3_000


def simulated(root: Path, settings: Settings) -> Home:
    """A service with every type of event, exposures and answers to them."""
    home = Home(root, settings)
    simulate_into(home, SERVICE, lambda day: None)
    return home


def imported(root: Path, settings: Settings) -> Home:
    """What 30Music looks like: plays and nothing else, no artists, lengths unknown, sessions that go on past midnight."""
    rng = np.random.default_rng(7)
    gaps = np.where(rng.random(PLAYS) < 0.1, rng.integers(3_600, 40_000, PLAYS), rng.integers(20, 400, PLAYS))
    user = np.sort(rng.integers(0, 40, PLAYS))
    begin = np.append(True, (user[1:] != user[:-1]) | (gaps[1:] > 3_600))
    columns = {
        "session_id": np.cumsum(begin),
        "user_id": user,
        "song_id": rng.zipf(1.3, PLAYS) % 200,
        "ts": 1_420_070_400 + np.cumsum(gaps) % (5 * 86_400),
        "playtime": rng.integers(-1, 400, PLAYS),
    }
    path = root / "sessions.parquet"
    pq.write_table(pa.table(columns), path)
    home = Home(root, settings)
    *_, last = import_path(choose_importer("30music", None), path, home.engine, settings.warehouse)
    assert last.report.landed > PLAYS / 2
    return home


@pytest.mark.parametrize("make", [simulated, imported])
@pytest.mark.parametrize("other", [kind for kind in ENGINES if kind != "duckdb"])
def test_tables_are_equal_row_by_row(make, other, request, places: Places, tmp_path: Path) -> None:
    warehouse = msgspec.structs.replace(places.settings(other, Warehouse(threads=1)), engine="duckdb")
    home = make(tmp_path, Settings(warehouse=warehouse))
    found = compare_engines(home, ["duckdb", other])
    request.node.user_properties.append((RAN, other))
    assert {name: one.difference for name, one in found.items() if not one.equal} == {}
    empty = {name for name, one in found.items() if not one.rows["duckdb"]}
    assert list(found) == [table.name for step in BUILD for table in step.writes]
    assert empty == (set() if make is simulated else {"outcomes", "daily_artists", "debuts"})
    home.engine.close()
    gc.collect()


@pytest.mark.parametrize("other", ["bigquery", "spark"])
def test_features_are_equal_row_by_row(other: str, request, places: Places, tmp_path: Path) -> None:
    settings = places.settings(other, Warehouse(threads=1))
    home = simulated(
        tmp_path / "duckdb", Settings(warehouse=msgspec.structs.replace(settings, engine="duckdb"))
    )
    assert {
        progress.state for progress in Runner(home.engine, home.settings, home.root, home, BUILD).run()
    } == {"running", "done"}
    there = Home(tmp_path / other, Settings(warehouse=settings))
    for table in (EVENTS, DAILY_TRACKS, DAILY_ARTISTS, TRACKS, ARTISTS, LISTENERS):
        copy(table, home.engine, there.engine)
    wanted, found = (_features(engine) for engine in (home.engine, there.engine))
    request.node.user_properties.append((RAN, other))
    for name, values in wanted.items():
        # Why: sums of fractions depend on the order, in the last of seven digits.
        np.testing.assert_allclose(found[name], values, rtol=2e-6, err_msg=name)
    assert sum(np.isfinite(values).any() for values in wanted.values()) > 100
    home.engine.close()
    there.engine.close()
    gc.collect()


def _features(engine: Engine) -> dict[str, np.ndarray]:
    """Every feature that the warehouse computes: of 300 requests, and the snapshots of tracks and artists."""
    rng = np.random.default_rng(3)
    events = engine.collect(engine.read(EVENTS).select("user_id", "ts", "track_id").order_by("ts", "user_id"))
    at = np.sort(rng.choice(events.num_rows, 300, replace=False))
    samples = pa.table(
        {
            "row": pa.array(range(len(at)), pa.int64()),
            "request_id": pa.array(range(len(at)), pa.int64()),
            "user_id": events["user_id"].take(at),
            "ts": events["ts"].take(at),
            "track_id": rng.choice(events["track_id"].drop_null().to_numpy(), len(at)),
            "surface": rng.choice([surface.value for surface in Surface], len(at)),
        }
    )
    names = [name for name, feature in FEATURES.items() if feature.entity is not Candidate]
    moments = samples["ts"].to_numpy()
    tables = feature_tables(engine, names, int(moments.min()), int(moments.max()))
    joined = training_join(ibis.memtable(samples), tables, State())
    found = _columns(engine.collect(joined).sort_by("row"), names, "joined")
    for entity in (Track, Artist):
        names = [name for name, feature in FEATURES.items() if feature.entity is entity]
        rows = engine.collect(day_snapshot(engine, entity, END))
        found |= _columns(rows.sort_by(entity.key), [entity.key, *names], entity.name)
    return found


def _columns(rows: pa.Table, names: list[str], what: str) -> dict[str, np.ndarray]:
    return {f"{what} {name}": rows[name].to_numpy().astype(np.float64) for name in names}
