"""The application in this process: problem documents, OpenAPI from the table, lanes, ports."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from small_platform import SmallPlatform

import segue.contracts.errors as errors
from segue.contracts.tables import RAW_EVENTS
from segue.monitoring.metrics import Metrics
from segue.serving import openapi, problems
from segue.serving.app import make_app
from segue.serving.lanes import Lane
from segue.serving.operations import operations
from segue.serving.server import claim_port
from segue.settings.tree import Serving, Settings


def ask(app: Any, *paths: str, host: str = "localhost") -> list[httpx.Response]:
    """The answers to some GETs, without a socket."""

    async def go() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8080") as client:
            return [await client.get(path, headers={"Host": host}) for path in paths]

    return asyncio.run(go())


def app_over(tmp_path: Path, **serving: Any) -> Any:
    """An application over the small platform."""
    limits = Serving(**serving)
    return make_app(SmallPlatform(tmp_path / "events.jsonl", limits), Settings(serving=limits))


def test_the_page_can_be_turned_off_and_the_api_page_stays(tmp_path: Path) -> None:
    app = app_over(tmp_path, console=False)
    page, script, docs, shared = ask(app, "/", "/console/app.js", "/docs", "/docs/dom.js")
    assert (page.status_code, script.status_code, docs.status_code, shared.status_code) == (
        404,
        404,
        200,
        200,
    )


@pytest.mark.parametrize(
    ("serving", "name", "status"),
    [
        ({}, "localhost:8080", 200),
        ({}, "LOCALHOST", 200),
        ({}, "127.0.0.1:9", 200),
        ({}, "[::1]:8080", 200),
        ({}, "rebound.example:8080", 400),
        ({}, "localhost.rebound.example", 400),
        ({}, "[::2]:8080", 400),
        ({}, "", 400),
        ({"host": "127.0.0.2"}, "127.0.0.2:8080", 200),
        ({"host": "::1"}, "rebound.example", 400),
        ({"host": "0.0.0.0"}, "music.example", 200),
        ({"host": "0.0.0.0", "allowed_hosts": ("music.example",)}, "music.example:443", 200),
        ({"host": "0.0.0.0", "allowed_hosts": ("music.example",)}, "other.example", 400),
        ({"allowed_hosts": ("Music.example",)}, "music.example", 200),
    ],
)
def test_a_name_that_is_not_ours_is_refused(
    serving: dict[str, Any], name: str, status: int, tmp_path: Path
) -> None:
    (answer,) = ask(app_over(tmp_path, **serving), "/v1/listeners", host=name)
    assert answer.status_code == status
    if status == 400:
        assert answer.json()["field"] == "Host"


def test_the_largest_k_is_a_setting(tmp_path: Path) -> None:
    fits, too_many, fewer = ask(
        app_over(tmp_path, max_k=7),
        "/v1/recommendations/home?k=7",
        "/v1/recommendations/home?k=8",
        "/v1/recommendations/home",
    )
    assert len(fits.json()["items"]) == len(fewer.json()["items"]) == 7
    assert too_many.json()["limit"] == "an integer from 1 to 7"


def test_every_error_of_the_tree_has_a_status() -> None:
    wanted = {
        "InvalidInput": 400,
        "InvalidSettings": 400,
        "InvalidData": 400,
        "NotFound": 404,
        "Conflict": 409,
        "Overloaded": 429,
        "Unavailable": 503,
        # What no caller can do anything about is ours.
        "SegueError": 500,
        "ContractBroken": 500,
        "GateRefused": 500,
        "BundleCorrupt": 500,
    }
    tree = {
        name: cls
        for name, cls in vars(errors).items()
        if isinstance(cls, type) and issubclass(cls, errors.SegueError)
    }
    assert set(tree) == set(wanted)
    for name, cls in tree.items():
        assert problems.kind_of(cls("x")).status == wanted[name], name


def test_openapi_follows_the_settings_and_the_contract() -> None:
    settings = Settings(serving=Serving(max_k=33, max_batch=12))
    found = openapi.document(operations(settings))
    asked = found["paths"]["/v1/recommendations/{surface}"]["get"]
    schemas = {p["name"]: p["schema"] for p in asked["parameters"]}
    assert schemas["k"]["maximum"] == 33
    assert schemas["surface"]["enum"] == list(settings.surfaces)
    assert "Up to 12 events" in found["paths"]["/v1/events"]["post"]["description"]
    event = found["components"]["schemas"]["Event"]
    assert set(event["properties"]) == set(RAW_EVENTS.names) - {"day", "received_at"}
    assert "block_artist" in event["properties"]["type"]["enum"]


def test_a_lane_refuses_what_it_cannot_hold_and_recovers() -> None:
    release = threading.Event()

    async def go() -> tuple[list[Any], int]:
        lane = Lane("read", 1, Metrics(), max_inside=3)
        waiting = [asyncio.ensure_future(lane.run(release.wait, 5)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(errors.Overloaded, match="3 read requests") as refused:
            await lane.run(int)
        assert refused.value.limit == "at most 3 at once per worker"
        release.set()
        done = await asyncio.gather(*waiting)
        after = await lane.run(int, "7")
        lane.close()
        return done, after

    assert asyncio.run(go()) == ([True, True, True], 7)


def test_a_lane_is_free_again_after_a_failure() -> None:
    def fail() -> None:
        raise errors.Unavailable("down")

    async def go() -> int:
        lane = Lane("read", 1, Metrics(), max_inside=1)
        for _ in range(3):
            with pytest.raises(errors.Unavailable):
                await lane.run(fail)
        found: int = await lane.run(int, "1")
        lane.close()
        return found

    assert asyncio.run(go()) == 1


def test_ports_are_claimed_only_if_free() -> None:
    free = claim_port("127.0.0.1", 0)
    assert claim_port("127.0.0.1", free) == free
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(errors.Conflict, match=rf"{port} is in use"):
            claim_port("127.0.0.1", port)
    with pytest.raises(errors.InvalidSettings, match=r"serving\.host"):
        claim_port("192.0.2.1", 0)  # an address for documentation, never ours


def test_a_fault_while_answering_leaves_the_app_usable(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_over(tmp_path)
    broken, fine = ask(app, "/v1/recommendations/home?user_id=900001", "/v1/recommendations/home?user_id=1")
    assert broken.status_code == 500
    assert fine.status_code == 200
    assert broken.headers["x-request-id"] in caplog.text


def test_closing_closes_the_platform_once(tmp_path: Path) -> None:
    app = app_over(tmp_path)

    async def live() -> None:
        async with app.router.lifespan_context(app):
            pass

    asyncio.run(live())
    assert (tmp_path / "events.closed").read_text() == "closed\n"


def test_the_small_platform_is_a_platform(tmp_path: Path) -> None:
    """The tests' platform has every method of the port, so that the tests speak about the port."""
    from segue.serving.platform import Platform

    methods: list[Callable[..., Any]] = [
        v for n, v in vars(Platform).items() if callable(v) and not n.startswith("_")
    ]
    assert len(methods) == 18
    for method in methods:
        assert callable(getattr(SmallPlatform, method.__name__))
