"""Estimates of one choice a row: by hand, against Open Bandit Pipeline, by simulation; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.contracts.errors import InvalidData, InvalidInput
from segue.experiments.offpolicy.estimate import UNBIASED, estimate
from segue.experiments.offpolicy.estimators import ESTIMATORS
from segue.experiments.offpolicy.interval import bca, few_clicks, gamma, rate_interval
from segue.experiments.offpolicy.logged import Logged, logged
from segue.experiments.offpolicy.overlap import overlap, refuse_without
from segue.experiments.offpolicy.reward import cross_fit, parts_of
from segue.experiments.offpolicy.tuning import blended, parameters, squared_error

OBP = json.loads((Path(__file__).parents[2] / "reference" / "obp_answers.json").read_text())

# Weights 2, 1/2, 0 and 4; residuals of the model .5, -.5, .75 and .5.
HAND = logged(
    reward=[1.0, 0.0, 1.0, 1.0],
    propensity=[0.25, 0.5, 0.5, 0.125],
    target=[0.5, 0.25, 0.0, 0.5],
    modelled=[0.5, 0.5, 0.25, 0.5],
    expected=[0.5, 0.25, 0.25, 0.5],
)


@pytest.mark.parametrize(
    ("name", "t", "value"),
    [
        ("dm", np.inf, 1.5 / 4),
        ("ips", np.inf, (2 + 4) / 4),
        ("snips", np.inf, 6 / 6.5),
        ("clipped-ips", 3.0, (2 + 3) / 4),
        ("dr", np.inf, 1.5 / 4 + (2 * 0.5 - 0.5 * 0.5 + 4 * 0.5) / 4),
        ("sndr", np.inf, 1.5 / 4 + (2 * 0.5 - 0.5 * 0.5 + 4 * 0.5) / 6.5),
        ("switch-dr", 3.0, 1.5 / 4 + (2 * 0.5 - 0.5 * 0.5) / 4),
        ("dros", 4.0, 1.5 / 4 + (8 / 8 * 0.5 - 2 / 4.25 * 0.5 + 16 / 20 * 0.5) / 4),
    ],
)
def test_each_estimator_by_hand(name: str, t: float, value: float) -> None:
    terms = ESTIMATORS[name].terms(HAND, t)
    assert terms.value == pytest.approx(value, abs=1e-12)
    assert terms.influence().mean() == pytest.approx(value, abs=1e-12)


def test_effective_rows_by_hand() -> None:
    assert ESTIMATORS["ips"].terms(HAND).ess == pytest.approx(6.5**2 / (4 + 0.25 + 16))
    assert ESTIMATORS["dm"].terms(HAND).ess == 4


@pytest.mark.parametrize("case", OBP["bandits"])
@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_each_estimator_answers_as_obp_does(name: str, case: dict) -> None:
    log = logged(case["reward"], case["propensity"], case["target"], None, case["modelled"], case["expected"])
    terms = ESTIMATORS[name].terms(log, case["threshold"] if ESTIMATORS[name].power else np.inf)
    assert terms.value == pytest.approx(case["answers"][name], rel=1e-12)
    if name in case["errors"]:
        whole = ESTIMATORS[name].terms(log)
        assert squared_error(terms, whole) == pytest.approx(case["errors"][name], rel=1e-9)


def world(seed: int, n: int, *, model: str = "wrong") -> tuple[Logged, float]:
    """A log of a known world: 6 choices in 4 contexts; and the judged policy's true value."""
    rng = np.random.default_rng(seed)
    fixed = np.random.default_rng(99)
    chance = fixed.uniform(0.05, 0.6, (4, 6))
    logging, target = fixed.dirichlet(np.ones(6), 4) * 0.9 + 0.1 / 6, fixed.dirichlet(np.ones(6), 4)
    context = rng.integers(0, 4, n)
    choice = (rng.random(n)[:, None] > logging[context].cumsum(axis=1)).sum(axis=1).clip(0, 5)
    reward = (rng.random(n) < chance[context, choice]).astype(float)
    guess = np.full_like(chance, 0.3) if model == "wrong" else chance
    log = logged(
        reward,
        logging[context, choice],
        target[context, choice],
        modelled=guess[context, choice],
        expected=(guess * target).sum(axis=1)[context],
    )
    return log, float((chance * target).sum(axis=1).mean())


