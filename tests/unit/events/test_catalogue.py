"""Changes of the catalogue land in tracks and artists: the last word on each field, once, whatever is repeated."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from segue.adapters.engines.duckdb import DuckDBDelta
from segue.adapters.log.files import FileConsumer, FileLog
from segue.contracts.tables import ARTISTS, REJECTS, TRACKS
from segue.events import catalogue
from segue.events.catalogue import as_of, land_catalogue
from segue.events.changes import TOPIC, TrackChange, encode_change
from segue.events.dimensions import Known, merge
from segue.events.landing import LandReport

pytestmark = pytest.mark.filterwarnings("ignore:fetch_:DeprecationWarning")

NOW = 1_795_000_000_000_000


@pytest.fixture
def log(tmp_path: Path) -> FileLog:
    return FileLog(tmp_path / "log")


def say(log: FileLog, at: int, track_id: int, **said: Any) -> None:
    log.append(TOPIC, [encode_change(TrackChange(track_id, NOW + at, **said))])


def by_id(rows: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {row["track_id"]: row for row in rows}


def test_new_and_known_tracks(engine: DuckDBDelta, log: FileLog, rows: Any) -> None:
    held = {"track_id": 1, "title": "Old", "genre": "dub", "explicit": True, "public": True, "uploaded_at": 5}
    engine.append(TRACKS, pa.Table.from_pylist([held, {**held, "track_id": 2}], TRACKS.arrow))
    told: list[tuple[str, dict[date, int]]] = []
    say(log, 1, 1, title="New", blocked_countries=["DE"])
    say(log, 2, 3, artist_id=7, artist_name="Ona", tags=["night"], title="Third")
    say(log, 3, 2, public=False)
    say(log, 4, 4, public=False)
    assert as_of(engine) is None
    report = land_catalogue(
        log, engine, now=NOW, on_landed=lambda table, days: told.append((table.name, days))
    )
    assert report == LandReport(4, 4, 0)
    found = by_id(rows(TRACKS))
    assert found[1] == {
        **found[1],
        "title": "New",
        "genre": "dub",
        "explicit": True,
        "blocked_countries": ["DE"],
    }
    assert (found[2]["public"], found[2]["title"], found[2]["uploaded_at"]) == (False, "Old", 5)
    assert (found[3]["public"], found[3]["explicit"], found[3]["artist_id"]) == (True, False, 7)
    assert found[3]["uploaded_at"] == NOW + 2
    assert (found[4]["public"], found[4]["title"]) == (False, None)
    assert [(r["artist_id"], r["name"]) for r in rows(ARTISTS)] == [(7, "Ona")]
    assert told == [("tracks", {date(1970, 1, 1): 0})]
    assert as_of(engine) == NOW + 4


def test_the_last_word_counts_within_a_landing_and_over_several(
    engine: DuckDBDelta, log: FileLog, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "BATCH_CHANGES", 3)
    say(log, 5, 1, title="E", artist_id=7, artist_name="Ona")
    say(log, 3, 1, title="C", genre="dub")  # of another process, and later in the log
    say(log, 6, 2, title="F", artist_id=7, artist_name="Onna")
    say(log, 7, 1, explicit=True)
    land_catalogue(log, engine, now=NOW)
    say(log, 8, 1, title="H")
    say(log, 9, 3, artist_id=7)
    assert land_catalogue(log, engine, now=NOW) == LandReport(2, 2, 0)
    found = by_id(rows(TRACKS))
    assert (found[1]["title"], found[1]["genre"], found[1]["explicit"]) == ("H", "dub", True)
    assert [r["name"] for r in rows(ARTISTS)] == ["Onna"]
    assert as_of(engine) == NOW + 9


def test_landing_twice_adds_nothing(
    engine: DuckDBDelta, log: FileLog, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(Exception):
        pass

    def die(self: FileConsumer) -> None:
        raise Died

    say(log, 1, 1, title="A")
    say(log, 2, 1, title="B", artist_id=3)
    with monkeypatch.context() as dying:
        dying.setattr(FileConsumer, "commit", die)
        with pytest.raises(Died):
            land_catalogue(log, engine, now=NOW)
    before = rows(TRACKS), rows(ARTISTS)
    assert land_catalogue(log, engine, now=NOW) == LandReport(2, 0, 1)
    assert land_catalogue(log, engine, now=NOW) == LandReport()
    assert (rows(TRACKS), rows(ARTISTS)) == before


def test_broken_records_are_kept_with_their_reason(engine: DuckDBDelta, log: FileLog, rows: Any) -> None:
    log.append(TOPIC, [b"\xc1", encode_change(TrackChange(1, NOW, duration_ms=-5))])
    say(log, 1, 2, title="Good")
    report = land_catalogue(log, engine, now=NOW)
    assert (report.read, report.landed) == (3, 1)
    assert report.rejected == {"not_a_record": 1, "out_of_range_duration_ms": 1}
    places = log.read(TOPIC, 0, 10).places
    assert [(r["origin"], r["row"], r["reason"]) for r in rows(REJECTS)] == [
        ("log:catalogue", places[0], "not_a_record"),
        ("log:catalogue", places[1], "out_of_range_duration_ms"),
    ]
    assert [row["track_id"] for row in rows(TRACKS)] == [2]


def test_an_import_may_overrule_what_landed(engine: DuckDBDelta, log: FileLog, rows: Any) -> None:
    say(log, 1, 1, title="A", genre="dub")
    land_catalogue(log, engine, now=NOW)
    imported = pa.table({"track_id": [1], "title": ["B"]})
    merge(engine, TRACKS, imported, Known.UPDATE)
    assert land_catalogue(log, engine, now=NOW) == LandReport()
    assert (rows(TRACKS)[0]["title"], rows(TRACKS)[0]["genre"]) == ("B", "dub")
    assert as_of(engine) == NOW + 1
