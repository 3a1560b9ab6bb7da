"""The collector and the follower: durable before acknowledged, in effect when acknowledged, bounded, never lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from segue.adapters.log import files
from segue.adapters.log.files import FileLog
from segue.adapters.state.lmdb import LMDBState
from segue.contracts.errors import Overloaded, Unavailable
from segue.contracts.ids import uuid7
from segue.events.records import Event, encode_event
from segue.listener.states import ListenerStates
from segue.settings.tree import State
from segue.wiring import collector as collecting
from segue.wiring.collector import Collector
from segue.wiring.follower import GROUP, TOPIC, Follower, _pause

NOW = 1_795_000_000_000_000
WAIT_S = 20


def event(n: int, user: int = 1) -> bytes:
    return encode_event(
        Event(
            uuid7(NOW // 1000, n.to_bytes(10, "big")),
            NOW + n,
            NOW,
            user,
            "play",
            track_id=n,
            ms_played=60_000,
        )
    )


@pytest.fixture
def log(tmp_path: Path) -> FileLog:
    return FileLog(tmp_path / "log")


@pytest.fixture
def states(tmp_path: Path) -> Iterator[ListenerStates]:
    opened = ListenerStates(LMDBState(tmp_path / "state", State(map_size_mb=64)), State())
    yield opened
    opened.close()


def played(states: ListenerStates, user: int = 1) -> list[int]:
    state = states.read(user)
    return [] if state is None else [int(track) for track in state.plays["track_id"]]


def folded(log: FileLog) -> Callable[[int], bool]:
    """Whether listener state has everything before a place."""
    return lambda place: log.committed(TOPIC, GROUP) >= place


def until(look: object, what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not look():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def test_what_is_acknowledged_is_in_the_log_and_in_effect(log: FileLog, states: ListenerStates) -> None:
    collector, follower = Collector(log, TOPIC, folded(log), 1_000), Follower(log, states, lambda: None)
    for n in range(20):
        collector.submit([event(n)]).result(WAIT_S)
        assert len(log.read(TOPIC, 0, 100)) == n + 1
        assert played(states) == list(range(n + 1))
    collector.close()
    follower.close()


def test_without_a_follower_it_is_acknowledged_all_the_same(log: FileLog) -> None:
    collector = Collector(log, TOPIC, folded(log), 1_000)
    collector.submit([event(1)]).result(WAIT_S)
    assert len(log.read(TOPIC, 0, 100)) == 1
    collector.close()


def test_many_requests_share_an_append(log: FileLog) -> None:
    class Slow(FileLog):
        appends = 0

        def append(self, topic: str, records: Sequence[bytes]) -> int:
            Slow.appends += 1
            time.sleep(0.05)
            return super().append(topic, records)

    collector = Collector(Slow(log._root), TOPIC, folded(log), 1_000)
    waiting = [collector.submit([event(n)]) for n in range(100)]
    for one in waiting:
        one.result(WAIT_S)
    collector.close()
    assert Slow.appends < 10
    assert log.read(TOPIC, 0, 1_000).records == [event(n) for n in range(100)]


def test_what_cannot_wait_is_refused_and_nothing_else(log: FileLog) -> None:
    release = threading.Event()

    class Stuck(FileLog):
        def append(self, topic: str, records: Sequence[bytes]) -> int:
            release.wait(WAIT_S)
            return super().append(topic, records)

    collector = Collector(Stuck(log._root), TOPIC, folded(log), 10)
    first = collector.submit([event(n) for n in range(6)])
    with pytest.raises(Overloaded, match="6 events wait"):
        collector.submit([event(n) for n in range(6, 12)])
    second = collector.submit([event(20)])
    release.set()
    first.result(WAIT_S)
    second.result(WAIT_S)
    until(lambda: collector._waiting == 0, "nothing waits any more")
    collector.submit([event(n) for n in range(6, 12)]).result(WAIT_S)
    collector.close()
    assert len(log.read(TOPIC, 0, 100)) == 13


def test_what_the_log_refuses_is_not_acknowledged(log: FileLog, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: FileLog, topic: str, records: Sequence[bytes]) -> int:
        raise Unavailable("log: No space left on device", field="log")

    collector = Collector(log, TOPIC, folded(log), 1_000)
    with monkeypatch.context() as patched:
        patched.setattr(FileLog, "append", full)
        with pytest.raises(Unavailable, match="No space"):
            collector.submit([event(1)]).result(WAIT_S)
    collector.submit([event(2)]).result(WAIT_S)
    collector.close()
    assert log.read(TOPIC, 0, 10).records == [event(2)]


@pytest.mark.parametrize("fault", [OSError(24, "Too many open files"), RuntimeError("unforeseen")])
def test_no_fault_of_the_log_ends_the_collector(
    log: FileLog, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def fail(self: FileLog, topic: str, records: Sequence[bytes]) -> int:
        raise fault

    collector = Collector(log, TOPIC, folded(log), 10)
    with monkeypatch.context() as patched:
        patched.setattr(FileLog, "append", fail)
        for n in range(5):
            with pytest.raises(Unavailable):
                collector.submit([event(n), event(n + 5)]).result(WAIT_S)
    collector.submit([event(n) for n in range(10)]).result(WAIT_S)
    collector.close()


def test_a_caller_that_goes_away_harms_nobody(log: FileLog) -> None:
    collector = Collector(log, TOPIC, folded(log), 1_000)
    gone = collector.submit([event(1)])
    gone.cancel()
    collector.submit([event(2)]).result(WAIT_S)
    collector.close()
    assert len(log.read(TOPIC, 0, 10)) == 2


def test_no_file_handle_left_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = FileLog(tmp_path)
    log.append("t", [b"a"])

    def none_left(*_: object) -> int:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(files, "_write", none_left)
        with pytest.raises(Unavailable, match="Too many open files"):
            log.append("t", [b"b"])
    log.append("t", [b"c"])
    assert log.read("t", 0, 10).records == [b"a", b"c"]


def test_pauses_stay_short_however_long_it_fails() -> None:
    assert _pause(0) == 0
    assert all(0 <= _pause(failures) <= 5 for failures in (1, 10, 1_023, 1_024, 10**6))


def test_closing_acknowledges_what_waits(log: FileLog) -> None:
    collector = Collector(log, TOPIC, folded(log), 1_000)
    waiting = [collector.submit([event(n)]) for n in range(50)]
    collector.close()
    assert all(one.done() for one in waiting)
    assert len(log.read(TOPIC, 0, 100)) == 50


def test_one_follows_and_another_takes_over(log: FileLog, states: ListenerStates) -> None:
    one = Follower(log, states, lambda: None)
    two = Follower(log, states, lambda: None)
    log.append(TOPIC, [event(1)])
    until(lambda: played(states) == [1], "followed")
    one.close()
    log.append(TOPIC, [event(2)])
    until(lambda: played(states) == [1, 2], "taken over")
    two.close()


@pytest.mark.parametrize(
    "fault", [Unavailable("the store is away", field="state"), RuntimeError("unforeseen")]
)
def test_a_store_that_fails_is_asked_again_and_nothing_is_passed_over(
    log: FileLog, states: ListenerStates, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    add, failures = ListenerStates.add, [3]

    def flaky(self: ListenerStates, changes: object) -> None:
        if failures[0]:
            failures[0] -= 1
            raise fault
        add(self, changes)  # type: ignore[arg-type]

    monkeypatch.setattr(ListenerStates, "add", flaky)
    log.append(TOPIC, [event(n) for n in range(5)])
    follower = Follower(log, states, lambda: None)
    until(lambda: played(states) == list(range(5)), "folded at last")
    follower.close()
    assert failures == [0]


def test_what_is_no_event_is_stepped_over(log: FileLog, states: ListenerStates) -> None:
    log.append(TOPIC, [b"\xc1", event(1), b"", event(2)])
    follower = Follower(log, states, lambda: None)
    until(lambda: played(states) == [1, 2], "the events around it")
    follower.close()
    assert log.committed(TOPIC, GROUP) == log.end(TOPIC)


def test_an_acknowledgement_waits_its_time_only(log: FileLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "ACK_S", 0.0)
    collector = Collector(log, TOPIC, folded(log), 1_000)
    for n in np.arange(30).tolist():
        collector.submit([event(n)]).result(WAIT_S)
    collector.close()
