"""The platform over a home: which bundle answers, what happens to a bad one, and who is found."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from segue.bundle import BundleStore, BundleWriter
from segue.contracts.errors import NotFound, Unavailable
from segue.recommend.api import Request
from segue.wiring.home import Home
from segue.wiring.platform import LOOK_EVERY_S, HomePlatform


@pytest.fixture
def home(service: Home, tmp_path: Path) -> Home:
    """A copy of the published service."""
    shutil.copytree(service.root, tmp_path / "home")
    return Home(tmp_path / "home", service.settings)


@pytest.fixture
def platform(home: Home) -> Iterator[HomePlatform]:
    opened = HomePlatform(home)
    yield opened
    opened.close()


def again(store: BundleStore, prefix: str) -> str:
    """The champion's content as another version."""
    champion = store.open()
    with BundleWriter(store.root) as writer:
        for name in champion.manifest.files:
            shutil.copy(champion.folder / name, writer.path(name))
        return writer.finish(
            version_prefix=prefix, data_through="2026-11-21", settings="", tracks=champion.manifest.tracks
        ).version


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_published_bundle_is_picked_up(home: Home, platform: HomePlatform) -> None:
    before = platform.bundle_version()
    after = again(home.bundles, "b")
    assert platform.recommend(Request(surface="home", k=3)).bundle == before
    home.bundles.publish(after)
    wait(lambda: platform.bundle_version() == after)
    assert platform.recommend(Request(surface="home", k=3)).bundle == after


def test_a_damaged_bundle_leaves_the_one_before_in_place(home: Home, platform: HomePlatform) -> None:
    before = platform.bundle_version()
    bad, good = again(home.bundles, "bad"), again(home.bundles, "good")
    biggest = max((home.bundles.root / bad).rglob("*.npy"), key=lambda path: path.stat().st_size)
    biggest.write_bytes(biggest.read_bytes()[:-1] + b"?")
    (home.bundles.root / "CURRENT").write_text("absent")
    time.sleep(LOOK_EVERY_S * 1.5)
    (home.bundles.root / "CURRENT").write_bytes(b"\xff\xfe")
    time.sleep(LOOK_EVERY_S * 1.5)
    (home.bundles.root / "CURRENT").write_text(bad)
    time.sleep(LOOK_EVERY_S * 1.5)
    assert platform.recommend(Request(surface="home", k=3)).bundle == before
    assert platform.ready()[0]
    home.bundles.publish(good)
    wait(lambda: platform.bundle_version() == good)


def test_without_a_bundle_it_waits_for_one_and_says_so(home: Home) -> None:
    current = home.bundles.root / "CURRENT"
    version = current.read_text()
    current.unlink()
    platform = HomePlatform(home)
    try:
        ready, reason = platform.ready()
        assert not ready
        assert "segue run" in reason
        assert str(home.root) in reason
        with pytest.raises(Unavailable, match="segue run"):
            platform.recommend(Request(surface="home"))
        current.write_text(version)
        wait(lambda: platform.ready()[0])
    finally:
        platform.close()


def test_a_listener_is_found_by_their_id_and_some_without(platform: HomePlatform, home: Home) -> None:
    known = home.state.sample(10_000)
    assert [summary.user_id for summary in platform.listeners(str(known[0]), 10)] == [known[0]]
    for query in ("ana", "999999999", "9" * 30):
        assert platform.listeners(query, 10) == (), query
    handful = [summary.user_id for summary in platform.listeners("", 12)]
    assert len(set(handful)) == 12
    assert set(handful) <= set(known)


def test_without_consent_nothing_is_said_about_a_listener(platform: HomePlatform, home: Home) -> None:
    silent = next(user for user in home.state.sample(10_000) if not platform.listener(user).consent)
    assert platform.listener(silent).plays == ()
    summary = next(s for s in platform.listeners(str(silent), 1_000) if s.user_id == silent)
    assert (summary.plays, summary.last_play) == (0, None)


def test_events_are_logged_before_they_are_in_effect(platform: HomePlatform, home: Home) -> None:
    track = platform.recommend(Request(surface="home", user_id=5, k=1)).items[0].track_id
    event = {"type": "hide", "user_id": 5, "track_id": track, "ts": time.time_ns() // 1000}
    broken = event | {"track_id": -1}
    receipt = platform.ingest(msgspec.json.encode([event, broken]), "application/json")
    receipt.acknowledged.result(10)
    results = receipt.results
    assert [result.status for result in results] == ["accepted", "rejected"]
    assert results[1].field == "track_id"
    assert len(home.log.read("events", 0, 10)) == 1
    page = platform.recommend(Request(surface="home", user_id=5, k=200))
    assert track not in [item.track_id for item in page.items]
    assert ("hide", track) in {(mark.kind, mark.target_id) for mark in platform.listener(5).marks}


def test_an_unknown_track_is_not_found(platform: HomePlatform) -> None:
    with pytest.raises(NotFound, match="track_id: 77"):
        platform.track(77)
