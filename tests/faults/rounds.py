"""Kill -9, again and again, while events come in, are folded into listener state and land; then count.

    python tests/faults/rounds.py --rounds 20        # `make faults`

Clients send batches until they are acknowledged, as real ones do: a batch whose answer was lost is sent again. Meanwhile a
worker, the whole server, or the landing is killed at random moments and started again. In the end every acknowledged
event must be in the log, in its listener's state, and in the table exactly once; and no other event more than once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import msgspec

from segue.adapters.engines.duckdb import DuckDBDelta
from segue.adapters.log.files import FileLog
from segue.adapters.state.lmdb import LMDBState
from segue.contracts.ids import format_id, new_id, parse_id
from segue.contracts.tables import EVENTS, RAW_EVENTS
from segue.events.records import read_events
from segue.listener.states import ListenerStates
from segue.settings.tree import State, Warehouse

COMMAND = [sys.executable, "-m", "segue.cli"]
LISTENERS = 300
BATCH = 20
CLIENTS = 3
WAIT_S = 90.0


@dataclass
class Found:
    """What became of the events."""

    rounds: int
    kills: Counter[str]
    sent: int = 0
    acknowledged: int = 0
    once: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    doubled: Counter[str] = field(default_factory=Counter)

    def line(self) -> str:
        """One line to end with."""
        kills = ", ".join(f"{name} {count}" for name, count in sorted(self.kills.items()))
        return (
            f"rounds {self.rounds}, kills {self.kills.total()} ({kills}), events acknowledged {self.acknowledged:,}, "
            f"events found exactly once {self.once:,}, lost {self.lost.total()}, doubled {self.doubled.total()}"
        )


class Server:
    """`segue serve`, in a process group of its own."""

    def __init__(self, home: Path) -> None:
        self._said = home.parent / "serve.err"
        with self._said.open("w") as said:
            self.process = subprocess.Popen(
                [*COMMAND, "serve", "--home", str(home), "--port", "0", "--workers", "2"],
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
            )
        self.url = self._address()

    def workers(self) -> list[int]:
        """The worker processes."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def kill(self) -> None:
        """Everything, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _address(self) -> str:
        until = time.monotonic() + WAIT_S
        while True:
            found = re.search(r"http://127\.0\.0\.1:\d+", self._said.read_text())
            if found:
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(f"{found.group()}/healthz").status_code == 200:
                        return found.group()
            assert self.process.poll() is None, self._said.read_text()
            assert time.monotonic() < until, self._said.read_text()
            time.sleep(0.05)


class Clients:
    """Threads that send batches until they are acknowledged, to wherever the server is at the moment."""

    def __init__(self) -> None:
        self.url = ""
        self.sent: dict[bytes, tuple[int, int, int]] = {}
        self.acknowledged: set[bytes] = set()
        self._turn = threading.Lock()
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(n,), daemon=True) for n in range(CLIENTS)]

    def start(self, url: str) -> None:
        """Begin."""
        self.url = url
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Have the last batches acknowledged, and stop."""
        self._ending.set()
        for thread in self._threads:
            thread.join(WAIT_S)
            assert not thread.is_alive(), "a client is still waiting for its acknowledgement"

    def _send(self, client: int) -> None:
        dice = random.Random(client)
        while not self._ending.is_set():
            now = time.time_ns() // 1000
            batch = []
            for n in range(BATCH):
                made, user, track = new_id(), dice.randrange(LISTENERS), dice.randrange(1, 10_000)
                ts = now - n * 1_000_003 - client
                with self._turn:
                    self.sent[made] = (user, ts, track)
                batch.append(
                    {
                        "event_id": format_id(made),
                        "type": "play",
                        "ts": ts,
                        "user_id": user,
                        "track_id": track,
                    }
                )
            self._deliver(msgspec.json.encode(batch))
            with self._turn:
                self.acknowledged |= {parse_id(str(event["event_id"])) for event in batch}
            time.sleep(0.02)

    def _deliver(self, body: bytes) -> None:
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = httpx.post(
                    f"{self.url}/v1/events",
                    content=body,
                    headers={"content-type": "application/json"},
                    timeout=10,
                )
                if answer.status_code == 202 and answer.json()["rejected"] == 0:
                    return
                assert answer.status_code in (202, 429, 503), answer.text
            time.sleep(0.05)


def play_rounds(folder: Path, rounds: int, seed: int) -> Found:
    """The rounds, and the count."""
    home, dice = folder / "home", random.Random(seed)
    found = Found(rounds, Counter())
    clients = Clients()
    server = Server(home)
    clients.start(server.url)
    try:
        for _ in range(rounds):
            landing = _landing(home)
            for _ in range(2):
                time.sleep(dice.uniform(0.1, 1.5))
                with contextlib.suppress(ProcessLookupError, IndexError):
                    os.kill(dice.choice(server.workers()), signal.SIGKILL)
                    found.kills["worker"] += 1
            time.sleep(dice.uniform(0.1, 2.0))
            if landing.poll() is None:
                landing.kill()
                found.kills["landing"] += 1
            landing.wait()
            time.sleep(dice.uniform(0.0, 0.5))
            server.kill()
            found.kills["server"] += 1
            server = Server(home)
            clients.url = server.url
        clients.end()
        log = FileLog(home / "log")
        until = time.monotonic() + WAIT_S
        while log.committed("events", "state") < log.end("events"):
            assert time.monotonic() < until, "listener state does not catch up with the log"
            time.sleep(0.05)
    finally:
        server.kill()
    assert _landing(home).wait() == 0
    _count(home, clients, found)
    return found


def _landing(home: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, "run", "--no-train", "--home", str(home)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _count(home: Path, clients: Clients, found: Found) -> None:
    engine = DuckDBDelta(home / "warehouse", Warehouse())
    states = ListenerStates(LMDBState(home / "state", State()), State())
    logged = Counter(
        event.event_id for event in read_events(FileLog(home / "log").read("events", 0, 10**9).records)
    )
    tables = {
        table.name: Counter(engine.collect(engine.read(table).select("event_id"))["event_id"].to_pylist())
        for table in (RAW_EVENTS, EVENTS)
    }
    plays: Counter[tuple[int, int, int]] = Counter()
    for user in range(LISTENERS):
        state = states.read(user)
        for row in () if state is None else state.plays:
            plays[(user, int(row["ts"]), int(row["track_id"]))] += 1
    states.close()
    found.sent, found.acknowledged = len(clients.sent), len(clients.acknowledged)
    for event_id in clients.acknowledged:
        seen = [counted[event_id] for counted in tables.values()] + [plays[clients.sent[event_id]]]
        found.lost["log"] += logged[event_id] == 0
        for place, count in zip((*tables, "state"), seen, strict=True):
            found.lost[place] += count == 0
        found.once += logged[event_id] > 0 and seen == [1] * len(seen)
    for place, counted in tables.items():
        found.doubled[place] += sum(count > 1 for count in counted.values())
    found.doubled["state"] += sum(count > 1 for count in plays.values())


def main() -> None:
    """Play the rounds and print the count; exit status 1 if anything was lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="segue-faults-") as folder:
        found = play_rounds(Path(folder), given.rounds, given.seed)
    sys.stdout.write(f"seed {given.seed}\n{found.line()}\n")
    sys.exit(0 if found.once == found.acknowledged > 0 and not found.doubled.total() else 1)


if __name__ == "__main__":
    main()
