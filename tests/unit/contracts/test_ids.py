"""Identifiers are stable, ordered by time, and refuse what is no id."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.contracts.errors import InvalidInput
from segue.contracts.ids import MAX_ID, format_id, named_id, new_id, parse_id, stable_id, uuid7, uuid7_column


@given(st.integers(0, MAX_ID))
def test_integers_stay_themselves(number: int) -> None:
    assert stable_id("x", str(number)) == number


@given(st.text(max_size=50))
def test_any_text_gets_a_positive_64_bit_id_by_namespace(text: str) -> None:
    first = stable_id("a", text)
    assert 0 <= first <= MAX_ID
    assert stable_id("a", text) == first
    if not (text.isdecimal() and text.isascii()):
        assert stable_id("b", text) != first


@pytest.mark.parametrize("text", ["007", "-1", "1.0", " 1", "٣", str(MAX_ID + 1)])
def test_near_integers_are_hashed_not_parsed(text: str) -> None:
    assert stable_id("x", text) != int(float(text)) if text not in ("٣",) else stable_id("x", text) != 3


@given(st.integers(0, 2**47), st.binary(min_size=10, max_size=10))
def test_uuid7_has_version_variant_and_time(ms: int, entropy: bytes) -> None:
    raw = uuid7(ms, entropy)
    assert int.from_bytes(raw[:6], "big") == ms
    assert raw[6] >> 4 == 7
    assert raw[8] >> 6 == 0b10
    assert parse_id(format_id(raw)) == raw


@given(
    st.lists(
        st.tuples(st.integers(0, 2**52), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), max_size=20
    )
)
def test_columns_of_ids_match_single_ones(rows: list[tuple[int, int, int]]) -> None:
    ts = np.array([r[0] for r in rows], np.int64)
    entropy = np.array([r[1:] for r in rows], np.uint64).reshape(-1, 2)
    column = uuid7_column(ts, entropy)
    for row, (micro, high, low) in enumerate(rows):
        alone = uuid7(micro // 1000, (high.to_bytes(8, "big") + low.to_bytes(8, "big"))[6:])
        assert column[row].tobytes() == alone


def test_a_forked_process_draws_other_ids() -> None:
    new_id()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"".join(new_id()[6:] for _ in range(100)))
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 1_000)
    os.close(reading)
    os.close(writing)
    assert len(theirs) == 1_000
    mine = {new_id()[6:] for _ in range(300)}
    assert not mine & {theirs[at : at + 10] for at in range(0, 1_000, 10)}


def test_fresh_ids_differ() -> None:
    assert len({new_id() for _ in range(1000)}) == 1000


@pytest.mark.parametrize("text", ["", "x", "123", "01a205d9-0ef4-7369-9259-c9354297cfb"])
def test_what_is_no_uuid_is_refused_with_its_field(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_id(text, "request_id")
    assert caught.value.field == "request_id"


def test_a_person_writes_digits_or_the_source_and_the_outside_id() -> None:
    assert named_id("user", "17") == named_id("user", "shop:17") == 17
    assert named_id("user", "shop:ana") == stable_id("shop/user", "ana") != named_id("track", "shop:ana")
    assert named_id("artist", "shop:name:AC/DC") == stable_id("shop/artist", "name:AC/DC")
    for wrong in ("", "ana", ":ana", "shop:", "-1", "017", "1.0", str(MAX_ID + 1), f"shop:{'a' * 1000}"):
        with pytest.raises(ValueError, match="^" + re.escape(wrong) + "$"):
            named_id("user", wrong)
