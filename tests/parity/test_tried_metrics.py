"""Experiments' unit tables, from their one definition, on every engine: equal row by row."""

from __future__ import annotations

import gc
import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from real_engines import ENGINES, OF_SPARK, RAN, Places
from segue.contracts.ports import Engine
from segue.contracts.tables import ARTISTS, DAILY_ARTISTS, EVENTS, EXPOSURES, LISTENERS, OUTCOMES, TRACKS
from segue.experiments.credited import preferences
from segue.experiments.results import collect
from segue.experiments.store import Kept
from segue.flows.compare import copy
from segue.settings import Settings
from segue.settings.tree import Warehouse
from segue.wiring.home import Home
from tried_service import DAYS, SHARED, service, tried

pytestmark = OF_SPARK
END = int(datetime(2026, 11, 22, tzinfo=UTC).timestamp()) * 1_000_000
SURFACES = ("home", "station")
EXPERIMENTS = (
    tried(),
    tried(name="sessions", layer="t", unit="session"),
)


@pytest.mark.parametrize("other", [kind for kind in ENGINES if kind != "duckdb"])
def test_unit_tables_are_equal_row_by_row(other: str, request, places: Places, tmp_path: Path) -> None:
    settings = places.settings(other, Warehouse(threads=1))
    here = msgspec.structs.replace(settings, engine="duckdb")
    home = service(tmp_path / "duckdb", Settings(warehouse=here), *EXPERIMENTS, SHARED)
    there = Home(tmp_path / other, Settings(warehouse=settings))
    for table in (EVENTS, OUTCOMES, EXPOSURES, TRACKS, ARTISTS, LISTENERS, DAILY_ARTISTS):
        copy(table, home.engine, there.engine)
    request.node.user_properties.append((RAN, other))
    for one in EXPERIMENTS:
        wanted, found = (_collected(engine, one) for engine in (home.engine, there.engine))
        assert wanted["units"].num_rows > 10
        for name, rows in wanted.items():
            assert found[name] == rows, (one.name, name)
    kept = Kept(SHARED)
    wanted, found = (
        _rounded(preferences(engine, kept, SURFACES, END)) for engine in (home.engine, there.engine)
    )
    assert found == wanted
    home.engine.close()
    there.engine.close()
    gc.collect()


def _rounded(found: object) -> object:
    """Without what the order of a sum does to its last digits."""
    return json.loads(
        msgspec.json.encode(found, enc_hook=float), parse_float=lambda text: round(float(text), 9)
    )


def _collected(engine: Engine, one: object) -> dict[str, object]:
    found = collect(engine, one, SURFACES, DAYS, END)  # type: ignore[arg-type]
    return {"units": _sorted(found.units), "days": _sorted(found.days)} | {
        "left_out": found.left_out,
        "creators": found.creators,
    }


def _sorted(rows: pa.Table) -> pa.Table:
    names = sorted(rows.column_names)
    order = [(name, "ascending") for name in ("unit", "variant", "day") if name in names]
    plain = rows.select(names).sort_by(order).combine_chunks()
    return pa.table({name: plain[name].combine_chunks() for name in names}).replace_schema_metadata(None)
