"""What processes counted, added up and judged."""

from __future__ import annotations

import pytest

from segue.load.report import report_of
from segue.load.tally import Tally


def tally(latency_ms: int = 10, late_ms: float = 0.1, waited: int = 0, cpu_s: float = 1.0) -> Tally:
    """A process that asked home 200 times in 10 s, one of them in vain."""
    found = Tally(seconds=10.0, sessions=20, in_time=198, sent=200, waited=waited, cpu_s=cpu_s)
    home = found.kind("home")
    home.intended = 200
    for _ in range(199):
        home.latency.record(latency_ms * 1000)
        found.late.record(int(late_ms * 1000))
    home.error("status 503")
    return found


def test_processes_add_up() -> None:
    total = Tally()
    for _ in range(2):
        total.add(tally())
    report = report_of(total, processes=2)
    assert (report.seconds, report.sessions) == (10.0, 40)
    assert report.intended == 40.0
    assert report.achieved == 39.6, "what came after the end does not count"
    assert report.requests["home"] == report.total
    assert (report.total.intended, report.total.answered) == (400, 398)
    assert report.total.errors == {"status 503": 2}
    assert report.total.latency.p99_ms == pytest.approx(10, rel=0.01)
    assert report.generator.cpu_us_per_request == 5_000
    assert report.doubts == []


@pytest.mark.parametrize(
    ("doubtful", "word"),
    [
        (tally(late_ms=8.0), "late"),
        (tally(cpu_s=9.0), "--processes"),
        (tally(waited=10), "--connections"),
    ],
)
def test_a_generator_that_was_the_bottleneck_says_so(doubtful: Tally, word: str) -> None:
    (doubt,) = report_of(doubtful, processes=1).doubts
    assert word in doubt


def test_lateness_that_is_little_beside_the_latency_is_no_doubt() -> None:
    assert report_of(tally(latency_ms=100, late_ms=8.0), processes=1).doubts == []


def test_a_run_that_was_stopped_at_once_has_a_report() -> None:
    assert report_of(Tally(), processes=1).total.intended == 0
