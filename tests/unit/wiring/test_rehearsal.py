"""A small rehearsal: quiet days stop nothing, faults are found on their first day, floods and holidays go by."""

from __future__ import annotations

import pytest

from segue.flows.rehearsal import LASTS, Rehearsed
from segue.settings import Settings
from segue.settings.tree import Warehouse
from segue.simulation.faults import CHANGES, FAULTS, Happening
from segue.wiring.rehearsal import growing_service, rehearse

CHOSEN = (
    "dead-client",
    "doubled-events",
    "seconds-for-ms",
    "us-for-ms",
    "ids-shifted",
    "clock-ahead",
    "half-a-day",
    "bots",
)
PASSING = ("flood", "holiday")


@pytest.fixture(scope="module")
def rehearsed() -> Rehearsed:
    """44 days of a service of some 9,000 events a day."""
    nothing = Happening("nothing", "a fault that is none", "stop", lambda rows, dice: rows)
    chosen = [*(FAULTS[name] for name in CHOSEN), *(CHANGES[name] for name in PASSING), nothing]
    size = growing_service(44, seed=2, listeners=1_300)
    return rehearse(Settings(warehouse=Warehouse(memory_mb=1_000, threads=1)), size, chosen)


def test_nothing_stops_quiet_days(rehearsed: Rehearsed) -> None:
    alarms = rehearsed.alarms
    assert (alarms.days, alarms.tables) == (16, 16 * 9)
    assert alarms.stopped == 0, alarms.by
    assert alarms.told <= 2, alarms.by
    assert alarms.stopped_ci95[0] == 0.0
    assert 0.1 < alarms.stopped_ci95[1] < 0.25, "sixteen days do not tell more"


@pytest.mark.parametrize("name", [*CHOSEN, *PASSING])
def test_what_happens_is_found_for_what_it_is(rehearsed: Rehearsed, name: str) -> None:
    [found] = [one for one in rehearsed.found if one.name == name]
    assert found.as_expected, found
    assert found.times == 1


def test_the_measure_tells_what_is_missed(rehearsed: Rehearsed) -> None:
    [missed] = [one for one in rehearsed.found if one.name == "nothing"]
    assert (missed.at_once, missed.in_time, missed.stopped, missed.days, missed.by) == (0, 0, 0, None, {})
    assert not missed.as_expected
    assert LASTS >= 2
