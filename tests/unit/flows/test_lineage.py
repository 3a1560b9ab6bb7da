"""Lineage is read off the definitions: held against facts found by hand, and against what a change really does to the rows."""

from __future__ import annotations

from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pytest
from made_flow import D, Days, home_with, raw_events, run

from segue.contracts.errors import NotFound
from segue.contracts.tables import EVENTS, TABLES
from segue.features import FEATURES
from segue.features.expression import Aggregate, leaves
from segue.features.relations import Track
from segue.flows.definitions import expressions
from segue.flows.lineage import Lineage, origins
from segue.flows.steps import build_daily_artists, build_daily_listeners, build_daily_tracks, build_listens


@pytest.fixture(scope="module")
def lineage() -> Lineage:
    return Lineage()


def test_a_column_comes_from_what_its_definition_says(lineage: Lineage) -> None:
    listens = lineage.of("daily_tracks.listens")
    assert listens.values == {"events.listened"}
    assert listens.rows == {"events.day", "events.track_id"}
    judged = lineage.of("events.listened")
    assert judged.values == {"raw_events.type", "raw_events.ms_played", "tracks.duration_ms"}
    assert lineage.of("events.artist_id").values == {"raw_events.artist_id", "tracks.artist_id"}
    assert lineage.of("co_listens.pairs").values == set(), "it counts rows"
    assert lineage.of("co_listens.pairs").rows >= {"listens.ts", "listens.session_start", "listens.track_id"}
    assert lineage.of("raw_events.type").values == set()


def test_what_a_change_touches(lineage: Lineage) -> None:
    touched = lineage.touched("daily_tracks.listens")
    reading = {
        f.name
        for f in FEATURES.values()
        if f.entity is Track and f.value is not None
        for leaf in leaves(f.value)
        if isinstance(leaf, Aggregate) and leaf.relation == "plays"
        if leaf.column is None or leaf.column.args == ("listened",)
    }
    assert {"track_plays_7d", "track_trend_28d", "track_like_rate_28d"} < reading
    assert set(touched.features) == reading
    assert "track_likes_7d" not in touched.features
    assert (touched.values, touched.rows, touched.steps) == ((), (), ("train",))
    length = lineage.touched("tracks.duration_ms")
    assert {"events.listened", "daily_artists.skips", "outcomes.listened"} < set(length.values)
    assert {"listens.track_id", "co_listens.weight"} < set(length.rows)
    assert {"track_duration_s", "listener_track_skip_rate_90d"} < set(length.features)
    assert set(length.steps) == {"train", "publish", "state"}


def test_all_columns_end_in_tables_from_outside(lineage: Lineage) -> None:
    derived = [f"{t.name}.{c}" for t in TABLES.values() if t.derived for c in t.names]
    assert set(derived) < set(lineage.origins)
    for name, origin in lineage.origins.items():
        assert origin.values or origin.rows or name.startswith("features.context"), name
        for source in origin.values | origin.rows:
            table, _, column = source.partition(".")
            assert column in TABLES[table].names, (name, source)
            assert source in lineage.origins or not TABLES[table].derived


def test_subqueries_self_joins_and_unions_are_followed() -> None:
    a = ibis.table({"k": "int64", "x": "int64", "y": "int64"}, name="a")
    b = ibis.table({"k": "int64", "x": "int64", "y": "int64"}, name="b")
    rows = a.union(b).filter(ibis._.k.isin(b.filter(b.y > 0).k))
    rows = rows.mutate(z=rows.x - a.y.max().as_scalar())
    found = origins(rows.select("x", "z"))
    assert found["x"].values == {"a.x", "b.x"}
    assert found["z"].values == {"a.x", "b.x", "a.y"}
    assert found["x"].rows == {"a.k", "b.k", "b.y"}
    other = a.view()
    pairs = a.join(other, a.k == other.x).select(left=a.x, right=other.y)
    assert (origins(pairs)["right"].values, origins(pairs)["left"].rows) == ({"a.y"}, {"a.k", "a.x"})


def test_an_unknown_column_is_refused_with_the_nearest(lineage: Lineage) -> None:
    with pytest.raises(NotFound, match=r"did you mean 'daily_tracks\.listens'"):
        lineage.of("daily_tracks.listen")
    with pytest.raises(NotFound, match=r"did you mean 'features\.track_plays_7d'"):
        lineage.touched("features.track_play_7d")


@pytest.mark.parametrize(
    "step", [build_listens, build_daily_tracks, build_daily_artists, build_daily_listeners]
)
def test_what_really_changes_with_a_column_was_told(lineage: Lineage, step, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    engine = home_with(tmp_path, raw_events(range(2), per_day=300))
    run(engine, tmp_path, steps=["events"])
    events = engine.collect(engine.read(EVENTS).order_by("event_id"))
    (table,) = step.writes

    def made(rows: pa.Table) -> dict[str, list[object]]:
        given = expressions(step, Days(D[0], D[1]), lambda table, days: ibis.memtable(rows))[table.name]
        found = engine.collect(given)
        return {name: found[name].sort().to_pylist() for name in table.names}

    before, changed = made(events), set[str]()
    for name in EVENTS.names[1:]:
        values = events[name].combine_chunks()
        if values.null_count < len(values):
            order = pa.array(np.random.default_rng(1).permutation(len(values)))
            after = made(events.set_column(events.schema.get_field_index(name), name, values.take(order)))
            different = {c for c in table.names if after[c] != before[c]}
            told = {c for c in table.names if f"events.{name}" in _all(lineage, f"{table.name}.{c}")}
            assert different <= told, name
            changed |= different
    assert len(changed) > 3
    engine.close()


def _all(lineage: Lineage, column: str) -> frozenset[str]:
    return lineage.of(column).values | lineage.of(column).rows
