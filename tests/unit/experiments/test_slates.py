"""Estimates of whole pages: by hand, against Open Bandit Pipeline, by simulation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segue.experiments.offpolicy.slates import PageModel, Pages, page_terms

OBP = json.loads((Path(__file__).parents[2] / "reference" / "obp_answers.json").read_text())

# Two pages of two slots. Conditional weights 2, 1/2 and 1, 4; marginal ones 1, 1 and 2, 0.
HAND = Pages(
    request=np.array([7, 7, 9, 9]),
    position=np.array([0, 1, 0, 1]),
    reward=np.array([1.0, 1.0, 0.0, 1.0]),
    propensity=np.array([0.5, 0.5, 0.25, 0.25]),
    target=np.array([1.0, 0.25, 0.25, 1.0]),
    marginal=np.array([0.5, 0.5, 0.5, 0.0]),
    repeated=np.array([0.0, 0.0, 0.0, 0.5]),
    unit=np.array([1, 1, 2, 2]),
    model=PageModel(
        shown=np.array([0.5, 0.5, 0.5, 0.5]),
        would=np.array([0.25, 0.5, 0.25, 0.5]),
        page_shown=np.array([1.0, 0.5, 1.0, 0.5]),
        page_would=np.array([0.75, 0.5, 0.75, 0.25]),
    ),
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iips", (1 + 1 / 0.75 + 0 + 0) / 2),
        ("sniips", (1 / 1.5 + 1 / 0.5) / 2),
        ("iips-dr", (0.25 + 0.5 + 0.5 + 0.5 + 0.25 - 2 * 0.5 + 0.5) / 2),
        ("rips", (2 + 1 + 0 + 4) / 2),
        ("snrips", (2 / 1.5 + (1 + 4) / 2.5) / 2),
        ("cascade-dr", (0.75 + 2 * 0 + 2 * 0.5 + 1 * 0.5 + 0.75 + 1 * -1 + 1 * 0.25 + 4 * 0.5) / 2),
        ("dm", 0.75),
    ],
)
def test_each_estimator_by_hand(name: str, value: float) -> None:
    found = page_terms(HAND)[name]
    assert found.value == pytest.approx(value, abs=1e-12)
    assert found.influence.mean() == pytest.approx(value, abs=1e-12)


def test_the_logs_own_chance_whatever_stood_above_is_divided_by_where_it_is_known() -> None:
    known = replace(HAND, usual=np.array([0.5, 0.25, 0.25, 0.5]), repeated=np.zeros(4))
    found, before = page_terms(known), page_terms(HAND)
    assert found["iips"].value == pytest.approx((1 * 1 + 2 * 1 + 2 * 0 + 0) / 2)
    slots = (0.25 + 1 * 0.5, 0.5 + 2 * 0.5, 0.25 + 2 * -0.5, 0.5 + 0 * 0.5)
    assert found["iips-dr"].value == pytest.approx(sum(slots) / 2)
    for name in ("rips", "snrips", "cascade-dr", "dm"):
        assert found[name].value == before[name].value


@pytest.mark.parametrize("case", OBP["slates"])
def test_each_estimator_answers_as_obp_does(case: dict) -> None:
    columns = {
        name: np.array(case[name])
        for name in ("request", "position", "reward", "propensity", "target", "marginal")
    }
    q, v = np.array(case["modelled"]), np.array(case["expected"])
    found = page_terms(Pages(**columns, repeated=0 * q, unit=columns["request"], model=PageModel(q, v, q, v)))
    for name, answer in case["answers"].items():
        assert found[name].value == pytest.approx(answer, rel=1e-12), name


def pages(seed: int, n: int = 400, *, cascade: bool) -> tuple[Pages, float]:
    """Pages of 3 slots filled from 5 tracks without repetition by weights; the judged policy has other weights.

    A track earns its own rate, and under a cascade twice that if the track above was earned.
    """
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(17)
    rate = fixed.uniform(0.05, 0.45, 5)
    log_weights, judged = np.array([3.0, 2.0, 1.0, 1.0, 1.0]), np.array([1.0, 1.0, 1.0, 2.0, 3.0])

    def draw(weights: np.ndarray) -> tuple[np.ndarray, ...]:
        left = np.ones((n, 5))
        tracks, chances, others = (np.empty((n, 3)) for _ in range(3))
        earned = np.empty((n, 3))
        for k in range(3):
            p, other = (left * w / (left * w).sum(axis=1, keepdims=True) for w in (weights, judged))
            track = (rng.random(n)[:, None] > p.cumsum(axis=1)).sum(axis=1).clip(0, 4)
            rows = np.arange(n)
            lift = 1 + (earned[:, k - 1] if cascade and k else 0.0)
            earned[:, k] = rng.random(n) < rate[track] * lift
            tracks[:, k], chances[:, k], others[:, k] = track, p[rows, track], other[rows, track]
            left[rows, track] = 0
        return tracks, chances, others, earned

    truth = float(
        np.mean([draw(judged)[3].sum(axis=1).mean() for _ in range(50 if seed == 0 else 0)] or [0.0])
    )
    _, propensity, target, earned = draw(log_weights)
    rows = n * 3
    found = Pages(
        request=np.repeat(np.arange(n), 3),
        position=np.tile(np.arange(3), n),
        reward=earned.ravel(),
        propensity=propensity.ravel(),
        target=target.ravel(),
        marginal=target.ravel(),
        repeated=np.zeros(rows),
        unit=np.repeat(np.arange(n), 3),
        model=PageModel(*(np.full(rows, value) for value in (0.2, 0.2, 0.5, 0.5))),
    )
    return found, truth


@pytest.mark.parametrize("cascade", [False, True])
def test_rips_and_cascade_dr_have_no_bias_whatever_stands_above_matters(cascade: bool) -> None:
    truth = pages(0, cascade=cascade)[1]
    for name in ("rips", "snrips", "cascade-dr"):
        values = np.array([page_terms(pages(seed, cascade=cascade)[0])[name].value for seed in range(1, 151)])
        assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(150) + 0.01, name


def test_weights_of_a_page_are_running_products_and_start_anew() -> None:
    assert HAND.page_weight.tolist() == [2.0, 1.0, 1.0, 4.0]
    assert HAND.units.tolist() == [1, 2]
