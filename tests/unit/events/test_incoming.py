from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.contracts.errors import InvalidInput, Overloaded
from segue.contracts.ids import MAX_ID, format_id, new_id
from segue.contracts.tables import RAW_EVENTS
from segue.contracts.vocabulary import DAY, SECOND, EventType
from segue.events import flood, incoming
from segue.events.flood import ListenerLimit
from segue.events.incoming import LINE_TYPES, Incoming, decode_body
from segue.events.records import decode_events
from segue.events.validation import check
from segue.settings.tree import Serving

NOW = 1_795_000_000_000_000
LIMITS = Serving(max_batch=50, max_body_bytes=100_000)
PLAY: dict[str, Any] = {"ts": NOW - SECOND, "user_id": 1, "type": "play", "track_id": 7}


def send(*events: Any, limits: Serving = LIMITS) -> Incoming:
    return decode_body(json.dumps(list(events)).encode(), "application/json", NOW, limits)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (json.dumps([PLAY, PLAY]), "application/json; charset=utf-8"),
        (json.dumps([PLAY, PLAY]), ""),
        (json.dumps({"events": [PLAY, PLAY]}), "application/json"),
        (f"{json.dumps(PLAY)}\n\n{json.dumps(PLAY)}\r\n", "application/x-ndjson"),
    ],
)
def test_the_three_forms_of_a_body(body: str, kind: str) -> None:
    found = decode_body(body.encode(), kind, NOW, LIMITS)
    assert [r.status for r in found.results] == ["accepted"] * 2
    assert [(e.ts, e.user_id, e.type, e.track_id, e.received_at) for e in found.events] == [
        (NOW - SECOND, 1, "play", 7, NOW)
    ] * 2


def test_an_id_is_kept_or_given() -> None:
    mine = format_id(new_id())
    kept, given_ = send({**PLAY, "event_id": mine.upper()}, PLAY).results
    assert (kept.event_id, kept.assigned) == (mine, False)
    assert given_.assigned
    assert given_.event_id
    assert given_.event_id != mine


