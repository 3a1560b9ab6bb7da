"""A disk that is really full: what fails says so, nothing acknowledged is lost, and all goes on when there is room."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest

from segue.adapters.engines.duckdb import DuckDBDelta
from segue.adapters.log.files import FileLog
from segue.adapters.state.lmdb import LMDBState
from segue.bundle import BundleStore, BundleWriter
from segue.contracts.errors import InvalidData, SegueError, Unavailable
from segue.contracts.ids import uuid7
from segue.contracts.tables import OUTCOMES, RAW_EVENTS
from segue.events.landing import land
from segue.events.records import Event, encode_event
from segue.experiments.definition import read_experiment
from segue.listener.fold import read_records
from segue.listener.states import ListenerStates
from segue.settings.tree import State, Warehouse
from segue.wiring.closed_loop import Arm, Plan, World
from segue.wiring.collector import Collector
from segue.wiring.follower import GROUP, TOPIC, Follower
from segue.wiring.home import Home
from segue.wiring.platform import HomePlatform
from segue.wiring.simulated_home import lived_on

pytestmark = pytest.mark.filterwarnings("ignore:fetch_:DeprecationWarning")

NOW = 1_795_000_000_000_000
WAIT_S = 30
SIZE = 24 << 20


class Disk:
    """A file system of SIZE bytes, and how to have some room on it and no more."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._ballast = root / "ballast"

    def leave(self, room: int) -> None:
        """Fill all but `room` bytes."""
        for _ in range(100):
            self.free()
            found = os.statvfs(self.root)
            block = found.f_frsize
            with self._ballast.open("wb") as file:
                try:
                    os.posix_fallocate(file.fileno(), 0, max(found.f_bavail - room // block, 1) * block)
                    return
                except OSError as error:  # somebody wrote meanwhile: there is less room than was found
                    if error.errno != errno.ENOSPC:
                        raise
        raise TimeoutError("what is tested here never stops to write")

    def free(self) -> None:
        """Make room."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def mounted(root: Path, size: int) -> Iterator[Disk]:
    root.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(root)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system needs root to mount it (mount -t tmpfs)")
    try:
        yield Disk(root)
    finally:
        subprocess.run(["umount", "-l", str(root)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with mounted(tmp_path / "disk", SIZE) as found:
        yield found


def event(n: int) -> Event:
    made = uuid7(NOW // 1000, n.to_bytes(10, "big"))
    return Event(made, NOW + n, NOW, n % 7, "play", track_id=n, ms_played=60_000)


def until(look: object, what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not look():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_what_is_sent_to_a_full_disk_is_refused_and_taken_when_there_is_room(disk: Disk) -> None:
    home = Home.open(disk.root / "home", environ={}, overrides=["state.map_size_mb=16"])
    platform = HomePlatform(home)
    acknowledged: list[int] = []
    refused: list[str] = []

    def send(n: int) -> None:
        play = {
            "type": "play",
            "user_id": n % 7,
            "track_id": n,
            "ts": time.time_ns() // 1000,
            "query": "x" * 900,
        }
        try:
            platform.ingest(msgspec.json.encode([play] * 3), "application/json").acknowledged.result(WAIT_S)
            acknowledged.append(n)
        except Unavailable as error:
            refused.append(error.message)

    try:
        for n in range(1, 40):
            if n % 3 == 1:
                disk.leave(n % 5 * 1_500)
            elif n % 3 == 0:
                disk.free()
            send(n)
        disk.free()
        send(40)
        assert acknowledged[-1] == 40
        assert len(refused) > 3
        assert [said for said in refused if "No space left on device" not in said] == []
        log = FileLog(home.root / "log")
        tracks = [msgspec.msgpack.decode(r)["track_id"] for r in log.read(TOPIC, 0, 10_000).records]
        assert sorted(tracks) == sorted(acknowledged * 3)
        until(lambda: log.committed(TOPIC, GROUP) == log.end(TOPIC), "listener state catches up")
        states = [home.state.read(user) for user in range(7)]
        known = [int(track) for state in states if state is not None for track in state.plays["track_id"]]
        assert sorted(known) == acknowledged
    finally:
        platform.close()


def test_state_on_a_full_disk_keeps_what_it_has_and_catches_up(
    disk: Disk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = FileLog(tmp_path / "log")
    states = ListenerStates(LMDBState(disk.root / "state", State(map_size_mb=16)), State())
    states.add(read_records([event(0)]))
    disk.leave(0)
    with pytest.raises(Unavailable, match=r"listener state store does not answer.*[Nn]o space left"):
        states.add(read_records([event(n) for n in range(1, 2_000)]))
    collector, follower = (
        Collector(log, TOPIC, partial(log.passed, TOPIC, GROUP), 10_000),
        Follower(log, states, lambda: None),
    )
    try:
        for start in range(0, 5_000, 500):
            collector.submit([encode_event(event(n)) for n in range(start, start + 500)]).result(WAIT_S)
        until(lambda: "events wait to be folded" in caplog.text, "the fault is said")
        state = states.read(0)
        assert state is not None
        assert state.plays["track_id"].tolist() == [0], "what was known before is still answered"
        disk.free()
        until(lambda: log.committed(TOPIC, GROUP) == log.end(TOPIC), "listener state catches up")
        for user in range(7):
            state = states.read(user)
            assert state is not None
            assert state.plays["track_id"].tolist() == list(range(user, 5_000, 7))[-500:]
    finally:
        collector.close()
        follower.close()
        states.close()


def test_a_landing_on_a_full_disk_lands_everything_once_there_is_room(disk: Disk, tmp_path: Path) -> None:
    log = FileLog(tmp_path / "log")
    engine = DuckDBDelta(disk.root / "warehouse", Warehouse(threads=1, memory_mb=512))
    refused: list[str] = []
    for batch in range(12):
        log.append(TOPIC, [encode_event(event(batch * 1_000 + n)) for n in range(1_000)])
        disk.leave(batch * 4_096)
        try:
            land(log, engine, now=NOW + 1_000_000)
        except InvalidData as error:
            refused.append(error.message)
        disk.free()
    assert len(refused) > 3
    assert [said for said in refused if "no room on the disk; nothing was changed" not in said] == []
    land(log, engine, now=NOW + 1_000_000)
    tracks = engine.collect(engine.read(RAW_EVENTS).select("track_id"))["track_id"].to_pylist()
    assert sorted(tracks) == list(range(12_000))
    engine.close()


def test_a_bundle_that_finds_no_room_leaves_the_champion_in_place(disk: Disk) -> None:
    store = BundleStore(disk.root / "bundles")

    def publish(number: int) -> str:
        with BundleWriter(store.root) as writer:
            writer.arrays("models/a", {str(n): np.full(5_000, number + n) for n in range(4)})
            writer.json("notes", number)
            version = writer.finish(
                version_prefix="2026-11-21", data_through="2026-11-21", settings="", tracks=1
            ).version
        store.publish(version)
        return version

    champion = publish(0)
    refused: list[str] = []
    for number, room in enumerate(range(0, 50 * 4_096, 4_096), 1):
        disk.leave(room)
        try:
            champion = publish(number)
        except SegueError as error:
            refused.append(error.message)
        disk.free()
        assert store.current() == champion
        store.open(every_byte=True)
    assert 0 < len(refused) < 49
    assert [said for said in refused if "make room" not in said] == []
    with BundleWriter(store.root):
        pass
    assert [path.name for path in store.root.iterdir() if path.name.startswith(".")] == []


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_home_that_has_lived_an_experiment_is_there_whole_or_not_at_all(
    service: Home, tmp_path: Path
) -> None:
    mmr = read_experiment(Path(__file__).parents[2] / "examples/experiments/mmr.toml")
    world = World(service)
    everybody = np.zeros(world.config.listeners, np.int16)
    logs = world.live([Arm("control")], everybody, Plan(("home",), 2, logs=True)).logs
    takes = sum(path.stat().st_blocks * 512 for path in service.root.rglob("*") if path.is_file())
    with mounted(tmp_path / "disk", 2 * takes + SIZE) as disk:
        into = disk.root / "lived"
        disk.leave(takes // 2)
        with pytest.raises(Unavailable, match="make room, or name another place"):
            lived_on(service, into, mmr, logs)
        assert [path.name for path in disk.root.iterdir()] == ["ballast"]
        with files_of_at_most(100_000), pytest.raises(Unavailable, match=r"File too large.*nothing was kept"):
            lived_on(service, tmp_path / "lived", mmr, logs)
        assert [path.name for path in tmp_path.iterdir()] == ["disk"]
        disk.free()
        lived_on(service, into, mmr, logs)
        assert [path.name for path in disk.root.iterdir()] == ["lived"]
        lived = Home(into, service.settings)
        days = lived.engine.days(OUTCOMES)
        assert days is not None
        assert days.last == logs[-1].day
        assert lived.experiments.get("mmr").experiment.ends > days.last
        lived.engine.close()
