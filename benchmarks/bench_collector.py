"""Events over HTTP until they are durable: `segue serve` with one worker, batches of 100 from a few connections.

The load is `segue load`'s connections in this process, each sending its next batch when the last was acknowledged. Events a
second of one core are events by the CPU time of the server's processes (Linux, /proc): HTTP, checking, the append with its
sync, the answer with a result per event. First with the following of the log left to another process (this one, which commits
without folding), as in a worker that stands by while another follows; then as a whole server of one worker does it, with
listener state in LMDB. Both on a home without a bundle: what is collected does not depend on it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from benchmarks.harness import Row, at_least, cpu_seconds
from segue.adapters.log.files import FileLog
from segue.contracts.ids import format_id, new_id
from segue.load.connections import Exchange, Pool
from segue.load.generator import ACCEPTED, new_loop
from segue.load.plan import Address
from segue.load.sessions import EVENTS, Request
from segue.serving.server import claim_port

BATCH, BATCHES, WARM_UP, CONNECTIONS = 100, 1_500, 150, 8
LISTENERS, TRACKS = 20_000, 1_000_000
GOAL: Final = 50_000
START_S = 60


@dataclass(frozen=True)
class Collected:
    """CPU seconds of the server, wall seconds, and seconds of each batch until it was acknowledged."""

    cpu: float
    wall: float
    batches: list[float]

    @property
    def rate(self) -> float:
        """Events by a second of CPU."""
        return len(self.batches) * BATCH / self.cpu

    @property
    def detail(self) -> str:
        """What else was seen."""
        p50, p99 = np.percentile(self.batches, [50, 99]) * 1000
        return (
            f"{len(self.batches) * BATCH / self.wall:,.0f} events/s on the wall, sender included, from {CONNECTIONS} "
            f"connections; a batch is acknowledged after {p50:.1f} ms (p50), {p99:.1f} ms (p99)"
        )


def run() -> list[Row]:
    """The collector alone, then with the fold."""
    with _empty_home() as home, _following(home), _server(home) as (pid, port):
        _collect(pid, port, WARM_UP)
        alone = _collect(pid, port, BATCHES)
    with _empty_home() as home, _server(home) as (pid, port):
        _collect(pid, port, WARM_UP)
        folded = _collect(pid, port, BATCHES // 3)
    return [
        Row(
            f"collected, batches of {BATCH}",
            alone.rate,
            None,
            None,
            "events/s a core",
            f"durable; {alone.detail}",
            at_least(alone.rate, GOAL, "events/s"),
        ),
        Row(
            "collected and folded into LMDB",
            folded.rate,
            None,
            None,
            "events/s a core",
            f"in effect on the next request; {folded.detail}",
        ),
    ]


@contextmanager
def _empty_home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="segue-bench-collect-") as folder:
        yield Path(folder)


@contextmanager
def _following(home: Path) -> Iterator[None]:
    """This process reads the log for listener state, and commits at once; the server's follower stands by."""
    ending, consumer = threading.Event(), FileLog(home / "log").consumer("events", "state")

    def follow() -> None:
        while not ending.is_set():
            if len(consumer.poll(10_000, 0.05)):
                consumer.commit()

    thread = threading.Thread(target=follow)
    thread.start()
    yield
    ending.set()
    thread.join()
    consumer.close()


@contextmanager
def _server(home: Path) -> Iterator[tuple[int, int]]:
    """A server with one worker: its process id and port."""
    port = claim_port("127.0.0.1", 0)
    command = [
        sys.executable,
        "-m",
        "segue.cli",
        "serve",
        "--home",
        str(home),
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    own = {name: value for name, value in os.environ.items() if not name.startswith("SEGUE_")}
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=own)
    try:
        until = time.monotonic() + START_S
        while not _answers(f"http://127.0.0.1:{port}/healthz"):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the server does not answer")
            time.sleep(0.1)
        yield process.pid, port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url):
            return True
    except urllib.error.URLError:
        return False


def _collect(pid: int, port: int, batches: int) -> Collected:
    bodies = [_batch() for _ in range(batches)]
    before, started = cpu_seconds(pid), time.perf_counter()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        seconds = runner.run(_send(port, bodies))
    return Collected(cpu_seconds(pid) - before, time.perf_counter() - started, seconds)


def _batch() -> bytes:
    """Plays of as many listeners, as a gateway sends them."""
    now = time.time_ns() // 1000
    users = np.random.default_rng().integers(0, LISTENERS, BATCH).tolist()
    tracks = np.random.default_rng().integers(0, TRACKS, BATCH).tolist()
    return msgspec.json.encode(
        [
            {
                "event_id": format_id(new_id()),
                "type": "play",
                "ts": now + n,
                "user_id": user,
                "track_id": track,
                "ms_played": 183_000,
                "surface": "home",
                "position": n % 20,
                "request_id": format_id(new_id()),
            }
            for n, (user, track) in enumerate(zip(users, tracks, strict=True))
        ]
    )


async def _send(port: int, bodies: list[bytes]) -> list[float]:
    """Post the bodies, CONNECTIONS at a time. Returns the seconds of each."""
    pool = Pool(Address("127.0.0.1", port, False, "localhost"), CONNECTIONS, "")
    todo, seconds, finished = iter(bodies), list[float](), asyncio.get_running_loop().create_future()

    def post() -> None:
        body = next(todo, None)
        if body is not None:
            began = time.perf_counter()
            pool.send(
                Exchange(Request(EVENTS, "/v1/events", body), 0.0, lambda *answer: done(began, *answer))
            )

    def done(began: float, status: int, body: bytes) -> None:
        if status != ACCEPTED and not finished.done():
            finished.set_exception(RuntimeError(f"{status}: {body[:500]!r}"))
            return
        seconds.append(time.perf_counter() - began)
        if len(seconds) == len(bodies):
            finished.set_result(None)
        post()

    for _ in range(CONNECTIONS):
        post()
    await finished
    pool.close()
    return seconds
