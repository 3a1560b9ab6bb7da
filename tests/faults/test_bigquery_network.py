"""BigQuery on a bad day, by way of a proxy that refuses, loses answers or is silent: tried again, once each, and not forever."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import ibis
import pyarrow as pa
import pytest

from http_proxy import FOREVER, Fault, HttpProxy
from real_engines import RAN, Places
from segue.contracts.errors import Overloaded, SegueError, Unavailable
from segue.contracts.ports import Days, Engine
from segue.contracts.schema import Column, Table
from segue.settings.tree import Warehouse
from segue.wiring.engines import open_engine

DAY = Days(date(2026, 5, 1), date(2026, 5, 1))
NUMBERS = Table(
    "numbers",
    "",
    (Column("day", pa.date32(), "the partition"), Column("n", pa.int64(), "which")),
    key=("n",),
    sort=("n",),
)
PATIENCE_S = 2.0
QUERY = "POST /bigquery/v2/projects/test/jobs"
RESULTS = "GET /bigquery/v2/projects/test/queries"
UPLOAD = "POST /upload"


def numbers(*values: int) -> pa.Table:
    return pa.table({"day": [DAY.first] * len(values), "n": list(values)}, schema=NUMBERS.arrow)


def held(engine: Engine) -> list[int]:
    found: list[int] = sorted(engine.collect(engine.read(NUMBERS))["n"].to_pylist())
    return found


@pytest.fixture
def proxy(places: Places) -> Iterator[HttpProxy]:
    made = HttpProxy(places.emulator.rest)
    yield made
    made.close()


OpenEngine = Callable[[float], Engine]


@pytest.fixture
def opened(
    request: pytest.FixtureRequest, places: Places, proxy: HttpProxy, tmp_path: Path
) -> Iterator[OpenEngine]:
    """Opens BigQuery behind the proxy with so much patience, a table with one row in it."""
    made: list[Engine] = []

    def open_with(deadline_s: float) -> Engine:
        place = places.emulator.place(proxy.port, deadline_s)
        engine = open_engine(tmp_path, Warehouse(engine="bigquery", bigquery=place))
        made.append(engine)
        engine.append(NUMBERS, numbers(0))
        request.node.user_properties.append((RAN, "bigquery"))
        return engine

    yield open_with
    proxy.spoil(Fault(times=0))
    for engine in made:
        engine.close()


PASSING = {
    "internal error": Fault(500, "internalError"),
    "bad gateway": Fault(502, "badGateway"),
    "unavailable": Fault(503, "backendError"),
    "unavailable, says a balancer": Fault(503, "serviceUnavailable"),
    "too often": Fault(403, "rateLimitExceeded"),
    "too often, 429": Fault(429, "rateLimitExceeded"),
    "a statement": Fault(503, "backendError", only=QUERY),
    "a result": Fault(503, "backendError", only=RESULTS),
    "an upload": Fault(503, "backendError", only=UPLOAD),
    "a job": Fault(kind="failed", reason="backendError", only=QUERY),
    "a job, too often": Fault(kind="failed", reason="jobRateLimitExceeded", only=QUERY),
}


@pytest.mark.parametrize("name", PASSING)
def test_what_fails_for_the_moment_is_tried_again(opened: OpenEngine, proxy: HttpProxy, name: str) -> None:
    engine = opened(60)
    proxy.spoil(replace(PASSING[name], times=1))
    assert engine.append(NUMBERS, numbers(1), marker=("source", 1)) is True
    assert engine.overwrite(NUMBERS, ibis.memtable(numbers(2, 3)), DAY) == {DAY.first: 2}
    assert proxy.met == 1
    assert held(engine) == [2, 3]


@pytest.mark.parametrize("where", [QUERY, RESULTS, UPLOAD])
def test_an_answer_that_is_lost_does_nothing_twice(opened: OpenEngine, proxy: HttpProxy, where: str) -> None:
    engine = opened(60)
    proxy.spoil(Fault(kind="lost", only=where, times=2))
    assert engine.append(NUMBERS, numbers(1)) is True
    assert engine.append(NUMBERS, numbers(2), marker=("source", 1)) is True
    assert engine.append(NUMBERS, numbers(2), marker=("source", 1)) is False
    assert proxy.met == 2
    assert held(engine) == [0, 1, 2]


ENDLESS: dict[str, tuple[Fault, type[SegueError], str]] = {
    "away": (Fault(503, "backendError"), Unavailable, "no good answer within 2 s"),
    "silent": (Fault(kind="silent"), Unavailable, "no good answer within 2 s"),
    "lost": (Fault(kind="lost"), Unavailable, "no good answer within 2 s"),
    "no upload": (Fault(503, "backendError", only=UPLOAD), Unavailable, "no good answer within 2 s"),
    "no upload, silent": (Fault(kind="silent", only=UPLOAD), Unavailable, "no good answer within 2 s"),
    "failing": (
        Fault(kind="failed", reason="backendError", only=QUERY),
        Unavailable,
        "no good answer within 2 s",
    ),
    "too often": (Fault(429, "rateLimitExceeded"), Overloaded, "asked too often, and still after 2 s"),
    "used up": (Fault(403, "quotaExceeded"), Overloaded, "a quota of BigQuery is used up"),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_patience_ends_with_a_word_and_the_table_as_it_was(
    opened: OpenEngine, proxy: HttpProxy, name: str
) -> None:
    engine = opened(PATIENCE_S)
    fault, kind, message = ENDLESS[name]
    proxy.spoil(fault)
    assert fault.times == FOREVER
    for call in (
        lambda: engine.overwrite(NUMBERS, numbers(1), DAY),
        lambda: engine.collect(ibis.memtable(numbers(1)).aggregate(n=ibis._.count())),
    ):
        began = time.monotonic()
        with pytest.raises(kind, match=message):
            call()
        # Why: not a matter of speed. Without a bound it would be Google's ten minutes.
        assert time.monotonic() - began < 60
    proxy.spoil(Fault(times=0))
    assert held(engine) == [0]
