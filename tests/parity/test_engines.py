"""The flow's tables, from their one definition, on every engine: equal row by row."""

from __future__ import annotations

import gc
from datetime import date
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from real_engines import ENGINES, OF_SPARK, RAN, Places
from segue.events.importers import choose_importer, import_path
from segue.flows.steps import BUILD
from segue.settings import Settings
from segue.settings.tree import Warehouse
from segue.simulation import SimulationConfig
from segue.wiring.compare import compare_engines
from segue.wiring.home import Home
from segue.wiring.simulate import simulate_into

pytestmark = OF_SPARK
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
    assert empty == (set() if make is simulated else {"outcomes", "daily_artists"})
    home.engine.close()
    gc.collect()
