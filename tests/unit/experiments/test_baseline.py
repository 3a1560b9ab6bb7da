"""How long a file's experiment must run, by a home's log: against a computation from the rows, and what cannot be planned."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest
from scipy.special import ndtri
from typer.testing import CliRunner

from segue.cli.main import app
from segue.contracts.errors import InvalidInput, NotFound
from segue.contracts.experiments import Metrics, Power, Targeting
from segue.contracts.tables import EVENTS, EXPOSURES, LISTENERS
from segue.experiments.assignment import Split
from segue.experiments.baseline import needed
from segue.experiments.definition import read_experiment
from segue.wiring.home import Home
from small_service import SETTINGS
from tried_service import SHARED, rows_of

MMR = Path(__file__).parents[3] / "examples/experiments/mmr.toml"
LAST = date(2026, 11, 21)


def test_what_a_week_finds_is_what_its_rows_tell(service: Home) -> None:
    one = msgspec.structs.replace(
        read_experiment(MMR),
        share=0.8,
        power=Power(mde=0.3, power=0.9),
        metrics=Metrics(("listens_per_listener",)),
    )
    found = needed(service.engine, one, ("home",))
    assert (found.first, found.last, found.planned) == (LAST - timedelta(days=13), LAST, 14)
    goal = found.metrics[0]
    assert [of.days for of in goal.course] == [7, 14]
    first: dict[int, int] = {}
    for row in rows_of(service.engine, EXPOSURES):
        if row["surface"] == "home" and row["day"] > LAST - timedelta(days=7):
            first[row["user_id"]] = min(first.get(row["user_id"], row["ts"]), row["ts"])
    variant = {user: Split.of(one).variant(str(user)) for user in first}
    after, before = dict.fromkeys(first, 0), dict.fromkeys(first, 0)
    for row in rows_of(service.engine, EVENTS):
        if row["listened"] and row["user_id"] in first:
            (after if row["ts"] >= first[row["user_id"]] else before)[row["user_id"]] += 1
    of = {
        name: np.array([(after[u], before[u]) for u in first if variant[u] == name], float)
        for name in ("control", "treatment")
    }
    assert goal.course[0].units == sum(map(len, of.values()))
    both = np.concatenate(list(of.values()))
    slope = np.cov(both.T)[0, 1] / both[:, 1].var(ddof=1)
    error = np.sqrt(sum((values @ [1, -slope]).var(ddof=1) / len(values) for values in of.values()))
    reach = ndtri(0.975) + ndtri(0.9)
    assert goal.course[0].finds == pytest.approx(reach * error / of["control"][:, 0].mean(), rel=1e-6)
    assert goal.days == next((x.days for x in goal.course if x.finds is not None and x.finds <= 0.3), None)


def test_more_is_needed_for_less_and_for_more_questions(service: Home) -> None:
    one = read_experiment(MMR)
    found = needed(service.engine, one, ("home",))
    assert {of.metric: of.role for of in found.metrics} == {
        "listens_per_listener": "goal",
        "skip_rate": "guardrail",
        "days_active": "guardrail",
    }
    assert found.days is None  # two weeks of 200 listeners find no 2%
    goal = found.metrics[0]
    assert goal.at_least is not None
    assert goal.at_least > 14
    two = msgspec.structs.replace(one, metrics=Metrics(("listens_per_listener", "discovery")))
    shared = needed(service.engine, two, ("home",)).metrics[0]
    finds = [of.course[-1].finds or 0 for of in (goal, shared)]
    assert finds[1] / finds[0] == pytest.approx(
        (ndtri(1 - 0.0125) + ndtri(0.8)) / (ndtri(0.975) + ndtri(0.8))
    )
    many = msgspec.structs.replace(one, power=Power(mde=5.0), metrics=Metrics(("listens_per_listener",)))
    assert needed(service.engine, many, ("home",)).days == 7


def test_only_those_aimed_at_are_counted(service: Home) -> None:
    one = msgspec.structs.replace(read_experiment(MMR), targeting=Targeting(plans=("free",), consent=True))
    everybody = needed(service.engine, read_experiment(MMR), ("home",)).metrics[0].course[-1].units
    some = needed(service.engine, one, ("home",)).metrics[0].course[-1].units
    fit = sum(
        r["plan"] == "free" and r["personalization_consent"] for r in rows_of(service.engine, LISTENERS)
    )
    assert 0 < some < everybody
    assert some <= fit


def test_what_cannot_be_planned_is_refused(service: Home, tmp_path: Path) -> None:
    one = read_experiment(MMR)
    with pytest.raises(NotFound, match="no week of exposures before 2026-11-22"):
        needed(Home.open(tmp_path, environ={}).engine, one, ("home",))
    with pytest.raises(InvalidInput, match="compares no two crowds"):
        needed(service.engine, SHARED, ("home",))
    with pytest.raises(InvalidInput, match="plan by listener or request"):
        needed(service.engine, msgspec.structs.replace(one, unit="session"), ("home",))


def test_the_command_says_how_long(service: Home) -> None:
    options = [part for setting in SETTINGS for part in ("--set", setting)]
    done = CliRunner().invoke(app, ["experiment", "power", str(MMR), "--home", str(service.root), *options])
    assert done.exit_code == 0, done.output
    assert "mmr is planned for 14 days and needs more than can be told from these weeks" in done.output
    assert "skip_rate" in done.output
