"""Weights with known chances: what they favour, and how many draws give a page what it is to show."""

from __future__ import annotations

import numpy as np
import pytest

from segue.models.bandit import inverse_gap_weights, share_of_draws


def test_the_best_keeps_its_base_and_others_lose_by_their_gap() -> None:
    got = inverse_gap_weights(np.array([2.0, 2.0, 4.0]), np.array([0.4, 0.2, 0.0]), 10.0)
    np.testing.assert_allclose(got, [2.0, 2.0 / 6.0, 4.0 / 11.0])


def test_without_focus_or_reward_the_base_alone_counts() -> None:
    base = np.array([1.0, 3.0])
    np.testing.assert_array_equal(inverse_gap_weights(base, np.array([0.9, 0.1]), 0.0), base)
    np.testing.assert_array_equal(inverse_gap_weights(base, np.zeros(2), 10.0), base)


@pytest.mark.parametrize("wanted", [0.0, 0.1, 0.4])
def test_as_many_draws_as_make_the_page_show_one(wanted: float) -> None:
    share = share_of_draws(wanted, 12, 0.05)
    assert 1 - (1 - 0.05 * share) ** 12 == pytest.approx(wanted)


def test_more_than_a_page_can_show_takes_all_draws() -> None:
    assert share_of_draws(0.9, 12, 0.05) == 1.0
    assert share_of_draws(3.0, 12, 0.05) == 1.0
    assert share_of_draws(0.5, 12, 0.0) == 0.0
