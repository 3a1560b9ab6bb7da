"""The how-to pages of the logs, done: make the log, serve over it, an event holds soon after; the flow lands it once."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from command import rows, segue
from test_real_server import Server, tracks

from real_stores import LOGS, LogPlace
from segue.contracts.tables import EXPOSURES, RAW_EVENTS
from segue.settings.tree import Log
from segue.wiring.home import Home

EFFECT_S = 1.0
"""From sending an event to an answer that heeds it."""
EVENTS = 100
SLACK_S = 1.0
"""What a dozen connections take on a busy machine."""
WAIT_S = 60.0


def variables(settings: Log) -> dict[str, str]:
    """The settings as somebody would export them."""
    return {
        "SEGUE_LOG__KIND": settings.kind,
        "SEGUE_LOG__KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "SEGUE_LOG__KAFKA__PREFIX": settings.kafka.prefix,
        "SEGUE_LOG__PUBSUB__PROJECT": settings.pubsub.project,
        "SEGUE_LOG__PUBSUB__PREFIX": settings.pubsub.prefix,
    }


@pytest.fixture(params=LOGS)
def more(request: pytest.FixtureRequest, log_of: Callable[[str], LogPlace]) -> dict[str, str]:
    return variables(log_of(str(request.param)).settings)


@pytest.fixture
def server(service: Home, more: dict[str, str], tmp_path: Path) -> Iterator[Server]:
    """A server over a copy of the published service whose log is new."""
    home = tmp_path / "home"
    shutil.copytree(service.root, home, ignore=shutil.ignore_patterns("log"))
    assert "ready" in segue(home, "log", "create", more=more).out
    running = Server(home, more)
    yield running
    if running.process.poll() is None:  # the test failed; killed, it would leave its workers behind
        running.stop()


def until_it_holds(server: Server, user: int, hidden: set[int]) -> float:
    """Seconds until no answer shows what was hidden."""
    start = time.monotonic()
    while hidden & set(tracks(server.page(user_id=user, k=100))):
        assert time.monotonic() - start < WAIT_S, server.said()
    return time.monotonic() - start


def until_nobody_has(server: Server, track_id: int) -> None:
    """Until each of a dozen connections, of which every worker gets some, finds the track gone."""
    start, gone = time.monotonic(), 0
    while gone < 12:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            gone = gone + 1 if client.get(f"/v1/tracks/{track_id}").status_code == 404 else 0
        assert time.monotonic() - start < WAIT_S, server.said()


def test_an_event_holds_within_a_second_and_lands_once(server: Server, more: dict[str, str]) -> None:
    user, seconds, hidden = 5, [], set()
    for n in range(EVENTS):
        track = server.page(user_id=user, k=5)["items"][0]["track_id"]
        hidden.add(track)
        start = time.monotonic()
        server.tell("hide", user_id=user, track_id=track)
        until_it_holds(server, user, hidden)
        if n:  # at the first, a group may still be forming
            seconds.append(time.monotonic() - start)
    withdrawn = server.page(user_id=user, k=5)["items"][0]["track_id"]
    start = time.monotonic()
    assert server.client.delete(f"/v1/tracks/{withdrawn}").status_code == 202
    until_nobody_has(server, withdrawn)
    assert time.monotonic() - start < EFFECT_S + SLACK_S
    assert server.stop() == 0
    before = rows(server.home, EXPOSURES, "request_id").num_rows
    for _ in range(4):  # Pub/Sub does not tell whether it has given everything
        landed = segue(server.home, "run", "--no-train", more=more)
        assert landed.code == 0, landed.err
        if "landed" not in landed.err:
            break
    else:
        pytest.fail(f"there is always something left to land: {landed.err}")
    found = rows(server.home, RAW_EVENTS, "type", "user_id", "track_id", "event_id").to_pylist()
    told = Counter(row["track_id"] for row in found if row["type"] == "hide" and row["user_id"] == user)
    assert hidden <= set(told)
    assert max(Counter(row["event_id"] for row in found).values()) == 1
    assert rows(server.home, EXPOSURES, "request_id").num_rows > before
    assert np.percentile(seconds, 99) < EFFECT_S
