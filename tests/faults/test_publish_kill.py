"""kill -9 while a bundle is trained, written, published and older ones are removed: CURRENT never names less than a whole one."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import time
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import msgspec
import numpy as np
import pytest

from segue.bundle import Bundle, BundleStore, BundleWriter
from segue.flows.steps import PUBLISH
from segue.settings import Settings
from segue.wiring.flow import runner_of
from segue.wiring.home import Home

pytestmark = pytest.mark.filterwarnings("ignore:fetch_:DeprecationWarning")

KEEP = 2


def _start(target: object, *arguments: object) -> tuple[BaseProcess, Connection]:
    # Why a fork server: it has the libraries loaded and no threads, so a child begins at once and forks cleanly.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["segue.wiring.home"])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(*arguments, theirs))  # type: ignore[arg-type]
    process.start()
    theirs.close()
    assert ours.recv() == "begin"
    return process, ours


def _publish_on_and_on(root: Path, seed: int, begun: Connection) -> None:
    """Write, publish, remove what is old, go back, without end."""
    store = BundleStore(root)
    begun.send("begin")
    for number in count(seed * 1_000_000):
        with BundleWriter(root) as writer:
            writer.arrays("models/a", {str(n): np.full(5_000, number + n) for n in range(4)})
            writer.json("notes", number)
            version = writer.finish(
                version_prefix="2026-11-21", data_through="2026-11-21", settings="", tracks=1
            ).version
        store.publish(version)
        store.prune(KEEP)
        if number % 7 == 6:
            store.rollback()


def _whole(root: Path) -> None:
    """Every listed bundle is whole, and CURRENT names one of them or nothing."""
    for folder in root.iterdir():
        if folder.is_dir() and not folder.name.startswith("."):
            Bundle(folder)
    if (root / "CURRENT").exists():
        BundleStore(root).open()


def _left_over(root: Path) -> list[str]:
    return [path.name for path in root.iterdir() if path.name.startswith(".")]


def test_a_store_is_whole_whenever_its_writer_dies(tmp_path: Path) -> None:
    root = tmp_path / "bundles"
    pause = random.Random(5)
    unfinished = 0
    for round_number in range(30):
        process, pipe = _start(_publish_on_and_on, root, round_number)
        time.sleep(pause.uniform(0.0, 0.08))
        process.kill()
        process.join()
        pipe.close()
        if root.exists():
            _whole(root)
            unfinished += bool(_left_over(root))
            assert len(_left_over(root)) <= 3, "each run sweeps what the one before it left"
    assert unfinished > 0, "no kill fell into a write"
    with BundleWriter(root):
        pass
    assert _left_over(root) == []


def test_writers_do_not_sweep_each_other_away(tmp_path: Path) -> None:
    with BundleWriter(tmp_path) as first:
        first.json("a", 1)
        with BundleWriter(tmp_path) as second:
            second.json("a", 2)
            two = second.finish(version_prefix="x", data_through="2026-11-21", settings="", tracks=1).version
        one = first.finish(version_prefix="x", data_through="2026-11-21", settings="", tracks=1).version
    assert {m.version for m in BundleStore(tmp_path).versions()} == {one, two}


def _train(root: Path, settings: bytes, begun: Connection) -> None:
    """What `segue run` does behind the tables."""
    home = Home(root, msgspec.json.decode(settings, type=Settings))
    begun.send("begin")
    for _ in runner_of(home).run([step.name for step in PUBLISH]):
        pass


def test_a_killed_training_leaves_the_champion_and_the_next_one_completes(
    service: Home, tmp_path: Path
) -> None:
    root = tmp_path / "home"
    shutil.copytree(service.root, root)
    bundles = root / "bundles"
    champion = BundleStore(bundles).current()
    pause = random.Random(3)

    def changed(seed: int) -> bytes:
        training = msgspec.structs.replace(service.settings.training, seed=seed)
        return msgspec.json.encode(msgspec.structs.replace(service.settings, training=training))

    def writing() -> bool:
        return any(bundles.glob(".writing-*"))

    for round_number in range(4):
        process, pipe = _start(_train, root, changed(100 + round_number))
        if round_number % 2:  # while the bundle is written, moved and published
            while process.is_alive() and not writing():
                time.sleep(0.002)
            time.sleep(pause.uniform(0.0, 0.15))
        else:  # anywhere
            time.sleep(pause.uniform(0.1, 3.0))
        process.kill()
        process.join()
        pipe.close()
        _whole(bundles)
        assert BundleStore(bundles).current() is not None
    process, pipe = _start(_train, root, changed(200))
    process.join()
    assert process.exitcode == 0
    pipe.close()
    _whole(bundles)
    assert _left_over(bundles) == []
    assert BundleStore(bundles).current() != champion or len(BundleStore(bundles).versions()) > 1
