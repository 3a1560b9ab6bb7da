"""`segue simulate` after a history: an experiment's file, a running server, scenarios, as a user calls them."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import pytest
from command import program, segue
from serving_home import serving

from segue.simulation.service import read_config
from segue.wiring.home import Home

MMR = Path(__file__).parents[2] / "examples/experiments/mmr.toml"


@pytest.fixture
def home(service: Home, tmp_path: Path) -> Path:
    """A copy of the published service."""
    return Path(shutil.copytree(service.root, tmp_path / "home"))


def test_listeners_use_a_running_server_and_it_knows_what_they_did(home: Path) -> None:
    with serving(home, "readyz", {}) as server:
        done = segue(home, "simulate", "--against", server.url, "--listeners", "200", "--json")
        visited = done.json
        assert visited["requests"] > 20
        assert visited["accepted"] == visited["events"] > 200
        assert visited["plays_of_slots"] > 0
        asked = [httpx.get(f"{server.url}/v1/listeners/{user}").json() for user in range(1, 201)]
    latest = max(play["ts"] for listener in asked for play in listener.get("plays", ()))
    assert latest > read_config(home / "truth").end_us


def test_an_experiment_is_simulated_from_its_file(home: Path, tmp_path: Path) -> None:
    page = tmp_path / "mmr.html"
    done = program(home, "simulate", "--experiment", str(MMR), "--days", "3", "--json", "--report", str(page))
    found = done.json
    assert found["experiment"] == "mmr"
    assert {one["metric"] for one in found["held"]} >= {"listens_per_listener", "skip_rate", "days_active"}
    assert all("standard_error" in one["truth"] for one in found["held"])
    assert "What is true" in page.read_text()


def test_a_home_that_lived_an_experiment_is_read_as_any(home: Path, tmp_path: Path) -> None:
    lived = tmp_path / "lived"
    # What the log supports, off-policy estimates can tell.
    often = ("--set", "surfaces.home.selector.explore=0.5", "--set", "surfaces.home.max_candidates=500")
    kept = segue(
        home, "simulate", "--experiment", str(MMR), "--days", "2", "--into", str(lived), "--json", *often
    )
    results = segue(lived, "experiment", "results", "mmr", "--json").json
    assert not results["analysis"]["running"]
    assert results["analysis"]["units"] == kept.json["analysis"]["units"]
    for name in ("listens_per_listener", "skip_rate", "days_active"):
        said, simulated = (
            one["metrics"][name]["variants"]["treatment"]["mean"]
            for one in (results["analysis"], kept.json["analysis"])
        )
        assert said == pytest.approx(simulated, rel=0.01), name
    version = (home / "bundles" / "CURRENT").read_text().strip()
    judged = segue(lived, "ope", "--policy", version, "--days", "2", "--slots", "5", "--json", *often)
    assert judged.json["pages"] > 20


def test_an_interleavings_file_is_simulated(home: Path, tmp_path: Path) -> None:
    shared = MMR.with_name("mmr-interleaved.toml")
    done = segue(home, "simulate", "--experiment", str(shared), "--days", "3")
    assert "the truth, if everybody had treatment: listens_per_exposure" in done.out
    assert "interleaved pages" in done.out
    refused = segue(home, "simulate", "--experiment", str(shared), "--report", str(tmp_path / "a.html"))
    assert "an interleaving has no page" in refused.error


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--scenario", "flood"], "there is no 'flood'; there are a-a, broken-model"),
        (["--scenario", "a-a", "--experiment", str(MMR)], "give one of them"),
        (["--experiment", str(MMR), "--tracks", "9"], "--tracks and --artists"),
        (["--report", "x.html"], "--report goes with --experiment"),
        (["--against", "https://example.org"], "write it as http://127.0.0.1:8080"),
        (["--against", "http://127.0.0.1:1"], "no answer"),
    ],
)
def test_what_makes_no_sense_is_refused(home: Path, options: list[str], says: str) -> None:
    assert says in segue(home, "simulate", *options).error


def test_scenarios_are_listed(home: Path) -> None:
    done = segue(home, "simulate", "--scenario", "list")
    assert done.code == 0
    assert "bot-attack" in done.out
