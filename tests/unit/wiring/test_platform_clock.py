"""The wall clock of a server jumps by an hour, both ways: what it acknowledged is in log, state and tables, once."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from segue.contracts.ids import format_id, new_id
from segue.contracts.tables import RAW_EVENTS
from segue.contracts.vocabulary import HOUR, SECOND
from segue.events.landing import land
from segue.wiring import platform as serving
from segue.wiring.home import Home
from segue.wiring.platform import HomePlatform

JUMPS = (0, HOUR, 0, -HOUR, HOUR, -HOUR, 0)


def test_a_clock_that_jumps_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home.open(tmp_path, environ={}, overrides=["state.map_size_mb=64"])
    platform = HomePlatform(home)
    right = time.time_ns() // 1000
    sent: Counter[int] = Counter()
    for n, jump in enumerate(JUMPS):
        said = right + n * SECOND + jump

        class Clock:
            time_ns = staticmethod(lambda said=said: said * 1_000)

        monkeypatch.setattr(serving, "time", Clock)
        # Clients whose clock is right, as far as this server lets them, and one whose clock agrees with it.
        moments = {said, min(right + n * SECOND, said + 300 * SECOND)}
        batch = [
            {
                "event_id": format_id(new_id()),
                "type": "play",
                "ts": ts,
                "user_id": 1,
                "track_id": len(sent) + i,
            }
            for i, ts in enumerate(sorted(moments))
        ]
        for _ in range(2):  # the answer was lost: sent again
            receipt = platform.ingest(msgspec.json.encode(batch), "application/json")
            receipt.acknowledged.result(20)
            assert {result.status for result in receipt.results} == {"accepted"}
        sent.update(event["track_id"] for event in batch)
    monkeypatch.undo()
    state = home.state.read(1)
    assert state is not None
    assert Counter(state.plays["track_id"].tolist()) == sent
    platform.close()
    report = land(home.log, home.engine, now=right - HOUR)
    assert (report.landed, report.duplicate, report.rejected) == (len(sent), len(sent), {})
    rows = home.engine.collect(home.engine.read(RAW_EVENTS))
    assert Counter(rows["track_id"].to_pylist()) == sent