@pytest.mark.parametrize("name", ["ips", "snips", "dr", "sndr"])
def test_no_bias_where_theory_promises_none_even_with_a_wrong_model(name: str) -> None:
    values = np.array([ESTIMATORS[name].terms(world(seed, 1_000)[0]).value for seed in range(300)])
    truth = world(0, 1)[1]
    # Self-normalised ones are only free of bias in the limit: a thousandth of the value is allowed for.
    allowed = 4 * values.std() / np.sqrt(len(values)) + (1e-3 if name.startswith("sn") else 0.0)
    assert abs(values.mean() - truth) < allowed


def test_a_right_model_makes_doubly_robust_scatter_less_than_ips() -> None:
    spread = {
        name: np.std([ESTIMATORS[name].terms(world(s, 500, model="right")[0]).value for s in range(200)])
        for name in ("ips", "dr")
    }
    assert spread["dr"] < 0.8 * spread["ips"]


def test_the_bootstrap_interval_holds_the_truth_as_often_as_it_says() -> None:
    held = 0
    for seed in range(200):
        log, truth = world(seed, 400)
        low, high = bca(ESTIMATORS["dr"].terms(log).influence()[:, None], log.unit, seed=seed, draws=400)[0]
        held += low <= truth <= high
    assert 0.90 <= held / 200 <= 0.99


def test_the_interval_of_few_clicks_holds_the_truth_where_the_bootstrap_does_not() -> None:
    """40 clicks, a twentieth of the judged policy's choices on rows that weigh 50: most logs show no click of those."""
    rng = np.random.default_rng(5)
    held = {"gamma": 0, "bca": 0}
    for seed in range(200):
        heavy = rng.random(4_000) < 0.004
        weight = np.where(heavy, 50.0, 0.8 / 0.996)
        reward = (rng.random(4_000) < np.where(heavy, 0.03, 0.01)).astype(float)
        truth = 0.004 * 50 * 0.03 + 0.8 * 0.01
        log = logged(reward, 1.0 / np.maximum(weight, 1.0), np.minimum(weight, 1.0))
        terms = ESTIMATORS["ips"].terms(log)
        assert few_clicks(terms, log.reward, log.unit)
        low, high = gamma(terms, log.reward)
        held["gamma"] += low <= truth <= high
        low, high = bca(terms.influence()[:, None], log.unit, seed=seed, draws=200)[0]
        held["bca"] += low <= truth <= high
    assert held["gamma"] >= 190
    assert held["bca"] < 170


def test_equal_weights_give_the_exact_poisson_interval() -> None:
    """10 of 1,000: Garwood's interval of 10 is 4.795 to 18.39."""
    low, high = rate_interval(0.01, 10 / 1_000**2, 1 / 1_000)
    assert (low, high) == (pytest.approx(0.004795, abs=1e-6), pytest.approx(0.018390, abs=1e-6))
    assert rate_interval(0.0, 0.0, 1 / 1_000)[1] == pytest.approx(0.003689, abs=1e-6)


def test_an_estimator_that_trades_bias_has_the_interval_of_one_that_does_not() -> None:
    found = estimate(world(3, 500)[0])
    for name, parent in UNBIASED.items():
        assert found[name].interval == f"of {parent}"
        assert found[name].ci95[0] <= min(found[parent].ci95[0], found[name].value)
        assert found[name].ci95[1] >= max(found[parent].ci95[1], found[name].value)


def test_without_a_model_the_estimators_that_need_one_are_left_out() -> None:
    log = world(3, 500)[0]
    bare = logged(log.reward, log.propensity, log.target)
    assert set(estimate(bare)) == {"ips", "snips", "clipped-ips"}
    with pytest.raises(InvalidInput, match="model of the reward"):
        ESTIMATORS["dr"].terms(bare)


