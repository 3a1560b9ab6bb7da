"""Changes of tracks as they come in: each held against the contract, and told what is wrong with it."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.contracts.errors import InvalidInput
from segue.contracts.ids import MAX_ID
from segue.events.changes import Latest, Stamps, TrackChange, decode_changes, encode_change
from segue.events.tracks import IncomingTracks, decode_track, decode_tracks, removal
from segue.settings.tree import Serving

NOW = 1_795_000_000_000_000
LIMITS = Serving(max_batch=20)
WHOLE: dict[str, Any] = {
    "artist_id": 7,
    "artist_name": "Ona",
    "title": "Night Bus",
    "description": "slow",
    "genre": "Ambient",
    "tags": ["Night", "bus", "night"],
    "duration_ms": 211_000,
    "uploaded_at": "2026-11-23T08:00:00Z",
    "explicit": True,
    "public": False,
    "blocked_countries": ["DE", "AT"],
    "external_id": "x:1",
}


def one(said: dict[str, Any], track_id: int = 4) -> TrackChange:
    return decode_changes([decode_track(json.dumps(said).encode(), track_id, NOW)]).items[0]


def send(body: bytes, kind: str = "application/json") -> IncomingTracks:
    stamps = itertools.count(NOW)
    return decode_tracks(body, kind, lambda: next(stamps), LIMITS)


def test_a_whole_track_as_it_is_kept() -> None:
    change = msgspec.structs.asdict(one(WHOLE))
    kept = {"genre": "ambient", "tags": ["night", "bus"], "uploaded_at": 1_795_420_800_000_000}
    assert change == {"track_id": 4, "received_at": NOW} | WHOLE | kept


def test_what_is_left_out_is_not_said() -> None:
    assert one({"title": "A"}) == TrackChange(4, NOW, title="A")
    assert one({}) == TrackChange(4, NOW)
    assert decode_changes([removal(4, NOW)]).items == [TrackChange(4, NOW, public=False)]


@pytest.mark.parametrize(
    ("said", "field", "says"),
    [
        ({"track_id": 4}, "track_id", "in the path"),
        ({"titel": "A"}, "titel", "did you mean title?"),
        ({"title": 5}, "title", "must be text"),
        ({"title": None}, "title", "null says nothing"),
        ({"title": "é" * 501}, "title", "1000 bytes"),
        ({"artist_id": -1}, "artist_id", "from 0 to"),
        ({"artist_id": MAX_ID + 1}, "artist_id", "from 0 to"),
        ({"artist_id": True}, "artist_id", "whole number"),
        ({"artist_name": "Ona"}, "artist_id", "whose name"),
        ({"artist_id": 1, "artist_name": "x" * 1_001}, "artist_name", "1000 bytes"),
        ({"duration_ms": 86_400_001}, "duration_ms", "86400000"),
        ({"duration_ms": 1.5}, "duration_ms", "whole number"),
        ({"uploaded_at": "yesterday"}, "uploaded_at", "2026-11-23T08:00:00Z"),
        ({"uploaded_at": -1}, "uploaded_at", "microseconds"),
        ({"public": 1}, "public", "true or false"),
        ({"explicit": "no"}, "explicit", "true or false"),
        ({"tags": "night"}, "tags", "list of texts"),
        ({"tags": ["x"] * 51}, "tags", "50"),
        ({"tags": ["x" * 101]}, "tags", "100 bytes"),
        ({"tags": [1]}, "tags", "list of texts"),
        ({"blocked_countries": ["de"]}, "blocked_countries", "ISO 3166"),
        ({"blocked_countries": ["DEU"]}, "blocked_countries", "ISO 3166"),
        ({"blocked_countries": {"DE": 1}}, "blocked_countries", "ISO 3166"),
    ],
)
def test_what_breaks_the_contract_is_named(said: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=r".") as error:
        one(said)
    assert error.value.field == field
    assert says in error.value.message
    refused = send(json.dumps([{"track_id": 4} | said, {"track_id": 9}]).encode())
    if field != "track_id":
        assert [(r.status, r.track_id, r.field) for r in refused.results] == [
            ("rejected", 4, field),
            ("accepted", 9, None),
        ]


@pytest.mark.parametrize(
    "body", [b"", b"[1]", b"7", b"null", b'{"title": "\xff"}', b'{"title": "\\ud800"}', b"{" * 9_000]
)
def test_a_body_that_is_no_track(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        decode_track(body, 4, NOW)


def test_a_batch_as_an_array_and_as_lines() -> None:
    tracks = [{"track_id": 1, "title": "A"}, {"title": "B"}, {"track_id": 1, "public": False}]
    as_array = send(json.dumps(tracks).encode())
    as_lines = send("\r\n\n".join(map(json.dumps, tracks)).encode(), "application/x-ndjson")
    for found in (as_array, as_lines):
        assert [(r.status, r.track_id, r.reason) for r in found.results] == [
            ("accepted", 1, None),
            ("rejected", None, "missing_track_id"),
            ("accepted", 1, None),
        ]
        first, second = decode_changes(found.records).items
        assert first.title == "A"
        assert second.received_at > first.received_at


def test_a_batch_that_is_none() -> None:
    assert send(b'{"tracks": [{"track_id": 1}]}').results[0].track_id == 1
    for body in (b"{}", b"tracks", b"", b'{"events": []}', b'{"tracks": [], "events": []}'):
        with pytest.raises(InvalidInput, match="array of tracks"):
            send(body)
    with pytest.raises(InvalidInput, match="more than 20"):
        send(json.dumps([{"track_id": 1}] * 21).encode())


def test_stamps_only_grow_whatever_the_clock_does() -> None:
    times = iter([100, 50, 50, 300, 10, 400])
    stamps = Stamps(lambda: next(times))
    assert [stamps.next() for _ in range(4)] == [100, 101, 102, 300]
    stamps.saw(1_000)
    assert [stamps.next(), stamps.next()] == [1_001, 1_002]


CHANGES = st.builds(
    TrackChange,
    track_id=st.just(1),
    received_at=st.integers(0, 5),
    title=st.none() | st.sampled_from("ABC"),
    public=st.none() | st.booleans(),
    tags=st.none() | st.lists(st.sampled_from("xy"), max_size=2),
)


@given(
    st.lists(CHANGES, max_size=8).flatmap(
        lambda some: st.tuples(st.just(some), st.permutations(some + some[:3]))
    )
)
def test_any_order_and_any_repetition_says_the_same(
    orders: tuple[list[TrackChange], list[TrackChange]],
) -> None:
    def said(some: list[TrackChange]) -> dict[str, Any]:
        latest, found = Latest(), dict[str, Any]()
        for change in some:
            found.update(latest.news(change))
        return found

    assert said(orders[0]) == said(orders[1])
    for name, value in said(orders[0]).items():
        moments = {c.received_at: getattr(c, name) for c in orders[0] if getattr(c, name) is not None}
        assert value in [getattr(c, name) for c in orders[0] if c.received_at == max(moments)]


def test_a_record_that_is_none_is_told_apart() -> None:
    good = encode_change(TrackChange(1, NOW, title="A"))
    found = decode_changes([b"\xc1", good, b"", msgspec.msgpack.encode({"track_id": 1})])
    assert found.items == [TrackChange(1, NOW, title="A")]
    assert [row for row, _ in found.broken] == [0, 2, 3]
