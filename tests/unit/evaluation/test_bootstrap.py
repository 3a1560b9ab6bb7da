"""Intervals: exact properties, and agreement with theory where theory is known."""

from __future__ import annotations

import numpy as np
import pytest

from segue.contracts.errors import InvalidData
from segue.evaluation.bootstrap import interval, paired


def test_interval_matches_the_normal_theory_for_independent_cases() -> None:
    values = np.random.default_rng(0).normal(2.0, 3.0, size=4000)
    lo, hi = interval(values, seed=1, draws=2000)
    half = 1.96 * values.std() / np.sqrt(values.size)
    assert lo == pytest.approx(values.mean() - half, abs=half * 0.15)
    assert hi == pytest.approx(values.mean() + half, abs=half * 0.15)


def test_grouped_interval_equals_a_brute_force_cluster_bootstrap() -> None:
    rng = np.random.default_rng(5)
    groups = rng.integers(0, 60, size=900)
    values = rng.normal(size=60)[groups] + 0.1 * rng.normal(size=900)
    members = [values[groups == g] for g in np.unique(groups)]
    means = []
    for _ in range(3000):
        drawn = rng.integers(0, len(members), size=len(members))
        means.append(np.concatenate([members[i] for i in drawn]).mean())
    want = np.quantile(means, [0.025, 0.975])
    got = interval(values, groups, seed=2, draws=3000)
    np.testing.assert_allclose(got, want, atol=0.15 * (want[1] - want[0]))
    ungrouped = interval(values, seed=2)
    assert got[1] - got[0] > 2 * (ungrouped[1] - ungrouped[0])


def test_same_seed_same_interval_and_group_names_do_not_matter() -> None:
    values = np.random.default_rng(0).random(200)
    groups = np.arange(200) // 4
    assert interval(values, groups, seed=7) == interval(values, groups, seed=7)
    assert interval(values, groups, seed=7) == interval(values, groups * 10 + 3, seed=7)
    assert interval(values, groups, seed=7) != interval(values, groups, seed=8)


def test_constant_values_have_no_width() -> None:
    assert interval(np.full(10, 0.25), np.arange(10) % 3) == (0.25, 0.25)


def test_paired_sees_a_small_steady_gain_that_two_intervals_cannot() -> None:
    rng = np.random.default_rng(0)
    b = rng.random(500)
    a = b + 0.01 + 0.002 * rng.normal(size=500)
    result = paired(a, b)
    assert 0.0 < result.lo < result.difference < result.hi
    assert result.p < 0.01
    assert interval(a)[0] < interval(b)[1]


def test_paired_of_equal_models_is_nothing() -> None:
    values = np.random.default_rng(0).random(50)
    result = paired(values, values)
    assert (result.difference, result.lo, result.hi, result.p) == (0.0, 0.0, 0.0, 1.0)


def test_bad_input_is_refused() -> None:
    with pytest.raises(InvalidData, match="at least one"):
        interval(np.array([]))
    with pytest.raises(InvalidData, match="agree"):
        interval(np.ones(3), np.ones(2, dtype=np.int64))
    with pytest.raises(InvalidData, match="agree"):
        paired(np.ones(3), np.ones(2))
