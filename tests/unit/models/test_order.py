"""Radix sort, numbering and selection against NumPy's."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segue.models.order import best_first, kth_largest, numbered, rising, slot_of

KEYS = arrays(np.uint64, st.integers(0, 60), elements=st.integers(0, 2**64 - 1) | st.integers(0, 9))
SCORES = arrays(
    np.float32,
    st.integers(1, 60),
    elements=st.floats(width=32, allow_nan=False) | st.sampled_from([0.0, 1.0]),
).map(lambda scores: scores + np.float32(0))
"""Without negative zero, which equals zero as a number and comes before it here."""


@given(KEYS)
def test_keys_are_sorted_and_equal_ones_stay_as_they_came(keys: np.ndarray) -> None:
    assert np.array_equal(rising(keys), np.argsort(keys, kind="stable"))


@given(arrays(np.int64, st.integers(0, 60), elements=st.integers(-3, 2**63 - 1) | st.integers(-1, 9)))
def test_values_are_numbered_as_they_come_and_found_again(values: np.ndarray) -> None:
    distinct, number, table = numbered(values)
    known = values >= 0
    assert distinct.tolist() == list(dict.fromkeys(values[known].tolist()))
    assert np.array_equal(distinct[number[known]], values[known])
    assert (number[~known] == -1).all()
    assert [table[slot_of(table, distinct, value)] for value in distinct.tolist()] == list(
        range(len(distinct))
    )
    absent = max(distinct.tolist(), default=0) // 2 + 11
    assert (table[slot_of(table, distinct, absent)] >= 0) == (absent in distinct)


@given(SCORES, st.data())
def test_the_kth_largest_is_found(scores: np.ndarray, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(scores)))
    assert kth_largest(scores, k) == np.sort(scores)[-k]


@given(SCORES, st.integers(0, 70), st.randoms())
def test_the_best_come_first_and_equal_ones_by_item(scores: np.ndarray, k: int, dice) -> None:  # type: ignore[no-untyped-def]
    items = np.array(dice.sample(range(1000), len(scores)), np.int32)
    assert np.array_equal(best_first(scores, items, k), np.lexsort((items, -scores))[:k])
