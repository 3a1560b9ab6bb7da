"""The machine's clock jumps, back and forth, between one instruction and the next: ids stay unique, state and tables the same."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from segue.adapters.engines.duckdb import DuckDBDelta
from segue.adapters.log.files import FileLog
from segue.adapters.state.lmdb import LMDBState
from segue.bundle import BundleStore, BundleWriter
from segue.contracts import ids
from segue.contracts.tables import RAW_EVENTS, REJECTS
from segue.contracts.vocabulary import DAY, HOUR, SECOND
from segue.events.landing import land
from segue.events.records import Event, encode_event
from segue.listener.fold import read_records
from segue.listener.state import LIKE
from segue.listener.states import ListenerStates
from segue.settings.tree import State, Warehouse

pytestmark = pytest.mark.filterwarnings("ignore:fetch_:DeprecationWarning")

NOW = 1_795_000_000_000_000
JUMPS = (0, 2 * HOUR, -3 * HOUR, 20 * DAY, -20 * DAY, 1)


def clock(monkeypatch: pytest.MonkeyPatch, module: str, now: int) -> None:
    """Have a module's clock stand at a moment."""
    monkeypatch.setattr(f"{module}.time", SimpleNamespace(time_ns=lambda: now * 1000))


def taken_in(jump: int, first: int, count: int = 40) -> list[Event]:
    """Events of five listeners as a collector takes them in whose clock is off by `jump`: plays, and likes that are withdrawn.

    It takes nothing from its own future, so with a clock that is behind only what happened earlier."""
    made = []
    for n in range(first, first + count):
        ts = NOW + min(jump, 0) + n * SECOND
        kind = ("play", "like", "unlike")[n % 3]
        made.append(
            Event(
                ids.new_id(),
                ts,
                NOW + jump,
                n % 5,
                kind,
                track_id=n % 11,
                ms_played=60_000 if n % 3 == 0 else None,
            )
        )
    return made


def across_jumps(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """Events taken in while the clock jumps."""
    events = []
    for number, jump in enumerate(JUMPS):
        clock(monkeypatch, "segue.contracts.ids", NOW + jump)
        events += taken_in(jump, number * 40)
    return events


def test_ids_stay_unique(monkeypatch: pytest.MonkeyPatch) -> None:
    made = set()
    for jump in JUMPS * 2:
        clock(monkeypatch, "segue.contracts.ids", NOW + jump)
        made |= {ids.new_id() for _ in range(1_000)}
    assert len(made) == 2 * len(JUMPS) * 1_000


def test_state_goes_by_when_things_happened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = across_jumps(monkeypatch)
    shuffled = random.Random(4).sample(events, len(events))
    folded = []
    for name, order in (("steady", sorted(events, key=lambda e: e.ts)), ("jumping", shuffled)):
        states = ListenerStates(LMDBState(tmp_path / name, State(map_size_mb=16)), State())
        for start in range(0, len(order), 7):
            states.add(read_records(order[start : start + 7]))
        found = [states.read(user) for user in range(5)]
        folded.append([(s.plays.tobytes(), s.marks.tobytes()) for s in found if s is not None])
        for user, state in enumerate(found):
            assert state is not None
            assert (np.diff(state.plays["ts"]) > 0).all()
            last = {
                e.track_id: e.type
                for e in sorted(events, key=lambda e: e.ts)
                if e.user_id == user and e.type != "play"
            }
            assert set(state.marked(LIKE).tolist()) == {t for t, kind in last.items() if kind == "like"}
        states.close()
    assert folded[0] == folded[1]
    assert len(folded[0]) == 5


@pytest.mark.parametrize("behind", [0, 2 * HOUR, 400 * DAY])
def test_what_was_acknowledged_lands_however_far_the_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: int
) -> None:
    log, engine = (
        FileLog(tmp_path / "log"),
        DuckDBDelta(tmp_path / "tables", Warehouse(threads=1, memory_mb=512)),
    )
    events = across_jumps(monkeypatch)
    for start in range(0, len(events), 60):
        log.append("events", [encode_event(e) for e in events[start : start + 60]])
        land(log, engine, now=NOW - behind)
        sent_again = events[start : start + 5]
        log.append("events", [encode_event(e) for e in sent_again])
    land(log, engine, now=NOW - behind)
    landed = engine.collect(engine.read(RAW_EVENTS).select("event_id", "ts", "received_at")).to_pylist()
    assert sorted(row["event_id"] for row in landed) == sorted(e.event_id for e in events)
    assert engine.collect(engine.read(REJECTS)).num_rows == 0
    engine.close()


def test_what_is_from_the_future_by_every_clock_does_not_land(tmp_path: Path) -> None:
    log, engine = (
        FileLog(tmp_path / "log"),
        DuckDBDelta(tmp_path / "tables", Warehouse(threads=1, memory_mb=512)),
    )
    wrong = Event(ids.new_id(), NOW + 3 * DAY, NOW, 1, "play", track_id=1)
    right = Event(ids.new_id(), NOW + 3 * DAY, NOW + 3 * DAY, 1, "play", track_id=2)
    log.append("events", [encode_event(wrong), encode_event(right)])
    report = land(log, engine, now=NOW)
    assert (report.landed, report.rejected) == (1, {"ts_in_future": 1})
    engine.close()


def test_the_bundle_made_last_is_the_newest_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for number, jump in enumerate(JUMPS):
        clock(monkeypatch, "segue.bundle.writer", NOW + jump)
        with BundleWriter(tmp_path) as writer:
            writer.json("notes", number)
            made.append(
                writer.finish(version_prefix="x", data_through="2026-11-21", settings="", tracks=1).version
            )
        assert BundleStore(tmp_path).versions()[0].version == made[-1]
    assert [m.version for m in BundleStore(tmp_path).versions()] == made[::-1]
