"""A log behind a bad network: every call ends within its deadline, nothing acknowledged is lost, and it works again.

Broker and emulator are real; between us and them is a proxy that delays, stalls, cuts and refuses.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from proxy import Proxy
from real_stores import PARTS, LogPlace, Server, free_port, log_settings_at, tansu
from segue.contracts.errors import Unavailable
from segue.contracts.ports import Log
from segue.serving.app import make_app
from segue.settings.tree import Log as LogSettings
from segue.wiring.home import Home
from segue.wiring.platform import HomePlatform
from segue.wiring.topics import readers

DEADLINE_S = 1.5
SLACK_S = 6.0
"""What a busy machine may add to a deadline before a call counts as hanging."""
WAIT_S = 90.0
KINDS = ["kafka", "pubsub"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def proxy(
    kind: str, real_parts: Callable[[str], Server], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """The way to the log. A Kafka broker says where it is to be found, so it has to know the proxy: it is one of its own."""
    if kind == "pubsub":
        between = Proxy(real_parts(kind).port)
        yield between
        between.close()
        return
    port = free_port()
    between = Proxy(port)
    part = dataclasses.replace(
        PARTS["kafka"], command=lambda program, at, _: tansu(program, at, between.port)
    )
    broker = Server(part, tmp_path_factory.mktemp("broker"), port)
    yield between
    between.close()
    broker.stop()


@pytest.fixture
def settings(
    kind: str, proxy: Proxy, log_of: Callable[[str], LogPlace], monkeypatch: pytest.MonkeyPatch
) -> LogSettings:
    log_of(kind)
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{proxy.port}")
    settings = msgspec.structs.replace(log_settings_at(kind, proxy.port), deadline_ms=int(DEADLINE_S * 1000))
    with closing(LogPlace(settings, Path()).open(deadline_ms=20_000)) as log:
        log.create({"t": ["g"]})
    return settings


@pytest.fixture
def log(settings: LogSettings, tmp_path: Path) -> Iterator[Log]:
    opened = LogPlace(settings, tmp_path).open()
    yield opened
    opened.close()


def within(calls: int, call: Callable[[], object]) -> bool:
    """Whether the call raised Unavailable; it must end after so many deadlines, whatever it does."""
    start = time.monotonic()
    try:
        call()
    except Unavailable:
        return True
    finally:
        assert time.monotonic() - start < calls * DEADLINE_S + SLACK_S
    return False


def eventually(call: Callable[[], object]) -> None:
    """The call works again, after some attempts."""
    ends = time.monotonic() + WAIT_S
    while True:
        try:
            call()
        except Unavailable:
            assert time.monotonic() < ends
        else:
            return


def everything(log: Log, count: int) -> list[bytes]:
    """What a new reader sees, when it has seen so many."""
    records: set[bytes] = set()
    ends = time.monotonic() + WAIT_S
    with closing(log.reader("t")) as reader:
        while len(records) < count and time.monotonic() < ends:
            with suppress(Unavailable):
                records.update(reader.poll(1_000, wait_s=0.5).records)
    return sorted(records)


def open_and_close(log: Log) -> None:
    log.consumer("t", "g").close()


@pytest.mark.parametrize("mode", ["refuse", "stall", "cut", "delay"])
def test_no_call_hangs_and_all_work_again(kind: str, log: Log, proxy: Proxy, mode: str) -> None:
    place = log.append("t", [b"before"])
    consumer = log.consumer("t", "g")
    assert consumer.poll(1, wait_s=WAIT_S).records == [b"before"]
    proxy.spoil(mode, delay_s=5.0, cut_after=3)
    assert within(1, lambda: log.append("t", [b"doubtful"]))
    assert within(1, consumer.commit)
    within(1, lambda: consumer.poll(5, wait_s=0.2))
    within(2, consumer.close)
    within(3, lambda: open_and_close(log))
    within(3, lambda: log.reader("t").close())
    if place is not None:
        within(1, lambda: log.passed("t", "g", place))
    proxy.spoil("pass")
    eventually(lambda: log.append("t", [b"after"]))
    assert {b"before", b"after"} <= set(everything(log, 2)) <= {b"before", b"doubtful", b"after"}
    eventually(lambda: open_and_close(log))


def test_a_slow_log_within_its_deadline_is_only_slow(log: Log, proxy: Proxy) -> None:
    log.append("t", [b"a"])
    proxy.spoil("delay", delay_s=0.03)
    log.append("t", [b"b"])
    assert everything(log, 2) == [b"a", b"b"]


def test_nothing_acknowledged_is_lost_while_the_network_comes_and_goes(log: Log, proxy: Proxy) -> None:
    dice, acknowledged, ending = random.Random(5), set[bytes](), threading.Event()

    def append() -> None:
        n = 0
        while not ending.is_set():
            records = [b"%d" % at for at in range(n, n + 5)]
            n += 5
            with suppress(Unavailable):
                log.append("t", records)
                acknowledged.update(records)

    writer = threading.Thread(target=append)
    writer.start()
    for mode in ("refuse", "pass", "cut", "pass", "stall", "pass"):
        time.sleep(dice.uniform(0.5, 2.0))
        proxy.spoil(mode, cut_after=200)
    before = len(acknowledged)
    ends = time.monotonic() + WAIT_S
    while len(acknowledged) < before + 50 and time.monotonic() < ends:
        time.sleep(0.05)
    ending.set()
    writer.join()
    assert len(acknowledged) >= before + 50, "it works again"
    assert acknowledged <= set(everything(log, len(acknowledged)))


@pytest.fixture
def home(service: Home, settings: LogSettings, tmp_path: Path) -> Home:
    """The published service, over the log behind the proxy."""
    shutil.copytree(service.root, tmp_path / "home", ignore=shutil.ignore_patterns("log", "warehouse"))
    home = Home(tmp_path / "home", msgspec.structs.replace(service.settings, log=settings))
    with closing(LogPlace(settings, tmp_path).open(deadline_ms=20_000)) as log:
        log.create(readers(home.settings))
    return home


def ask(app: Any, method: str, path: str, **more: Any) -> httpx.Response:
    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as client:
            return await client.request(method, path, **more)

    return asyncio.run(go())


def hidden(platform: HomePlatform) -> set[int]:
    """The tracks that listener 5 hid."""
    return {mark.target_id for mark in platform.listener(5).marks if mark.kind == "hide"}


def test_events_posted_while_the_log_is_away_are_refused_and_others_hold(home: Home, proxy: Proxy) -> None:
    platform = HomePlatform(home)
    app = make_app(platform, home.settings)

    def hide(track: int) -> int:
        event = {"type": "hide", "user_id": 5, "track_id": track, "ts": time.time_ns() // 1000}
        answer = ask(app, "POST", "/v1/events", json=[event])
        assert answer.status_code in (202, 429, 503), answer.text
        assert (answer.status_code == 202) != ("retry-after" in answer.headers)
        return answer.status_code

    try:
        assert hide(1) == 202
        proxy.spoil("refuse")
        start = time.monotonic()
        assert hide(2) == 503
        assert time.monotonic() - start < 2 * DEADLINE_S + SLACK_S
        page = ask(app, "GET", "/v1/recommendations/home?user_id=5")
        assert page.status_code == 200, "who asks is answered without the log"
        proxy.spoil("pass")
        ends = time.monotonic() + WAIT_S
        while hide(3) != 202:
            assert time.monotonic() < ends
        while not {1, 3} <= hidden(platform):
            assert time.monotonic() < ends, "what was acknowledged is in effect when the network is back"
            time.sleep(0.05)
    finally:
        platform.close()
