"""Listener state stalls while events keep coming: they are acknowledged all the same, nothing piles up, and it catches up."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from pathlib import Path

from segue.adapters.log.files import FileLog
from segue.adapters.state.lmdb import LMDBState
from segue.contracts.errors import Overloaded
from segue.contracts.ids import uuid7
from segue.events.records import Event, encode_event
from segue.listener.fold import Changes
from segue.listener.states import ListenerStates
from segue.settings.tree import State
from segue.wiring.collector import ACK_S, Collector
from segue.wiring.follower import GROUP, TOPIC, Follower

NOW = 1_795_000_000_000_000
WAIT_S = 60
BATCH = 1_000
BATCHES = 300
QUERY = "x" * 400


class Stalled(ListenerStates):
    """A store that answers no write until it is let go."""

    go = threading.Event()

    def add(self, changes: Changes) -> None:
        """Wait, then add."""
        assert self.go.wait(WAIT_S)
        super().add(changes)


def batch(number: int) -> list[bytes]:
    """Plays of ten listeners, each a record of its own in memory."""
    first = number * BATCH
    return [
        encode_event(
            Event(
                uuid7(NOW // 1000, n.to_bytes(10, "big")),
                NOW + n,
                NOW,
                n % 10,
                "play",
                track_id=n,
                query=QUERY,
            )
        )
        for n in range(first, first + BATCH)
    ]


def resident() -> int:
    """Bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_a_stalled_follower_delays_nobody_and_nothing_piles_up(tmp_path: Path) -> None:
    log = FileLog(tmp_path / "log")
    states = Stalled(LMDBState(tmp_path / "state", State(map_size_mb=64)), State())
    collector, follower = Collector(log, TOPIC, GROUP, 5 * BATCH), Follower(log, states, lambda: None)
    longest, grown, before = 0.0, 0, 0

    def send(records: list[bytes]) -> Future[None]:
        while True:
            try:
                return collector.submit(records)
            except Overloaded:  # what the client is told to do: come again
                time.sleep(0.01)

    try:
        for number in range(BATCHES):
            acknowledged = send(batch(number))
            if number % 30 == 29:
                began = time.monotonic()
                acknowledged.result(WAIT_S)
                longest = max(longest, time.monotonic() - began)
                before = before or resident()
                grown = max(grown, resident() - before)
        end = log.end(TOPIC)
        assert end > 100_000_000
        assert log.committed(TOPIC, GROUP) in (None, 0), "it did stall"
        assert longest < 20 * ACK_S, "acknowledged by the clock, not by the follower"
        assert grown < end / 4, f"{grown / 1e6:.0f} MB more for {end / 1e6:.0f} MB of log"
        states.go.set()
        until = time.monotonic() + WAIT_S
        while (log.committed(TOPIC, GROUP) or 0) < end:
            assert time.monotonic() < until, "listener state does not catch up"
            time.sleep(0.02)
        for user in range(10):
            state = states.read(user)
            assert state is not None
            assert state.plays["track_id"].tolist() == list(range(user, BATCHES * BATCH, 10))[-500:]
        assert resident() - before < end / 4
    finally:
        states.go.set()
        collector.close()
        follower.close()
        states.close()
