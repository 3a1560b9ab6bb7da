"""Parameters: what is read, what is refused, and that OpenAPI says the same as the parser."""

from __future__ import annotations

import contextlib
import re
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.contracts.errors import InvalidInput
from segue.contracts.ids import MAX_ID, stable_id
from segue.serving.parameters import (
    MAX_QUERY_BYTES,
    Country,
    Flag,
    Form,
    Id,
    Ids,
    Integer,
    Parameter,
    Text,
    read_parameters,
)
from segue.serving.problems import QueryTooLong

K = Parameter("k", Integer(1, 200), "how many", 20, default=20)
USER = Parameter("user_id", Integer(), "who", 1)
WORDS = Parameter("q", Text(10, 1), "words", "night", required=True)
SESSION = Parameter("session", Ids(3), "tracks", "1,2")
TRACK = Parameter("track_id", Integer(), "a track", 1, where="path", required=True)


@given(st.integers(-(2**70), 2**70))
def test_integers_are_read_exactly_within_their_bounds(n: int) -> None:
    if 0 <= n <= MAX_ID:
        assert USER.parse(str(n)) == n
    else:
        with pytest.raises(InvalidInput, match=f"user_id.*from 0 to {MAX_ID}") as error:
            USER.parse(str(n))
        assert error.value.field == "user_id"


@given(st.text())
def test_what_is_not_plain_digits_is_no_integer(text: str) -> None:
    canonical = text.isascii() and text.isdecimal() and str(int(text)) == text and int(text) <= MAX_ID
    if canonical:
        assert USER.parse(text) == int(text)
    else:
        with pytest.raises(InvalidInput):
            USER.parse(text)


def test_an_id_may_be_the_one_it_had_outside() -> None:
    who = Parameter("user_id", Id("user"), "who", 1)
    assert read_parameters([who], b"user_id=shop%3Aana%20b", {}) == {
        "user_id": stable_id("shop/user", "ana b")
    }
    assert who.parse("17") == who.parse("shop:17") == 17
    for wrong in ("ana", ":ana", "shop:", "-3"):
        with pytest.raises(InvalidInput, match=r"user_id.*SOURCE:ID"):
            who.parse(wrong)


@given(st.lists(st.integers(0, MAX_ID), max_size=5))
def test_lists_of_ids_keep_order_and_length(ids: list[int]) -> None:
    text = ",".join(map(str, ids))
    if len(ids) <= 3:
        assert SESSION.parse(text) == tuple(ids)
    else:
        with pytest.raises(InvalidInput, match="up to 3 ids"):
            SESSION.parse(text)


def test_flags_countries_and_words() -> None:
    assert [Flag().parse(text) for text in ("1", "0", "true", "false")] == [True, False, True, False]
    assert Country().parse("DE") == "DE"
    assert Text(5, 1).parse("  ab ") == "ab"
    refused: list[tuple[Form, str]] = [
        (Flag(), "yes"),
        (Flag(), ""),
        (Country(), "de"),
        (Country(), "DEU"),
        (Country(), "D\n"),
        (Text(5, 1), "   "),
        (Text(5, 1), "abcdef"),
    ]
    for form, bad in refused:
        with pytest.raises(InvalidInput, match=re.escape(f"p: {bad!r} must be {form.limit}")):
            Parameter("p", form, "a parameter", "1").parse(bad)


def test_absent_parameters_take_their_default_and_required_ones_are_missed() -> None:
    assert read_parameters([K, USER], b"", {}) == {"k": 20, "user_id": None}
    with pytest.raises(InvalidInput, match="q: is missing") as error:
        read_parameters([WORDS], b"", {})
    assert error.value.limit == "text of 1 to 10 characters"


@given(st.dictionaries(st.sampled_from(["k", "user_id"]), st.integers(1, 200), max_size=2))
def test_queries_are_read_back_as_they_were_written(given_values: dict[str, int]) -> None:
    found = read_parameters([K, USER], urlencode(given_values).encode(), {})
    assert found == {"k": given_values.get("k", 20), "user_id": given_values.get("user_id")}


@given(st.text(min_size=1, max_size=10).filter(lambda t: t.strip() == t != ""))
def test_words_survive_percent_encoding(text: str) -> None:
    if "\ud800" <= max(text) <= "\udfff":
        return
    assert read_parameters([WORDS], f"q={quote(text, safe='')}".encode(), {}) == {"q": text}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (b"usr_id=1", "did you mean user_id"),
        (b"zzzz=1", "known here: k, user_id"),
        (b"track_id=1", "'track_id' is not a parameter"),
        (b"k=1&k=1", "k: is given more than once"),
        (b"k=%ff", "not UTF-8"),
        (b"\xff=1", "not UTF-8"),
        (b"k=" + b"1" * 40 + b"2" * 40, "k: '1{40}…' must be an integer from 1 to 200"),
        (b"&".join(b"a%d=1" % n for n in range(60)), "at most 50 parameters"),
    ],
)
def test_bad_queries_say_what_is_wrong(query: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_parameters([K, USER, TRACK], query, {"track_id": "5"})


def test_long_queries_are_not_even_parsed() -> None:
    with pytest.raises(QueryTooLong, match=str(MAX_QUERY_BYTES)):
        read_parameters([K], b"k=" + b"1" * MAX_QUERY_BYTES, {})


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_in_order(query: bytes) -> None:
    with contextlib.suppress(InvalidInput):
        found = read_parameters([K, USER, SESSION], query, {})
        assert set(found) == {"k", "user_id", "session"}
        assert 1 <= found["k"] <= 200
