"""The result of a run, as people and programs read it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from segue.load.tally import Kind, Tally

LATE_MS: Final = 2.0
LATE_SHARE: Final = 0.2
"""The generator is late if so many milliseconds, and so much of what it reports, are its own."""
FULL: Final = 0.8
"""A process that uses so much of a core has no time left to be in time."""
WAITED_SHARE: Final = 0.01


class Latency(Struct, frozen=True):
    """Milliseconds from the moment a request was to be sent to the last byte of its good answer."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    p99_9_ms: float
    max_ms: float


class Requests(Struct, frozen=True):
    """Requests of one kind: how many were to be sent, how many were answered well, how quickly, and what went wrong."""

    intended: int
    answered: int
    latency: Latency
    errors: dict[str, int]


class Generator(Struct, frozen=True):
    """How the generator itself did. `late` is how long after their time requests left that waited for nothing else;
    `waited_share` of the requests had to wait for a connection. `cores` is what it used of the machine."""

    late_p99_ms: float
    late_max_ms: float
    waited_share: float
    cpu_us_per_request: float
    cores: float


class Report(Struct, frozen=True):
    """A run without its warm-up. Rates are requests a second; `achieved` counts good answers.

    `doubts` says in words why these numbers may tell more of the generator than of the server; empty if nothing does.
    """

    seconds: float
    sessions: int
    intended: float
    achieved: float
    requests: dict[str, Requests]
    total: Requests
    events_sent: int
    events_acknowledged: int
    events_refused: dict[str, int]
    bytes_out: int
    bytes_in: int
    generator: Generator
    doubts: list[str]


def report_of(tally: Tally, processes: int) -> Report:
    """The report of what was counted."""
    seconds = max(tally.seconds, 1e-9)
    names = sorted(tally.kinds, key=lambda name: (name == "events", name))
    total = Kind()
    for kind in tally.kinds.values():
        total.add(kind)
    generator = Generator(
        late_p99_ms=tally.late.percentile(99) / 1000,
        late_max_ms=tally.late.largest / 1000,
        waited_share=tally.waited / max(tally.sent, 1),
        cpu_us_per_request=1e6 * tally.cpu_s / max(tally.sent, 1),
        cores=tally.cpu_s / seconds,
    )
    return Report(
        seconds=tally.seconds,
        sessions=tally.sessions,
        intended=total.intended / seconds,
        achieved=tally.in_time / seconds,
        requests={name: _requests(tally.kinds[name]) for name in names},
        total=_requests(total),
        events_sent=tally.events,
        events_acknowledged=tally.acknowledged,
        events_refused=tally.refused,
        bytes_out=tally.bytes_out,
        bytes_in=tally.bytes_in,
        generator=generator,
        doubts=list(_doubts(generator, total.latency.percentile(99) / 1000, processes)),
    )


def _requests(kind: Kind) -> Requests:
    seen = kind.latency
    p50, p95, p99, p99_9 = (seen.percentile(q) / 1000 for q in (50, 95, 99, 99.9))
    return Requests(
        kind.intended, seen.total, Latency(p50, p95, p99, p99_9, seen.largest / 1000), dict(kind.errors)
    )


def _doubts(generator: Generator, p99_ms: float, processes: int) -> Iterator[str]:
    late = generator.late_p99_ms
    if late > LATE_MS and late > LATE_SHARE * p99_ms:
        yield (
            f"the generator was late: 1 % of the requests left {late:.1f} ms or more after their time, which is counted in "
            "their latency; it had too little of the processor"
        )
    if generator.cores > FULL * processes:
        yield (
            f"the generator used {generator.cores:.2f} cores with {processes} process{'es' * (processes > 1)}: "
            "it may be what is slow; say --processes"
        )
    if generator.waited_share > WAITED_SHARE:
        yield (
            f"{generator.waited_share:.0%} of the requests waited for a free connection: the server is beyond its capacity, "
            "or --connections is too small"
        )
