"""Experiments by HTTP: put, looked at, stopped, taken out; who may, and what is told of what is wrong."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from small_platform import SmallPlatform

from segue.serving.app import make_app
from segue.settings.tree import Key, Serving, Settings

KEYS = {
    name: Key(hashlib.sha256(name.encode()).hexdigest(), scopes)  # type: ignore[arg-type]
    for name, scopes in {"reader": ("read",), "owner": ("read", "experiments"), "writer": ("write",)}.items()
}
BODY: dict[str, Any] = {
    "layer": "home",
    "share": 0.5,
    "starts": "2026-11-01",
    "ends": "2026-12-24",
    "variants": {"control": {}, "treatment": {"set": {"surfaces.home.selector.diversity": 0.5}}},
    "metrics": {"goals": ["listens_per_listener"]},
}


def client(folder: Path, **serving: object) -> httpx.AsyncClient:
    limits = Serving(**({"max_body_bytes": 20_000, "workers": 1, "console": False} | serving))  # type: ignore[arg-type]
    app = make_app(SmallPlatform(folder / "events.jsonl", limits), Settings(serving=limits))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


@pytest.mark.anyio
async def test_an_experiment_is_put_grown_stopped_and_taken_out(tmp_path: Path) -> None:
    async with client(tmp_path) as http:
        put = await http.put("/v1/experiments/diverse", json=BODY)
        assert put.status_code == 200, put.text
        assert put.json() == {"experiment": {"name": "diverse", **BODY}, "status": "running"}
        assert (await http.put("/v1/experiments/diverse", json={**BODY, "share": 0.8})).status_code == 200
        assert (await http.get("/v1/experiments/diverse")).json()["experiment"]["share"] == 0.8
        stopped = await http.post("/v1/experiments/diverse/stop")
        assert (stopped.status_code, stopped.json()["status"]) == (200, "stopped")
        listed = (await http.get("/v1/experiments")).json()["experiments"]
        assert [(one["experiment"]["name"], one["status"]) for one in listed] == [("diverse", "stopped")]
        assert (await http.delete("/v1/experiments/diverse")).json()["status"] == "stopped"
        assert (await http.get("/v1/experiments")).json() == {"experiments": []}
        for method, path in (("get", ""), ("post", "/stop"), ("delete", "")):
            answer = await http.request(method, f"/v1/experiments/diverse{path}")
            assert (answer.status_code, answer.json()["field"]) == (404, "name")


@pytest.mark.anyio
async def test_what_is_wrong_is_told_and_nothing_is_kept(tmp_path: Path) -> None:
    async with client(tmp_path) as http:
        for change, field in (
            ({"leyer": "home"}, "leyer"),
            ({"share": 2}, "share"),
            ({"name": "other"}, "name"),
            ({"variants": {"control": {}}}, "variants"),
            ({"surfaces": ["hom"]}, "surfaces"),
        ):
            answer = await http.put("/v1/experiments/diverse", json={**BODY, **change})
            assert (answer.status_code, answer.json()["field"]) == (400, field), answer.text
        for body in (b"[]", b"{", b"3", b"\xff", b"[" * 19_000):
            answer = await http.put(
                "/v1/experiments/diverse", content=body, headers={"content-type": "application/json"}
            )
            assert answer.status_code == 400, answer.text
        assert (await http.put("/v1/experiments/UPPER", json=BODY)).json()["field"] == "name"
        lines = {"content-type": "application/x-ndjson"}
        assert (await http.put("/v1/experiments/diverse", content=b"{}", headers=lines)).status_code == 415
        assert (await http.get("/v1/experiments")).json() == {"experiments": []}
        await http.put("/v1/experiments/diverse", json=BODY)
        overlap = await http.put("/v1/experiments/other", json=BODY)
        assert overlap.status_code == 400
        assert "experiments diverse and other: their slices of layer home overlap" in overlap.json()["detail"]
        moved = await http.put("/v1/experiments/diverse", json={**BODY, "salt": "x"})
        assert (moved.status_code, moved.json()["field"]) == (409, "salt")


@pytest.mark.anyio
async def test_only_keys_of_the_scope_may_change_them_or_ask_for_a_variant(tmp_path: Path) -> None:
    async with client(tmp_path, keys=KEYS) as http:
        bearer = {name: {"authorization": f"Bearer {name}"} for name in KEYS}
        for name, status in (("reader", 403), ("writer", 403), ("owner", 200)):
            put = await http.put("/v1/experiments/diverse", json=BODY, headers=bearer[name])
            assert put.status_code == status, name
        stop = "/v1/experiments/diverse/stop"
        assert (await http.post(stop, headers=bearer["reader"])).json()["limit"] == "the scope experiments"
        assert (await http.get("/v1/experiments", headers=bearer["reader"])).status_code == 200
        page = "/v1/recommendations/home"
        forced = f"{page}?variants=diverse:treatment"
        assert (await http.get(page, headers=bearer["reader"])).status_code == 200
        assert (await http.get(forced, headers=bearer["reader"])).status_code == 403
        assert (await http.get(forced, headers=bearer["owner"])).status_code == 200


@pytest.mark.anyio
@pytest.mark.parametrize("text", ["diverse", "a:b:c", "a:b,a:c", "A:b", ":", ""])
async def test_variants_are_pairs(tmp_path: Path, text: str) -> None:
    async with client(tmp_path) as http:
        answer = await http.get("/v1/recommendations/home", params={"variants": text})
        assert (answer.status_code, answer.json()["field"]) == (400, "variants")
