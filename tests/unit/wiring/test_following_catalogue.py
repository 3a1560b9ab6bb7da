"""Following the catalogue: an open bundle has every change since its own, in whatever order they come, and says how far it is."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from test_platform import again, wait

from segue.adapters.log.files import FileLog, FileReader
from segue.bundle import BundleStore
from segue.bundle.catalogue import PUBLIC
from segue.contracts.errors import NotFound, Unavailable
from segue.contracts.ports import Records
from segue.contracts.vocabulary import MINUTE
from segue.events.changes import TOPIC, Stamps, TrackChange, encode_change
from segue.recommend.artifacts import Artifacts
from segue.wiring import catalogue as following
from segue.wiring.catalogue import Changes
from segue.wiring.home import Home
from segue.wiring.platform import HomePlatform
from segue.wiring.slips import Slip, all_reached

NOW = 1_795_600_000_000_000
WAIT_S = 20.0


@pytest.fixture
def log(tmp_path: Path) -> FileLog:
    return FileLog(tmp_path / "log")


@pytest.fixture
def artifacts(service: Home) -> Artifacts:
    return Artifacts.load(service.bundles.open())


@pytest.fixture
def follow(log: FileLog, tmp_path: Path) -> Iterator[Callable[[Artifacts], Changes]]:
    opened: list[Changes] = []

    def start(artifacts: Artifacts) -> Changes:
        opened.append(Changes(log, artifacts, Stamps(lambda: NOW), tmp_path / "slips"))
        return opened[-1]

    yield start
    for changes in opened:
        changes.close()


def say(log: FileLog, at: int, track_id: int, **said: Any) -> int:
    return log.append(TOPIC, [encode_change(TrackChange(track_id, NOW + at, **said))])


def title(artifacts: Artifacts, track_id: int) -> str | None:
    row = int(artifacts.catalogue.positions([track_id])[0])
    return artifacts.catalogue.titles[row] if row >= 0 else None


def until(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_what_the_log_holds_is_in_effect_at_once_and_what_comes_soon(
    log: FileLog, artifacts: Artifacts, follow: Any, tmp_path: Path
) -> None:
    for n in range(12):
        say(log, n, 5, title=f"Title {n}")
    log.append(TOPIC, [encode_change(TrackChange(6, NOW, title=f"{n}")) for n in range(1_500)] + [b"\xc1"])
    follow(artifacts)
    assert title(artifacts, 5) == "Title 11"
    place = say(log, 2_000, 5, title="Last")
    until(lambda: all_reached(tmp_path / "slips", place))
    assert title(artifacts, 5) == "Last"


def test_a_late_word_is_not_the_last(log: FileLog, artifacts: Artifacts, follow: Any, tmp_path: Path) -> None:
    say(log, 5, 5, title="E", artist_id=9, artist_name="Late")
    say(log, 3, 5, title="C", genre="dub", artist_id=9, artist_name="Early")
    follow(artifacts)
    place = say(log, 4, 5, title="D", public=False)
    until(lambda: all_reached(tmp_path / "slips", place))
    catalogue = artifacts.catalogue
    row = int(catalogue.positions([5])[0])
    assert (title(artifacts, 5), catalogue.genres[catalogue.genre[row]]) == ("E", "dub")
    assert not catalogue.flags[row] & PUBLIC
    assert catalogue.artist_names[int(catalogue.artist[row])] == "Late"


def test_what_the_bundle_has_is_not_said_again(log: FileLog, artifacts: Artifacts, follow: Any) -> None:
    """The tables may have been overruled since; a change that may not have landed yet is said again."""
    object.__setattr__(artifacts.catalogue, "as_of", NOW)
    say(log, -2 * MINUTE, 5, title="landed long ago")
    say(log, -MINUTE // 2, 6, title="perhaps in flight")
    say(log, 1, 7, title="new")
    follow(artifacts)
    assert [title(artifacts, n) for n in (5, 6, 7)] == [None, "perhaps in flight", "new"]


def test_it_goes_on_after_a_failure(
    log: FileLog, artifacts: Artifacts, follow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(following, "PAUSE_S", 0.01)
    errors = itertools.chain([Unavailable("away"), OSError("odd")], itertools.repeat(None))
    poll = FileReader.poll

    def failing(self: FileReader, limit: int, wait_s: float = 0.0) -> Records:
        error = next(errors)
        if error is not None:
            raise error
        return poll(self, limit, wait_s)

    follow(artifacts)
    monkeypatch.setattr(FileReader, "poll", failing)
    place = say(log, 1, 5, title="A", blocked_countries=[7])  # no change that could be made
    place = say(log, 2, 6, title="B")
    until(lambda: all_reached(tmp_path / "slips", place))
    assert title(artifacts, 6) == "B"
    assert "cannot be read: away" in caplog.text


def test_a_log_that_is_away_keeps_a_bundle_from_being_opened(
    log: FileLog, artifacts: Artifacts, follow: Any
) -> None:
    log._root.mkdir()
    (log._root / TOPIC).write_text("a file in its place")
    with pytest.raises(Unavailable, match="move it away"):
        follow(artifacts)


def test_a_log_that_is_away_may_come_later_if_that_is_wished(service: Home, tmp_path: Path) -> None:
    shutil.copytree(service.root, tmp_path / "home")
    shutil.rmtree(tmp_path / "home" / "log", ignore_errors=True)
    (tmp_path / "home" / "log").mkdir()
    in_the_way = tmp_path / "home" / "log" / TOPIC
    in_the_way.write_text("a file in its place")
    for when_down in ("refuse", "bundle"):
        log = msgspec.structs.replace(service.settings.log, when_down=when_down)
        platform = HomePlatform(Home(tmp_path / "home", msgspec.structs.replace(service.settings, log=log)))
        try:
            assert platform.ready()[0] == (when_down == "bundle")
            if when_down == "refuse":
                assert "move it away" in platform.ready()[1]
                continue
            assert "move it away" in platform.health().degraded["catalogue"]
            track = platform.search_tracks("a", 1)[0].track_id
            in_the_way.unlink()
            platform.remove_track(track).result(WAIT_S)
            with pytest.raises(NotFound):
                platform.track(track)
            until(lambda platform=platform: "catalogue" not in platform.health().degraded)
        finally:
            platform.close()


def test_everybody_is_waited_for_but_the_dead(tmp_path: Path) -> None:
    assert all_reached(tmp_path / "none", 10)
    one, other = Slip(tmp_path), Slip(tmp_path)
    one.reached([8, 10])
    assert not all_reached(tmp_path, 10)
    other.reached([10])
    other.reached([12, 7])
    assert all_reached(tmp_path, 10)
    assert not all_reached(tmp_path, 12)
    one.close()
    assert all_reached(tmp_path, 12)
    process = multiprocessing.get_context("spawn").Process(target=_hold, args=(tmp_path,))
    process.start()
    until(lambda: len(list(tmp_path.glob("worker-*"))) == 2)
    assert not all_reached(tmp_path, 1)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert all_reached(tmp_path, 12)
    assert len(list(tmp_path.glob("worker-*"))) == 1
    other.close()


def _hold(folder: Path) -> None:
    Slip(folder)
    time.sleep(WAIT_S)


def test_another_bundle_has_the_changes_before_it_answers(service: Home, tmp_path: Path) -> None:
    shutil.copytree(service.root, tmp_path / "home")
    home = Home(tmp_path / "home", service.settings)
    platform = HomePlatform(home)
    try:
        track = platform.search_tracks("a", 1)[0].track_id
        platform.change_track(5, b'{"title": "Zyx"}').result(WAIT_S)
        platform.remove_track(track).result(WAIT_S)
        before = platform.bundle_version()
        after = again(BundleStore(home.root / "bundles"), "b")
        seen: list[tuple[str | None, bool]] = []
        home.bundles.publish(after)

        def look() -> bool:
            seen.append((platform.bundle_version(), platform.track(5).title == "Zyx"))
            with pytest.raises(NotFound):
                platform.track(track)
            return seen[-1][0] == after

        wait(look)
        assert all(known for _, known in seen)
        assert {version for version, _ in seen} >= {after} - {before}
        platform.change_track(5, b'{"title": "Wvu"}').result(WAIT_S)
        assert platform.track(5).title == "Wvu"
        assert len(list((home.root / "following").glob("worker-*"))) == 1
    finally:
        platform.close()
    assert list((home.root / "following").glob("worker-*")) == []