def test_times_are_microseconds_or_iso() -> None:
    moment = datetime.fromtimestamp(NOW // SECOND, UTC)
    texts = [
        moment.isoformat(),
        moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        moment.replace(tzinfo=None).isoformat(" "),
    ]
    found = send(*({**PLAY, "ts": text} for text in texts))
    assert [e.ts for e in found.events] == [NOW] * 3


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        ({"ts": None}, "missing_ts", "ts"),
        ({"user_id": None}, "missing_user_id", "user_id"),
        ({"type": None}, "missing_type", "type"),
        ({"track_id": None}, "missing_track_id", "track_id"),
        ({"type": "follow"}, "missing_artist_id", "artist_id"),
        ({"type": "search"}, "missing_query", "query"),
        ({"type": "dance"}, "unknown_type", "type"),
        ({"type": 5}, "wrong_type_type", "type"),
        ({"surface": "moon"}, "unknown_surface", "surface"),
        ({"user_id": True}, "wrong_type_user_id", "user_id"),
        ({"user_id": "1"}, "wrong_type_user_id", "user_id"),
        ({"user_id": 1.0}, "wrong_type_user_id", "user_id"),
        ({"user_id": -1}, "out_of_range_user_id", "user_id"),
        ({"user_id": MAX_ID + 1}, "out_of_range_user_id", "user_id"),
        ({"track_id": 10**40}, "out_of_range_track_id", "track_id"),
        ({"ms_played": -1}, "out_of_range_ms_played", "ms_played"),
        ({"position": 10_001}, "out_of_range_position", "position"),
        ({"country": "DEU"}, "too_long_country", "country"),
        ({"country": "de"}, "unknown_country", "country"),
        ({"country": ""}, "unknown_country", "country"),
        ({"country": "D\n"}, "unknown_country", "country"),
        ({"query": "é" * 501}, "too_long_query", "query"),
        ({"event_id": "x"}, "wrong_type_event_id", "event_id"),
        ({"event_id": {"a": 1}}, "wrong_type_event_id", "event_id"),
        ({"request_id": 7}, "wrong_type_request_id", "request_id"),
        ({"ts": 1.5}, "wrong_type_ts", "ts"),
        ({"ts": "tomorrow"}, "wrong_type_ts", "ts"),
        ({"ts": NOW // SECOND}, "ts_too_old", "ts"),
        ({"ts": NOW - 31 * DAY}, "ts_too_old", "ts"),
        ({"ts": NOW + 301 * SECOND}, "ts_in_future", "ts"),
        ({"ts": 10**30}, "ts_in_future", "ts"),
        ({"trackid": 7}, "unknown_field", "trackid"),
        ({"received_at": 7}, "unknown_field", "received_at"),
        ({"day": "2026-01-01"}, "unknown_field", "day"),
    ],
)
def test_a_broken_event_says_why_and_harms_nobody(change: dict[str, Any], reason: str, field: str) -> None:
    found = send(PLAY, {**PLAY, **change}, PLAY)
    assert [r.status for r in found.results] == ["accepted", "rejected", "accepted"]
    assert [r.index for r in found.results] == [0, 1, 2]
    assert (found.results[1].reason, found.results[1].field) == (reason, field)
    assert found.results[1].message
    assert len(found.events) == len(found.records) == 2
    [refused] = found.refused
    assert (refused.reason, refused.field) == (reason, field)
    assert refused.content == json.dumps({**PLAY, **change})[:2_000]


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (b"5", "not_json"),
        (b'{"device": "' + b"a" * 32_000 + b'"}', "too_large"),
        (b"[]", "not_json"),
        (b'{"ts": nan}', "not_json"),
        (b'{"device": "\xff"}', "not_utf8"),
        (b'{"device": "\\ud800"}', "not_json"),
        (b'{"a":' * 5_000, "not_json"),
        (b'{"ts": 1, "type": "play", "ts": 2}', "repeated_field"),
        (b'{"ts" : 1, "type" : "play", "ts" : 2}', "repeated_field"),
        (b'{"a": ' + b"[" * 900 + b"]" * 900 + b', "device": "\\":"}', "unknown_field"),
        (b'{"query": "\\":", "query": ""}', "repeated_field"),
    ],
)
def test_broken_lines_harm_nobody(part: bytes, reason: str) -> None:
    good = json.dumps(PLAY).encode()
    found = decode_body(good + b"\n" + part + b"\n" + good, "application/x-ndjson", NOW, LIMITS)
    assert [r.reason for r in found.results] == [None, reason, None]


def test_texts_full_of_commas_are_no_events_of_their_own() -> None:
    searches = [{**PLAY, "type": "search", "query": "," * 1_000}] * 50
    for body in (json.dumps(searches), json.dumps({"events": searches}, indent=1)):
        assert len(decode_body(body.encode(), "", NOW, LIMITS).events) == 50


def test_what_looks_like_a_field_within_a_text_is_none() -> None:
    found = send({**PLAY, "type": "search", "query": '"ts": 1, "ts": 2, {"a":'})
    assert [event.query for event in found.events] == ['"ts": 1, "ts": 2, {"a":']


def test_of_two_events_with_one_id_that_differ_the_first_counts() -> None:
    mine = {**PLAY, "event_id": format_id(new_id())}
    found = send(mine, {**mine, "type": "skip"}, mine, {**mine, "event_id": mine["event_id"].upper()})
    assert [(r.status, r.reason) for r in found.results] == [
        ("accepted", None),
        ("rejected", "conflict"),
        ("accepted", None),
        ("accepted", None),
    ]
    assert {event.type for event in found.events} == {"play"}


