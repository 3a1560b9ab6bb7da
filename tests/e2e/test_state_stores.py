"""The how-to pages of the state stores, done: make the store, fill it, serve from it; an event holds on the next request."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from command import segue
from test_real_server import Server, tracks

from real_stores import FAKE_AWS, Place
from segue.settings.tree import State
from segue.wiring.home import Home

EFFECT_S = 1.0
"""From sending an event to an answer that heeds it."""
EVENTS = 200


def variables(settings: State) -> dict[str, str]:
    """The settings as somebody would export them."""
    return {
        "SEGUE_STATE__KIND": settings.kind,
        "SEGUE_STATE__REDIS__URL": settings.redis.url,
        "SEGUE_STATE__REDIS__PREFIX": settings.redis.prefix,
        "SEGUE_STATE__BIGTABLE__PROJECT": settings.bigtable.project,
        "SEGUE_STATE__BIGTABLE__INSTANCE": settings.bigtable.instance,
        "SEGUE_STATE__BIGTABLE__TABLE": settings.bigtable.table + "-served",
        "SEGUE_STATE__DYNAMODB__TABLE": settings.dynamodb.table + "-served",
        "SEGUE_STATE__DYNAMODB__REGION": settings.dynamodb.region,
        "SEGUE_STATE__DYNAMODB__ENDPOINT_URL": settings.dynamodb.endpoint_url,
        **FAKE_AWS,
    }


@pytest.fixture(params=["lmdb", "bigtable", "dynamodb", "redis"])
def server(
    request: pytest.FixtureRequest, service: Home, place_of: Callable[[str], Place], tmp_path: Path
) -> Iterator[Server]:
    """A server over a copy of the published service whose listener state is only in the store."""
    home = tmp_path / "home"
    shutil.copytree(service.root, home, ignore=shutil.ignore_patterns("state"))
    more = variables(place_of(str(request.param)).settings)
    assert "ready" in segue(home, "state", "create", more=more).out
    assert segue(home, "step", "run", "state", more=more).code == 0
    running = Server(home, more)
    yield running
    if running.process.poll() is None:  # the test failed; killed, it would leave its workers behind
        running.stop()


def test_an_event_holds_on_the_next_request(server: Server) -> None:
    user, seconds, hidden = 5, [], set()
    assert server.page(user_id=user, k=5)["trace"]["personalized"], "the store was filled from the warehouse"
    for _ in range(EVENTS):
        track = server.page(user_id=user, k=5)["items"][0]["track_id"]
        hidden.add(track)
        start = time.monotonic()
        server.tell("hide", user_id=user, track_id=track)
        shown = tracks(server.page(user_id=user, k=100))
        seconds.append(time.monotonic() - start)
        assert not hidden & set(shown)
    assert server.stop() == 0
    assert np.percentile(seconds, 99) < EFFECT_S
