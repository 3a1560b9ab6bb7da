"""What the server counts, in Prometheus' form.

Names follow the Prometheus conventions: base units, `_total` for counters. With several workers each writes
its numbers to memory-mapped files of its own in one directory, and whichever worker is scraped adds all of
them up (the client library's multiprocess mode), so that a scrape sees the host, not one worker by chance.

Labels come from closed sets. A label that a caller could invent (the reason of a rejected event names the
caller's field) is kept to the first MAX_REASONS values; the rest are counted as `other`, so that nobody can
grow our memory by inventing names.
"""

from __future__ import annotations

import fcntl
import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    mmap_dict,
    multiprocess,
    values,
)
from prometheus_client.metrics import MetricWrapperBase

from segue.recommend.api import Response

MEDIA_TYPE: Final = "text/plain; version=1.0.0; charset=utf-8"
MAX_REASONS: Final = 100
PARTS: Final = ("state", "follower", "catalogue", "experiments")
"""What may not work while requests are answered."""
_LATENCY: Final = (
    0.001,
    0.0025,
    0.005,
    0.0075,
    0.01,
    0.015,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
)
_STAGE: Final = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.5,
)
_DIRECTORY_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
_GONE: Final = "gone"
"""In the place of a worker's number, in the names of the files that hold what dead ones counted."""