def test_a_listener_of_too_many_events_harms_no_other() -> None:
    limits = msgspec.structs.replace(LIMITS, listener_events_per_s=1)
    now = [0.0]
    admit = ListenerLimit(1, lambda: now[0]).admit

    def sent(*events: Any) -> Counter[tuple[int, str | None]]:
        found = decode_body(json.dumps(events).encode(), "", NOW, limits, admit)
        return Counter((event["user_id"], r.reason) for event, r in zip(events, found.results, strict=True))

    other = {**PLAY, "user_id": 2}
    assert sent(*[PLAY, other] * 12)[(1, "too_many")] == 2
    assert sent(PLAY, {**PLAY, "user_id": 3}) == {(1, "too_many"): 1, (3, None): 1}
    with pytest.raises(Overloaded, match="10 events of one listener in 10 s; come again") as caught:
        sent(PLAY, other)
    assert caught.value.field == "user_id"
    assert "serving.listener_events_per_s" in (caught.value.limit or "")
    now[0] = 10.0
    assert sent(PLAY, other) == {(1, None): 1, (2, None): 1}


def test_counting_listeners_takes_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flood, "MOST_LISTENERS", 100)
    limit = ListenerLimit(1, lambda: 0.0)
    assert all(limit.admit(user) for user in range(1_000))
    assert len(limit._counts) <= 100
    assert all(ListenerLimit(0).admit(1) for _ in range(100_000))


def test_the_nearest_field_is_named() -> None:
    assert "did you mean track_id" in (send({**PLAY, "trackid": 7}).results[0].message or "")


@pytest.mark.parametrize(
    ("body", "kind", "field"),
    [
        (b"", "application/json", "body"),
        (b"null", "application/json", "body"),
        (b"[1", "application/json", "body"),
        (b'{"events": [], "other": 1}', "application/json", "body"),
        (b'{"event": []}', "application/json", "body"),
        (b"[" * 90_000, "application/json", "body"),
        (b"[" + b"{}," * 50 + b"{}]", "application/json", "events"),
        (b"[" + b"0," * 40_000 + b"0]", "application/json", "events"),
        (b'{"events": [' + b"0 ,\n" * 20_000 + b"NaN]}", "application/json", "events"),
        (b"[" + b"[[[]]]," * 10_000 + b"]", "application/json", "events"),
        (b"[0" + b"," * 90_000, "application/json", "body"),
        (b"{}\n" * 51, "application/x-ndjson", "events"),
        (b" " * 100_001, "application/json", "body"),
        (b"[]", "text/html", "content-type"),
    ],
)
def test_a_body_that_is_none_is_refused_whole(body: bytes, kind: str, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        decode_body(body, kind, NOW, LIMITS)
    assert caught.value.field == field
    assert caught.value.limit


KINDS = st.sampled_from(["", "application/json", *LINE_TYPES]) | st.text(max_size=20)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
VALUE = JSON | st.sampled_from([t.value for t in EventType]) | st.integers(0, 2**63) | st.just(NOW)
EVENT = st.dictionaries(st.sampled_from([c.name for c in RAW_EVENTS.columns]), VALUE, max_size=6)
NEARLY = EVENT.map(lambda change: {**PLAY, **change})


@settings(deadline=None)
@given(st.binary(max_size=300), KINDS)
def test_arbitrary_bytes_raise_nothing_else(body: bytes, kind: str) -> None:
    with suppress(InvalidInput):
        decode_body(body, kind, NOW, LIMITS)


@settings(deadline=None)
@given(st.lists(NEARLY | JSON, max_size=5))
def test_every_event_gets_its_answer_and_what_is_accepted_keeps_the_contract(events: list[Any]) -> None:
    found = send(*events)
    assert [r.index for r in found.results] == list(range(len(events)))
    for result in found.results:
        assert (result.status == "accepted") == (result.event_id is not None) == (result.reason is None)
    assert len(found.records) == sum(r.status == "accepted" for r in found.results)
    table, decoded = decode_events(found.records)
    assert decoded.items == found.events
    assert len(check(RAW_EVENTS, table, latest=NOW + DAY, later=("day",)).rejects) == 0


def test_results_encode_short() -> None:
    [accepted, rejected] = send(PLAY, {}).results
    assert set(msgspec.to_builtins(accepted)) == {"index", "status", "event_id", "assigned"}
    assert set(msgspec.to_builtins(rejected)) == {"index", "status", "reason", "field", "message"}


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (b'{"type":"search","ts":%d,"user_id":1,"query":"caf\\ud83d"}', "not_utf8"),
        (b'{"type":"search","ts":%d,"user_id":1,"query":NaN}', "not_json"),
    ],
)
@pytest.mark.parametrize("form", [b"[%s,%s]", b'{"events":[%s,%s]}'])
def test_what_is_no_strict_json_harms_its_own_event_only(broken: bytes, reason: str, form: bytes) -> None:
    good = b'{"type":"play","ts":%d,"user_id":1,"track_id":2}'
    body = form % (good % NOW, broken % NOW)
    found = decode_body(body, "application/json", NOW, LIMITS)
    assert [(r.status, r.reason) for r in found.results] == [("accepted", None), ("rejected", reason)]


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.sampled_from(
        [MAX_ID, MAX_ID + 1, NOW - SECOND, NOW - 31 * DAY, NOW + DAY, 1.0, 7.5, "2026-11-18T00:00:00Z"]
    ),
    st.sampled_from(
        [
            "play",
            "search",
            "follow",
            "impression",
            "click",
            "home",
            "next-up",
            "DE",
            "de",
            "DE\n",
            "phone",
            "",
        ]
    ),
    st.sampled_from(
        ["01a205ec-6ed4-7a4e-a953-32b2bf98f07e", "{01A205EC-6ED4-7A4E-A953-32B2BF98F07E}", "01a205ec"]
    ),
    st.sampled_from(['say "x": 1', "é" * 20, "\u2028", "x" * 300, 'a" b']),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=1),
)
names = st.sampled_from([*(name for name in RAW_EVENTS.names if name != "day"), "nothing"])
written = st.tuples(
    st.lists(st.tuples(names, values), max_size=6), st.sampled_from(["", " ", "\n"]), st.booleans()
)


