"""The rungs over a small simulated service: what each says of a page turned upside down, and why some are silent."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from segue.cli.main import app
from segue.contracts.errors import InvalidInput, InvalidSettings, NotFound
from segue.experiments.ladder import INTERLEAVING, OFF_POLICY, OFFLINE, RUNGS, SIMULATION, Prediction, Silent
from segue.wiring.closed_loop import Arm, Plan, World
from segue.wiring.duel import duel
from segue.wiring.evidence import compared, gather, read_challenger
from segue.wiring.home import Home
from segue.wiring.rungs import CHAMPION, Challenger, Ladder, Size

DOWN = {"surfaces.home.scorer.weights": {"play": -1.0, "like": -0.5, "skip": 0.3}}
SIZE = Size(past=3, requests=60, pages=60, slots=5, listeners=120, days=3, duel_days=3)
MMR = Path(__file__).parents[3] / "examples/experiments/mmr.toml"


@pytest.fixture(scope="module")
def ladder(service: Home) -> Ladder:
    return Ladder(service, SIZE, workers=1)


@pytest.fixture(scope="module")
def answers(ladder: Ladder) -> dict[str, Prediction | Silent]:
    return {rung: ladder.ask(rung, Challenger("down", "home", DOWN)) for rung in RUNGS}


@pytest.mark.parametrize("rung", [OFFLINE, SIMULATION, INTERLEAVING])
def test_a_page_upside_down_is_expected_to_be_worse(
    answers: dict[str, Prediction | Silent], rung: str
) -> None:
    said = answers[rung]
    assert isinstance(said, Prediction), said
    assert said.relative < 0
    assert said.ci95[0] <= said.relative <= said.ci95[1]
    assert said.challenger == pytest.approx(said.champion * (1 + said.relative))


def test_off_policy_answers_from_the_log_or_says_what_it_lacks(
    answers: dict[str, Prediction | Silent],
) -> None:
    said = answers[OFF_POLICY]
    if isinstance(said, Silent):
        assert "had no chance" in said.why or "effective rows" in said.why
    else:
        assert "dm" in said.beside


@pytest.mark.parametrize("rung", [OFFLINE, SIMULATION])
def test_the_champion_differs_in_nothing_from_itself(ladder: Ladder, rung: str) -> None:
    said = ladder.ask(rung, Challenger("same", "home", {}))
    assert isinstance(said, Prediction)
    assert said.relative == 0.0
    assert said.ci95 == (0.0, 0.0)


def test_the_page_of_offline_sees_what_the_order_of_scores_does_not(ladder: Ladder) -> None:
    said = ladder.ask(OFFLINE, Challenger("drawn", "home", {"surfaces.home.selector.explore": 1.0}))
    assert isinstance(said, Prediction)
    assert said.relative < 0


def test_a_duel_with_oneself_credits_nobody(service: Home) -> None:
    world, plan = World(service), Plan(("home",), 2, listeners=120)
    quiet = {"surfaces.home.selector.explore": 0.0}
    found = duel(world, Arm("control", quiet), Arm("treatment", quiet), plan)
    assert found.control.sum() == found.treatment.sum() == 0
    assert found.neither.sum() > 0
    said = Ladder(service, SIZE).ask(INTERLEAVING, Challenger("same", "home", quiet))
    assert isinstance(said, Prediction | Silent)


def test_a_duel_is_fought_the_same_again(service: Home) -> None:
    plan = Plan(("home",), 2, listeners=120)
    one, other = (duel(World(service), CHAMPION, Arm("treatment", DOWN), plan) for _ in range(2))
    assert np.array_equal(one.user, other.user)
    assert np.array_equal(one.treatment, other.treatment)
    assert one.control.sum() + one.treatment.sum() > 0


def test_a_bundle_is_not_judged_by_days_it_has_seen(service: Home, ladder: Ladder) -> None:
    version = service.bundles.open().version
    found = gather(ladder, Challenger(version, "home", bundle=version), (OFFLINE, OFF_POLICY))
    assert [one.rung for one in found.silent] == [OFFLINE, OFF_POLICY]
    assert all("has seen the events" in one.why for one in found.silent)
    assert found.advice.verdict == "not enough evidence"


def test_without_a_simulated_service_the_rungs_that_need_one_are_silent(
    service: Home, tmp_path: Path
) -> None:
    root = shutil.copytree(service.root, tmp_path / "home")
    shutil.rmtree(root / "truth")
    home = Home(root, service.settings)
    version = home.bundles.open().version
    said = compared(home, version, (SIMULATION, INTERLEAVING), lambda what: None)
    assert [one.task for one in said] == [SIMULATION, INTERLEAVING]
    assert all(one.ci95 is None and "no simulated service" in (one.note or "") for one in said)


def test_challengers_are_read_from_bundles_experiments_and_recipes(service: Home, tmp_path: Path) -> None:
    version = service.bundles.open().version
    assert read_challenger(service, version).bundle == version
    tried = read_challenger(service, str(MMR))
    assert (tried.name, tried.surface) == ("mmr/treatment", "home")
    assert tried.set == {"surfaces.home.selector.diversity": 0.5}
    recipe = tmp_path / "calm.toml"
    recipe.write_text("[surfaces.home.selector]\nexplore = 0.0\n")
    read = read_challenger(service, str(recipe))
    assert (read.name, read.surface) == ("calm", "home")
    recipe.write_text("[surfaces.home.selector]\nexplore = 0.0\n[surfaces.station.selector]\nexplore = 0.0\n")
    with pytest.raises(InvalidInput, match="--surface"):
        read_challenger(service, str(recipe))
    assert read_challenger(service, str(recipe), "station").surface == "station"
    recipe.write_text("[training]\nfactors = 8\n")
    with pytest.raises(InvalidInput, match="judged as a bundle"):
        read_challenger(service, str(recipe))
    recipe.write_text("[surfaces.home.selector]\nexplor = 0.0\n")
    with pytest.raises(InvalidSettings, match="explore"):
        read_challenger(service, str(recipe))
    with pytest.raises(NotFound, match="segue bundle list"):
        read_challenger(service, "2020-01-01-00000000")


def test_the_command_prints_one_page(service: Home, tmp_path: Path) -> None:
    page, root = tmp_path / "evidence.html", shutil.copytree(service.root, tmp_path / "home")
    arguments = ["evidence", str(MMR), "--home", str(root), "--listeners", "60", "--days", "1"]
    done = CliRunner().invoke(
        app, [*arguments, "--rung", "interleaving", "--json", "--report", str(page)], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["challenger"]["name"] == "mmr/treatment"
    assert len(found["predictions"]) + len(found["silent"]) == 1
    assert found["advice"]["verdict"] in ("ship to A/B", "stop", "not enough evidence")
    assert "mmr/treatment" in page.read_text()
    wrong = CliRunner().invoke(app, [*arguments, "--rung", "gut-feeling"])
    assert wrong.exit_code == 2
