"""A store or log that is away is seen, said once, and takes nobody out of rotation."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from segue.adapters.log.files import FileLog
from segue.adapters.state.lmdb import LMDBState
from segue.contracts.errors import Unavailable
from segue.contracts.ports import Fold
from segue.events.records import Event, encode_event
from segue.listener.states import ListenerStates
from segue.settings.tree import State
from segue.wiring import follower as following
from segue.wiring import health
from segue.wiring.follower import TOPIC, Follower

WAIT_S = 30.0
SMALL = State(map_size_mb=16)


class Moody(LMDBState):
    """A store that can be away."""

    away = False

    def get(self, user_id: int) -> tuple[bytes | None, bytes]:
        """Raises Unavailable while it is."""
        if self.away:
            raise Unavailable("the store is away")
        return super().get(user_id)

    def add(self, rows: dict[int, bytes], fold: Fold) -> None:  # type: ignore[override]
        """Raises Unavailable while it is."""
        if self.away:
            raise Unavailable("the store is away")
        super().add(rows, fold)


@pytest.fixture
def store(tmp_path: Path) -> Moody:
    return Moody(tmp_path / "state", SMALL)


def wait(until: Callable[[], bool]) -> None:
    ends = time.monotonic() + WAIT_S
    while not until():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_a_store_that_is_away_is_told_once_and_so_is_its_return(
    store: Moody, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(health, "LOOK_S", 0.01)
    monkeypatch.setattr(health, "GONE_S", 0.05)
    watch = health.StateWatch(ListenerStates(store, SMALL))
    assert watch.trouble is None
    store.away = True
    wait(lambda: watch.trouble is not None)
    assert watch.trouble == "the store is away"
    time.sleep(0.2)
    store.away = False
    wait(lambda: watch.trouble is None)
    watch.close()
    said = [record.getMessage() for record in caplog.records if record.name == "segue.health"]
    assert [line.split(" for ")[0].split(",")[0] for line in said] == [
        "listener state has not answered",
        "listener state answers again",
    ]


def test_a_hiccup_is_not_an_outage(store: Moody, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "LOOK_S", 0.01)
    monkeypatch.setattr(health, "GONE_S", 60.0)
    watch = health.StateWatch(ListenerStates(store, SMALL))
    store.away = True
    time.sleep(0.2)
    assert watch.trouble is None
    watch.close()


def test_the_follower_says_how_far_behind_it_is_and_why(
    store: Moody, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(following, "LONGEST_PAUSE_S", 0.01)
    log = FileLog(tmp_path / "log")
    store.away = True
    follower = Follower(log, ListenerStates(store, SMALL), lambda: None)
    assert follower.lag_s() == 0.0
    received = time.time_ns() // 1000 - 5_000_000
    made = Event(event_id=bytes(16), ts=received, received_at=received, user_id=1, type="hide", track_id=2)
    log.append(TOPIC, [encode_event(made)])
    wait(lambda: follower.trouble is not None)
    assert follower.trouble == "the store is away"
    assert 5.0 <= follower.lag_s() < 5.0 + WAIT_S
    time.sleep(0.2)
    log.append(TOPIC, [encode_event(made)])
    store.away = False
    wait(lambda: follower.trouble is None and follower.lag_s() == 0.0)
    assert follower.backlog == 0
    follower.close()
    assert [record.levelname for record in caplog.records if record.name == "segue.follower"] == [
        "ERROR",
        "WARNING",
    ]
