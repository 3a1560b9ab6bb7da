"""Latencies in buckets: percentiles against exact ones, and sums."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segue.load.histogram import Histogram

micros = st.lists(st.integers(0, 2**40), min_size=1, max_size=300)


def of(values: list[int]) -> Histogram:
    found = Histogram()
    for value in values:
        found.record(value)
    return found


@given(micros, st.sampled_from([1, 50, 95, 99, 99.9, 100]))
def test_a_percentile_is_never_below_the_exact_one_and_within_a_percent(values: list[int], q: float) -> None:
    exact = int(np.percentile(np.array(values), q, method="inverted_cdf"))
    found = of(values).percentile(q)
    assert exact <= found <= exact * (1 + 1 / 128) + 1


@given(micros, micros)
def test_two_halves_add_up_to_the_whole(one: list[int], other: list[int]) -> None:
    both = of(one)
    both.add(of(other))
    assert both == of(one + other)


def test_nothing_recorded_has_no_percentile_but_zero() -> None:
    assert Histogram().percentile(99) == 0


def test_a_clock_that_went_back_is_no_latency() -> None:
    assert of([-5]).percentile(100) == 0
