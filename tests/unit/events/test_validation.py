from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.contracts.errors import InvalidData
from segue.contracts.ids import MAX_ID
from segue.contracts.tables import ARTISTS, EARLIEST, RAW_EVENTS, TRACKS
from segue.contracts.vocabulary import NEEDS_ARTIST, NEEDS_TRACK, EventType, Surface
from segue.events.columns import loose, times
from segue.events.validation import GIVEN_LATER, ROW, check

NOW = 1_795_000_000_000_000
GOOD: dict[str, Any] = {
    "ts": NOW - 5,
    "user_id": 1,
    "type": "play",
    "track_id": 7,
    "artist_id": 3,
    "query": "x",
}
NARROW = {c.name: c for c in RAW_EVENTS.columns if c.name not in GIVEN_LATER}


def events(*rows: dict[str, Any]) -> pa.Table:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})


def reasons(table: pa.Table) -> list[str]:
    return check(RAW_EVENTS, table, latest=NOW, later=GIVEN_LATER).rejects.reasons


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"user_id": None}, "missing_user_id"),
        ({"ts": None}, "missing_ts"),
        ({"type": None}, "missing_type"),
        ({"user_id": -1}, "out_of_range_user_id"),
        ({"track_id": -1}, "out_of_range_track_id"),
        ({"artist_id": -9}, "out_of_range_artist_id"),
        ({"ts": 0}, "ts_too_old"),
        ({"ts": EARLIEST - 1}, "ts_too_old"),
        ({"ts": NOW + 1}, "ts_in_future"),
        ({"type": "dance"}, "unknown_type"),
        ({"surface": "moon"}, "unknown_surface"),
        ({"ms_played": -1}, "out_of_range_ms_played"),
        ({"ms_played": 86_400_001}, "out_of_range_ms_played"),
        ({"ms_played": 2**40}, "out_of_range_ms_played"),
        ({"position": 2**20}, "out_of_range_position"),
        ({"country": "DEU"}, "too_long_country"),
        ({"query": "é" * 501}, "too_long_query"),
        ({"device": "d" * 41}, "too_long_device"),
        ({"user_id": True}, "wrong_type_user_id"),
        ({"user_id": float("nan")}, "wrong_type_user_id"),
        ({"user_id": 1.5}, "wrong_type_user_id"),
        ({"user_id": "bob"}, "wrong_type_user_id"),
        ({"type": b"\xff"}, "not_utf8_type"),
        ({"request_id": "no uuid"}, "wrong_type_request_id"),
    ],
)
def test_each_broken_rule_has_its_reason(change: dict[str, Any], reason: str) -> None:
    assert reasons(events({**GOOD, **change})) == [reason]


@pytest.mark.parametrize("type_", list(EventType))
def test_a_type_needs_what_it_is_about(type_: EventType) -> None:
    bare = {"ts": NOW, "user_id": 1, "type": type_.value}
    needed = [f for f, types in (("track_id", NEEDS_TRACK), ("artist_id", NEEDS_ARTIST)) if type_ in types]
    needed += ["query"] if type_ is EventType.SEARCH else []
    assert reasons(events(bare)) == [f"missing_{name}" for name in needed[:1]]
    assert reasons(events({**bare, "track_id": 1, "artist_id": 1, "query": "q"})) == []


def keeps_contract(row: dict[str, Any]) -> bool:
    """The contract, row by row, in plain Python."""
    for name, column in NARROW.items():
        value = row.get(name)
        if value is None:
            if not column.nullable:
                return False
            continue
        if isinstance(value, int) and not column.ge <= value <= column.le:  # type: ignore[operator]
            return False
        if name == "ts" and value > NOW:
            return False
        if column.one_of and value not in column.one_of:
            return False
        if column.max_bytes and len(value.encode()) > column.max_bytes:
            return False
    if row["type"] in NEEDS_TRACK and row["track_id"] is None:
        return False
    if row["type"] in NEEDS_ARTIST and row["artist_id"] is None:
        return False
    return row["type"] != "search" or row["query"] is not None


