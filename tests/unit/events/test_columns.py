from __future__ import annotations

import math
import uuid
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.contracts.ids import MAX_ID, stable_id
from segue.events.columns import clip, coerce, days_of, iso_to_us, loose, scaled, stable_ids, times

INT64 = st.integers(-(2**63), 2**63 - 1)


def outcome(found: Any) -> list[Any]:
    """Per row: the value, or the name of its fault."""
    values = found.values.to_pylist()
    for name in ("wrong", "beyond", "not_utf8"):
        for at in np.flatnonzero(getattr(found, name)):
            assert values[at] is None
            values[at] = name
    return values


@settings(deadline=None)
@given(st.lists(st.none() | st.integers(-(2**70), 2**70)))
def test_text_becomes_the_integer_that_python_reads(numbers: list[int | None]) -> None:
    text = pa.array([None if n is None else f" {n} " for n in numbers], pa.string())
    expected = [n if n is None or -(2**63) <= n < 2**63 else "beyond" for n in numbers]
    assert outcome(coerce(text, pa.int64())) == expected


@settings(deadline=None)
@given(st.lists(st.none() | INT64))
def test_wide_integers_are_narrowed_only_where_they_fit(numbers: list[int | None]) -> None:
    expected = [n if n is None or -32768 <= n <= 32767 else "beyond" for n in numbers]
    assert outcome(coerce(pa.array(numbers, pa.int64()), pa.int16())) == expected


@settings(deadline=None)
@given(st.lists(st.floats()))
def test_floats_are_integers_only_if_whole(numbers: list[float]) -> None:
    def expected(x: float) -> Any:
        if not math.isfinite(x) or x != math.floor(x):
            return "wrong"
        return int(x) if abs(x) < 2**63 else "beyond"

    assert outcome(coerce(pa.array(numbers, pa.float64()), pa.int64())) == [expected(x) for x in numbers]


@pytest.mark.parametrize(
    ("values", "to", "expected"),
    [
        (pa.array([True, None]), pa.int64(), ["wrong", None]),
        (pa.array([{"a": 1}]), pa.int64(), ["wrong"]),
        (pa.array(["x", "", "1e3", "0x10", "1_000", "٣"]), pa.int64(), ["wrong", None] + ["wrong"] * 4),
        (pa.array([2**63, 5], pa.uint64()), pa.int64(), ["beyond", 5]),
        (pa.array([b"ok", b"\xff", None]), pa.string(), ["ok", "not_utf8", None]),
        (pa.array([b"12", b"\xff", b"a"]), pa.int64(), [12, "not_utf8", "wrong"]),
        (pa.array([1.5]), pa.string(), ["wrong"]),
        (pa.array([7]), pa.string(), ["7"]),
        (pa.array(["True", "no", "1", "", "maybe"]), pa.bool_(), [True, False, True, None, "wrong"]),
        (pa.array([0, 1, 2]), pa.bool_(), [False, True, "wrong"]),
        (pa.array(["1.5", "nan", "1e400", "-.5"]), pa.float64(), [1.5, "wrong", "beyond", -0.5]),
        (pa.array([b"x" * 16, b"short"]), pa.binary(), [b"x" * 16, "wrong"]),
        (pa.array([str(uuid.UUID(int=5)), "nope"]), pa.binary(), [uuid.UUID(int=5).bytes, "wrong"]),
        (pa.array([["a"], None]), pa.list_(pa.string()), [["a"], None]),
        (pa.array([1]), pa.list_(pa.string()), ["wrong"]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), pa.string(), ["a", "b", "a"]),
        (pa.nulls(2), pa.int32(), [None, None]),
        (pa.chunked_array([[1], [2]]), pa.int64(), [1, 2]),
        (pa.chunked_array([], pa.int64()), pa.int64(), []),
    ],
)
def test_each_bad_value_is_told_apart(values: Any, to: pa.DataType, expected: list[Any]) -> None:
    assert outcome(coerce(values, to)) == expected


@settings(deadline=None)
@given(st.lists(st.none() | INT64))
def test_scaled_integers_are_exact_or_marked(numbers: list[int | None]) -> None:
    limit = (2**63 - 1) // 1_000_000
    expected = [n if n is None else n * 1_000_000 if abs(n) <= limit else "beyond" for n in numbers]
    assert outcome(scaled(pa.array(numbers, pa.int64()), 1_000_000)) == expected


def test_scaled_takes_fractions_and_text() -> None:
    assert outcome(scaled(pa.array([1.5, None, math.nan]), 1_000)) == [1500, None, "wrong"]
    assert outcome(scaled(pa.array(["1.5", "2", "x", ""]), 1_000)) == [1500, 2000, "wrong", None]
    assert outcome(scaled(pa.array([b"9007199254740993"]), 1)) == [9007199254740993]
    assert outcome(scaled(pa.array([True]), 1)) == ["wrong"]


@settings(deadline=None)
@given(st.datetimes(timezones=st.just(UTC)))
def test_iso_times_are_exact(moment: datetime) -> None:
    whole = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // datetime.resolution
    assert iso_to_us(moment.isoformat()) == whole
    assert iso_to_us(moment.replace(tzinfo=None).isoformat()) == whole


def test_times_in_every_notation() -> None:
    day = 1_400_000_000
    assert outcome(times(pa.array([day]), "s")) == [day * 1_000_000]
    assert outcome(times(pa.array([str(day * 1000)]), "ms")) == [day * 1_000_000]
    mixed = ["2014-05-13T16:53:20Z", "2014-05-13 16:53:20", "2014-05-13T18:53:20+02:00", "yesterday", None]
    assert outcome(times(pa.array(mixed), "iso")) == [day * 1_000_000] * 3 + ["wrong", None]
    assert outcome(times(pa.array(mixed[:1]), "iso")) == outcome(times(pa.array(mixed[1:2]), "iso"))
    stamp = pa.array([datetime(2014, 5, 13, 16, 53, 20)], pa.timestamp("ns"))
    assert outcome(times(stamp, "s")) == [day * 1_000_000]


def test_stable_ids_hash_text_and_keep_numbers() -> None:
    ids = stable_ids("t", pa.array(["a", "12", None, "a", str(MAX_ID)]))
    assert ids.to_pylist() == [stable_id("t", "a"), 12, None, stable_id("t", "a"), MAX_ID]
    assert stable_ids("t", pa.array([5, -3])).to_pylist() == [5, -3]


@settings(deadline=None)
@given(st.text(), st.integers(4, 40))
def test_clipped_text_fits_and_is_a_beginning(text: str, limit: int) -> None:
    cut = clip(pa.array([text]), limit)[0].as_py()
    assert len(cut.encode()) <= limit
    assert text.startswith(cut)
    assert cut == text or len(text.encode()) > limit >= len(cut.encode()) > limit - 4


def test_days_are_utc_dates_before_and_after_1970() -> None:
    found = days_of(pa.array([-1, 0, 86_399_999_999, 86_400_000_000], pa.int64()))
    assert [d.isoformat() for d in found.to_pylist()] == [
        "1969-12-31",
        "1970-01-01",
        "1970-01-01",
        "1970-01-02",
    ]


def test_loose_keeps_the_faults_beside_the_values() -> None:
    table = loose({"ts": times(pa.array(["x", "2014-05-13"]), "iso"), "user_id": pa.array([1, 2])})
    assert table.column_names == ["ts", "#fault.ts", "#given.ts", "user_id"]
    assert table["#fault.ts"].to_pylist() == ["wrong_type", None]
    assert table["#given.ts"].to_pylist() == ["x", None]
