"""Weights with known chances: what they favour, and how many draws give a page what it is to show."""

from __future__ import annotations

import numpy as np
import pytest

from segue.models.bandit import (
    KEPT,
    best_chances,
    inverse_gap_weights,
    share_of_draws,
    thompson_weights,
)


def test_the_best_keeps_its_base_and_others_lose_by_their_gap() -> None:
    got = inverse_gap_weights(np.array([2.0, 2.0, 4.0]), np.array([0.4, 0.2, 0.0]), 10.0)
    np.testing.assert_allclose(got, [2.0, 2.0 / 6.0, 4.0 / 11.0])


def test_without_focus_or_reward_the_base_alone_counts() -> None:
    base = np.array([1.0, 3.0])
    np.testing.assert_array_equal(inverse_gap_weights(base, np.array([0.9, 0.1]), 0.0), base)
    np.testing.assert_array_equal(inverse_gap_weights(base, np.zeros(2), 10.0), base)


@pytest.mark.parametrize("narrowest", [1.0, 0.1, 0.001])
@pytest.mark.parametrize("n", [1, 2, 30])
def test_the_chance_of_being_the_best_is_how_often_thompson_sampling_takes_it(
    n: int, narrowest: float
) -> None:
    rng = np.random.default_rng(n)
    mean, spread = rng.random(n), np.exp(rng.uniform(np.log(narrowest), 0.0, n))
    found = best_chances(mean, spread)
    assert found.sum() == pytest.approx(1.0)
    drawn = np.bincount(rng.normal(mean, spread, (100_000, n)).argmax(axis=1), minlength=n) / 100_000
    np.testing.assert_allclose(found, drawn, atol=0.01)


def test_of_two_the_chance_is_that_of_their_difference() -> None:
    # N(1, 3) - N(0, 4) is N(1, 5): above 0 with chance 0.5793.
    np.testing.assert_allclose(
        best_chances(np.array([1.0, 0.0]), np.array([3.0, 4.0])), [0.5793, 0.4207], atol=1e-3
    )


def test_what_is_certain_wins_for_certain() -> None:
    np.testing.assert_array_equal(best_chances(np.array([0.1, 0.9, 0.5]), np.zeros(3)), [0.0, 1.0, 0.0])
    np.testing.assert_allclose(best_chances(np.array([0.1, 0.9]), np.array([0.0, 1e-3])), [0.0, 1.0])
    assert best_chances(np.empty(0), np.empty(0)).size == 0


def test_thompson_weights_are_the_base_times_these_and_leave_nobody_out() -> None:
    base, mean, spread = np.array([1.0, 3.0, 0.0]), np.array([0.2, 0.3, 0.9]), np.array([0.1, 0.2, 0.1])
    got, chance = thompson_weights(base, mean, spread), base * best_chances(mean, spread)
    np.testing.assert_allclose(got, (1 - KEPT) * chance / chance.sum() + KEPT * np.array([0.25, 0.75, 0.0]))
    hopeless = thompson_weights(np.ones(2), np.array([0.0, 1.0]), np.full(2, 1e-3))
    np.testing.assert_allclose(hopeless, [KEPT / 2, 1 - KEPT / 2])
    np.testing.assert_array_equal(thompson_weights(np.zeros(2), mean[:2], spread[:2]), np.zeros(2))


@pytest.mark.parametrize("wanted", [0.0, 0.1, 0.4])
def test_as_many_draws_as_make_the_page_show_one(wanted: float) -> None:
    share = share_of_draws(wanted, 12, 0.05)
    assert 1 - (1 - 0.05 * share) ** 12 == pytest.approx(wanted)


def test_more_than_a_page_can_show_takes_all_draws() -> None:
    assert share_of_draws(0.9, 12, 0.05) == 1.0
    assert share_of_draws(3.0, 12, 0.05) == 1.0
    assert share_of_draws(0.5, 12, 0.0) == 0.0