@given(written)
@settings(max_examples=500)
def test_what_is_read_at_once_is_what_a_close_look_finds(
    sent: tuple[list[tuple[str, Any]], str, bool],
) -> None:
    """Fields may come twice, with blanks anywhere: then, and wherever anything is wrong, nothing is read at once."""
    fields, blank, good = sent
    if good:
        fields = [*PLAY.items(), ("event_id", format_id(new_id())), *fields]
    body = ",".join(f"{json.dumps(n)}{blank}:{json.dumps(v, ensure_ascii=False)}" for n, v in fields)
    raw = f"{{{body}}}".encode()
    at_once = incoming._plain_event(raw, NOW, LIMITS)
    if at_once is not None:
        assert incoming._looked_at(raw, NOW, LIMITS) == (at_once, False)


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_an_ordinary_event_is_read_at_once(separators: tuple[str, str]) -> None:
    event = PLAY | {
        "event_id": format_id(new_id()),
        "request_id": format_id(new_id()),
        "surface": "home",
        "country": "DE",
    }
    raw = json.dumps(
        event | {"query": "Ödegård", "device": "phone", "position": 3},
        separators=separators,
        ensure_ascii=False,
    )
    found = incoming._plain_event(raw.encode(), NOW, LIMITS)
    assert found is not None
    assert format_id(found.event_id) == event["event_id"]


def test_a_field_named_twice_is_found_behind_a_blank_too() -> None:
    body = b'[{"ts":%d,"user_id":1,"user_id" :2,"type":"play","track_id":7}]' % (NOW - SECOND)
    (result,) = decode_body(body, "application/json", NOW, LIMITS).results
    assert (result.reason, result.field) == ("repeated_field", "user_id")
