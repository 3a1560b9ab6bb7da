"""The how-to pages of the state stores, done: make the store, fill it, serve from it; an event holds on the next request."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command import segue
from test_real_server import Server, tracks

from effect import measure, p99_ms
from real_stores import FAKE_AWS, Place
from segue.settings.tree import State
from segue.wiring.home import Home

EFFECT_MS = {"lmdb": 50.0, "bigtable": 1000.0, "dynamodb": 1000.0, "redis": 1000.0}
"""From sending an event to having an answer that heeds it, for 99 of 100."""
ROUNDS = 75
"""Of four events each."""


def variables(settings: State) -> dict[str, str]:
    """The settings as somebody would export them."""
    return {
        "SEGUE_STATE__KIND": settings.kind,
        "SEGUE_STATE__READ_DEADLINE_MS": str(settings.read_deadline_ms),
        "SEGUE_STATE__WRITE_DEADLINE_MS": str(settings.write_deadline_ms),
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


@pytest.fixture(params=[*EFFECT_MS])
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of store in turn."""
    return str(request.param)


@pytest.fixture
def limit_ms(kind: str) -> float:
    """The limit of a store."""
    return EFFECT_MS[kind]


@pytest.fixture
def server(kind: str, service: Home, place_of: Callable[[str], Place], tmp_path: Path) -> Iterator[Server]:
    """A server over a copy of the published service whose listener state is only in the store."""
    home = tmp_path / "home"
    shutil.copytree(service.root, home, ignore=shutil.ignore_patterns("state"))
    more = variables(place_of(kind).settings)
    assert "ready" in segue(home, "state", "create", more=more).out
    assert segue(home, "step", "run", "state", more=more).code == 0
    running = Server(home, more)
    yield running
    if running.process.poll() is None:  # the test failed; killed, it would leave its workers behind
        running.stop()


def test_a_hidden_track_is_gone_from_the_filled_state_too(server: Server) -> None:
    user = 5
    page = server.page(user_id=user, k=5)
    assert page["trace"]["personalized"], "the store was filled from the warehouse"
    server.tell("hide", user_id=user, track_id=page["items"][0]["track_id"])
    assert page["items"][0]["track_id"] not in tracks(server.page(user_id=user, k=100))


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="needs Linux's /proc")
def test_what_a_listener_says_is_heeded_within_the_limit(server: Server, limit_ms: float) -> None:
    effects = list(measure(server.url, server.process.pid, ROUNDS))
    kinds = {effect.kind for effect in effects}
    assert kinds == {"play", "like", "hide", "block_artist"}
    assert p99_ms(effects) < limit_ms, sorted(effects, key=lambda e: e.starved - e.seconds)[:5]
    assert server.stop() == 0
