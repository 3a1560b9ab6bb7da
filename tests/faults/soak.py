"""Ten minutes of load on a small service, landing every minute: memory must stay flat, and nothing acknowledged be lost.

    python tests/faults/soak.py --minutes 10        # `make soak`

`segue serve` runs two workers over a simulated service; `segue load` sends sessions whose events flow back into what is
answered; `segue run --no-train` lands the log every minute. Meanwhile the memory, threads and open files of each worker are
sampled. In the end every acknowledged event must be in the log, in its listener's state and in the tables exactly once.

Memory is flat if what a worker has for itself (anonymous memory: not the bundle and the store, which are mapped files) grows by
less than FLAT_MB a minute, by least squares over the samples behind the first third, when caches have filled.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
from rounds import COMMAND, WAIT_S, Server

from segue.adapters.engines.duckdb import DuckDBDelta
from segue.adapters.log.files import FileLog
from segue.contracts.ids import parse_id
from segue.contracts.tables import EVENTS, RAW_EVENTS
from segue.events.records import read_events
from segue.listener.fold import MARKED, OF_ARTIST, PLAYED
from segue.listener.states import ListenerStates
from segue.load.report import Report
from segue.settings.tree import State, Warehouse
from segue.wiring.stores import open_store

RATE = 40.0
"""Requests a second; two thirds of them send events."""
SAMPLE_S = 2.0
LANDING_S = 60.0
FLAT_MB = 1.0
"""A worker that kept 900 bytes of every request it answers would grow by this much in a minute."""
MORE_FILES = 5
MB = 1024 * 1024
SETTINGS = """
[warehouse]
threads = 1
expect = false
[training]
threads = 1
factors = 16
epochs = 4
neighbours = 50
[training.rankers.home]
trees = 20
requests = 150
[training.rankers.next-up]
trees = 20
requests = 150
[gate]
max_requests = 100
"""


@dataclass(frozen=True)
class Sample:
    """One worker at a moment, `minute` after the load began. Megabytes."""

    minute: float
    resident: float
    own: float
    files: int
    threads: int


@dataclass
class Found:
    """What the soak showed. `landings` are seconds, the last one's after the end; `missing` and `doubled` are by place."""

    report: Report
    samples: dict[int, list[Sample]]
    landings: list[float]
    acknowledged: int
    missing: Counter[str] = field(default_factory=Counter)
    doubled: Counter[str] = field(default_factory=Counter)

    def faults(self) -> list[str]:
        """What must not be, in words."""
        found = []
        for pid, samples in self.samples.items():
            slope = growth(samples)
            if slope > FLAT_MB:
                found.append(f"worker {pid} grows by {slope:.2f} MB a minute; flat is up to {FLAT_MB} MB")
            early, late = split(samples)
            for what in ("files", "threads"):
                before, after = (max(getattr(sample, what) for sample in part) for part in (early, late))
                if after > before + MORE_FILES:
                    found.append(f"worker {pid} has {after} {what} at the end, {before} before")
        if self.report.total.errors:
            found.append(f"requests failed: {self.report.total.errors}")
        if len(self.landings) < 2:
            found.append("the log did not land while events came in")
        if not self.acknowledged:
            found.append("no event was acknowledged")
        for name, places in (("lost", self.missing), ("doubled", self.doubled)):
            found += [f"{count:,} events {name}: {place}" for place, count in places.items() if count]
        return found

    def table(self) -> str:
        """What was measured, for people."""
        rows = ["worker   minutes   resident MB      own MB            growth MB/min   files      threads"]
        for pid, samples in self.samples.items():
            first, last = samples[0], samples[-1]
            rows.append(
                f"{pid:<8} {last.minute:7.1f}   {first.resident:6.1f} -> {last.resident:6.1f}  "
                f"{first.own:6.1f} -> {last.own:6.1f}  {growth(samples):13.3f}   {first.files:3} -> {last.files:3} "
                f"{first.threads:3} -> {last.threads:3}"
            )
        total = self.report.total
        rows += [
            f"requests: {total.answered:,} of {total.intended:,} answered well at {self.report.achieved:.1f}/s; p50 "
            f"{total.latency.p50_ms:.1f} ms, p99 {total.latency.p99_ms:.1f} ms, longest {total.latency.max_ms:.0f} ms",
            f"landings {len(self.landings)}, the longest {max(self.landings):.0f} s",
            f"events acknowledged {self.acknowledged:,}, lost {self.missing.total()}, doubled {self.doubled.total()}",
            *self.report.doubts,
        ]
        return "\n".join(rows)


def split(samples: Sequence[Sample]) -> tuple[Sequence[Sample], Sequence[Sample]]:
    """The second and the last third, when caches have filled."""
    third = len(samples) // 3
    return samples[third:-third], samples[-third:]


