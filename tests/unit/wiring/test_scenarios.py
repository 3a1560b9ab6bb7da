"""Scenarios on the small service: each measures something and comes to the verdict that must be."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segue.contracts.tables import EXPOSURES, LISTENS
from segue.settings import Settings
from segue.wiring.home import Home
from segue.wiring.rounds import Rounds
from segue.wiring.scenarios import SCENARIOS, Asked


def played(service: Home, name: str, days: int) -> tuple[dict[str, float], str]:
    found = SCENARIOS[name].run(Asked(service, None, days, 1))
    assert found.scenario == name
    assert found.seconds > 0
    return found.measured, found.verdict


def test_an_aa_finds_as_much_as_it_may(service: Home) -> None:
    measured, verdict = played(service, "a-a", 4)
    assert 0.01 <= measured["false positives"] <= 0.1
    assert ("NOT" in verdict) == (abs(measured["false positives"] - 0.05) > 0.0218)


def test_a_broken_model_is_measured_as_worse(service: Home) -> None:
    measured, verdict = played(service, "broken-model", 6)
    assert measured["listens_per_listener, true relative effect"] < -0.02
    assert measured["skip_rate, true relative effect"] > 0
    assert ("NOT caught" in verdict) == (measured["days until daily looks are sure"] == 0)


def test_strangers_are_served_and_become_known(service: Home) -> None:
    measured, verdict = played(service, "cold-start", 6)
    assert len(measured) == 4
    assert all(value > 0 for value in measured.values())
    assert "first page" in verdict


def test_breadth_is_measured_beside_the_logging_policy(service: Home) -> None:
    measured, verdict = played(service, "filter-bubble", 12)
    assert all(value >= 1 for value in measured.values() if not np.isnan(value))
    assert "under the logging policy" in verdict


def test_rounds_train_on_what_they_served_and_bots_reach_the_tables(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path, Settings(), 80, 1, lambda what: None)
    bots = rounds.add_bots(5, 2)
    rounds.train()
    engine = rounds.home.engine
    listens = engine.collect(engine.read(LISTENS).filter(lambda row: row.user_id > 80))
    assert len(listens) == bots == 4 * 60 * 2
    first = rounds.live(2)
    rounds.train()
    second = rounds.live(2)
    assert first.shown.sum() > 0 < second.shown.sum()
    assert first.broken == second.broken == 0
    exposed = engine.collect(engine.read(EXPOSURES).select("bundle").distinct())["bundle"].to_pylist()
    assert {name for name in exposed if name.startswith("round-")} == {
        "round-2026-11-21",
        "round-2026-11-23",
    }
    engine.close()