def test_units_are_resampled_whole() -> None:
    """Every row ten times over, as one unit: no more is known than before."""
    log = world(1, 300)[0]
    pull = ESTIMATORS["ips"].terms(log).influence()
    once = bca(pull[:, None], log.unit, seed=1)[0]
    ten = bca(np.repeat(pull, 10)[:, None], np.repeat(log.unit, 10), seed=1)[0]
    assert ten == pytest.approx(once, rel=1e-9)
    assert bca(pull[:, None], np.zeros(len(pull), np.int64))[0] == (-np.inf, np.inf)


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10.0))
def test_order_does_not_matter_and_rewards_scale(seed: int, factor: float) -> None:
    log = world(seed, 50)[0]
    order = np.random.default_rng(seed).permutation(50)
    assert log.modelled is not None
    assert log.expected is not None
    moved = logged(
        factor * log.reward[order],
        log.propensity[order],
        log.target[order],
        modelled=factor * log.modelled[order],
        expected=factor * log.expected[order],
    )
    for estimator in ESTIMATORS.values():
        value = estimator.terms(log, 2.0).value
        assert estimator.terms(moved, 2.0).value == pytest.approx(factor * value, rel=1e-9, abs=1e-12)


@given(st.integers(0, 2**32 - 1))
def test_a_policy_judged_from_its_own_log_is_what_the_log_shows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    propensity, reward = rng.uniform(0.01, 1.0, 40), rng.random(40)
    log = logged(reward, propensity, propensity)
    for name in ("ips", "snips", "clipped-ips"):
        assert blended(ESTIMATORS[name], log).value == pytest.approx(reward.mean())


@pytest.mark.parametrize("name", ["clipped-ips", "switch-dr", "dros"])
def test_parameters_count_by_the_inverse_square_of_their_error(name: str) -> None:
    log, estimator = world(4, 400)[0], ESTIMATORS[name]
    tried = [estimator.terms(log, t) for t in parameters(estimator, log.weight)]
    trust = np.array([squared_error(terms, estimator.terms(log)) for terms in tried]) ** -2.0
    values = np.array([terms.value for terms in tried])
    assert blended(estimator, log).value == pytest.approx(trust @ values / trust.sum())
    assert values.min() < blended(estimator, log).value < values.max()


def test_parameters_reach_from_none_of_the_weights_to_all() -> None:
    weight = np.array([0.0, 1e-9, 0.5, 40.0])
    tried = parameters(ESTIMATORS["dros"], weight)
    assert tried[:2] == [np.inf, 0.0]
    assert tried[2] == pytest.approx(0.04**2)  # a tiny weight does not draw the steps down to it
    assert tried[-1] == pytest.approx(40.0**2)
    assert parameters(ESTIMATORS["clipped-ips"], np.zeros(3)) == [np.inf]


def test_where_nothing_scatters_there_is_no_error_to_divide_by() -> None:
    log = logged(np.ones(5), np.full(5, 0.5), np.full(5, 0.5), modelled=np.ones(5), expected=np.ones(5))
    for name in ("clipped-ips", "switch-dr", "dros"):
        assert blended(ESTIMATORS[name], log).value == 1.0


@pytest.mark.parametrize(
    ("propensity", "said"),
    [
        (None, "propensity: the log has none"),
        ([0.5, 0.0, 0.5], r"propensity: 1 of 3 rows are 0, the first is row 1 \(0\)"),
        ([0.5, -0.1, 0.5], r"propensity: 1 of 3 rows are below 0, the first is row 1"),
        ([0.5, 0.5, 1.5], r"propensity: 1 of 3 rows are above 1, the first is row 2 \(1.5\).*in percent"),
        ([np.nan, 0.5, np.nan], r"propensity: 2 of 3 rows are missing, the first is row 0"),
        ([0.5, 0.5], "propensity: has 2 rows, reward 3"),
    ],
)
def test_propensities_that_are_none_are_refused(propensity: list[float] | None, said: str) -> None:
    with pytest.raises(InvalidData, match=said):
        logged([1.0, 0.0, 1.0], propensity, [0.5, 0.5, 0.5])


