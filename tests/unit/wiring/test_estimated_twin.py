"""What `segue ope --policy` estimates from a log, held against what listeners of the in-process twin do under that policy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segue.contracts.ports import Days
from segue.contracts.tables import OUTCOMES
from segue.experiments.definition import read_experiment
from segue.settings.load import change_settings
from segue.simulation.environment import NONE
from segue.wiring.challenger import judge_policy
from segue.wiring.closed_loop import Arm, Plan, World
from segue.wiring.home import Home
from segue.wiring.simulated_home import lived_on

MMR = read_experiment(Path(__file__).parents[3] / "examples/experiments/mmr.toml")
SLOTS, DAYS = 5, 6
EXPLORE = "surfaces.home.selector.explore"
CALM = {EXPLORE: 0.0}


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


def test_a_calmer_page_earns_what_was_estimated(world: World, tmp_path: Path) -> None:
    log = lived(world, tmp_path / "log", {EXPLORE: 0.6})
    truth = earned(lived(world, tmp_path / "calm", CALM))
    calm = Home(log.root, change_settings(log.settings, CALM, "test"))
    version = world.home.bundles.current()
    assert version is not None
    found = judge_policy(calm, version, "home", DAYS, 5_000, SLOTS, lambda what: None)
    assert found.pages > 100
    # So few pages are at the limit of what plain weights can tell: then they say nothing, and that is right as well.
    assert set(found.refused) <= {"iips"}
    answered = {"iips-dr", "sniips", "cascade-dr"}.intersection(found.estimates)
    assert "cascade-dr" in answered
    error = truth.std() / np.sqrt(len(truth))
    for name in answered:
        one = found.estimates[name]
        low, high = one.ci95
        assert low - 2 * error < truth.mean() < high + 2 * error, (name, one, truth.mean())
        # How near so few pages come is chance, and differs from machine to machine; which of the two is better does not.
        assert found.logged.value < min(one.value, truth.mean()), (name, one, truth.mean())
