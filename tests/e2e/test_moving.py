"""A home that is given BigQuery brings along what came in before, whole, and erases in both places."""

from __future__ import annotations

import gc
from datetime import date
from pathlib import Path

import msgspec
import pytest
from command import Done, segue

from real_engines import RAN, Places
from segue.contracts.tables import EVENTS, FRIENDSHIPS, LISTENERS, RAW_EVENTS
from segue.flows.compare import compare
from segue.flows.runner import Runner
from segue.flows.steps import BUILD
from segue.settings import Settings
from segue.settings.tree import Warehouse
from segue.simulation import SimulationConfig
from segue.wiring import moving
from segue.wiring.home import Home
from segue.wiring.simulate import simulate_into

SERVICE = SimulationConfig(tracks=120, artists=30, listeners=40, days=4, end=date(2026, 11, 21), seed=5)


def test_a_home_moves_whole(request, monkeypatch: pytest.MonkeyPatch, places: Places, tmp_path: Path) -> None:
    there = places.settings("bigquery", Warehouse(threads=1))
    request.node.user_properties.append((RAN, "bigquery"))
    here = msgspec.structs.replace(there, engine="duckdb")
    root = tmp_path / "home"
    files, moved = (Home(root, Settings(warehouse=warehouse)) for warehouse in (here, there))
    simulate_into(files, SERVICE, lambda day: None)
    assert all(p.state != "failed" for p in Runner(files.engine, files.settings, root, files, BUILD).run())
    place = there.bigquery
    on_bigquery = {
        "SEGUE_WAREHOUSE__ENGINE": "bigquery",
        "SEGUE_WAREHOUSE__BIGQUERY__PROJECT": place.project,
        "SEGUE_WAREHOUSE__BIGQUERY__DATASET": place.dataset,
        "SEGUE_WAREHOUSE__BIGQUERY__ENDPOINT": place.endpoint,
        "SEGUE_WAREHOUSE__BIGQUERY__STORAGE_ENDPOINT": place.storage_endpoint,
    }

    def command(*arguments: str) -> Done:
        return segue(root, *arguments, more=on_bigquery)

    # A copy that ends after the events have begun to arrive: the dataset is not empty any more, and not whole.
    def broken_off(what: str) -> None:
        if moved.engine.days(RAW_EVENTS) is not None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        moving.bring(moved, broken_off)
    assert (root / moving.MOVING).exists()

    done = command("run", "--no-train")
    assert done.code == 0, done.err
    assert "rows of raw_events, from" in done.err
    assert not (root / moving.MOVING).exists()
    engines = {"files": files.engine, "bigquery": moved.engine}
    for table in moving.CAME_IN:
        assert files.engine.row_counts(table) == moved.engine.row_counts(table), table.name
    # Not the catalogue: to BigQuery a list that is empty and one that is unknown are the same.
    for table in (RAW_EVENTS, LISTENERS, FRIENDSHIPS, *(table for step in BUILD for table in step.writes)):
        found = compare(table, engines)
        assert found.equal, (table.name, found)
    assert compare(EVENTS, engines).rows["bigquery"] > 0

    # It moves once: what goes from the dataset later does not come back out of the files.
    user = files.engine.collect(files.engine.read(FRIENDSHIPS))["user_id"][0].as_py()
    removed = command("erase", str(user), "--json").json["removed"]
    assert removed["listeners"] == 2, "erased on one engine only"
    assert "move" not in command("run", "--no-train").err
    for engine in engines.values():
        for table in (RAW_EVENTS, LISTENERS):
            rows = engine.read(table)
            assert engine.collect(rows.filter(rows.user_id == user)).num_rows == 0
    for home in (files, moved):
        home.engine.close()
    gc.collect()
