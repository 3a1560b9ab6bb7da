"""An experiment on a running server: put over HTTP, in effect for its treatment only, logged, landed, and stopped at once."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from command import rows, segue
from test_real_server import Server

from segue.contracts.ids import parse_id
from segue.contracts.tables import EXPOSURES
from segue.wiring.home import Home

LISTENERS = range(12)
STOPPED_WITHIN_S = 3.0


@pytest.fixture(scope="module")
def server(service: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with two workers over a copy of the published service."""
    home = tmp_path_factory.mktemp("experiments") / "home"
    shutil.copytree(service.root, home)
    running = Server(home)
    yield running
    assert running.stop() == 0, running.said()
    assert "Traceback" not in running.said()


def body(**known: Any) -> dict[str, Any]:
    today = datetime.now(UTC).date()
    return {
        "layer": "home",
        "starts": str(today - timedelta(days=1)),
        "ends": str(today + timedelta(days=2)),
        "variants": {"control": {}, "treatment": {"set": {"surfaces.home.selector.diversity": 0.9}}},
        "metrics": {"goals": ["listens_per_listener"]},
    } | known


def pages(server: Server) -> dict[int, Any]:
    return {user: server.page(user_id=user, k=15, seed=1) for user in LISTENERS}


def variants(found: dict[int, Any]) -> dict[int, str | None]:
    return {user: page["trace"]["variants"].get("diverse") for user, page in found.items()}


def test_from_put_to_stop(server: Server) -> None:
    before = pages(server)
    put = server.client.put("/v1/experiments/diverse", json=body())
    assert put.status_code == 200, put.text
    wanted = {
        int(row["unit"]): row["variant"]
        for row in segue(
            server.home,
            *("experiment", "assign", "diverse", "--json"),
            *(word for user in LISTENERS for word in ("--unit", str(user))),
        ).json
    }
    assert set(wanted.values()) == {"control", "treatment"}
    # Two workers answer by turns: all of a round must have it, several times over.
    deadline = time.monotonic() + 20
    while variants(pages(server)) != wanted or variants(pages(server)) != wanted:
        assert time.monotonic() < deadline
    after = pages(server)
    for user, variant in wanted.items():
        same = [i["track_id"] for i in before[user]["items"]] == [i["track_id"] for i in after[user]["items"]]
        assert same == (variant == "control"), user
        assert (before[user]["config"] == after[user]["config"]) == (variant == "control")
    station = server.page("station", user_id=0, track_id=after[0]["items"][0]["track_id"], k=5)
    forced = server.page(user_id=0, k=5, variants="diverse:treatment")
    assert forced["trace"]["variants"] == {"diverse": "forced:treatment"}

    stopped_at = time.monotonic()
    assert server.client.post("/v1/experiments/diverse/stop").json()["status"] == "stopped"
    while any(variants(pages(server)).values()) or any(variants(pages(server)).values()):
        pass
    assert time.monotonic() - stopped_at < STOPPED_WITHIN_S
    over = pages(server)
    assert {u: p["config"] for u, p in over.items()} == {u: p["config"] for u, p in before.items()}

    deadline = time.monotonic() + 20
    while True:
        built = segue(server.home, "run", "--no-train")
        assert built.code == 0, built.err
        landed = {
            row["request_id"]: row
            for row in rows(server.home, EXPOSURES, "request_id", "variants", "took_us").to_pylist()
        }
        if parse_id(over[max(over)]["request_id"]) in landed or time.monotonic() > deadline:
            break
    for user, page in after.items():
        row = landed[parse_id(page["request_id"])]
        assert json.loads(row["variants"]) == {"diverse": wanted[user]}
        assert row["took_us"] > 0
    for page in (*before.values(), *over.values(), station):
        assert landed[parse_id(page["request_id"])]["variants"] is None
    assert json.loads(landed[parse_id(forced["request_id"])]["variants"]) == {"diverse": "forced:treatment"}

    page = server.home.parent / "results.html"
    found = segue(server.home, "experiment", "results", "diverse", "--json", "--report", str(page)).json
    counted = Counter(variant for user, variant in wanted.items() if user != 0)  # who was shown one by force
    assert found["analysis"]["units"] == dict(counted)
    assert found["left_out"] == {"forced": 1, "failed": 0}
    assert found["analysis"]["metrics"]["latency_ms"]["variants"]["control"]["mean"] > 0
    assert sum(one["slots"] for one in found["creators"].values()) > 0
    assert "diverse" in page.read_text()