ROWS = st.fixed_dictionaries(
    {
        "ts": st.none() | st.sampled_from([0, EARLIEST, EARLIEST - 1, NOW, NOW + 1]),
        "user_id": st.none() | st.sampled_from([-1, 0, MAX_ID]),
        "type": st.none() | st.sampled_from([*(t.value for t in EventType), "other"]),
        "track_id": st.none() | st.sampled_from([-1, 0, 5]),
        "artist_id": st.none() | st.sampled_from([-1, 0, 5]),
        "ms_played": st.none() | st.integers(-(2**40), 2**40),
        "position": st.none() | st.sampled_from([-1, 0, 10_000, 10_001, 2**40]),
        "surface": st.none() | st.sampled_from([*(s.value for s in Surface), "moon"]),
        "query": st.none() | st.text(max_size=600),
        "country": st.none() | st.text(max_size=3),
    }
)
TYPES = {"type": pa.string(), "surface": pa.string(), "query": pa.string(), "country": pa.string()}


@settings(deadline=None)
@given(st.lists(ROWS, max_size=30))
def test_good_rows_are_those_that_keep_the_contract(rows: list[dict[str, Any]]) -> None:
    names = ["ts", "user_id", "type", "track_id", "artist_id", "ms_played", "position", *TYPES]
    table = pa.table(
        {n: pa.array([row[n] for row in rows], TYPES.get(n, pa.int64())) for n in dict.fromkeys(names)}
    )
    checked = check(RAW_EVENTS, table, latest=NOW, later=GIVEN_LATER)
    expected = [keeps_contract(row) for row in rows]
    assert [at for at, good in enumerate(expected) if not good] == checked.rejects.rows
    assert checked.good["ts"].to_pylist() == [
        row["ts"] for row, good in zip(rows, expected, strict=True) if good
    ]
    for column in RAW_EVENTS.columns:
        if column.name not in GIVEN_LATER:
            assert checked.good.schema.field(column.name).type == column.type


def test_one_reason_a_row_and_the_row_beside_it() -> None:
    table = events(GOOD, {**GOOD, "user_id": -1, "ts": 0, "query": "é" * 3_000}).append_column(
        ROW, pa.array([40, 41])
    )
    rejects = check(RAW_EVENTS, table, latest=NOW, later=GIVEN_LATER).rejects
    assert (rejects.rows, rejects.reasons, rejects.fields) == ([41], ["ts_too_old"], ["ts"])
    content = rejects.contents[0]
    assert content is not None
    assert len(content) == 2_000
    assert content.startswith('{"ts":0,"user_id":-1')


def test_content_shows_what_json_cannot_hold() -> None:
    rejects = check(RAW_EVENTS, events({**GOOD, "type": b"\xff"}), latest=NOW, later=GIVEN_LATER).rejects
    assert json.loads(rejects.contents[0] or "")["user_id"] == 1


def test_faults_of_an_earlier_conversion_are_the_reason() -> None:
    table = loose(
        {
            "ts": times(pa.array(["2014-05-13", "soon", None]), "iso"),
            "user_id": pa.array([1, 1, 1]),
            "type": pa.array(["play"] * 3),
            "track_id": pa.array([1, 1, 1]),
        }
    )
    assert reasons(table) == ["wrong_type_ts", "missing_ts"]


def test_missing_columns_are_named_with_the_nearest() -> None:
    with pytest.raises(InvalidData, match=r"user_id \(there is 'userid'\)") as caught:
        check(
            RAW_EVENTS, pa.table({"ts": [1], "userid": [1], "type": ["play"]}), latest=NOW, later=GIVEN_LATER
        )
    assert caught.value.field == "user_id"


def test_other_columns_stay_beside_the_good_rows() -> None:
    table = events({**GOOD, "tracks.title": "a"}, {**GOOD, "user_id": -1, "tracks.title": "b"})
    assert check(RAW_EVENTS, table, latest=NOW, later=GIVEN_LATER).good["tracks.title"].to_pylist() == ["a"]


def test_dimensions_are_checked_too() -> None:
    rows = pa.table(
        {"track_id": [1, 2, -1], "tags": [["a"], ["x"] * 51, None], "explicit": [True, False, False]}
    )
    checked = check(TRACKS, rows, latest=NOW, optional=("public",))
    assert checked.rejects.reasons == ["too_long_tags", "out_of_range_track_id"]
    assert "public" not in checked.good.column_names
    assert check(ARTISTS, pa.table({"artist_id": pa.array([], pa.int64())}), latest=NOW).good.num_rows == 0
