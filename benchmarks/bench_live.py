"""The live system: listening sessions arrive open loop, their events flow back, and bundles change meanwhile.

`segue serve` with two workers and `segue load` share this machine's cores; nothing is pinned. The capacity is what the cores
could bear by the CPU time that a request costs server and generator together, measured at a low rate: so a busy neighbour
does not lower it. Then latencies are measured at half of it, from the moment a request was due, on the wall: a busy neighbour
shows, and the generator's own lateness is stated beside. The mix is `segue load`'s: two thirds of the requests send events.
The home is a copy of that of a million tracks (`benchmarks/large.py`); a bundle that is published is read and hashed whole on
the same cores.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.bench_http import START_S
from benchmarks.harness import Row, at_most, cpu_seconds
from benchmarks.large import large_home
from segue.bundle.store import BundleStore
from segue.bundle.writer import BundleWriter
from segue.load.listeners import known_listeners
from segue.load.plan import Plan, address_of
from segue.load.report import Report, Requests
from segue.load.run import run as load
from segue.serving.server import claim_port

LOW_RATE, LOW_S, HALF_S, SWAP_S, WARM_UP_S = 30.0, 30.0, 90.0, 45.0, 15.0
SWAPS, BETWEEN_S = 3, 8.0
K = 20
GOAL_MS = 15.0
CORES = os.cpu_count() or 1


def run() -> list[Row]:
    """Capacity, then latencies at half of it, then the same with bundles changing."""
    with copied_home(large_home().root) as home, served(home) as (pid, url):
        cpu, calm = cpu_seconds(pid), _load(url, LOW_RATE, LOW_S)
        asked = calm.total.answered * LOW_S / calm.seconds
        server_ms = (cpu_seconds(pid) - cpu) / asked * 1000
        own_ms = calm.generator.cpu_us_per_request / 1000
        capacity = CORES * 1000 / (server_ms + own_ms)
        half = _load(url, capacity / 2, HALF_S)
        swapped, swaps = _load_and_swap(url, capacity / 2, BundleStore(home / "bundles"))
    where = f"two workers and the generator on {CORES} cores"
    rows = [
        Row(
            "live: capacity",
            capacity,
            None,
            None,
            "requests/s",
            f"{where}, two thirds of them events; {server_ms:.2f} ms of CPU a request, and {own_ms:.2f} in the generator",
        )
    ]
    for name in ("home", "next-up", "events"):
        found = half.requests[name]
        goal = at_most(found.latency.p99_ms, GOAL_MS, "ms") if name == "home" else None
        rows.append(
            Row(
                f"live: {name} at half of it",
                found.latency.p99_ms,
                None,
                None,
                "ms (p99)",
                _detail(found, half),
                goal,
            )
        )
    failed = sum(swapped.total.errors.values())
    rows.append(
        Row(
            "live: failed while bundles change",
            failed,
            None,
            None,
            "requests",
            f"of {swapped.total.intended:,}, {swaps} bundles published in {swapped.seconds:.0f} s; home p99 "
            f"{swapped.requests['home'].latency.p99_ms:.1f} ms, p99.9 {swapped.requests['home'].latency.p99_9_ms:.1f} ms",
            at_most(failed, 0, "requests"),
        )
    )
    return rows


def _detail(found: Requests, report: Report) -> str:
    latency, own = found.latency, report.generator
    said = (
        f"p50 {latency.p50_ms:.1f}, p95 {latency.p95_ms:.1f}, p99.9 {latency.p99_9_ms:.1f} ms on the wall; "
        f"{report.achieved:.0f} requests/s, {sum(found.errors.values())} failed; generator late by {own.late_p99_ms:.1f} ms (p99)"
    )
    return "; ".join([said, *(["**doubtful**"] if report.doubts else [])])


@contextmanager
def copied_home(home: Path) -> Iterator[Path]:
    """A home that may be written to: a copy of the state, and links to the files of bundles, which nobody changes."""
    with tempfile.TemporaryDirectory(prefix="segue-bench-live-", dir=home.parent) as folder:
        shutil.copytree(home / "bundles", Path(folder) / "bundles", copy_function=os.link)
        shutil.copytree(home / "state", Path(folder) / "state")
        yield Path(folder)


@contextmanager
def served(home: Path, changes: Sequence[str] = ()) -> Iterator[tuple[int, str]]:
    """A server with two workers, and those settings changed: its process id and URL."""
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
        "2",
    ]
    for change in changes:
        command += ["--set", change]
    own = {name: value for name, value in os.environ.items() if not name.startswith("SEGUE_")}
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=own)
    try:
        until = time.monotonic() + START_S
        while not _ready(f"http://127.0.0.1:{port}/readyz"):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the server did not become ready")
            time.sleep(0.2)
        yield process.pid, f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False


def _load(url: str, rate: float, seconds: float) -> Report:
    address = address_of(url, remote_allowed=False)
    plan = Plan(
        address,
        known_listeners(address, None),
        rate,
        duration_s=seconds,
        warm_up_s=min(WARM_UP_S, seconds / 3),
        k=K,
    )
    return load(plan)


def _load_and_swap(url: str, rate: float, store: BundleStore) -> tuple[Report, int]:
    """The same load while the champion's content is published under another name, again and again."""
    ending, published = threading.Event(), [0]

    def swap() -> None:
        ending.wait(WARM_UP_S)
        while published[0] < SWAPS and not ending.wait(BETWEEN_S):
            _publish_again(store, published[0])
            published[0] += 1

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        return _load(url, rate, SWAP_S), published[0]
    finally:
        ending.set()
        thread.join()


def _publish_again(store: BundleStore, number: int) -> None:
    champion = store.open()
    with BundleWriter(store.root) as writer:
        for name in champion.manifest.files:
            os.link(champion.folder / name, writer.path(name))
        made = writer.finish(
            version_prefix=f"2030-01-0{number + 1}",
            data_through=champion.manifest.data_through,
            settings=champion.manifest.settings,
            tracks=champion.manifest.tracks,
        )
    store.publish(made.version)
