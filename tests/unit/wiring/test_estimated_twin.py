"""What `segue ope --policy` estimates from a log, held against what listeners of the in-process twin do under that policy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segue.contracts.ports import Days
from segue.contracts.tables import OUTCOMES
from segue.experiments.definition import read_experiment
from segue.experiments.offpolicy.challenger import load_past, load_shown, pages_of, replay, usual_chances
from segue.settings.load import change_settings
from segue.simulation.environment import NONE
from segue.wiring.challenger import judge_policy, loggers
from segue.wiring.closed_loop import Arm, Plan, World
from segue.wiring.home import Home
from segue.wiring.simulated_home import lived_on

MMR = read_experiment(Path(__file__).parents[3] / "examples/experiments/mmr.toml")
SLOTS, DAYS = 5, 6
EXPLORE = "surfaces.home.selector.explore"
WILD, CALM = {EXPLORE: 0.6}, {EXPLORE: 0.0}


@pytest.fixture(scope="module")
def world(service: Home) -> World:
    return World(service)


def lived(world: World, folder: Path, arm: dict[str, float]) -> Home:
    """A home whose pages were all made so, for listeners whom nothing they are given brings back or drives away."""
    everybody = np.zeros(world.config.listeners, np.int16)
    plan = Plan(("home",), DAYS, reactions=NONE, logs=True)
    return lived_on(world.home, folder, MMR, world.live([Arm("control", arm)], everybody, plan).logs)


def earned(home: Home) -> np.ndarray:
    """Listens on the first slots of each page of the days that were lived."""
    rows = home.engine.read(OUTCOMES, Days(MMR.starts, MMR.ends))
    rows = rows.filter((rows.surface == "home") & (rows.position < SLOTS))
    pages = home.engine.collect(rows.group_by("request_id").aggregate(n=rows.listened.cast("int64").sum()))
    return pages["n"].to_numpy().astype(float)


@pytest.fixture(scope="module")
def log(world: World, tmp_path_factory: pytest.TempPathFactory) -> Home:
    return lived(world, tmp_path_factory.mktemp("lived") / "log", WILD)


def test_a_log_is_weighed_by_its_policys_own_chances_where_that_can_still_be_asked(
    world: World, log: Home
) -> None:
    """A drawn slot moves those below it, so what stood there had little chance given those above it, and more on the whole."""
    shown = load_shown(log.engine, "home", MMR.starts, MMR.ends, 300, SLOTS)
    wild = change_settings(log.settings, WILD, "test")
    past = load_past(log.engine, shown, log.settings.state)
    found = usual_chances(loggers(log, wild), past, "home", shown)
    assert found.known.all()
    first = shown.position == 0
    assert found.chance[first] == pytest.approx(shown.propensity[first], rel=1e-3)
    assert not np.allclose(found.chance[~first], shown.propensity[~first], rtol=0.1)
    calm = loggers(log, change_settings(log.settings, CALM, "test"))(str(world.home.bundles.current()))
    assert calm is not None
    again = replay(calm, past, "home", shown)
    weights = pages_of(shown, again, found).slot_weight
    alone = pages_of(shown, again).slot_weight
    assert abs(weights.mean() - 1.0) < abs(alone.mean() - 1.0)
    assert weights.max() < alone.max()
    assert abs(weights.mean() - 1.0) < 0.15


def test_settings_that_did_not_answer_a_log_are_not_taken_for_those_that_did(log: Home) -> None:
    shown = load_shown(log.engine, "home", MMR.starts, MMR.ends, 30, SLOTS)
    past = load_past(log.engine, shown, log.settings.state)
    calm = loggers(log, change_settings(log.settings, {EXPLORE: 0.1}, "test"))
    gone = loggers(Home(log.root / "elsewhere", log.settings), log.settings)
    # The same chances of every page, by settings that have not answered it.
    patient = change_settings(log.settings, {**WILD, "surfaces.home.deadline_ms": 999}, "test")
    for one in (calm, gone, loggers(log, patient)):
        found = usual_chances(one, past, "home", shown)
        assert not found.known.any()
        assert np.array_equal(found.chance, shown.propensity)


def test_a_calmer_page_earns_what_was_estimated(world: World, log: Home, tmp_path: Path) -> None:
    truth = earned(lived(world, tmp_path / "calm", CALM))
    calm = Home(log.root, change_settings(log.settings, CALM, "test"))
    version = world.home.bundles.current()
    assert version is not None
    logged = change_settings(log.settings, WILD, "test")
    found = judge_policy(calm, version, "home", DAYS, 5_000, SLOTS, lambda what: None, logged)
    assert found.pages > 100
    assert found.refused == {}
    error = truth.std() / np.sqrt(len(truth))
    for name in ("iips-dr", "sniips", "cascade-dr"):
        one = found.estimates[name]
        low, high = one.ci95
        assert low - 2 * error < truth.mean() < high + 2 * error, (name, one, truth.mean())
        # How near so few pages come is chance, and differs from machine to machine; which of the two is better does not.
        assert found.logged.value < min(one.value, truth.mean()), (name, one, truth.mean())
