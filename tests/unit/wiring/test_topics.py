"""Every topic is made by `segue log create`, and pruned."""

from __future__ import annotations

import os
import time
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import msgspec

import segue.events
from segue.adapters.log.files import FileLog
from segue.bundle import BundleStore
from segue.bundle.manifest import FORMAT, NAME, Manifest
from segue.contracts.vocabulary import DAY
from segue.events import changes
from segue.settings import Settings
from segue.settings.tree import State
from segue.wiring.topics import LANDED, prune, readers


def test_no_topic_is_forgotten() -> None:
    modules = [import_module(f"segue.events.{found.name}") for found in iter_modules(segue.events.__path__)]
    named = {value for module in modules for name, value in vars(module).items() if name.endswith("TOPIC")}
    assert named == set(LANDED) == set(readers(Settings()))


def test_each_kind_of_store_has_a_group_of_its_own() -> None:
    groups = {readers(Settings(state=State(kind=kind)))["events"] for kind in ("lmdb", "redis")}  # type: ignore[arg-type]
    assert groups == {("warehouse", "state"), ("warehouse", "state-redis")}


def landed_log(root: Path, days_ago: int) -> FileLog:
    """A log of four segments a topic, written so long ago, the first two of which have landed."""
    log, old = FileLog(root, segment_bytes=10), time.time() - days_ago * 86_400
    for topic, groups in LANDED.items():
        for n in range(4):
            log.append(topic, [b"%d" % n])
        for segment in (root / topic).glob("*.log"):
            os.utime(segment, (old, old))
        for group in groups:
            consumer = log.consumer(topic, group)
            consumer.poll(2)
            consumer.commit()
            consumer.close()
    return log


def test_what_has_landed_and_is_old_goes(tmp_path: Path) -> None:
    log, bundles = landed_log(tmp_path / "log", 8), BundleStore(tmp_path / "bundles")
    assert prune(log, Settings(), bundles) == 2 * len(LANDED)
    assert prune(log, Settings(), bundles) == 0


def test_a_bundle_that_may_lack_changes_of_the_catalogue_keeps_them(tmp_path: Path) -> None:
    log, bundles = landed_log(tmp_path / "log", 8), BundleStore(tmp_path / "bundles")
    folder = bundles.root / "old"
    folder.mkdir(parents=True)
    made = time.time_ns() // 1000 - 9 * DAY
    manifest = Manifest(FORMAT, "old", made, "", "2026-11-01", "", 1, {})
    (folder / NAME).write_bytes(msgspec.json.encode(manifest))
    assert prune(log, Settings(), bundles) == 2 * (len(LANDED) - 1)
    assert len(list((tmp_path / "log" / changes.TOPIC).glob("*.log"))) == 4
