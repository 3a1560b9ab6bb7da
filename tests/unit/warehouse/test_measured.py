"""The parts of each measure are counted as the textbook would, kept, and counted again only where they are not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from segue.adapters.engines.duckdb import DuckDBDelta
from segue.contracts.measures import Bins, Filled, Hours, Known, Letters, Single, Values
from segue.contracts.ports import Days
from segue.contracts.schema import Column, Table
from segue.contracts.tables import QUALITY, TRACKS
from segue.contracts.vocabulary import DAY, HOUR, MINUTE
from segue.settings.tree import Warehouse
from segue.warehouse import measured
from segue.warehouse.findings import ROWS, Part
from segue.warehouse.measured import CLIENTS, count, examples, history, keep, kept
from segue.warehouse.usual import MIN_DAYS

MONDAY = date(2026, 1, 5)
START = (MONDAY - date(1970, 1, 1)).days * DAY
PLAYS = Table(
    "plays",
    "A column for each kind of measure.",
    (
        Column("day", pa.date32(), ""),
        Column("ts", pa.int64(), ""),
        Column("received_at", pa.int64(), ""),
        Column("user_id", pa.int64(), ""),
        Column("track_id", pa.int64(), "", nullable=True, references="tracks"),
        Column("artist_id", pa.int64(), "", nullable=True),
        Column("query", pa.string(), "", nullable=True),
        Column("device", pa.string(), "", nullable=True),
    ),
    key=(),
    measures=(
        Values("device"),
        Hours("ts"),
        Bins("received_at", (0, HOUR), since="ts", unit="min", scale=MINUTE),
        Filled("query"),
        Letters("query"),
        Known("track_id", same="artist_id"),
        Single(("user_id", "ts"), among="user_id"),
    ),
    client="device",
)


def play(
    hour: int = 0,
    delay: int = 5,
    user: int = 8,
    track: int | None = 1,
    artist: int | None = 1,
    query: str | None = None,
    device: str | None = "phone",
    day: date = MONDAY,
) -> dict[str, object]:
    ts = START + (day - MONDAY).days * DAY + hour * HOUR
    values = (day, ts, ts + delay, user, track, artist, query, device)
    return dict(zip(PLAYS.names, values, strict=True))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[DuckDBDelta]:
    """An engine that keeps a hundred tracks, each of the artist of its own number."""
    made = DuckDBDelta(tmp_path, Warehouse(memory_mb=256, threads=1))
    blank = {f.name: pa.nulls(100, f.type) for f in TRACKS.arrow}
    flags = {name: pa.array([True] * 100) for name in ("explicit", "public")}
    ids = {"track_id": pa.array(range(100)), "artist_id": pa.array(range(100))}
    made.append(TRACKS, pa.table({**blank, **flags, **ids}))
    yield made
    made.close()


def counted(
    engine: DuckDBDelta, *rows: dict[str, object], days: tuple[date, ...] = (MONDAY,)
) -> dict[date, dict[Part, int]]:
    engine.overwrite(PLAYS, pa.Table.from_pylist(list(rows), PLAYS.arrow), Days(min(days), max(days)))
    return count(engine, PLAYS, engine.read(PLAYS, Days(min(days), max(days))), days)


def of(parts: dict[Part, int], measure: str, client: str | None = None) -> dict[str, int]:
    return {part.part: n for part, n in parts.items() if part.measure == measure and part.client == client}


def test_every_kind_of_measure_is_counted(engine: DuckDBDelta) -> None:
    [parts] = counted(
        engine,
        play(),
        play(23, -1, device="tv", query="björk"),
        play(23, HOUR, device=None, query="bjÃ¶rk", track=500),
        play(23, HOUR - 1, query="abc", track=2),
        play(1, track=None, artist=None, query="\ufffd", user=16),
        play(1, track=3, artist=None, user=16),
        play(1, user=1),
        play(1, user=1),
    ).values()
    assert parts[ROWS] == 8
    assert of(parts, "device") == {"phone": 6, "tv": 1, "null": 1}
    assert of(parts, "hour of ts") == {"0": 1, "1": 4, "23": 3}
    assert of(parts, "hour of ts", "phone") == {"0": 1, "1": 4, "23": 1}
    assert of(parts, "received_at after ts") == {"< 0 min": 1, "0 min ..< 60 min": 6, ">= 60 min": 1}
    assert of(parts, "received_at after ts", "tv") == {"< 0 min": 1}
    assert of(parts, "query filled") == {"filled": 4, "null": 4}
    assert of(parts, "letters of query") == {"other": 1, "broken": 2, "plain": 1}
    assert of(parts, "track_id known") == {"known": 6, "unknown": 1}
    assert of(parts, "artist_id as in tracks") == {"same": 4, "differs": 1}
    assert of(parts, "copies") == {"single": 4, "repeated": 2}, (
        "of listeners of each eighth id, on one client"
    )
    assert of(parts, "copies", "phone") == {"single": 2, "repeated": 2}


def test_measures_that_are_counted_together_come_out_as_each_alone(
    engine: DuckDBDelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [play(n % 24, HOUR * (n % 3), query="abc" if n % 5 else None, user=n % 40) for n in range(500)]
    together = counted(engine, *rows)
    monkeypatch.setattr(measured, "TOGETHER", 1)
    assert counted(engine, *rows) == together


def test_days_are_counted_apart_and_an_empty_one_too(engine: DuckDBDelta) -> None:
    days = tuple(MONDAY + timedelta(days=n) for n in range(3))
    found = counted(engine, play(), play(day=days[2]), play(day=days[2]), days=days)
    assert [found[day][ROWS] for day in days] == [1, 0, 2]
    assert of(found[days[2]], "hour of ts") == {"0": 2}


def test_names_that_anybody_makes_up_are_counted_together(engine: DuckDBDelta) -> None:
    made_up = [play(device=f"x{n}") for n in range(1_000)]
    [parts] = counted(engine, *made_up, *[play()] * 5).values()
    clients = {part.client for part in parts}
    assert len(clients - {None}) == CLIENTS + 1
    assert of(parts, "hour of ts", "phone") == {"0": 5}
    assert of(parts, "hour of ts", "other") == {"0": 1_000 - CLIENTS + 1}


def test_made_up_names_cannot_crowd_out_a_client_that_is_there_every_day(engine: DuckDBDelta) -> None:
    days = [MONDAY + timedelta(days=n) for n in range(MIN_DAYS)]
    rows = [play(device=device, day=day) for day in days for device in ("phone", "tv")]
    keep(engine, PLAYS, counted(engine, *rows, days=tuple(days)))
    flood = [play(device=f"x{n % 40}") for n in range(400)]
    [parts] = counted(engine, *flood, play(device="tv")).values()
    assert of(parts, "device")["tv"] == 1
    assert of(parts, "hour of ts", "tv") == {"0": 1}


def test_counts_are_kept_and_the_latest_of_a_day_counts(engine: DuckDBDelta) -> None:
    found = counted(engine, play(), play(5, device="tv"))
    keep(engine, PLAYS, found)
    keep(engine, PLAYS, counted(engine, play(6)))
    latest = kept(engine, PLAYS, Days(MONDAY, MONDAY))[MONDAY]
    assert latest == counted(engine, play(6))[MONDAY]
    assert kept(engine, PLAYS, Days(MONDAY + timedelta(days=1), MONDAY + timedelta(days=9))) == {}


def test_what_an_older_version_wrote_is_counted_once(engine: DuckDBDelta) -> None:
    days = Days(MONDAY, MONDAY + timedelta(days=3))
    found = counted(engine, play(), play(day=MONDAY + timedelta(days=2)), days=tuple(days))
    assert history(engine, PLAYS, days) == {day: parts for day, parts in found.items() if parts[ROWS]}
    rows = engine.row_counts(QUALITY)
    assert rows
    assert history(engine, PLAYS, days) == history(engine, PLAYS, days)
    assert engine.row_counts(QUALITY) == rows


def test_days_that_were_counted_otherwise_are_counted_again(engine: DuckDBDelta) -> None:
    found = counted(engine, play(), play(5))
    keep(engine, PLAYS, found)
    other = replace(PLAYS, measures=(Bins("received_at", (1, HOUR), since="ts"),))
    day = Days(MONDAY, MONDAY)
    assert kept(engine, other, day) == {}
    assert of(history(engine, other, day)[MONDAY], "received_at after ts", "phone") == {
        "1 ..< 3,600,000,000": 2
    }
    assert kept(engine, PLAYS, day) == found


@pytest.mark.parametrize(
    ("part", "tracks"),
    [
        (Part("hour of ts", None, "5"), [2]),
        (Part("hour of ts", "tv", "0"), [3]),
        (Part("received_at after ts", None, ">= 60 min"), [4]),
        (Part("device", None, "null"), [5]),
        (Part("track_id known", None, "unknown"), [600]),
        (Part("letters of query", None, "broken"), [6]),
        (ROWS, []),
    ],
)
def test_examples_are_rows_of_the_part(engine: DuckDBDelta, part: Part, tracks: list[int]) -> None:
    counted(
        engine,
        play(),
        play(5, track=2),
        play(track=3, device="tv"),
        play(1, HOUR, track=4),
        play(1, track=5, device=None),
        play(1, track=600),
        play(1, track=6, query="\ufffd"),
    )
    shown = examples(engine, PLAYS, engine.read(PLAYS), MONDAY, part, 3)
    assert [row["track_id"] for row in shown] == tracks
