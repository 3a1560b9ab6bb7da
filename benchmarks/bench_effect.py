"""From an event to its effect: how long until the next answer heeds what a listener just said, by state store.

A client posts a play, a like, a hide or a block of an artist to `segue serve` with two workers, and asks until an answer heeds
it: a home page that is personal now, or lacks the track or artist; a profile that has the like. The time is the client's, from
sending to having read that answer, so it holds a whole request besides; less what the processes waited for a processor that
others held (Linux, schedstat). Threads that waited side by side count each, so on a busy machine the difference says too little,
and the clock on the wall, stated beside it, too much; on a quiet one they agree.

LMDB, and the real Redis, Google's Bigtable emulator and moto's DynamoDB server where they are installed: these say what our side
costs, not what the services would take. The service is a copy of `benchmarks/service.py`'s.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.bench_live import copied_home, served
from benchmarks.harness import ROOT, Row, at_most
from benchmarks.service import SERVING, published_home
from segue.wiring.stores import open_store

sys.path.insert(0, str(ROOT / "tests"))
from effect import Effect, measure, p99_ms
from real_stores import FAKE_AWS, PARTS, Server, settings_at

ROUNDS = 100
LIMIT_MS = {"lmdb": 50.0, "redis": 1000.0, "bigtable": 1000.0, "dynamodb": 1000.0}


def run() -> list[Row]:
    """A row for each store that is installed."""
    return [
        _row(kind, limit, _effects(kind))
        for kind, limit in LIMIT_MS.items()
        if kind not in PARTS or PARTS[kind].program() is not None
    ]


def _row(kind: str, limit: float, effects: list[Effect]) -> Row:
    took = [effect.seconds * 1000 for effect in effects]
    p99 = p99_ms(effects)
    return Row(
        f"event to effect, {kind}",
        p99,
        None,
        None,
        "ms (p99)",
        f"{len(effects)} events of four kinds; as the clock on the wall has it p50 {np.percentile(took, 50):.1f}, "
        f"p99 {np.percentile(took, 99):.1f} ms; {sum(effect.asked == 1 for effect in effects)} heeded by the first answer",
        at_most(p99, limit, "ms"),
    )


def _effects(kind: str) -> list[Effect]:
    with copied_home(published_home().root) as home, _store(kind) as port:
        settings = settings_at(kind, port)
        changes = [
            f"state.kind={kind}",
            f"state.read_deadline_ms={settings.read_deadline_ms}",
            f"state.write_deadline_ms={settings.write_deadline_ms}",
            f"state.redis.url={settings.redis.url}",
            f"state.redis.prefix={settings.redis.prefix}",
            "state.bigtable.project=test",
            "state.bigtable.instance=test",
            f"state.bigtable.table={settings.bigtable.table}",
            f"state.dynamodb.table={settings.dynamodb.table}",
            f"state.dynamodb.region={settings.dynamodb.region}",
            f"state.dynamodb.endpoint_url={settings.dynamodb.endpoint_url}",
        ]
        if kind in PARTS:
            store = open_store(home, settings)
            store.create()
            store.close()
        with served(home, (*SERVING, *changes)) as (pid, url):
            list(measure(url, pid, 5))
            return list(measure(url, pid, ROUNDS, first=10))


@contextmanager
def _store(kind: str) -> Iterator[int]:
    """The port of the store's program; 0 where it needs none."""
    if kind not in PARTS:
        yield 0
        return
    with tempfile.TemporaryDirectory() as folder:
        program = Server(PARTS[kind], Path(folder))
        os.environ.update(FAKE_AWS, BIGTABLE_EMULATOR_HOST=f"127.0.0.1:{program.port}")
        try:
            yield program.port
        finally:
            program.stop()
