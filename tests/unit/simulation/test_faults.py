"""What can happen to a day: each leaves rows that a table could hold, and does what it says."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from segue.contracts.tables import RAW_EVENTS
from segue.contracts.vocabulary import DAY, HOUR
from segue.simulation import SimulationConfig, generate_catalogue, simulate_days
from segue.simulation.faults import CHANGES, FAULTS

SERVICE = SimulationConfig(tracks=600, artists=100, listeners=800, days=2, end=date(2026, 11, 21), seed=4)
ALL = FAULTS | CHANGES


@pytest.fixture(scope="module")
def day() -> pa.Table:
    """The events of a day of a small service."""
    return list(simulate_days(SERVICE, generate_catalogue(SERVICE)))[-1].events


def after(name: str, day: pa.Table) -> pa.Table:
    return ALL[name].change(day, np.random.default_rng(1))


@pytest.mark.parametrize("name", list(ALL))
def test_it_leaves_rows_of_the_same_table_each_with_an_id_of_its_own(name: str, day: pa.Table) -> None:
    changed = after(name, day)
    assert changed.schema.equals(RAW_EVENTS.arrow)
    assert pc.count_distinct(changed["event_id"]).as_py() == len(changed)
    assert pc.all(
        pc.equal(changed["day"].cast(pa.int32()), pc.divide(changed["ts"], DAY).cast(pa.int32()))
    ).as_py()
    assert not changed.equals(day)
    assert changed.equals(after(name, day)), "the same dice, the same day"


def test_faults_do_what_they_say(day: pa.Table) -> None:
    assert len(after("doubled-events", day)) == 2 * len(day)
    assert (
        pc.max(after("seconds-for-ms", day)["ms_played"]).as_py() == pc.max(day["ms_played"]).as_py() // 1_000
    )
    assert "DE" not in after("country-missing", day)["country"].to_pylist()
    assert after("clock-ahead", day)["ts"].equals(pc.add(day["ts"], HOUR))
    assert after("clock-ahead", day)["received_at"].equals(day["received_at"])
    moved = pc.not_equal(after("client-time-zone", day)["ts"], day["ts"])
    assert set(day.filter(moved)["device"].to_pylist()) == {"tv"}
    nulls = after("nulls-of-a-client", day)
    assert nulls.filter(pc.equal(nulls["device"], "desktop"))["ms_played"].drop_null().to_pylist() == []
    assert pc.sum(nulls["ms_played"]).as_py() > 0
    assert set(after("positions-zero", day)["position"].to_pylist()) == {0, None}
    assert 0.55 < len(after("thinned", day)) / len(day) < 0.78
    assert len(after("bots", day)) == len(day) + 9_000


def test_changes_take_nothing_away_but_the_quiet_day(day: pa.Table) -> None:
    for name in CHANGES:
        assert (len(after(name, day)) >= len(day)) == (name != "quiet-day"), name
    assert 1.2 < len(after("holiday", day)) / len(day) < 1.6
    assert len(after("tenfold", day)) == pytest.approx(10 * len(day))
