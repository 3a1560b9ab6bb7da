"""Refused events: kept with their reason, as many as the limit allows, and in nobody's way."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from segue.adapters.log.files import FileLog
from segue.contracts.errors import Unavailable
from segue.contracts.tables import REJECTS
from segue.events.incoming import Refused
from segue.events.landing import LandReport, land_dead_letters
from segue.events.records import DEAD_LETTERS_TOPIC, decode_dead_letters
from segue.wiring.dead_letters import BURST_S, DeadLetters
from segue.wiring.home import Home
from segue.wiring.platform import HomePlatform

NOW = 1_795_000_000_000_000
BROKEN = Refused("missing_ts", "ts", '{"user_id":1}')


@pytest.fixture
def log(tmp_path: Path) -> FileLog:
    return FileLog(tmp_path / "log")


def test_a_flood_of_garbage_is_kept_at_the_rate_of_the_settings(log: FileLog) -> None:
    now = [0.0]
    letters = DeadLetters(log, 5, clock=lambda: now[0])
    assert letters.keep([BROKEN] * 1_000, None, NOW) == 5 * BURST_S
    assert letters.keep([BROKEN], None, NOW) == 0
    now[0] = 2.0
    assert letters.keep([BROKEN] * 1_000, "web", NOW) == 10
    now[0] = 1e6
    assert letters.keep([BROKEN] * 1_000, None, NOW) <= 5 * BURST_S
    letters.close()
    kept = decode_dead_letters(log.read(DEAD_LETTERS_TOPIC, 0, 10_000).records).items
    assert 5 * BURST_S + 10 <= len(kept) <= 10 * BURST_S + 10
    assert {letter.origin for letter in kept} == {"http", "http:web"}


def test_none_are_kept_where_the_limit_is_none(log: FileLog) -> None:
    letters = DeadLetters(log, 0)
    assert letters.keep([BROKEN], None, NOW) == 0
    letters.close()
    assert len(log.read(DEAD_LETTERS_TOPIC, 0, 10)) == 0


def test_they_land_once_with_who_sent_them_and_why(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home", environ={})
    platform = HomePlatform(home)
    good = {"type": "play", "ts": time.time_ns() // 1000, "user_id": 1, "track_id": 2}
    for caller in (None, "web"):
        body = msgspec.json.encode([good, good | {"track_id": -1}, {"typ": "x" * 5_000}])
        receipt = platform.ingest(body, "application/json", caller)
        assert (len(receipt.results), receipt.kept) == (3, 2)
    platform.close()
    assert land_dead_letters(home.log, home.engine) == LandReport(4, 4)
    rows = home.engine.collect(home.engine.read(REJECTS)).to_pylist()
    assert sorted((row["origin"], row["reason"]) for row in rows) == sorted(
        (origin, reason)
        for origin in ("http", "http:web")
        for reason in ("out_of_range_track_id", "unknown_field")
    )
    assert all(len(row["content"]) <= 2_000 for row in rows)
    assert len({row["row"] for row in rows}) == 4


def test_they_land_once_though_a_landing_is_repeated(log: FileLog, tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home", environ={})
    letters = DeadLetters(log, 5)
    letters.keep([BROKEN] * 3, None, NOW)
    letters.close()
    assert land_dead_letters(log, home.engine, now=NOW) == LandReport(3, 3)
    (log._root / DEAD_LETTERS_TOPIC / "groups" / "warehouse").unlink()
    log.append(DEAD_LETTERS_TOPIC, [b"\xc1"])
    assert land_dead_letters(log, home.engine, now=NOW) == LandReport(4, 0, 3, {"not_a_record": 1})
    assert len(home.engine.collect(home.engine.read(REJECTS))) == 4


class NoRoomForRejects(FileLog):
    def append(self, topic: str, records: Sequence[bytes]) -> int:
        if topic == DEAD_LETTERS_TOPIC and records:
            raise Unavailable("no room", field="log")
        return super().append(topic, records)


def test_they_are_in_nobodys_way(tmp_path: Path) -> None:
    home = Home.open(tmp_path, environ={})
    home.__dict__["log"] = NoRoomForRejects(tmp_path / "log")
    platform = HomePlatform(home)
    good = {"type": "play", "ts": time.time_ns() // 1000, "user_id": 1, "track_id": 2}
    receipt = platform.ingest(msgspec.json.encode([good, {}]), "application/json")
    receipt.acknowledged.result(10)
    assert [result.status for result in receipt.results] == ["accepted", "rejected"]
    platform.close()
    assert len(home.log.consumer("events", "test").poll(10)) == 1
