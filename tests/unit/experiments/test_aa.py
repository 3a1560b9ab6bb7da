"""The A/A check checks itself: what it is made of, and that it would notice an analysis that is wrong."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from segue.contracts.errors import InvalidInput, NotFound
from segue.contracts.ports import Days
from segue.contracts.tables import DAILY_LISTENERS
from segue.experiments import aa
from segue.experiments.aa import Checked, check, made_up, theory
from segue.experiments.listening import history
from segue.experiments.planning import from_history, from_numbers
from segue.experiments.statistics.compare import Difference, difference
from segue.wiring.home import Home


@pytest.fixture(scope="module")
def checked() -> Checked:
    return check(runs=300, units=2000, days=10, seed=4)


def test_rates_are_what_they_should_be(checked: Checked) -> None:
    rates = checked.false_positive_rate
    error = checked.monte_carlo_error
    for rate in (rates.fixed, rates.fixed_cuped, rates.fixed_ratio):
        assert abs(rate - 0.05) < 3.5 * error
    assert rates.always_valid_daily_peeking <= 0.05
    assert rates.always_valid_cuped_daily_peeking <= 0.05
    assert rates.fixed_daily_peeking > 0.1
    assert checked.p_uniform_ks > 0.001
    assert checked.p_uniform_ks_cuped > 0.001


def test_the_pre_period_narrows_as_theory_says(checked: Checked) -> None:
    assert checked.cuped_width_ratio == pytest.approx(checked.cuped_width_ratio_theory, rel=0.03)


def test_a_leak_is_noticed_as_often_as_theory_says(checked: Checked) -> None:
    srm = checked.srm
    assert srm.detected == pytest.approx(
        srm.expected, abs=4 * (srm.expected * (1 - srm.expected) / 300) ** 0.5
    )
    assert srm.false_alarms <= 0.01 + 4 * (0.01 * 0.99 / 300) ** 0.5
    assert srm.units == 709_000


def test_theory_is_the_correlation_of_the_listeners_that_are_made() -> None:
    here = made_up(np.random.default_rng(0), 400_000, 10)
    total = here.daily.sum(axis=0)
    found = np.sqrt(1 - np.corrcoef(total, here.before)[0, 1] ** 2)
    assert found == pytest.approx(theory(10), rel=0.02)
    assert np.all(here.skips <= total)
    top = np.sort(total)[-4000:].sum() / total.sum()
    assert 0.05 < top < 0.25  # heavy tails


def test_a_seed_is_a_result() -> None:
    assert check(20, 200, 4, 7) == check(20, 200, 4, 7)
    assert check(20, 200, 4, 7) != check(20, 200, 4, 8)


def test_an_error_taken_too_small_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_sure(control: aa.Arm, treatment: aa.Arm) -> Difference | None:  # type: ignore[name-defined]
        halved = (type(one).plain(4 * one.n, one.value, one.variance) for one in (control, treatment))
        return difference(*halved)

    monkeypatch.setattr(aa, "difference", too_sure)
    found = check(100, 500, 6, 1)
    assert found.false_positive_rate.fixed > 0.2
    assert found.p_uniform_ks < 0.001


# --- listeners of a home


@pytest.fixture(scope="module")
def listened(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home whose daily_listeners are 42 days of 300 listeners."""
    home = Home.open(tmp_path_factory.mktemp("listened"), environ={})
    rng = np.random.default_rng(0)
    first = date(2026, 10, 1)
    liking = rng.gamma(1.0, 4.0, 300)
    days = []
    for n in range(42):
        active = np.flatnonzero(rng.random(300) < 0.5)
        plays = rng.poisson(liking[active])
        known = {
            "day": [first + timedelta(days=n)] * len(active),
            "user_id": active,
            "plays": plays,
            "listens": plays // 2,
        }
        columns = [
            pa.array(known.get(c.name, np.zeros(len(active), int)), c.type) for c in DAILY_LISTENERS.arrow
        ]
        days.append(pa.table(columns, schema=DAILY_LISTENERS.arrow))
    home.engine.overwrite(DAILY_LISTENERS, pa.concat_tables(days), Days(first, first + timedelta(days=41)))
    return home


def test_listeners_of_a_home_are_drawn_anew(listened: Home) -> None:
    real = history(listened.engine, "plays", 21)
    assert real.daily.shape == (21, len(real.before))
    assert np.all(real.daily[np.arange(21)[:, None] < real.came] == 0)
    assert np.corrcoef(real.daily.sum(axis=0), real.before)[0, 1] > 0.8
    found = check(100, 200, 14, 1, real)
    assert (found.units, found.days) == (200, 21)
    assert found.false_positive_rate.fixed < 0.15
    assert found.cuped_width_ratio == pytest.approx(found.cuped_width_ratio_theory, rel=0.15)


def test_history_that_is_not_there(listened: Home, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="not counted by listener and day"):
        history(listened.engine, "smiles", 14)
    with pytest.raises(NotFound, match="no daily_listeners"):
        history(Home.open(tmp_path, environ={}).engine, "plays", 14)


def test_a_plan_from_history(listened: Home) -> None:
    past = history(listened.engine, "plays", 56)
    plan = from_history("plays", past, None, 1.0, (1, 1), 0.05, 0.8)
    assert [one.days for one in plan.horizons] == [7, 14, 21, 28]
    finds = [one.mde_cuped for one in plan.horizons]
    assert all(with_pre < one.mde for with_pre, one in zip(finds, plan.horizons, strict=True))
    assert finds == sorted(finds, reverse=True)
    assert from_history("plays", past, finds[1], 1.0, (1, 1), 0.05, 0.8).days == 14
    assert from_history("plays", past, finds[-1] / 2, 1.0, (1, 1), 0.05, 0.8).days is None
    half = from_history("plays", past, None, 0.5, (1, 1), 0.05, 0.8)
    assert half.horizons[0].mde == pytest.approx(plan.horizons[0].mde * 2**0.5, rel=0.01)


def test_a_plan_from_numbers() -> None:
    plan = from_numbers("minutes", 50.0, 100.0, 3000.0, 0.02, 0.6, (1, 1), 0.05, 0.8)
    # 2 * 15.7 * 100^2 / 1^2, less what the pre-period saves.
    assert plan.units == pytest.approx(2 * 15.7 * 100**2 * (1 - 0.36), rel=0.001)
    assert plan.days == pytest.approx(plan.units / 3000)
    assert plan.horizons[0].units == 21_000
    three = from_numbers("minutes", 50.0, 100.0, None, 0.02, None, (1, 1, 1), 0.05, 0.8)
    assert three.units == pytest.approx(3 * 15.7 * 100**2, rel=0.001)
    assert three.horizons == []
    assert three.days is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": 0.0},
        {"sd": 0.0},
        {"traffic": -1.0},
        {"mde": 0.0},
        {"correlation": 1.0},
        {"shares": (1.0,)},
        {"alpha": 0.9},
        {"power": 0.3},
    ],
)
def test_numbers_that_plan_nothing(wrong: dict[str, object]) -> None:
    good = {
        "metric": "m", "mean": 1.0, "sd": 1.0, "traffic": 10.0, "mde": 0.1, "correlation": None,
        "shares": (1.0, 1.0), "alpha": 0.05, "power": 0.8,
    }  # fmt: skip
    with pytest.raises(InvalidInput):
        from_numbers(**{**good, **wrong})  # type: ignore[arg-type]
