"""Keys, limits, packed bodies and other people's pages: who may tell what, and that nothing else is opened."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest
from small_platform import SmallPlatform

from segue.serving import body
from segue.serving.app import make_app
from segue.serving.keys import Bucket
from segue.serving.platform import Receipt
from segue.settings.tree import Key, Serving, Settings

WEB, BACKEND = "a-key-in-a-page", "a-key-of-a-service"
PAGE = "https://play.example"
KEYS = {
    "web": Key(hashlib.sha256(WEB.encode()).hexdigest(), ("write",), 100),
    "backend": Key(hashlib.sha256(BACKEND.encode()).hexdigest().upper(), ("read", "write")),
}
READS = ("/v1/recommendations/home", "/v1/tracks/1", "/v1/search?q=a", "/v1/listeners", "/v1/listeners/1")
OPEN = ("/healthz", "/readyz", "/metrics", "/openapi.json", "/docs")


def client(folder: Path, kind: type[SmallPlatform] = SmallPlatform, **serving: object) -> httpx.AsyncClient:
    limits = Serving(**({"max_body_bytes": 50_000, "workers": 1, "console": False} | serving))  # type: ignore[arg-type]
    app = make_app(kind(folder / "events.jsonl", limits), Settings(serving=limits))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def plays(n: int) -> list[dict[str, object]]:
    return [{"type": "play", "ts": time.time_ns() // 1000, "user_id": 1, "track_id": 1} for _ in range(n)]


@pytest.mark.anyio
async def test_without_keys_everybody_may_do_everything(tmp_path: Path) -> None:
    async with client(tmp_path) as http:
        assert {(await http.get(path)).status_code for path in (*READS, *OPEN)} == {200}
        assert (await http.post("/v1/events", json=plays(1))).status_code == 202


@pytest.mark.anyio
async def test_a_key_allows_its_scopes_and_no_more(tmp_path: Path) -> None:
    async with client(tmp_path, keys=KEYS) as http:
        for path in OPEN:
            assert (await http.get(path)).status_code == 200, path
        for path in READS:
            for headers in ({}, bearer("guessed"), bearer(""), {"authorization": f"Basic {BACKEND}"}):
                refused = await http.get(path, headers=headers)
                assert refused.status_code == 401, path
                assert refused.headers["www-authenticate"] == "Bearer"
                assert refused.json()["field"] == "Authorization"
            assert (await http.get(path, headers=bearer(WEB))).status_code == 403, path
            assert (await http.get(path, headers=bearer(BACKEND))).status_code == 200, path
        assert (await http.post("/v1/events", json=plays(1))).status_code == 401
        assert (await http.post("/v1/events", json=plays(1), headers=bearer(WEB))).status_code == 202
        assert (await http.post(f"/v1/events?key={WEB}", json=plays(1))).status_code == 202
        assert (await http.get(f"/v1/listeners/1?key={BACKEND}")).status_code in (400, 401, 403)
        assert len((tmp_path / "events.jsonl").read_bytes().splitlines()) == 2


@pytest.mark.anyio
async def test_only_bodies_of_a_known_key_get_further_and_with_its_name(tmp_path: Path) -> None:
    callers: list[str | None] = []

    class Watched(SmallPlatform):
        def ingest(self, body: bytes, content_type: str, caller: str | None = None) -> Receipt:
            callers.append(caller)
            return super().ingest(body, content_type, caller)

    async with client(tmp_path, Watched, keys=KEYS) as http:
        for headers in ({}, bearer("guessed"), bearer(WEB), bearer(BACKEND)):
            await http.post("/v1/events", json=[{"broken": 1}], headers=headers)
        page = (await http.get("/metrics")).text
    assert callers == ["web", "backend"]
    assert 'segue_dead_letters_total{result="dropped"} 2.0' in page  # this platform keeps none


@pytest.mark.anyio
async def test_a_key_that_floods_is_told_when_to_come_again_and_others_go_on(tmp_path: Path) -> None:
    async with client(tmp_path, keys=KEYS) as http:
        assert (await http.post("/v1/events", json=plays(450), headers=bearer(WEB))).status_code == 202
        refused = await http.post("/v1/events", json=plays(1), headers=bearer(WEB))
        assert refused.status_code == 429
        assert 2 <= int(refused.headers["retry-after"]) <= 4
        assert "100 events a second" in refused.json()["limit"]
        assert (await http.post("/v1/events", json=plays(150), headers=bearer(BACKEND))).status_code == 202


def test_a_bucket_fills_at_its_rate_up_to_a_burst() -> None:
    now = [0.0]
    bucket = Bucket(10, lambda: now[0])
    assert bucket.admit() == 0
    bucket.spend(10)
    assert bucket.admit() == 0
    bucket.spend(5)
    assert bucket.admit() == pytest.approx(0.5)
    now[0] = 0.5
    assert bucket.admit() == 0
    now[0] = 100.0
    assert bucket.admit() == 0
    bucket.spend(30)
    assert bucket.admit() == pytest.approx(2.0)


@pytest.mark.anyio
async def test_packed_bodies_are_unpacked_within_the_limit(tmp_path: Path) -> None:
    async with client(tmp_path, max_body_bytes=20_000) as http:

        async def post(body: bytes) -> httpx.Response:
            headers = {"content-type": "application/json", "content-encoding": "gzip"}
            return await http.post("/v1/events", content=body, headers=headers)

        whole = gzip.compress(msgspec.json.encode(plays(3)))
        assert (await post(whole)).json()["accepted"] == 3
        bomb = gzip.compress(b" " * 50_000_000)
        assert len(bomb) > 20_000
        assert (await post(bomb[:19_000])).status_code == 413
        assert (await post(gzip.compress(b" " * 5_000_000))).status_code == 413
        for broken in (whole[:-4], whole + b"x", b"[]", b"", b"\x1f\x8b" + b"\0" * 50):
            refused = await post(broken)
            assert (refused.status_code, refused.json()["field"]) == (400, "body"), broken


@pytest.mark.anyio
async def test_a_beacon_is_taken_for_json(tmp_path: Path) -> None:
    async with client(tmp_path) as http:
        headers = {"content-type": "text/plain;charset=UTF-8"}
        body = msgspec.json.encode(plays(1))
        assert (await http.post("/v1/events", content=body, headers=headers)).status_code == 202


@pytest.mark.anyio
async def test_pages_of_named_origins_may_tell_and_read_nothing(tmp_path: Path) -> None:
    asked = {
        "origin": PAGE,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
    }
    async with client(tmp_path, cors_origins=(PAGE,)) as http:
        allowed = await http.options("/v1/events", headers=asked)
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == PAGE
        other = await http.options("/v1/events", headers=asked | {"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
        told = await http.post("/v1/events", json=plays(1), headers={"origin": PAGE})
        assert (told.status_code, told.headers["access-control-allow-origin"]) == (202, PAGE)
        for path in READS:
            assert (
                "access-control-allow-origin" not in (await http.get(path, headers={"origin": PAGE})).headers
            )
        assert (await http.options("/v1/listeners", headers=asked)).status_code == 405
    async with client(tmp_path) as http:
        assert (await http.options("/v1/events", headers=asked)).status_code == 405


@pytest.mark.anyio
async def test_a_body_that_does_not_arrive_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body, "BODY_S", 0.05)

    async def dripping() -> AsyncIterator[bytes]:
        yield b"["
        await asyncio.sleep(5)
        yield b"]"

    async with client(tmp_path) as http:
        headers = {"content-type": "application/json"}
        refused = await http.post("/v1/events", content=dripping(), headers=headers)
        assert (refused.status_code, refused.json()["field"]) == (400, "body")
        assert refused.json()["limit"] == "0.05 s"
