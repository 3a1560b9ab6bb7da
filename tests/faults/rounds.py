"""Kill -9, again and again, while events come in, are folded into state, land, and bundles are trained and published; then count.

    python tests/faults/rounds.py --rounds 20        # `make faults`

Clients send batches until they are acknowledged, as real ones do: a batch whose answer was lost is sent again. Meanwhile a
worker, the whole server, a landing, a run that trains and publishes, or a filling of listener state is killed at random
moments and started again. After each round requests are answered from a whole bundle. In the end every acknowledged event
must be in the log, in its listener's state, and in the table exactly once; and no other event more than once.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
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
from datetime import UTC, datetime, timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

import httpx
import msgspec

from segue.adapters.engines.duckdb import DuckDBDelta
from segue.adapters.log.files import FileLog
from segue.adapters.state.lmdb import LMDBState
from segue.bundle import BundleStore
from segue.cli.main import COMMANDS, app
from segue.contracts.ids import format_id, new_id, parse_id
from segue.contracts.tables import EVENTS, RAW_EVENTS, TRACKS
from segue.events.records import read_events
from segue.listener.states import ListenerStates
from segue.settings.tree import State, Warehouse

COMMAND = [sys.executable, "-m", "segue.cli"]
LISTENERS = 2_000
FIRST_LISTENER = 10_000_000
"""None of the simulated ones."""
BATCH = 20
CLIENTS = 3
WAIT_S = 300.0
"""Far more than a machine needs that is not busy with other things."""
SERVICE = ("--tracks", "120", "--artists", "30", "--listeners", "40", "--days", "8")
SETTINGS = """
[warehouse]
threads = 1
expect = false
[training]
threads = 1
factors = 8
epochs = 2
neighbours = 20
[training.rankers.home]
trees = 5
requests = 50
[training.rankers.next-up]
trees = 5
requests = 50
[gate]
max_requests = 100
tolerance = 1.0
drift = 1.0
[bundles]
keep = 3
"""
"""The smallest that still train every part. Clients play at random, so no challenger may be refused for ranking worse."""
WRITERS = {
    "landing": ("run", "--no-train"),
    "publish": ("run",),
    "state": ("step", "run", "state", "--force"),
}
"""What is killed besides the server: who lands events, who trains and publishes, who fills listener state."""
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(
    sorted({command.module for command in COMMANDS.values()} | {"segue.flows.steps", "segue.wiring.flow"})
)


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
    answers: int = 0
    bundles: set[str] = field(default_factory=set)

    def line(self) -> str:
        """What to end with."""
        kills = ", ".join(f"{name} {count}" for name, count in sorted(self.kills.items()))
        return (
            f"rounds {self.rounds}, kills {self.kills.total()} ({kills}), requests answered {self.answers:,} from "
            f"{len(self.bundles)} bundles\nevents acknowledged {self.acknowledged:,}, events found exactly once "
            f"{self.once:,}, lost {self.lost.total()}, doubled {self.doubled.total()}"
        )


class Server:
    """`segue serve`, in a process group of its own."""

    def __init__(self, home: Path, workers: int = 2) -> None:
        self._said = home.parent / "serve.err"
        with self._said.open("w") as said:
            self.process = subprocess.Popen(
                [*COMMAND, "serve", "--home", str(home), "--port", "0", "--workers", str(workers)],
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
                    if httpx.get(f"{found.group()}/readyz").status_code == 200:
                        return found.group()
            assert self.process.poll() is None, self._said.read_text()
            assert time.monotonic() < until, self._said.read_text()
            time.sleep(0.05)


class Clients:
    """Threads that send batches until they are acknowledged, to wherever the server is at the moment, and one that asks."""

    def __init__(self, tracks: list[int]) -> None:
        self.url = ""
        self.answers = 0
        self.bundles: set[str] = set()
        self.refused: list[str] = []
        self._tracks = tracks
        self.sent: dict[bytes, tuple[int, int, int]] = {}
        self.acknowledged: set[bytes] = set()
        self._turn = threading.Lock()
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(n,), daemon=True) for n in range(CLIENTS)]
        self._threads.append(threading.Thread(target=self._ask, daemon=True))

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
                made, user = new_id(), FIRST_LISTENER + dice.randrange(LISTENERS)
                track = dice.choice(self._tracks)
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

    def _ask(self) -> None:
        """Whoever can be reached has a bundle to answer from, however much is being killed."""
        dice = random.Random(CLIENTS)
        while not self._ending.wait(0.05):
            user = FIRST_LISTENER + dice.randrange(LISTENERS)
            with contextlib.suppress(httpx.TransportError):
                self.ask(user)

    def ask(self, user: int) -> str | None:
        """The bundle that a request was answered from; None, and kept, where it was not answered."""
        answer = httpx.get(
            f"{self.url}/v1/recommendations/home", params={"user_id": user, "k": 5}, timeout=30
        )
        if answer.status_code != 200 or not answer.json()["items"]:
            self.refused.append(f"{answer.status_code}: {answer.text[:300]}")
            return None
        self.answers += 1
        self.bundles.add(answer.json()["bundle"])
        return str(answer.json()["bundle"])

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
    home.mkdir()
    (home / "segue.toml").write_text(SETTINGS)
    found = Found(rounds, Counter())
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    _finish(_flow(home, "simulate", *SERVICE, "--end", yesterday))
    began = time.monotonic()
    _finish(_flow(home, "run"))
    took = time.monotonic() - began
    clients = Clients(_tracks(home))
    server = Server(home)
    clients.start(server.url)
    try:
        for number in range(rounds):
            kind = list(WRITERS)[number % len(WRITERS)]
            writer = _flow(home, *WRITERS[kind])
            for _ in range(2):
                time.sleep(dice.uniform(0.1, 1.0))
                with contextlib.suppress(ProcessLookupError, IndexError):
                    os.kill(dice.choice(server.workers()), signal.SIGKILL)
                    found.kills["worker"] += 1
            _await_moment(home, kind, writer, dice, took)
            found.kills[kind] += writer.is_alive()
            writer.kill()
            writer.join()
            server.kill()
            found.kills["server"] += 1
            server = Server(home)
            clients.url = server.url
            _answers_from_a_whole_bundle(home, clients)
        clients.end()
        log = FileLog(home / "log")
        until = time.monotonic() + WAIT_S
        while (log.committed("events", "state") or 0) < log.end("events"):
            assert time.monotonic() < until, "listener state does not catch up with the log"
            time.sleep(0.05)
    finally:
        server.kill()
    _finish(_flow(home, "run"))
    left = [path.name for path in (home / "bundles").iterdir() if path.name.startswith(".")]
    assert left == [], left
    assert clients.refused == [], clients.refused[:5]
    found.answers, found.bundles = clients.answers, clients.bundles
    _count(home, clients, found)
    return found


def _await_moment(home: Path, kind: str, writer: BaseProcess, dice: random.Random, took: float) -> None:
    """A random moment of the writer's work; every other time one near a bundle's move into its place."""
    until = time.monotonic() + dice.uniform(0.0, took if kind == "publish" else 2.0)
    if kind == "publish" and dice.random() < 0.5:
        until += 2 * took
        while time.monotonic() < until and writer.is_alive():
            if any((home / "bundles").glob(".writing-*")):
                until = time.monotonic() + dice.uniform(0.0, 0.3)
                break
            time.sleep(0.002)
    writer.join(max(until - time.monotonic(), 0))


def _answers_from_a_whole_bundle(home: Path, clients: Clients) -> None:
    store = BundleStore(home / "bundles")
    store.open(every_byte=True)
    version = clients.ask(FIRST_LISTENER)
    if version is not None:
        store.open(version, every_byte=True)


def _tracks(home: Path) -> list[int]:
    engine = DuckDBDelta(home / "warehouse", Warehouse())
    rows = engine.collect(engine.read(TRACKS).select("track_id"))
    engine.close()
    return [int(track) for track in rows["track_id"].to_pylist()]


def _flow(home: Path, *arguments: str) -> BaseProcess:
    """A command in a process of its own, that has its libraries loaded: it is killed at work, not while it starts."""
    process = _processes.Process(
        target=_become, args=((*arguments, "--home", str(home)), home.parent / "flow.txt")
    )
    process.start()
    return process


def _become(arguments: tuple[str, ...], said: Path) -> None:
    with said.open("a") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    app(list(arguments), prog_name="segue")


def _finish(process: BaseProcess) -> None:
    process.join()
    assert process.exitcode == 0, f"a command that nobody killed ended with status {process.exitcode}"


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
    for user in range(FIRST_LISTENER, FIRST_LISTENER + LISTENERS):
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
