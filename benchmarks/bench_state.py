"""Listener state: updates and filling in LMDB, one request's read from every store, and the sizes costs are computed from.

Listeners have 500 plays in 90 days, in sessions, and 50 marks; an update is one later play of one listener, in batches of
1,000 listeners, written through to the store. LMDB's rows are CPU time. The others' reads are wall time over the loopback
against the real Redis, Google's Bigtable emulator and moto's DynamoDB server, which say what our side and the
round trip cost, not what the services would take.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.harness import ROOT, Row, at_least
from segue.contracts.vocabulary import DAY, MINUTE
from segue.listener.codec import encode, encode_rows
from segue.listener.fold import Changes, apply
from segue.listener.state import MARK, PLAY, anonymous
from segue.listener.states import ListenerStates
from segue.settings.tree import State
from segue.wiring.stores import open_store

sys.path.insert(0, str(ROOT / "tests"))
from real_stores import FAKE_AWS, PARTS, Server, settings_at

LISTENERS, PLAYS, MARKS = 1_000, 500, 50
BATCHES, READS = 20, 300
START = 1_700_000_000_000_000
UPDATES_GOAL = 20_000
"""Updates a second of one core, goal."""


def run() -> list[Row]:
    """LMDB first, then every store that is installed."""
    rng = np.random.default_rng(0)
    records = {user: _record(user, rng) for user in range(LISTENERS)}
    play = encode_rows(np.zeros(1, PLAY), np.empty(0, MARK))
    size = float(np.median([len(record) for record in records.values()]))
    rows = [
        Row("a record", size, None, None, "bytes", f"{PLAYS} plays, {MARKS} marks"),
        Row("a play in a tail", len(play), None, None, "bytes", "one chunk of one row"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        rows += _lmdb(Path(folder), records, rng)
        for kind in ("lmdb", *PARTS):
            rows += _round_trips(kind, Path(folder), records)
    return rows


def _lmdb(folder: Path, records: dict[int, bytes], rng: np.random.Generator) -> list[Row]:
    settings = State(map_size_mb=4_096)
    states = ListenerStates(open_store(folder, settings), settings)
    start = time.process_time()
    filled = states.fill(
        (copy * LISTENERS + user, records[user]) for copy in range(20) for user in range(LISTENERS)
    )
    fill_s = time.process_time() - start
    batches = [_one_play_each(n, rng) for n in range(BATCHES + 1)]
    states.add(batches[0])
    seconds = []
    for batch in batches[1:]:
        start = time.process_time()
        states.add(batch)
        seconds.append(time.process_time() - start)
    updates = LISTENERS / float(np.median(seconds))
    start = time.process_time()
    for user in range(LISTENERS):
        states.read(user)
    read_us = (time.process_time() - start) / LISTENERS * 1e6
    states.close()
    return [
        Row(
            "updates, LMDB",
            updates,
            None,
            None,
            "updates/s",
            f"batches of {LISTENERS:,}, each of another listener; one core",
            at_least(updates, UPDATES_GOAL, "updates/s"),
        ),
        Row(
            "filling, LMDB", filled / fill_s, None, None, "listeners/s", "records rebuilt from the warehouse"
        ),
        Row("read and decode, LMDB", read_us, None, None, "us CPU", "mean"),
    ]


def _round_trips(kind: str, folder: Path, records: dict[int, bytes]) -> Iterator[Row]:
    """The median read of a record with a tail of ten plays, and the median addition of one play."""
    server = None
    if kind in PARTS:
        if PARTS[kind].program() is None:
            return
        server = Server(PARTS[kind], folder)
    try:
        os.environ.update(FAKE_AWS, BIGTABLE_EMULATOR_HOST=f"127.0.0.1:{server.port if server else 0}")
        settings = settings_at(kind, server.port if server else 0)
        store = open_store(folder / kind, settings)
        store.create()
        states = ListenerStates(store, settings)
        states.fill((user, records[user]) for user in range(20))
        rng = np.random.default_rng(1)
        plays = [_one_play_each(n, rng).of(n % 20) for n in range(READS)]
        adds = [_timed(partial(states.add, play)) for play in plays]
        reads = [_timed(partial(states.read, n % 20)) for n in range(READS)]
        states.close()
    finally:
        if server is not None:
            server.stop()
    yield Row(f"one read, {kind}", float(np.median(reads)), None, None, "ms wall (p50)", _p99(reads))
    yield Row(f"one play added, {kind}", float(np.median(adds)), None, None, "ms wall (p50)", _p99(adds))


def _record(user: int, rng: np.random.Generator) -> bytes:
    """Sessions of ten plays, three minutes apart."""
    starts = np.sort(rng.integers(0, 90 * DAY, PLAYS // 10))
    plays = np.zeros(PLAYS, PLAY)
    plays["ts"] = START + (starts[:, None] + np.arange(10) * 3 * MINUTE).ravel()
    plays["track_id"] = rng.integers(0, 1_000_000, PLAYS)
    plays["ms_played"] = 180_000
    plays["listened"] = True
    marks = np.zeros(MARKS, MARK)
    marks["target_id"], marks["ts"], marks["on"] = np.arange(MARKS), plays["ts"][:MARKS], True
    users = np.full(PLAYS, user, np.int64)
    return encode(apply(anonymous(user), Changes(users, plays, users[:MARKS], marks), State()))


def _one_play_each(n: int, rng: np.random.Generator) -> Changes:
    """The n-th later play of every listener, three minutes after the one before."""
    plays = np.zeros(LISTENERS, PLAY)
    plays["ts"] = START + 91 * DAY + n * 3 * MINUTE + rng.integers(0, MINUTE, LISTENERS)
    plays["track_id"] = rng.integers(0, 1_000_000, LISTENERS)
    plays["listened"] = True
    return Changes(np.arange(LISTENERS), plays, np.empty(0, np.int64), np.empty(0, MARK))


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1000


def _p99(values: list[float]) -> str:
    return f"p99 {np.percentile(values, 99):.2f} ms"
