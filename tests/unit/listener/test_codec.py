"""Records of listener state: round trip, damage, versions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.contracts.errors import InvalidData, InvalidInput
from segue.listener.codec import VERSION, decode, decode_rows, encode, encode_rows, longest_record
from segue.listener.state import MARK, PLAY, ListenerState, anonymous
from segue.settings.tree import State

GOLDEN_V1 = bytes.fromhex(
    "013d02070500000000000000e80300000000000001000000010000004445"
    "7072656d69756d"
    "0a000000000000000b00000000000000ffffffffffffffff0a00000000000000307500000100"
    "03010c000000000000000d00000000000000"
)
"""Written by the first release of layout 1: it must be readable for ever."""
GOLDEN_STATE = ListenerState(
    5,
    country="DE",
    plan="premium",
    joined_at=1000,
    consent=True,
    explicit_ok=False,
    known=True,
    plays=np.array([(10, 11, -1, 10, 30_000, True, False)], PLAY),
    marks=np.array([(3, True, 12, 13)], MARK),
)


def equal(a: ListenerState, b: ListenerState) -> bool:
    fields = [f.name for f in dataclasses.fields(a) if f.name not in ("plays", "marks")]
    same = all(getattr(a, name) == getattr(b, name) for name in fields)
    return same and a.plays.tolist() == b.plays.tolist() and a.marks.tolist() == b.marks.tolist()


ids = st.integers(0, 2**63 - 1)
rows_of_plays = st.lists(
    st.tuples(ids, ids, ids, ids, st.integers(-1, 2**31 - 1), st.booleans(), st.booleans())
)
rows_of_marks = st.lists(st.tuples(st.integers(0, 5), st.booleans(), ids, ids))
states = st.builds(
    lambda plays, marks, **profile: ListenerState(
        **profile, plays=np.array(plays, PLAY), marks=np.array(marks, MARK)
    ),
    rows_of_plays,
    rows_of_marks,
    user_id=ids,
    country=st.one_of(st.none(), st.text(max_size=10)),
    plan=st.one_of(st.none(), st.text(max_size=10)),
    joined_at=st.one_of(st.none(), ids),
    consent=st.booleans(),
    explicit_ok=st.booleans(),
    known=st.booleans(),
)


@given(states)
def test_round_trip(state: ListenerState) -> None:
    assert equal(decode(encode(state)), state)


def test_arrays_are_views_of_the_record() -> None:
    record = encode(GOLDEN_STATE)
    state = decode(record)
    for rows in (state.plays, state.marks):
        assert not rows.flags.writeable
        assert np.shares_memory(rows, np.frombuffer(record, np.uint8))


def test_the_first_version_stays_readable() -> None:
    assert equal(decode(GOLDEN_V1), GOLDEN_STATE)


def test_writing_another_layout_takes_another_version() -> None:
    assert encode(GOLDEN_STATE) == GOLDEN_V1


def test_a_newer_version_is_refused_with_what_to_do() -> None:
    with pytest.raises(
        InvalidData, match=f"layout version {VERSION + 1}, this program reads 1 to {VERSION}; upgrade"
    ):
        decode(bytes([VERSION + 1]) + encode(GOLDEN_STATE)[1:])


@given(states, st.data())
def test_a_cut_or_padded_record_is_refused(state: ListenerState, data: st.DataObject) -> None:
    record = encode(state)
    cut = data.draw(st.integers(0, len(record) - 1))
    for damaged in (record[:cut], record + b"\0"):
        with pytest.raises(InvalidData):
            decode(damaged)


def test_a_plan_longer_than_the_record_allows_is_refused() -> None:
    with pytest.raises(InvalidInput, match="plan"):
        encode(dataclasses.replace(anonymous(1), plan="x" * 256))


GOLDEN_ROWS_V1 = bytes.fromhex(
    "010100000001000000"
    "0a000000000000000b00000000000000ffffffffffffffff0a00000000000000307500000100"
    "03010c000000000000000d00000000000000"
)


def test_the_first_version_of_rows_stays() -> None:
    assert encode_rows(GOLDEN_STATE.plays, GOLDEN_STATE.marks) == GOLDEN_ROWS_V1
    plays, marks = decode_rows(GOLDEN_ROWS_V1)
    assert plays.tolist() == GOLDEN_STATE.plays.tolist()
    assert marks.tolist() == GOLDEN_STATE.marks.tolist()


@given(st.lists(st.tuples(rows_of_plays, rows_of_marks), max_size=4))
def test_chunks_one_behind_the_other_are_read_as_one(chunks: list[tuple[list[object], list[object]]]) -> None:
    rows = b"".join(encode_rows(np.array(p, PLAY), np.array(m, MARK)) for p, m in chunks)
    plays, marks = decode_rows(rows)
    assert plays.tolist() == [row for p, _ in chunks for row in p]
    assert marks.tolist() == [row for _, m in chunks for row in m]


@given(st.integers(1, 2 * len(GOLDEN_ROWS_V1) - 1).filter(lambda cut: cut != len(GOLDEN_ROWS_V1)))
def test_rows_cut_short_are_refused(cut: int) -> None:
    with pytest.raises(InvalidData):
        decode_rows((GOLDEN_ROWS_V1 + GOLDEN_ROWS_V1)[:cut])


def test_rows_of_a_newer_version_are_refused_with_what_to_do() -> None:
    newer = bytes([VERSION + 1]) + GOLDEN_ROWS_V1[1:]
    with pytest.raises(
        InvalidData, match=f"layout version {VERSION + 1}, this program reads 1 to {VERSION}; upgrade"
    ):
        decode_rows(GOLDEN_ROWS_V1 + newer)


def test_no_record_is_longer_than_said() -> None:
    limits = State(max_plays=10, max_marks=20)
    text = "x" * 255
    full = ListenerState(2**63 - 1, text, text, 2**63 - 1, plays=np.zeros(10, PLAY), marks=np.zeros(20, MARK))
    assert len(encode(full)) == longest_record(limits)