def growth(samples: Sequence[Sample]) -> float:
    """Megabytes a minute, by least squares over all but the first third."""
    rest = samples[len(samples) // 3 :]
    return float(np.polyfit([s.minute for s in rest], [s.own for s in rest], 1)[0])


def sample(pid: int, minute: float) -> Sample:
    """A process as it is now, by /proc."""
    process = Path(f"/proc/{pid}")
    sizes = {
        line.split()[0].rstrip(":"): int(line.split()[1]) / 1024
        for line in (process / "smaps_rollup").read_text().splitlines()[1:]
    }
    return Sample(
        minute,
        sizes["Rss"],
        sizes["Anonymous"],
        len(list((process / "fd").iterdir())),
        len(list((process / "task").iterdir())),
    )


def every(seconds: float, work: Callable[[], None], ending: threading.Event) -> threading.Thread:
    """A thread that works now and every so often, until told to end."""

    def run() -> None:
        while True:
            work()
            if ending.wait(seconds):
                return

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def soak(home: Path, minutes: float, rate: float = RATE) -> Found:
    """Serve, load, land and sample; then count. `home` holds a published bundle."""
    kept, ending = home.parent / "acknowledged.jsonl", threading.Event()
    server = Server(home)
    await_ready(server.url)
    workers, landings = server.workers(), list[float]()
    samples: dict[int, list[Sample]] = {pid: [] for pid in workers}

    def look() -> None:
        for pid, seen in samples.items():
            seen.append(sample(pid, (time.monotonic() - started) / 60))

    def land() -> None:
        began = time.monotonic()
        run_segue("run", "--no-train", "--home", str(home))
        landings.append(time.monotonic() - began)

    started = time.monotonic()
    helpers = [every(SAMPLE_S, look, ending), every(LANDING_S, land, ending)]
    try:
        said = run_segue(
            *("load", server.url, "--rate", str(rate), "--duration", str(minutes * 60), "--json"),
            *("--warm-up", str(min(10.0, minutes * 6)), "--acknowledged", str(kept)),
        )
        ending.set()
        for helper in helpers:
            helper.join()
        assert server.workers() == workers, "a worker died and was replaced"
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(WAIT_S) == 0
    finally:
        ending.set()
        server.kill()
    catch_up(home)
    land()
    events = [msgspec.json.decode(line) for line in kept.read_bytes().splitlines()]
    found = Found(msgspec.json.decode(said, type=Report), samples, landings, len(events))
    count(home, events, found)
    return found


def await_ready(url: str) -> None:
    """Return when a bundle is open."""
    until = time.monotonic() + WAIT_S
    while httpx.get(f"{url}/readyz").status_code != 200:
        assert time.monotonic() < until, "the server does not become ready"
        time.sleep(0.1)


def catch_up(home: Path) -> None:
    """A server that starts folds what the one before left."""
    server, log, until = Server(home), FileLog(home / "log"), time.monotonic() + WAIT_S
    try:
        while log.committed("events", "state") < log.end("events"):
            assert time.monotonic() < until, "listener state does not catch up with the log"
            time.sleep(0.05)
    finally:
        server.kill()


def count(home: Path, events: list[dict[str, Any]], found: Found) -> None:
    """Look for each event in the log, in the tables and in its listener's state."""
    engine = DuckDBDelta(home / "warehouse", Warehouse())
    log = read_events(FileLog(home / "log").read("events", 0, 10**9).records)
    places = {"log": Counter(event.event_id for event in log)}
    for table in (RAW_EVENTS, EVENTS):
        ids = engine.collect(engine.read(table).select("event_id"))["event_id"].to_pylist()
        places[table.name] = Counter(ids)
    wanted = {parse_id(event["event_id"]) for event in events}
    for place, counted in places.items():
        found.missing[place] += len(wanted - counted.keys())
        found.doubled[place] += sum(number > 1 for number in counted.values())
    limits = State()
    states = ListenerStates(open_store(home, limits), limits)
    by_listener: dict[int, list[dict[str, Any]]] = {}
    for event in events:
        by_listener.setdefault(event["user_id"], []).append(event)
    for user_id, said in by_listener.items():
        state = states.read(user_id)
        plays: Counter[tuple[int, int]] = Counter()
        marks: dict[tuple[int, int], int] = {}
        since = 0
        if state is not None:
            plays.update((int(row["ts"]), int(row["track_id"])) for row in state.plays)
            marks = {(int(row["kind"]), int(row["target_id"])): int(row["ts"]) for row in state.marks}
            since = int(state.plays["ts"][0]) if len(state.plays) == limits.max_plays else 0
        found.missing["state"] += sum(not in_state(event, plays, marks, since) for event in said)
        found.doubled["state"] += sum(number > 1 for number in plays.values())
    states.close()


def in_state(
    event: dict[str, Any], plays: Counter[tuple[int, int]], marks: dict[tuple[int, int], int], since: int
) -> bool:
    """Whether a listener's state knows an event; a play older than the latest that a full state keeps is rightly forgotten."""
    if event["type"] in PLAYED:
        return event["ts"] < since or plays[event["ts"], event["track_id"]] == 1
    kind, _ = MARKED[event["type"]]
    target = event["artist_id"] if kind in OF_ARTIST else event["track_id"]
    return marks.get((kind, target), -1) >= event["ts"]


def run_segue(*arguments: str) -> bytes:
    """Run a command; it must succeed. Returns what it printed."""
    return subprocess.run([*COMMAND, *arguments], check=True, capture_output=True).stdout


def make_service(home: Path) -> None:
    """A small simulated service, trained and published."""
    home.mkdir(parents=True)
    (home / "segue.toml").write_text(SETTINGS)
    size = ("--tracks", "2000", "--artists", "300", "--listeners", "400", "--days", "16")
    run_segue("simulate", *size, "--home", str(home))
    run_segue("run", "--home", str(home))


def main() -> None:
    """Soak, print what was seen; exit status 1 if memory grew, or anything was lost, doubled or failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=float, default=RATE)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="segue-soak-") as folder:
        home = Path(folder) / "home"
        make_service(home)
        found = soak(home, given.minutes, given.rate)
    faults = found.faults()
    sys.stdout.write("\n".join([found.table(), *(f"FAULT: {fault}" for fault in faults)]) + "\n")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
