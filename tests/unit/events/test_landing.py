from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from segue.adapters.engines.duckdb import DuckDBDelta
from segue.adapters.log.files import FileConsumer, FileLog
from segue.contracts.errors import Conflict
from segue.contracts.ids import format_id, uuid7
from segue.contracts.schema import Table
from segue.contracts.tables import CANDIDATES, EXPOSURES, LISTENERS, RAW_EVENTS, REJECTS, TRACKS
from segue.contracts.vocabulary import DAY, HOUR, SECOND
from segue.events import landing
from segue.events.incoming import decode_body
from segue.events.landing import LandReport, land, land_candidates, land_exposures
from segue.events.records import Event, Exposure, Lost, encode_event, encode_exposure
from segue.settings.tree import Serving

pytestmark = pytest.mark.filterwarnings(
    "ignore:fetch_:DeprecationWarning"
)  # Ibis calls DuckDB by older names

NOW = 1_795_000_000_000_000


def event(n: int, **change: Any) -> bytes:
    """Event number n; five a day."""
    ts = NOW - (n // 5) * DAY - n * SECOND
    fields = {
        "event_id": n.to_bytes(16, "big"),
        "ts": ts,
        "received_at": NOW,
        "user_id": n,
        "type": "play",
        "track_id": 1,
    }
    return encode_event(Event(**(fields | change)))  # type: ignore[arg-type]


@pytest.fixture
def log(tmp_path: Path) -> FileLog:
    return FileLog(tmp_path / "log")


def test_what_the_log_holds_lands_once(
    engine: DuckDBDelta, log: FileLog, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing, "BATCH_RECORDS", 4)
    assert land(log, engine, now=NOW) == LandReport()
    log.append("events", [event(n) for n in range(10)])
    assert land(log, engine, now=NOW) == LandReport(10, 10, 0)
    assert land(log, engine, now=NOW) == LandReport()
    log.append("events", [event(n) for n in range(8, 15)])
    log.append("events", [event(14)])
    assert land(log, engine, now=NOW) == LandReport(8, 5, 3)
    assert sorted(int.from_bytes(r["event_id"], "big") for r in rows(RAW_EVENTS)) == list(range(15))


def test_a_landing_ends_while_events_go_on_coming(engine: DuckDBDelta, log: FileLog) -> None:
    came = iter(range(5, 1_000))

    def another(table: Table, days: dict[date, int]) -> None:
        log.append("events", [event(next(came), received_at=NOW + SECOND)])

    log.append("events", [event(n) for n in range(5)])
    assert land(log, engine, now=NOW, on_landed=another).landed == 6, "what came meanwhile, once"
    assert land(log, engine, now=NOW + SECOND).landed == 1, "the rest is the next one's"


def test_events_that_are_there_already_do_not_land(engine: DuckDBDelta, log: FileLog) -> None:
    other = FileLog(Path(str(log._root) + "2"))
    for one in (log, other):
        one.append("events", [event(n) for n in range(10)])
    land(log, engine, now=NOW)
    assert land(other, engine, topic="events", now=NOW).landed == 0  # the same topic: its marker has passed
    log.append("mirror", [event(n) for n in range(12)])
    assert land(log, engine, topic="mirror", now=NOW) == LandReport(12, 2, 10)


def test_broken_records_are_kept_with_their_reason(engine: DuckDBDelta, log: FileLog, rows: Any) -> None:
    log.append(
        "events", [event(1), b"\xc1", b"", event(2, user_id=-1), event(3, type="dance"), event(4, ts=5)]
    )
    report = land(log, engine, now=NOW)
    assert (report.read, report.landed) == (6, 1)
    assert report.rejected == {
        "not_a_record": 2,
        "out_of_range_user_id": 1,
        "ts_too_old": 1,
        "unknown_type": 1,
    }
    places = log.read("events", 0, 10).places
    assert sorted((r["row"], r["reason"]) for r in rows(REJECTS)) == [
        (places[1], "not_a_record"),
        (places[2], "not_a_record"),
        (places[3], "out_of_range_user_id"),
        (places[4], "unknown_type"),
        (places[5], "ts_too_old"),
    ]
    assert {r["origin"] for r in rows(REJECTS)} == {"log:events"}


def test_the_first_event_of_an_id_counts_in_a_batch_in_the_log_and_in_the_warehouse(
    engine: DuckDBDelta, log: FileLog, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing, "BATCH_RECORDS", 4)
    mine = {"event_id": uuid7(NOW // 1000, b"0123456789"), "ts": NOW, "device": "phone"}
    first, other = event(1, **mine), event(1, **mine | {"device": None})
    log.append("events", [first, other, event(1, **mine, received_at=NOW + 9), event(2)])
    assert land(log, engine, now=NOW) == LandReport(4, 2, 1, {"conflict": 1})
    far = event(1, **mine | {"ts": NOW - 9 * DAY, "track_id": 3})
    log.append("events", [first, other, far, event(1, **mine | {"type": "skip"}), event(1, **mine), event(3)])
    assert land(log, engine, now=NOW) == LandReport(6, 1, 2, {"conflict": 3})
    assert [r["device"] for r in rows(RAW_EVENTS) if r["event_id"] == mine["event_id"]] == ["phone"]
    assert {(r["reason"], r["field"], r["origin"]) for r in rows(REJECTS)} == {
        ("conflict", "event_id", "log:events")
    }
    assert len(rows(REJECTS)) == 4
    assert any(format_id(uuid7(NOW // 1000, b"0123456789")) in r["content"] for r in rows(REJECTS))


def test_events_land_whatever_the_clock_said_when_they_were_taken(
    engine: DuckDBDelta, log: FileLog, rows: Any
) -> None:
    """The wall clock of the server jumps an hour ahead and back again; what it acknowledged meanwhile is there once."""
    limits, sent = Serving(), 0
    for jump in (0, HOUR, -HOUR, 0):
        clock = NOW + jump
        body = [
            {"type": "play", "ts": clock + ahead * SECOND, "user_id": 1, "track_id": n}
            for n, ahead in enumerate((-3_000, 0, limits.max_clock_skew_s))
        ]
        incoming = decode_body(msgspec.json.encode(body), "", clock, limits)
        assert len(incoming.records) == len(body)
        log.append("events", incoming.records + incoming.records[:1])  # one is sent twice
        sent += len(body)
    assert land(log, engine, now=NOW - HOUR) == LandReport(sent + 4, sent, 4)
    assert land(log, engine, now=NOW + HOUR) == LandReport()
    assert len({r["event_id"] for r in rows(RAW_EVENTS)}) == sent


def test_a_landing_is_told_at_least_once(
    engine: DuckDBDelta, log: FileLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing, "BATCH_RECORDS", 4)

    class Died(Exception):
        pass

    def die(_table: Table, _days: dict[date, int]) -> None:
        raise Died

    log.append("events", [event(n) for n in range(10)])
    with pytest.raises(Died):
        land(log, engine, now=NOW, on_landed=die)
    told: list[dict[date, int]] = []
    assert land(log, engine, now=NOW, on_landed=lambda _, days: told.append(days)).landed == 6
    assert sum(n for days in told for n in days.values()) == 10
    assert set().union(*told) == {date(2026, 11, 17), date(2026, 11, 18)}
    told.clear()
    land(log, engine, now=NOW, on_landed=lambda _, days: told.append(days))
    assert told == []


def test_exposures_land_a_row_a_slot(engine: DuckDBDelta, log: FileLog, rows: Any) -> None:
    def shown(n: int, **change: Any) -> bytes:
        fields = {
            "request_id": uuid7(NOW // 1000, bytes([n]) * 10),
            "ts": NOW - n,
            "user_id": n,
            "surface": "home",
            "track_id": [4, 5],
            "position": [0, 1],
            "propensity": [0.5, 0.25],
        }
        return encode_exposure(Exposure(**(fields | change)))  # type: ignore[arg-type]

    log.append("exposures", [shown(1), shown(2), shown(1), b"x", shown(3, surface="moon")])
    report = land_exposures(log, engine, now=NOW)
    assert report == LandReport(5, 4, 2, {"unknown_surface": 2, "wrong_record": 1})
    assert [(r["user_id"], r["position"], r["track_id"], r["propensity"]) for r in rows(EXPOSURES)] == [
        (1, 0, 4, 0.5),
        (1, 1, 5, 0.25),
        (2, 0, 4, 0.5),
        (2, 1, 5, 0.25),
    ]
    log.append("exposures", [shown(2), shown(4)])
    assert land_exposures(log, engine, now=NOW) == LandReport(2, 2, 2)
    assert len(rows(REJECTS)) == 3


def test_one_process_lands_at_a_time(engine: DuckDBDelta, log: FileLog, rows: Any) -> None:
    log.append("events", [event(1)])
    other = FileLog(log._root).consumer("events", "warehouse")
    with pytest.raises(Conflict, match="another process reads it for warehouse"):
        land(log, engine, now=NOW)
    other.close()
    assert land(log, engine, now=NOW).landed == 1


def test_what_was_appended_before_a_crash_does_not_come_twice(
    engine: DuckDBDelta, log: FileLog, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(Exception):
        pass

    def die(self: FileConsumer) -> None:
        raise Died

    log.append("events", [event(n) for n in range(7)])
    with monkeypatch.context() as dying:
        dying.setattr(FileConsumer, "commit", die)
        with pytest.raises(Died):
            land(log, engine, now=NOW)
    assert len(rows(RAW_EVENTS)) == 7
    assert land(log, engine, now=NOW) == LandReport(7, 0, 7)
    assert land(log, engine, now=NOW) == LandReport()
    assert len(rows(RAW_EVENTS)) == 7


def test_what_was_not_shown_lands_once_beside(engine: DuckDBDelta, log: FileLog, rows: Any) -> None:
    def considered(n: int, **change: Any) -> bytes:
        fields = {"removed": {"hidden": [7], "country": [8, 9]}, "lost": Lost(0.5, [3], [0.25], [["graph"]])}
        return encode_exposure(
            Exposure(uuid7(NOW // 1000, bytes([n]) * 10), NOW - n, n, "home", [4], [0], **(fields | change))  # type: ignore[arg-type]
        )

    log.append(
        "exposures", [considered(1), considered(1), b"x", considered(2, lost=None, removed={"bored": [7]})]
    )
    assert land_candidates(log, engine, now=NOW) == LandReport(4, 4, 4, {"unknown_reason": 1})
    assert land_exposures(log, engine, now=NOW) == LandReport(4, 2, 1, {"wrong_record": 1})
    assert land_candidates(log, engine, now=NOW) == LandReport()
    found = sorted(
        (r["track_id"], r["reason"], r["share"], r["score"], r["sources"]) for r in rows(CANDIDATES)
    )
    assert found == [
        (3, "lost", 0.5, 0.25, ["graph"]),
        (7, "hidden", 1.0, None, None),
        (8, "country", 1.0, None, None),
        (9, "country", 1.0, None, None),
    ]
    assert len(rows(REJECTS)) == 2


def test_a_listener_nobody_told_about_gets_a_row_and_a_track_none(
    engine: DuckDBDelta, log: FileLog, rows: Any
) -> None:
    known = {"user_id": [1], "personalization_consent": [False], "explicit_ok": [False], "country": ["DE"]}
    blank = {f.name: pa.nulls(1, f.type) for f in LISTENERS.arrow}
    engine.append(LISTENERS, pa.table(blank | known))
    log.append("events", [event(n, user_id=1 + n % 2) for n in range(6)])
    assert land(log, engine, now=NOW).landed == 6
    found = {row["user_id"]: row for row in rows(LISTENERS)}
    assert set(found) == {1, 2}
    assert (found[1]["personalization_consent"], found[1]["country"]) == (False, "DE")
    assert (found[2]["personalization_consent"], found[2]["country"]) == (True, None)
    assert rows(TRACKS) == []
