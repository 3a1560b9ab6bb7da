"""A simulated service goes into a home once, whole, and never over another one."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import msgspec
import pytest

from segue.contracts.errors import Conflict
from segue.contracts.tables import EXPOSURES, LISTENERS, RAW_EVENTS, TRACKS
from segue.simulation import SimulationConfig
from segue.wiring.home import Home
from segue.wiring.simulate import is_broken_off, simulate_into

SIZE = SimulationConfig(tracks=60, artists=12, listeners=20, days=3, end=date(2026, 11, 21), seed=1)


class Killed(Exception):
    """Stands for a kill between two days."""


def counts(home: Home) -> dict[str, int]:
    engine = home.engine
    return {t.name: len(engine.collect(engine.read(t))) for t in (RAW_EVENTS, EXPOSURES, TRACKS, LISTENERS)}


def test_twice_is_once_and_another_history_is_refused(tmp_path: Path) -> None:
    home = Home.open(tmp_path, environ={})
    days: list[date] = []
    report = simulate_into(home, SIZE, days.append)
    first = counts(home)
    assert first["raw_events"] == report.events > 0
    assert days[-1] == SIZE.end
    assert len(days) == 3
    simulate_into(home, SIZE, lambda day: None)
    assert counts(home) == first
    with pytest.raises(Conflict, match="empty directory"):
        simulate_into(home, msgspec.structs.replace(SIZE, seed=2), lambda day: None)
    assert counts(home) == first
    assert (home.truth).is_dir()


def test_a_simulation_that_was_broken_off_is_completed(tmp_path: Path) -> None:
    whole, broken = Home.open(tmp_path / "a", environ={}), Home.open(tmp_path / "b", environ={})
    simulate_into(whole, SIZE, lambda day: None)

    def die(day: date) -> None:
        raise Killed

    with pytest.raises(Killed):
        simulate_into(broken, SIZE, die)
    assert counts(broken)["raw_events"] < counts(whole)["raw_events"]
    assert is_broken_off(broken, SIZE)
    simulate_into(broken, SIZE, lambda day: None)
    assert counts(broken) == counts(whole)
    assert not is_broken_off(broken, SIZE)
    assert not is_broken_off(Home.open(tmp_path / "c", environ={}), SIZE)