@pytest.mark.parametrize(
    ("reward", "target", "said"),
    [
        ([], [], "the log has no rows"),
        ([1.0, np.nan], [0.5, 0.5], "reward: 1 of 2 rows are missing or infinite"),
        ([1.0, 1.0], [0.5, 1.1], "target: 1 of 2 rows are above 1"),
        ([1.0, 1.0], [0.5, np.nan], "target: 1 of 2 rows are missing"),
    ],
)
def test_other_columns_that_cannot_be_used_are_refused(reward: list, target: list, said: str) -> None:
    with pytest.raises(InvalidData, match=said):
        logged(reward, [0.5] * len(reward), target)


def test_a_probability_a_hair_above_one_was_rounded() -> None:
    assert logged([1.0], [1.0 + 1e-7], [1.0]).propensity[0] == 1.0


def test_missing_support_is_told_from_the_mean_of_the_weights() -> None:
    """The judged policy does one of two things, each half of the time; the log only ever shows the first."""
    found = overlap(np.full(1_000, 0.5), np.arange(1_000))
    assert found.without_support == pytest.approx(0.5)
    with pytest.raises(
        InvalidData, match=r"new: at least 50% of what it would choose had no chance.*explore"
    ):
        refuse_without(found, "new")


def test_support_is_not_missed_for_chance() -> None:
    for seed in range(50):
        log = world(seed, 300)[0]
        assert overlap(log.weight, log.unit).without_support < 0.05


def test_too_few_effective_rows_are_refused() -> None:
    weight = np.array([1.0, *np.full(999, 1e-6)])
    found = overlap(1_000 * weight, np.arange(1_000))
    with pytest.raises(
        InvalidData, match=r"new: its weights leave 1.0 effective rows of 1,000 .*interleaving"
    ):
        refuse_without(found, "new")


def test_a_model_never_sees_the_unit_it_is_asked_about() -> None:
    """Pure noise by unit: a model that had seen the unit would know its reward."""
    rng = np.random.default_rng(0)
    unit = np.repeat(np.arange(40), 5)
    reward = np.repeat(rng.integers(0, 2, 40).astype(float), 5)
    columns = np.eye(40)[unit]
    part = parts_of(unit)
    assert all(len(np.unique(part[unit == u])) == 1 for u in range(40))
    predicted = cross_fit(columns, reward, part).predict(columns, part)
    assert abs(np.corrcoef(predicted, reward)[0, 1]) < 0.5
    assert predicted.std() < 0.2


def test_the_model_finds_what_is_there_and_shrinks_what_is_not() -> None:
    rng = np.random.default_rng(1)
    columns = rng.normal(size=(4_000, 3))
    chance = 1 / (1 + np.exp(-(columns[:, 0] - 1)))
    reward = 5.0 * (rng.random(4_000) < chance)
    part = parts_of(np.arange(4_000))
    fitted = cross_fit(columns, reward, part)
    assert np.corrcoef(fitted.predict(columns, part), 5 * chance)[0, 1] > 0.99
    slopes = fitted.models[0].slopes
    assert slopes[0] == pytest.approx(1.0, abs=0.15)
    assert np.abs(slopes[1:]).max() < 0.15


def test_rows_that_are_alike_can_be_given_once() -> None:
    rng = np.random.default_rng(2)
    cell, part = rng.integers(0, 4, 2_000), rng.integers(0, 5, 2_000)
    reward = (rng.random(2_000) < 0.1 + 0.2 * cell / 4).astype(float)
    design = np.eye(4)
    one_by_one = cross_fit(design[cell], reward, part)
    key, place, count = np.unique(part * 4 + cell, return_inverse=True, return_counts=True)
    together = cross_fit(
        design[key % 4], np.bincount(place, reward) / count, key // 4, count.astype(float), top=1.0
    )
    assert together.penalty == one_by_one.penalty
    for a, b in zip(together.models, one_by_one.models, strict=True):
        assert a.slopes == pytest.approx(b.slopes, abs=1e-6)


def test_too_few_units_and_negative_rewards_cannot_be_modelled() -> None:
    with pytest.raises(InvalidData, match="unit: 3 are too few"):
        parts_of(np.arange(3))
    with pytest.raises(InvalidData, match="none below 0"):
        cross_fit(np.zeros((10, 1)), np.full(10, -1.0), np.arange(10))
