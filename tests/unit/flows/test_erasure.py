"""Who is erased is in no file any more, comes back by no way in, and leaves the tables as if they had never been."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from segue.contracts.ports import Days
from segue.contracts.tables import (
    CANDIDATES,
    ERASURES,
    EVENTS,
    EXPOSURES,
    FRIENDSHIPS,
    LISTENERS,
    RAW_EVENTS,
    REJECTS,
    RUNS,
    TABLES,
)
from segue.contracts.vocabulary import SECOND
from segue.events.erasure import naming
from segue.events.importers import choose_importer, import_path
from segue.events.landing import land, land_exposures
from segue.events.records import EVENTS_TOPIC, EXPOSURES_TOPIC, Event, Exposure, encode_event, encode_exposure
from segue.events.rejects import Rejects, keep_rejects
from segue.flows.compare import compare
from segue.flows.erasure import erase
from segue.flows.steps import BUILD
from segue.simulation import SimulationConfig
from segue.warehouse.findings import Breach, Finding, Part
from segue.warehouse.incidents import record
from segue.wiring.flow import runner_of
from segue.wiring.home import Home
from segue.wiring.simulate import simulate_into

SIZE = SimulationConfig(tracks=80, artists=16, listeners=40, days=4, end=date(2026, 11, 21), seed=5)
STEPS = [*(step.name for step in BUILD), "state"]
NAMED = [table for table in TABLES.values() if naming(table) and table is not ERASURES]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables and listener state of a tiny service."""
    home = Home.open(tmp_path_factory.mktemp("built"), environ={}, overrides=["warehouse.threads=1"])
    simulate_into(home, SIZE, lambda day: None)
    run(home)
    home.engine.close()
    home.state.close()
    return home.root


@pytest.fixture
def home(built: Path, tmp_path: Path) -> Home:
    """A home of a test's own."""
    shutil.copytree(built, tmp_path / "home")
    return Home.open(tmp_path / "home", environ={}, overrides=["warehouse.threads=1"])


@pytest.fixture
def user(home: Home) -> int:
    """A busy listener who has friends."""
    friends = pc.unique(home.engine.collect(home.engine.read(FRIENDSHIPS))["user_id"])
    rows = home.engine.collect(home.engine.read(RAW_EVENTS))
    counts = pc.value_counts(rows.filter(pc.is_in(rows["user_id"], value_set=friends))["user_id"])
    return max(counts.to_pylist(), key=lambda found: found["counts"])["values"]


def run(home: Home) -> None:
    assert {progress.state for progress in runner_of(home).run(STEPS)} <= {"running", "done", "up-to-date"}


def files_with(root: Path, user: int) -> list[Path]:
    """Parquet files, whether a table needs them or not, in which a column of listeners has the listener."""
    found = []
    for path in root.rglob("*.parquet"):
        columns = set(pq.read_schema(path).names) & {"user_id", "friend_id"}
        rows = pq.ParquetFile(path).read(sorted(columns))
        if any(pc.any(pc.equal(rows[name], user)).as_py() for name in columns):
            found.append(path)
    return found


def of_others(home: Home, user: int) -> dict[str, list[str]]:
    """All rows that do not name the listener, in one order."""
    found = {}
    for table in NAMED:
        rows = home.engine.collect(home.engine.read(table))
        for name in naming(table):
            rows = rows.filter(pc.invert(pc.fill_null(pc.equal(rows[name], user), False)))
        found[table.name] = sorted(map(repr, rows.to_pylist()))
    return found


def event(user: int, second: int) -> Event:
    ts = 1_795_262_400 * SECOND + second * SECOND  # 2026-11-21
    return Event(ts.to_bytes(16, "big"), ts, ts, user, "play", track_id=1, ms_played=60_000)


def test_every_column_of_listeners_is_known() -> None:
    assert {(t.name, c) for t in TABLES.values() for c in t.names if c in ("user_id", "friend_id")} == {
        (t.name, c) for t in TABLES.values() for c in naming(t)
    }


def test_no_file_and_no_state_has_them_and_the_others_keep_what_is_theirs(home: Home, user: int) -> None:
    engine = home.engine
    keep_rejects(
        engine,
        "test",
        1_795_262_400 * SECOND,
        Rejects([1, 2], ["x"] * 2, [None] * 2, [f'{{"u":{user}}}', "7"]),
    )
    before = of_others(home, user)
    rows = {table.name: sum(engine.row_counts(table).values()) for table in NAMED}
    assert len(files_with(home.root, user)) > len(NAMED)
    assert home.state.read(user) is not None
    removed = erase(engine, home.state, home.root, [user])
    kept = [path.parts[-2] for path in files_with(home.root, user)]
    assert kept == [ERASURES.name], "only that they are erased"
    assert removed[REJECTS.name] == 1
    assert of_others(home, user) == before
    for table in NAMED:
        assert removed[table.name] == rows[table.name] - len(before[table.name])
        assert removed[table.name] > 0 or table is CANDIDATES
    assert home.state.read(user) is None
    assert set(erase(engine, home.state, home.root, [user]).values()) == {0}


