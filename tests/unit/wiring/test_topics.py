"""Every topic is made by `segue log create`, and pruned."""

from __future__ import annotations

import os
import time
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import segue.events
from segue.adapters.log.files import FileLog
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


def test_what_has_landed_and_is_old_goes(tmp_path: Path) -> None:
    log, old = FileLog(tmp_path, segment_bytes=10), time.time() - 8 * 86_400
    for topic, groups in LANDED.items():
        for n in range(4):
            log.append(topic, [b"%d" % n])
        for segment in (tmp_path / topic).glob("*.log"):
            os.utime(segment, (old, old))
        for group in groups:
            consumer = log.consumer(topic, group)
            consumer.poll(2)
            consumer.commit()
            consumer.close()
    assert prune(log, Settings()) == 2 * len(LANDED)
    assert prune(log, Settings()) == 0
