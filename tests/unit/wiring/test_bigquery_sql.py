"""What BigQuery is asked: as it was reviewed, and no more than the partitions that a day needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from importlib.util import find_spec

import pytest
import sqlglot
from sqlglot import exp
from sqlglot.optimizer.scope import traverse_scope

from golden_sql import DAY, FOLDER, OF_FEATURES, TABLES, joined, texts
from segue.adapters.engines.sql import select
from segue.contracts.ports import Days
from segue.contracts.schema import Table
from segue.contracts.tables import TABLES as ALL
from segue.flows.definitions import definition
from segue.wiring.engines import printed

pytestmark = pytest.mark.skipif(
    find_spec("google.cloud.bigquery") is None, reason="bigquery: not installed here; make engines"
)


@dataclass(frozen=True)
class Scan:
    """A table that a statement reads, and the constant range of partitions that it keeps to, if any."""

    table: str
    days: Days | None


def _constant(node: exp.Expression | None) -> date | None:
    plain = isinstance(node, exp.Cast) and node.is_type("date") and isinstance(node.this, exp.Literal)
    return date.fromisoformat(node.this.name) if plain and node is not None else None


def _range(condition: exp.Expression | None, alias: str) -> Days | None:
    """The constant range of `day` that holds of every row the condition lets through."""
    for part in condition.flatten() if isinstance(condition, exp.And) else [condition]:
        if isinstance(part, exp.Between) and part.this.name == "day" and part.this.table in ("", alias):
            first, last = _constant(part.args["low"]), _constant(part.args["high"])
            if first is not None and last is not None:
                return Days(first, last)
    return None


def scans(text: str) -> Iterator[Scan]:
    """Every reading of a table of the warehouse in some statements, that which a MERGE changes included."""
    for statement in sqlglot.parse(text, read="bigquery"):
        assert isinstance(statement, exp.Create | exp.Merge | exp.Select), statement
        if isinstance(statement, exp.Merge):
            target = statement.this
            assert statement.args["on"].sql() == "FALSE"
            for when in statement.args["whens"].expressions:
                if when.args.get("source"):
                    yield Scan(target.name, _range(when.args["condition"], target.alias))
        for query in statement.find_all(exp.Select):
            if query.parent_select is None:
                for scope in traverse_scope(query):
                    where = scope.expression.args.get("where")
                    for alias, source in scope.sources.items():
                        if isinstance(source, exp.Table) and source.name in ALL:
                            yield Scan(source.name, _range(where.this if where else None, alias))


def _too_much(text: str, table: Table, day: Days) -> list[Scan]:
    """Scans of daily tables that no constant keeps to the days that the step declares."""
    allowed = {**definition(table.name, day).reads, table.name: day}
    found = []
    for scan in scans(text):
        window = allowed[scan.table]
        if window is not None and (
            scan.days is None or scan.days.first < window.first or scan.days.last > window.last
        ):
            found.append(scan)
    return found


def test_the_statements_are_those_that_were_reviewed() -> None:
    kept = {path.name: path.read_text() for path in FOLDER.glob("*.sql")}
    assert texts() == kept, "see what changed with `make golden` and `git diff`, and review it"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_day_touches_the_partitions_it_must_and_no_others(table: Table) -> None:
    found = definition(table.name, DAY)
    text = printed("bigquery", found)
    assert {scan.table for scan in scans(text)} == {*found.reads, table.name}
    assert _too_much(text, table, DAY) == []


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_scan_of_other_partitions_is_found(table: Table) -> None:
    """The test before would fail: the statements of a day are held against the windows of the one before it."""
    text = printed("bigquery", definition(table.name, DAY))
    before = Days(DAY.first - timedelta(days=9), DAY.last - timedelta(days=9))
    daily = {name for name, days in definition(table.name, DAY).reads.items() if days is not None}
    assert {scan.table for scan in _too_much(text, table, before)} == {*daily, table.name}
    unbound = text.replace("`day` BETWEEN", "`ts` BETWEEN")
    assert {scan.days for scan in _too_much(unbound, table, DAY)} == {None}


def _days(text: str) -> dict[str, set[tuple[int, int] | None]]:
    """Of each daily table that is read: first and last partition, in days from DAY; None where nothing bounds them."""
    found: dict[str, set[tuple[int, int] | None]] = {}
    for scan in scans(text):
        if ALL[scan.table].daily:
            bounds = scan.days and tuple((day - DAY.first).days for day in (scan.days.first, scan.days.last))
            found.setdefault(scan.table, set()).add(bounds)
    return found


def test_features_touch_the_partitions_of_their_windows_and_no_others() -> None:
    found = {name: _days(texts()[f"{name}.sql"]) for name in OF_FEATURES}
    assert found == {
        # Samples of noon, and of noon a day later: 90 days of plays, 400 of marks, 28 whole days of counts.
        "features_training": {
            "exposures": {(0, 1)},
            "events": {(-90, 1), (-400, 1)},
            "daily_tracks": {(-28, 0)},
            "daily_artists": {(-28, 0)},
        },
        "features_track": {"daily_tracks": {(-28, -1)}},
        "features_artist": {"daily_artists": {(-28, -1)}},
    }


@pytest.mark.parametrize(
    ("names", "read"),
    [
        (["listener_plays_7d"], {"events": {(-7, 1)}}),
        (["listener_plays_7d", "listener_track_plays_90d"], {"events": {(-90, 1)}}),
        (["listener_track_liked"], {"events": {(-400, 1)}}),
        (["track_plays_7d"], {"daily_tracks": {(-7, 0)}}),
        (["track_explicit", "context_hour"], {}),
    ],
)
def test_fewer_features_read_fewer_days(names: list[str], read: dict[str, set[tuple[int, int]]]) -> None:
    assert _days(select("bigquery", joined(names))) == {"exposures": {(0, 1)}} | read


@pytest.mark.parametrize("table", [t for t in ALL.values() if t.daily], ids=lambda table: table.name)
def test_a_daily_table_is_partitioned_and_clustered(table: Table) -> None:
    from segue.adapters.engines.bigquery_sql import MAX_CLUSTERED, create

    (made,) = sqlglot.parse(create(table), read="bigquery")
    assert made is not None
    parts = made.args["properties"]
    assert parts.find(exp.PartitionedByProperty).this.name == "day"
    clustered = [column.name for column in parts.find(exp.ClusterProperty).expressions]
    sort = [name for name in (*table.sort, *table.key) if name not in ("day", "event_id", "request_id")]
    assert clustered == list(dict.fromkeys(sort))[:MAX_CLUSTERED]