def test_what_incidents_show_of_them_goes_and_of_others_stays(home: Home, user: int) -> None:
    found = Finding("events", date(2026, 11, 20), Part("type", None, "play"), "breach", 0, "few", 10, 20)
    shown = [f"{{user_id: {user}, ts: 5}}", f"{{user_id: {user}7, ts: 6}}", f"{{ts: 7, query: of {user}}}"]
    lost = Breach("few", [found], field="events", limit="10", examples=shown)
    record(home.engine, home.root, lost, "events", [])
    assert erase(home.engine, home.state, home.root, [user])["incidents"] == 2
    [page] = (home.root / "incidents").iterdir()
    text = page.read_text(encoding="utf-8")
    assert shown[1] in text
    assert shown[0] not in text
    assert shown[2] not in text
    assert "## What to do" in text
    assert erase(home.engine, home.state, home.root, [user])["incidents"] == 0


def test_the_flow_then_makes_the_tables_as_if_they_had_never_been(
    home: Home, user: int, tmp_path: Path
) -> None:
    erase(home.engine, home.state, home.root, [user])
    run(home)
    never = Home.open(tmp_path / "never", environ={}, overrides=["warehouse.threads=1"])
    for table in TABLES.values():
        if not table.derived and table is not RUNS:
            for day in home.engine.row_counts(table):
                days = Days(day, day) if table.daily else None
                never.engine.overwrite(table, home.engine.collect(home.engine.read(table, days)), days)
    run(never)
    engines = {"erased": home.engine, "never": never.engine}
    for table in TABLES.values():
        if table.derived:
            found = compare(table, engines)
            assert found.equal, found.difference
    assert home.state.read(user) is None
    assert sorted(home.state.sample(1000)) == sorted(never.state.sample(1000))


def test_neither_the_log_nor_an_import_brings_them_back(home: Home, user: int, tmp_path: Path) -> None:
    home.log.append(EVENTS_TOPIC, [encode_event(event(u, n)) for n, u in enumerate((user, user, 999))])
    shown = Exposure((1).to_bytes(16, "big"), event(user, 9).ts, user, "home", [1, 2], [0, 1])
    stranger = Exposure((2).to_bytes(16, "big"), event(user, 9).ts, None, "home", [1], [0])
    home.log.append(EXPOSURES_TOPIC, [encode_exposure(shown), encode_exposure(stranger)])
    erase(home.engine, home.state, home.root, [user])
    landed = land(home.log, home.engine)
    assert (landed.landed, landed.rejected) == (1, {"erased": 2})
    landed = land_exposures(home.log, home.engine)
    assert (landed.landed, landed.rejected) == (1, {"erased": 2})
    plays, listeners = tmp_path / "plays.csv", tmp_path / "listeners.csv"
    plays.write_text(
        f"user_id,track_id,ts,type\n{user},1,2026-11-20T10:00:00Z,play\n998,1,2026-11-20T10:00:00Z,play\n"
    )
    listeners.write_text(f"user_id,country\n{user},DE\n998,FR\n")
    for path, text in (
        (
            plays,
            '[columns]\nuser_id = "user_id"\ntrack_id = "track_id"\ntype = "type"\nts = { column = "ts", unit = "iso" }\n',
        ),
        (listeners, 'table = "listeners"\n[columns]\nuser_id = "user_id"\ncountry = "country"\n'),
    ):
        mapping = path.with_suffix(".toml")
        mapping.write_text('source = "shop"\n' + text)
        *_, done = import_path(choose_importer("table", mapping), path, home.engine, home.settings.warehouse)
        assert done.report.rejected == {"erased": 1}
        assert done.report.read == 2
        assert done.report.landed == 1
    run(home)
    assert [path.parts[-2] for path in files_with(home.root, user)] == [ERASURES.name]
    assert home.state.read(user) is None
    known = home.engine.collect(home.engine.read(LISTENERS))["user_id"]
    assert pa.scalar(user) not in known
    assert home.engine.row_counts(EXPOSURES)


@pytest.mark.parametrize("after", [0.0, 0.15, 0.4])
def test_killed_and_begun_again_it_ends_the_same(home: Home, user: int, after: float) -> None:
    engine = home.engine
    before = of_others(home, user)
    program = subprocess.Popen(
        [Path(sys.prefix) / "bin/segue", "erase", str(user), "--home", home.root], stdout=subprocess.DEVNULL
    )
    lock = home.root / "run.lock"
    while not lock.read_text().startswith("erase"):
        assert program.poll() is None
        time.sleep(0.002)
    time.sleep(after)
    program.kill()
    assert program.wait() in (0, -9)
    erase(engine, home.state, home.root, [user])
    assert [path.parts[-2] for path in files_with(home.root, user)] == [ERASURES.name]
    assert sum(engine.row_counts(ERASURES).values()) == 1
    assert of_others(home, user) == before
    run(home)
    assert sum(engine.row_counts(EVENTS).values()) == sum(engine.row_counts(RAW_EVENTS).values())
    assert home.state.read(user) is None
