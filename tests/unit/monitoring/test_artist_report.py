"""An artist's report shows nobody: groups of five and more, and none that follows by subtracting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.contracts.errors import NotFound
from segue.contracts.ports import Days
from segue.contracts.tables import DEBUTS
from segue.monitoring.debuts import FEWEST, OTHER, Group, artist_report, grouped
from segue.wiring.home import Home


@given(st.lists(st.sampled_from(["DE", "FR", "US", "JP", None]), max_size=40))
def test_no_group_is_small_and_what_is_missing_is_not_either(kinds: list[str | None]) -> None:
    groups = grouped(kinds)
    assert all(group.listeners >= FEWEST for group in groups)
    left = len(kinds) - sum(group.listeners for group in groups)
    assert left == 0 or not groups or left >= FEWEST or len(kinds) < FEWEST


def test_small_kinds_are_put_together_with_the_next_until_they_are_enough() -> None:
    kinds = ["DE"] * 9 + ["FR"] * 6 + ["US"] * 2 + ["JP"]
    assert grouped(kinds) == (Group("DE", 9), Group(OTHER, 9))
    assert grouped(["DE"] * 9 + ["FR"] * 4) == (Group(OTHER, 13),)
    assert grouped(["DE"] * 4) == ()


def test_the_report_of_a_simulated_artist_adds_up(service: Home) -> None:
    engine = service.engine
    there = engine.days(DEBUTS)
    assert there is not None
    rows = engine.collect(engine.read(DEBUTS, Days(there.last, there.last))).to_pylist()
    best = max(rows, key=lambda row: row["listeners"])
    found = artist_report(engine, best["artist_id"], 100)
    assert {t.track_id for t in found.tracks} == {
        row["track_id"] for row in rows if row["artist_id"] == best["artist_id"]
    }
    for groups in (found.countries, found.plans, found.reactions):
        assert sum(group.listeners for group in groups) in (found.reached, 0)
    for track in found.tracks:
        assert track.listeners is None or track.listeners >= FEWEST


def test_an_artist_nobody_knows_is_not_found(service: Home) -> None:
    with pytest.raises(NotFound, match="artist 5"):
        artist_report(service.engine, 5, 100)