class Metrics:
    """All metrics of one worker. `directory` is shared by the workers of a host; None means there is only this one."""

    def __init__(self, directory: Path | None = None) -> None:
        if directory is not None:
            # The client library chooses where numbers live when a metric is made, and learns the directory
            # from this variable.
            os.environ[_DIRECTORY_VARIABLE] = str(directory)
            values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]
        else:
            values.ValueClass = values.MutexValue
        self._directory = directory
        self._registry = own = CollectorRegistry()
        self._requests = Counter(
            "segue_http_requests",
            "HTTP requests",
            ("method", "route", "surface", "status"),
            registry=own,
        )
        self._latency = Histogram(
            "segue_http_request_seconds",
            "time to answer, by route",
            ("route", "surface"),
            buckets=_LATENCY,
            registry=own,
        )
        self._stage = Histogram(
            "segue_stage_seconds",
            "time of one stage of the request pipeline",
            ("surface", "stage"),
            buckets=_STAGE,
            registry=own,
        )
        self._degraded = Counter(
            "segue_degraded",
            "answers from which a stage left something out",
            ("surface", "stage"),
            registry=own,
        )
        self._removed = Counter(
            "segue_removed_candidates",
            "candidates removed, by reason",
            ("surface", "reason"),
            registry=own,
        )
        self._empty = Counter(
            "segue_empty_answers",
            "answers without a single item",
            ("surface",),
            registry=own,
        )
        self._events = Counter("segue_events", "events received", ("result", "reason"), registry=own)
        self._dead_letters = Counter(
            "segue_dead_letters",
            "refused events, and whether they are kept for the table rejects",
            ("result",),
            registry=own,
        )
        self._shed = Counter(
            "segue_shed_requests",
            "requests refused because a lane was full",
            ("lane",),
            registry=own,
        )
        self._waited = Histogram(
            "segue_lane_wait_seconds",
            "time a request waited for a thread",
            ("lane",),
            buckets=_LATENCY,
            registry=own,
        )
        self._workers = Gauge(
            "segue_workers_by_bundle",
            "live workers that answer from this bundle",
            ("bundle",),
            multiprocess_mode="livesum",
            registry=own,
        )
        self._degraded_workers = Gauge(
            "segue_degraded_workers",
            "live workers in which a part does not work",
            ("part",),
            multiprocess_mode="livesum",
            registry=own,
        )
        self._lag = Gauge(
            "segue_follower_lag_seconds",
            "how long the oldest event has waited that is not in listener state yet",
            multiprocess_mode="livemax",
            registry=own,
        )
        self._backlog = Gauge(
            "segue_follower_backlog",
            "what lies in the log behind the events at hand: bytes of files, records in Kafka",
            multiprocess_mode="livemax",
            registry=own,
        )
        self._bundle: str | None = None
        self._reasons: set[str] = set()
        self._lines: dict[tuple[str, ...], Any] = {}
        # The library opens a file for each kind of metric with the first number of its kind. Now, not in some request: by then
        # the directory may have been swept.
        self._line(self._waited, "read")
        self._line(self._shed, "read")
        self._line(self._degraded_workers, PARTS[0])

    def request(self, method: str, route: str, surface: str, status: int, seconds: float) -> None:
        """Count one HTTP request."""
        self._line(self._requests, method, route, surface, str(status)).inc()
        self._line(self._latency, route, surface).observe(seconds)

    def answer(self, response: Response) -> None:
        """Count what one recommendation took, lost and left out."""
        surface = response.surface
        for stage in response.trace.stages:
            self._line(self._stage, surface, stage.name).observe(stage.ms / 1000)
            if stage.degraded is not None:
                self._degraded.labels(surface, stage.name).inc()
        for reason, count in response.trace.removed.items():
            self._line(self._removed, surface, reason).inc(count)
        if not response.items:
            self._empty.labels(surface).inc()

    def events(self, accepted: int, rejected: Iterable[str]) -> None:
        """Count the events of a batch: how many were accepted, and the reason of each that was not."""
        if accepted:
            self._events.labels("accepted", "").inc(accepted)
        for reason in rejected:
            self._events.labels("rejected", self._bounded(reason)).inc()

    def dead_letters(self, kept: int, dropped: int) -> None:
        """Count refused events: those kept for the table of rejects, and those beyond its limit."""
        for result, count in (("kept", kept), ("dropped", dropped)):
            if count:
                self._line(self._dead_letters, result).inc(count)

    def shed(self, lane: str) -> None:
        """Count a request refused because a lane was full."""
        self._shed.labels(lane).inc()

    def waited(self, lane: str, seconds: float) -> None:
        """Count the time a request waited for a thread."""
        self._line(self._waited, lane).observe(seconds)

    def bundle(self, version: str | None) -> None:
        """Note the bundle this worker answers from."""
        if version == self._bundle:
            return
        if self._bundle is not None:
            self._workers.labels(self._bundle).set(0)
        if version is not None:
            self._workers.labels(version).set(1)
        self._bundle = version

    def health(self, degraded: Collection[str], lag_s: float, backlog: int | None) -> None:
        """Note the parts that do not work, and how far listener state is behind."""
        for part in PARTS:
            self._degraded_workers.labels(part).set(part in degraded)
        self._lag.set(lag_s)
        self._backlog.set(backlog or 0)

    def page(self) -> bytes:
        """All numbers in the text format, those of every worker added up."""
        if self._directory is None:
            return generate_latest(self._registry)
        with _alone(self._directory):
            _bury_the_dead(self._directory)
            everyone = CollectorRegistry()
            multiprocess.MultiProcessCollector(everyone, str(self._directory))  # type: ignore[no-untyped-call]
            return generate_latest(everyone)

    def _line(self, metric: MetricWrapperBase, *labels: str) -> Any:
        """The metric's line with these labels. The library looks it up under a lock, some thirty times a request."""
        key = (metric._name, *labels)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = metric.labels(*labels)
        return line

    def _bounded(self, reason: str) -> str:
        if reason not in self._reasons:
            if len(self._reasons) >= MAX_REASONS:
                return "other"
            self._reasons.add(reason)
        return reason


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """One scrape at a time on this host, as each may replace files that another would read."""
    lock = os.open(directory / "scrape.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _bury_the_dead(directory: Path) -> None:
    """Drop the gauges of workers that are gone. What they counted did happen, and is added up in one file for all of them: else
    every worker that was ever killed would be read with each scrape.
    """
    for file in directory.glob("gauge_live*.db"):
        pid = _pid_of(file)
        if not _alive(pid):
            multiprocess.mark_process_dead(pid, str(directory))  # type: ignore[no-untyped-call]
    for kind in ("counter", "histogram"):
        files = directory.glob(f"{kind}_*.db")
        dead = [file for file in files if file.stem != f"{kind}_{_GONE}" and not _alive(_pid_of(file))]
        if dead:
            _add_up(directory / f"{kind}_{_GONE}.db", dead)


def _add_up(gone: Path, dead: list[Path]) -> None:
    total: dict[str, float] = defaultdict(float)
    for file in (gone, *dead):
        if not file.exists() or file.stat().st_size == 0:  # killed when it had only just opened it
            continue
        for key, value, *_ in mmap_dict.MmapedDict.read_all_values_from_file(file):  # type: ignore[no-untyped-call]
            total[key] += value
    made = gone.with_suffix(".new")
    made.unlink(missing_ok=True)
    sums: Any = mmap_dict.MmapedDict(str(made))  # type: ignore[no-untyped-call]
    for key, value in total.items():
        sums.write_value(key, value, 0.0)
    sums.close()
    made.rename(gone)
    for file in dead:
        file.unlink()


def _pid_of(file: Path) -> int:
    return int(file.stem.rpartition("_")[2])


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):  # another user's has the number of a worker that is gone
        return False
    return True
