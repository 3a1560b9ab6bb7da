"""A state store behind a bad network: every call ends within its deadline, and comes back when the network does.

The stores are real; between us and them is a proxy that delays, stalls, cuts and refuses.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest

from proxy import Proxy
from real_stores import PARTS, Place, Server, settings_at
from segue.bundle.catalogue import EXPLICIT
from segue.contracts.errors import Unavailable
from segue.contracts.ports import StateStore
from segue.recommend.api import Request, Response
from segue.recommend.artifacts import Artifacts
from segue.serving.app import make_app
from segue.settings.tree import State
from segue.wiring.home import Home
from segue.wiring.platform import HomePlatform

READ_MS, WRITE_MS = 400, 1_200
SLACK_S = 5.0
"""What a busy machine may add to a deadline before a call counts as hanging."""
KINDS = ["bigtable", "dynamodb", "redis"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def proxy(kind: str, real_parts: Callable[[str], Server]) -> Iterator[Proxy]:
    between = Proxy(real_parts(kind).port)
    yield between
    between.close()


@pytest.fixture
def settings(
    kind: str,
    proxy: Proxy,
    place_of: Callable[[str], Place],
    monkeypatch: pytest.MonkeyPatch,
) -> State:
    """Settings of a fresh place, whose table is there, behind the proxy."""
    direct = place_of(kind).settings
    monkeypatch.setenv("BIGTABLE_EMULATOR_HOST", f"127.0.0.1:{proxy.port}")
    return msgspec.structs.replace(
        settings_at(kind, proxy.port),
        read_deadline_ms=READ_MS,
        write_deadline_ms=WRITE_MS,
        redis=msgspec.structs.replace(direct.redis, url=f"redis://127.0.0.1:{proxy.port}"),
        bigtable=direct.bigtable,
        dynamodb=msgspec.structs.replace(direct.dynamodb, endpoint_url=f"http://127.0.0.1:{proxy.port}"),
    )


@pytest.fixture
def store(settings: State, tmp_path: Path) -> Iterator[StateStore]:
    opened = Place(settings, tmp_path).open()
    yield opened
    opened.close()


def fold(user_id: int, record: bytes | None, rows: bytes) -> bytes:
    return (record or b"") + rows


def within(limit_ms: float, call: Callable[[], object]) -> float:
    """Seconds until the call raised Unavailable, which must be in time."""
    start = time.monotonic()
    with pytest.raises(Unavailable):
        call()
    seconds = time.monotonic() - start
    assert seconds <= limit_ms / 1000 + SLACK_S
    return seconds


def eventually(call: Callable[[], object]) -> None:
    """The call works again, after some attempts."""
    ends = time.monotonic() + 30
    while True:
        try:
            call()
        except Unavailable:
            assert time.monotonic() < ends
        else:
            return


@pytest.mark.parametrize("mode", ["refuse", "stall", "cut", "delay"])
def test_no_call_hangs_and_all_work_again(store: StateStore, proxy: Proxy, mode: str) -> None:
    store.add({1: b"a"}, fold)
    proxy.spoil(mode, delay_s=2.0, cut_after=3)
    within(READ_MS, lambda: store.get(1))
    within(WRITE_MS, lambda: store.add({1: b"b"}, fold))
    within(WRITE_MS, lambda: store.add(dict.fromkeys(range(40), b"b"), fold))
    within(WRITE_MS, lambda: store.update([1, 2], fold))
    proxy.spoil("pass")
    eventually(lambda: store.get(1))
    eventually(lambda: store.add({1: b"c"}, fold))
    record, tail = store.get(1)
    kept = (record or b"") + tail
    assert kept.startswith(b"a")
    assert kept.endswith(b"c")


def test_a_slow_store_within_its_deadline_is_only_slow(store: StateStore, proxy: Proxy) -> None:
    store.add({1: b"a"}, fold)
    store.get(1)
    proxy.spoil("delay", delay_s=0.02)
    assert store.get(1) == (None, b"a")


def test_the_error_names_the_store_and_the_deadline(kind: str, store: StateStore, proxy: Proxy) -> None:
    proxy.spoil("stall")
    named = {
        "bigtable": "Bigtable table test/test/t",
        "dynamodb": "DynamoDB table t",
        "redis": "Redis at 127.0.0.1:",
    }
    with pytest.raises(Unavailable, match=f"^{named[kind]}.* did not answer within {READ_MS} ms"):
        store.get(1)


def test_a_server_that_restarts_is_found_again(tmp_path: Path) -> None:
    """Redis is killed for real, and another is started on its port."""
    if PARTS["redis"].program() is None:
        pytest.skip(f"redis: not installed here; {PARTS['redis'].install}")
    first = Server(PARTS["redis"], tmp_path)
    settings = msgspec.structs.replace(
        settings_at("redis", first.port), read_deadline_ms=READ_MS, write_deadline_ms=WRITE_MS
    )
    store = Place(settings, tmp_path).open()
    try:
        store.add({1: b"a"}, fold)
        first.stop()
        within(READ_MS, lambda: store.get(1))
        second = Server(PARTS["redis"], tmp_path, port=first.port)
        try:
            eventually(lambda: store.get(1))
        finally:
            second.stop()
    finally:
        first.stop()
        store.close()


@pytest.fixture
def down(service: Home, settings: State, proxy: Proxy, tmp_path: Path) -> Home:
    """The published service, its state in a store that was filled and then went away."""
    shutil.copytree(service.root, tmp_path / "home", ignore=shutil.ignore_patterns("state", "warehouse"))
    home = Home(tmp_path / "home", msgspec.structs.replace(service.settings, state=settings))
    proxy.spoil("stall")
    return home


def answer(home: Home, request: Request, when_down: str) -> Response:
    state = msgspec.structs.replace(home.settings.state, when_down=when_down)
    platform = HomePlatform(Home(home.root, msgspec.structs.replace(home.settings, state=state)))
    try:
        return platform.recommend(request)
    finally:
        platform.close()


def test_a_listener_whose_guarantees_cannot_be_checked_is_refused(down: Home) -> None:
    within(READ_MS + 30_000, lambda: answer(down, Request(surface="home", user_id=5), "refuse"))
    stranger = answer(down, Request(surface="home"), "refuse")
    assert len(stranger.items) == 20, "who has no state does not need the store"
    assert not stranger.trace.degraded


def test_popular_without_state_shows_nothing_explicit_and_says_so(down: Home, service: Home) -> None:
    request = Request(surface="home", user_id=5, k=200, country="DE")
    page = answer(down, request, "popular")
    assert len(page.items) > 20
    assert not page.trace.personalized
    assert any(said.startswith("hydrate: without listener state") for said in page.trace.degraded)
    catalogue = Artifacts.load(service.bundles.open()).catalogue
    shown = catalogue.positions([item.track_id for item in page.items])
    assert not (catalogue.flags[shown] & EXPLICIT).any()
    assert (catalogue.flags & EXPLICIT).any(), "or the test could not fail"
    assert np.isin(
        [source for item in page.items for source in item.sources], ["popular", "fresh", "trending"]
    ).any()


def test_popular_without_state_needs_a_country_to_check_rights_in(down: Home) -> None:
    with pytest.raises(Unavailable):
        answer(down, Request(surface="home", user_id=5), "popular")


def test_events_are_acknowledged_while_the_store_is_down_and_wait_in_the_log(down: Home) -> None:
    platform = HomePlatform(down)
    event = {"type": "hide", "user_id": 5, "track_id": 1, "ts": time.time_ns() // 1000}
    try:
        platform.ingest(msgspec.json.encode([event]), "application/json").acknowledged.result(10)
        assert len(down.log.read("events", 0, 10)) == 1
        assert down.log.committed("events", "state") == 0, "they come again until they are folded in"
    finally:
        platform.close()


def test_a_store_that_is_down_is_seen_and_takes_nobody_out_of_rotation(down: Home) -> None:
    platform = HomePlatform(down)
    app = make_app(platform, down.settings)

    async def go() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://localhost"
        ) as client:
            return await client.get("/readyz")

    try:
        ends = time.monotonic() + 60
        while "state" not in platform.health().degraded:
            assert time.monotonic() < ends
            time.sleep(0.05)
        answer = asyncio.run(go())
        assert answer.status_code == 200
        assert "did not answer" in answer.json()["degraded"]["state"]
    finally:
        platform.close()
