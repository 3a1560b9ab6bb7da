"""Home pages over HTTP: `segue serve` with one worker in a process of its own, and a load generator in this one.

The generator is ours: asyncio and raw sockets, a few connections that stay open, each sending its next request when the
last answer is whole. It checks every status. Requests a second of one core are requests by the CPU time that the server's
processes used (Linux, /proc): a neighbour on the machine slows the clock on the wall, not that number. It counts all the
server does: HTTP, the request, JSON, the exposure log. The moment of a request is the present, so once the simulated
history is weeks old some sources (new uploads) have less to say than in `bench_request`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TextIO

import numpy as np

from benchmarks.harness import Row, at_least, cpu_seconds
from benchmarks.service import SERVING, known_listeners, published_home
from segue.serving.server import claim_port
from segue.wiring.home import Home

GOAL_RATE = 200.0
CONNECTIONS, REQUESTS, WARM_UP = 8, 3_000, 400
PAGES = (50, 20)
LISTENERS = 400
START_S = 120


@dataclass(frozen=True)
class Load:
    """What a run of requests took: wall seconds of each answer, CPU seconds of the server, wall seconds in all."""

    latencies: list[float]
    server_cpu: float
    wall: float


def run() -> list[Row]:
    """Throughput of pages of 50 and of 20 tracks, then the latency of one caller alone."""
    home = published_home()
    listeners = known_listeners(home, LISTENERS)
    users = [state.user_id for state in listeners]
    paths = {k: [f"/v1/recommendations/home?user_id={user}&k={k}" for user in users] for k in PAGES}
    with server(home, SERVING) as (pid, port):
        drive(pid, port, paths[PAGES[0]], WARM_UP, CONNECTIONS)
        rows = [
            throughput(f"http: home, k={k}", drive(pid, port, paths[k], REQUESTS, CONNECTIONS), GOAL_RATE)
            for k in PAGES
        ]
        alone = drive(pid, port, paths[PAGES[0]], REQUESTS // 4, 1)
    detail = f"p99 {_ms(alone, 99):.1f} ms; wall time, so a busy machine shows"
    return [
        *rows,
        Row(f"http: home, k={PAGES[0]}, one caller", _ms(alone, 50), None, None, "ms (p50)", detail),
    ]


def throughput(name: str, load: Load, goal: float) -> Row:
    """Requests a second of a core."""
    rate = len(load.latencies) / load.server_cpu
    return Row(
        name,
        rate,
        None,
        None,
        "requests/s a core",
        f"{CONNECTIONS} connections; {len(load.latencies) / load.wall:.0f} requests/s on the wall, "
        f"p50 {_ms(load, 50):.1f} ms, p99 {_ms(load, 99):.1f} ms",
        at_least(rate, goal, "requests/s"),
    )


def _ms(load: Load, q: int) -> float:
    return 1e3 * float(np.percentile(load.latencies, q))


@contextmanager
def server(home: Home, changes: Sequence[str] = (), workers: int = 1) -> Iterator[tuple[int, int]]:
    """A server with those settings changed, and as many CPUs as workers: its process id and port."""
    port = claim_port("127.0.0.1", 0)
    command = [sys.executable, "-c", "from segue.cli.main import app; app()"]
    command += ["serve", "--home", str(home.root)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
    for change in changes:
        command += ["--set", change]
    own = {name: value for name, value in os.environ.items() if not name.startswith("SEGUE_")}
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command, stdout=said, stderr=said, env=own, preexec_fn=partial(_keep_to, workers)
        )
        try:
            _await_ready(process, port, said)
            yield process.pid, port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _keep_to(cpus: int) -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-cpus:])


def _await_ready(process: subprocess.Popen[bytes], port: int, said: TextIO) -> None:
    url, deadline = f"http://127.0.0.1:{port}/readyz", time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url) as answer:
                if answer.status == 200:
                    return
        except urllib.error.URLError:
            pass
        time.sleep(0.2)
    said.seek(0)
    raise RuntimeError(f"the server did not become ready: {said.read()[-2_000:]}")


def drive(pid: int, port: int, paths: list[str], requests: int, connections: int) -> Load:
    """Send so many requests, going round the paths."""
    before, started = cpu_seconds(pid), time.perf_counter()
    latencies = asyncio.run(_callers(port, paths, requests, connections))
    return Load(latencies, cpu_seconds(pid) - before, time.perf_counter() - started)


async def _callers(port: int, paths: list[str], requests: int, connections: int) -> list[float]:
    todo = iter(range(requests))
    latencies: list[float] = []

    async def caller() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in todo:
            started = time.perf_counter()
            writer.write(f"GET {paths[number % len(paths)]} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await _read_answer(reader)
            latencies.append(time.perf_counter() - started)
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(caller() for _ in range(connections)))
    return latencies


async def _read_answer(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = next(int(line[15:]) for line in head.split("\r\n") if line.startswith("content-length:"))
    body = await reader.readexactly(length)
    if not head.startswith("http/1.1 200 "):
        raise RuntimeError(f"{head.splitlines()[0]}: {body[:500]!r}")
