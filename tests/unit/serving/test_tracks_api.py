"""Tracks by HTTP: one, many, taken out; who may, and what is told of what is wrong."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import httpx
import pytest
from small_platform import SmallPlatform

from segue.events.changes import TrackChange, decode_changes
from segue.serving.app import make_app
from segue.settings.tree import Key, Serving, Settings

KEYS = {
    name: Key(hashlib.sha256(name.encode()).hexdigest(), (name,)) for name in ("read", "write", "catalogue")
}  # type: ignore[arg-type]


def client(folder: Path, **serving: object) -> httpx.AsyncClient:
    limits = Serving(**({"max_body_bytes": 20_000, "workers": 1, "console": False} | serving))  # type: ignore[arg-type]
    app = make_app(SmallPlatform(folder / "events.jsonl", limits), Settings(serving=limits))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


def kept(folder: Path) -> list[TrackChange]:
    raw, records = (folder / "tracks.log").read_bytes(), []
    while raw:
        size = int.from_bytes(raw[:4], "big")
        records.append(raw[4 : 4 + size])
        raw = raw[4 + size :]
    return decode_changes(records).items


@pytest.mark.anyio
async def test_a_track_is_changed_and_taken_out(tmp_path: Path) -> None:
    async with client(tmp_path) as http:
        put = await http.put("/v1/tracks/7", json={"title": "A", "public": True})
        gone = await http.delete("/v1/tracks/7")
    assert (put.status_code, put.json()) == (202, {"track_id": 7})
    assert (gone.status_code, gone.json()) == (202, {"track_id": 7})
    first, second = kept(tmp_path)
    assert (first.track_id, first.title, first.public) == (7, "A", True)
    assert (second.track_id, second.title, second.public) == (7, None, False)
    assert second.received_at >= first.received_at


@pytest.mark.anyio
async def test_what_is_wrong_is_told_and_nothing_is_kept(tmp_path: Path) -> None:
    async with client(tmp_path) as http:
        for path, body, field in (
            ("7", {"titel": "A"}, "titel"),
            ("7", {"duration_ms": -1}, "duration_ms"),
            ("7", [], "body"),
            ("x", {}, "track_id"),
            ("7?k=1", {}, "k"),
        ):
            answer = await http.put(f"/v1/tracks/{path}", json=body)
            assert (answer.status_code, answer.json()["field"]) == (400, field)
            assert answer.headers["content-type"] == "application/problem+json"
        plain = await http.put("/v1/tracks/7", content=b"{}", headers={"content-type": "text/csv"})
        assert plain.status_code == 415
        large = await http.put("/v1/tracks/7", json={"description": "x" * 20_001})
        assert large.status_code == 413
        assert (await http.post("/v1/tracks", json=[])).status_code == 422
        nothing = await http.post("/v1/tracks", json=[{"title": "A"}])
        assert (nothing.status_code, nothing.json()["field"]) == (422, "tracks")
        assert nothing.json()["results"][0]["reason"] == "missing_track_id"
    assert kept(tmp_path) == []


@pytest.mark.anyio
async def test_a_batch_answers_track_by_track(tmp_path: Path) -> None:
    tracks = [{"track_id": 1, "title": "A"}, {"track_id": 2, "title": 3}, {"track_id": 4}]
    lines = "\n".join(map(json.dumps, tracks))
    async with client(tmp_path) as http:
        for answer in (
            await http.post("/v1/tracks", json=tracks),
            await http.post("/v1/tracks", content=lines, headers={"content-type": "application/x-ndjson"}),
        ):
            assert answer.status_code == 202
            assert (answer.json()["accepted"], answer.json()["rejected"]) == (2, 1)
            assert [(r["track_id"], r["status"]) for r in answer.json()["results"]] == [
                (1, "accepted"),
                (2, "rejected"),
                (4, "accepted"),
            ]
    assert [change.track_id for change in kept(tmp_path)] == [1, 4, 1, 4]


@pytest.mark.anyio
async def test_only_a_key_for_the_catalogue_may(tmp_path: Path) -> None:
    async with client(tmp_path, keys=KEYS) as http:
        for key, status in (("read", 403), ("write", 403), ("nobody", 401), ("catalogue", 202)):
            headers = {"authorization": f"Bearer {key}"}
            put = await http.put("/v1/tracks/7", json={}, headers=headers)
            gone = await http.delete("/v1/tracks/7", headers=headers)
            many = await http.post("/v1/tracks", json=[{"track_id": 1}], headers=headers)
            assert {put.status_code, gone.status_code, many.status_code} == {status}, key
        assert (
            await http.get("/v1/tracks/7", headers={"authorization": "Bearer catalogue"})
        ).status_code == 403
        assert (
            await http.post("/v1/events", json=[], headers={"authorization": "Bearer catalogue"})
        ).status_code == 403
    assert len(kept(tmp_path)) == 3


@pytest.mark.anyio
async def test_a_wrong_method_is_told_all_the_right_ones(tmp_path: Path) -> None:
    async with client(tmp_path) as http:
        wrong = await http.post("/v1/tracks/7", json={})
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "DELETE, GET, HEAD, PUT")
