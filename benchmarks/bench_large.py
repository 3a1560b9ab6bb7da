"""A million tracks: what a worker holds, how soon it is there, and what a request costs. The service is `benchmarks/large.py`'s.

Memory is read from the kernel (smaps) of two workers that have both answered: private is what one has to itself, written or not,
besides pages of the bundle's files: those belong to the system's cache, which gives them back, and are shown apart.
Requests and their timing are those of `bench_request` and `bench_http`, here with a full state for every listener.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from benchmarks.bench_http import drive, server, throughput
from benchmarks.bench_request import recommender_of, timed
from benchmarks.harness import Row, at_most
from benchmarks.large import large_home
from benchmarks.service import just_after, known_listeners
from segue.recommend.api import Request
from segue.recommend.artifacts import Artifacts
from segue.wiring.home import Home

K, LISTENERS, ROUNDS = 50, 400, 2
PAGES = (50, 20)
REQUESTS, WARM_UP, CONNECTIONS = 2_000, 800, 8
PRIVATE_MB, RATE = 200.0, 250.0
OPENED = 5


def run() -> list[Row]:
    """Opening, one request in this process, then a server of two workers for memory and one of one for throughput."""
    home = large_home()
    listeners = known_listeners(home, LISTENERS)
    now = just_after(listeners)
    users = [state.user_id for state in listeners]
    paths = {k: [f"/v1/recommendations/home?user_id={user}&k={k}" for user in users] for k in PAGES}
    rows = [_opening(home), _request(home, users, now)]
    with server(home, workers=2) as (pid, port):
        drive(pid, port, paths[K], WARM_UP, CONNECTIONS)
        rows.append(_memory(pid))
    with server(home) as (pid, port):
        drive(pid, port, paths[K], WARM_UP, CONNECTIONS)
        for k in PAGES:
            load = drive(pid, port, paths[k], REQUESTS, CONNECTIONS)
            rows.append(throughput(f"1M tracks: http, home, k={k}", load, RATE))
    return rows


def _opening(home: Home) -> Row:
    bundle = home.bundles.open()
    spent, wall = [], []
    for _ in range(OPENED):
        began, clock = time.process_time(), time.perf_counter()
        Artifacts.load(home.bundles.open())
        spent.append(time.process_time() - began)
        wall.append(time.perf_counter() - clock)
    size = sum(entry.bytes for entry in bundle.manifest.files.values()) / 1e9
    detail = (
        f"{bundle.manifest.tracks:,} tracks, {size:.1f} GB; {1e3 * float(np.median(wall)):.0f} ms on the wall"
    )
    return Row("1M tracks: open", 1e3 * float(np.median(spent)), None, None, "ms CPU", detail)


def _request(home: Home, users: list[int], now: int) -> Row:
    recommender = recommender_of(home)
    requests = [Request(surface="home", user_id=user, k=K, now=now, seed=0) for user in users]
    for request in requests:
        timed(recommender, request)
    measured = [timed(recommender, request) for _ in range(ROUNDS) for request in requests]
    totals = [sum(stages.values()) for stages, _ in measured]
    stages = {name: np.median([spent.get(name, 0.0) for spent, _ in measured]) for name in measured[0][0]}
    most = sorted(stages, key=lambda name: -stages[name])[:5]
    return Row(
        f"1M tracks: request, home, k={K}",
        float(np.percentile(totals, 50)),
        None,
        None,
        "ms CPU (p50)",
        f"p99 {np.percentile(totals, 99):.2f} ms; "
        + ", ".join(f"{name} {stages[name]:.2f}" for name in most),
    )


def _memory(server_pid: int) -> Row:
    """The worst of the workers."""
    workers = [found for pid in children(server_pid) if (found := smaps(pid))["Rss"] > 0]
    worst = max(workers, key=lambda found: found["private"])
    detail = (
        f"the larger of {len(workers)} workers; its pages of the bundle: {worst['bundle shared']:,.0f} MB shared, "
        f"{worst['bundle private']:,.0f} MB that no other has touched"
    )
    private = worst["private"]
    return Row(
        "1M tracks: private memory of a worker",
        private,
        None,
        None,
        "MB",
        detail,
        at_most(private, PRIVATE_MB, "MB"),
    )


def children(pid: int) -> list[int]:
    """Processes that a process started and that run."""
    listed = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for children in listed for child in children]


def smaps(pid: int) -> dict[str, float]:
    """MB of a process: `private`, `bundle private`, `bundle shared`, `Rss`."""
    found = dict.fromkeys(("private", "bundle private", "bundle shared", "Rss"), 0.0)
    bundle = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        name, _, rest = line.partition(":")
        if " " in name:  # the head of a mapping: its addresses, and its file
            bundle = "/bundles/" in line
        elif name in ("Private_Clean", "Private_Dirty"):
            found["bundle private" if bundle else "private"] += int(rest.split()[0]) / 1024
        elif name in ("Shared_Clean", "Shared_Dirty") and bundle:
            found["bundle shared"] += int(rest.split()[0]) / 1024
        elif name == "Rss":
            found["Rss"] += int(rest.split()[0]) / 1024
    return found
