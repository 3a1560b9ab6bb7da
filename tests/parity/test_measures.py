"""What is counted of the tables, from its one definition, on every engine: the same whole numbers."""

from __future__ import annotations

from datetime import date

import pytest

from real_engines import ENGINES, OF_SPARK, EngineOf
from segue.contracts.ports import Days
from segue.contracts.schema import Table
from segue.contracts.tables import ARTISTS, EVENTS, LISTENERS, OUTCOMES, RAW_EVENTS, SESSIONS, TRACKS
from segue.flows.compare import copy
from segue.flows.runner import Runner
from segue.flows.steps import BUILD
from segue.settings import Settings
from segue.settings.tree import Warehouse
from segue.simulation import SimulationConfig
from segue.warehouse.measured import count, history, kept
from segue.wiring.home import Home
from segue.wiring.simulate import simulate_into

pytestmark = OF_SPARK
SERVICE = SimulationConfig(tracks=150, artists=40, listeners=60, days=3, end=date(2026, 11, 21), seed=5)
WATCHED = [EVENTS, SESSIONS, OUTCOMES]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A small service whose tables DuckDB built."""
    home = Home(tmp_path_factory.mktemp("home"), Settings(warehouse=Warehouse(threads=1, memory_mb=512)))
    simulate_into(home, SERVICE, lambda day: None)
    assert list(Runner(home.engine, home.settings, home.root, home, BUILD).run())
    return home


@pytest.mark.parametrize("other", [kind for kind in ENGINES if kind != "duckdb"])
def test_counts_are_equal(home: Home, other: str, engine_of: EngineOf) -> None:
    engine = engine_of(other, Warehouse(threads=1))
    for table in (TRACKS, ARTISTS, LISTENERS, *WATCHED):
        copy(table, home.engine, engine)
    span = home.engine.days(RAW_EVENTS)
    assert span is not None

    def counted(of: Table) -> int:
        wanted = count(home.engine, of, home.engine.read(of), frozenset(span))
        assert count(engine, of, engine.read(of), frozenset(span)) == wanted
        return sum(map(len, wanted.values()))

    assert counted(EVENTS) > 500
    assert all(counted(table) >= len(span) for table in WATCHED)
    days = Days(span.first, span.last)
    assert history(engine, EVENTS, days) == history(home.engine, EVENTS, days) == kept(engine, EVENTS, days)
