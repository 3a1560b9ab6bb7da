"""Bodies that nobody sends by mistake, to a real server over an empty home: a clear answer to each, and flat memory."""

from __future__ import annotations

import contextlib
import gzip
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from serving_home import Server, serving

BODY = 500_000
MB = 1_000_000
JSON, LINES = "application/json", "application/x-ndjson"
SETTINGS = {
    "SEGUE_SERVING__WORKERS": "1",
    "SEGUE_SERVING__MAX_BODY_BYTES": str(BODY),
    "SEGUE_SERVING__DEAD_LETTERS_PER_S": "5",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that has no bundle, but takes events."""
    with serving(tmp_path_factory.mktemp("hostile") / "home", "healthz", SETTINGS) as running:
        yield running


def one(**changed: Any) -> bytes:
    """An event of now, with changes."""
    return msgspec.json.encode(
        {"type": "play", "ts": time.time_ns() // 1000, "user_id": 1, "track_id": 2} | changed
    )


def raw(field: bytes) -> bytes:
    """An event with one more field, as it stands."""
    return b"[" + one()[:-1] + b"," + field + b"}]"


WHOLE: dict[str, tuple[bytes, str, int, str]] = {
    "10 MB of garbage": (bytes(range(256)) * (10 * MB // 256), JSON, 413, "body"),
    "a gzip bomb": (gzip.compress(b"[" + b" " * 50 * MB), f"{JSON}|gzip", 413, "body"),
    "a gzip bomb of events": (gzip.compress(b"[" + b"{}," * 5 * MB), f"{JSON}|gzip", 413, "body"),
    "half a gzip file": (gzip.compress(b"[]" * 9_999)[:-9], f"{JSON}|gzip", 400, "body"),
    "garbage that says it is gzip": (b"\x1f\x8b" + b"x" * 100_000, f"{JSON}|gzip", 400, "body"),
    "garbage": (bytes(range(256)) * (BODY // 256), JSON, 400, "body"),
    "deep arrays": (b"[" * BODY, JSON, 400, "body"),
    "deep objects": (b'{"events":' * (BODY // 10), JSON, 400, "body"),
    "tiny events": (b"[" + b"0," * (BODY // 2 - 2) + b"0]", JSON, 400, "events"),
    "tiny events, one of them NaN": (b"[" + b"0," * (BODY // 2 - 4) + b"NaN]", JSON, 400, "events"),
    "tiny lines": (b"0\n" * (BODY // 2), LINES, 400, "events"),
    "half of UTF-8 outside of any text": (b"[\xc3", JSON, 400, "body"),
    "an id of half a megabyte": (b"[" + b"9" * (BODY - 2) + b"]", JSON, 422, "events"),
    "NaN for a body": (b"NaN", JSON, 400, "body"),
    "blank lines": (b"\n" * BODY, LINES, 422, "events"),
    "nothing": (b"", JSON, 400, "body"),
}
ALONE: dict[str, tuple[bytes, str, str | None]] = {
    "NaN": (raw(b'"ms_played":NaN'), "not_json", None),
    "Infinity": (raw(b'"ms_played":Infinity'), "not_json", None),
    "an infinite number": (raw(b'"ms_played":1e999'), "not_json", None),
    "a huge whole number": (raw(b'"session_id":' + b"9" * 400), "out_of_range_session_id", "session_id"),
    "a very long whole number": (raw(b'"session_id":' + b"9" * 30_000), "not_json", None),
    "more than 63 bits": (raw(b'"session_id":9223372036854775808'), "out_of_range_session_id", "session_id"),
    "an id with a point": (raw(b'"session_id":7.0'), "wrong_type_session_id", "session_id"),
    "an id as text": (raw(b'"session_id":"7"'), "wrong_type_session_id", "session_id"),
    "half of UTF-8": (raw(b'"device":"caf\xc3"'), "not_utf8", None),
    "half an emoji": (raw(b'"device":"\\ud83d"'), "not_utf8", None),
    "a field twice": (raw(b'"user_id":2'), "repeated_field", "user_id"),
    "a field of half a megabyte": (raw(b'"' + b"a" * 400_000 + b'":1'), "too_large", None),
    "a long field": (raw(b'"' + b"a" * 30_000 + b'":1'), "unknown_field", "a" * 100),
    "a long text": (raw(b'"device":"' + b"a" * 30_000 + b'"'), "too_long_device", "device"),
    "a thousand fields": (
        raw(b",".join(b'"%d":1' % n for n in range(2_000))),
        "unknown_field",
        "0",
    ),
    "a thousand fields twice": (
        raw(b",".join(b'"%d":1' % (n % 1_000) for n in range(2_000))),
        "repeated_field",
        "0",
    ),
    "deep within": (raw(b'"device":' + b"[" * 800 + b"]" * 800), "wrong_type_device", "device"),
    "a country of small letters": (raw(b'"country":"de"'), "unknown_country", "country"),
}


def post(http: httpx.Client, body: bytes, kind: str) -> httpx.Response:
    media, _, packed = kind.partition("|")
    headers = {"content-type": media} | ({"content-encoding": packed} if packed else {})
    return http.post("/v1/events", content=body, headers=headers)


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_no_batch_is_refused_with_field_and_limit(http: httpx.Client, name: str) -> None:
    body, kind, status, field = WHOLE[name]
    answer = post(http, body, kind)
    assert answer.status_code == status, answer.text[:500]
    problem = answer.json()
    assert problem["field"] == field
    assert problem["limit"]
    assert len(answer.content) < 3_000


@pytest.mark.parametrize("name", ALONE)
def test_a_hostile_event_is_refused_alone(http: httpx.Client, name: str) -> None:
    body, reason, field = ALONE[name]
    answer = post(http, body[:-1] + b"," + one() + b"]", JSON)
    assert answer.status_code == 202, answer.text[:500]
    refused, accepted = answer.json()["results"]
    assert accepted["status"] == "accepted"
    assert (refused["reason"], refused.get("field")) == (reason, field)
    assert len(answer.content) < 2_000


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs /proc; runs on Linux")
def test_memory_stays_flat(server: Server, http: httpx.Client) -> None:
    def everything() -> float:
        for body, kind, _, _ in WHOLE.values():
            post(http, body, kind)
        for body, _, _ in ALONE.values():
            post(http, body, JSON)
        return server.private_mb()

    settled = max(everything() for _ in range(3))
    after = [everything() for _ in range(6)]
    assert min(after) < settled + 10, (settled, after)
    assert max(after) < settled + 50, (settled, after)


def test_slow_clients_hold_connections_but_no_memory(server: Server, http: httpx.Client) -> None:
    head = f"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: {JSON}\r\nContent-Length: {BODY}\r\n\r\n"
    with contextlib.ExitStack() as stack:
        refused = None
        for _ in range(
            200
        ):  # of those that find no room some give theirs back: it takes a few more than sixteen
            slow = stack.enter_context(socket.create_connection(server.address, timeout=30))
            slow.sendall(head.encode() + b" " * (BODY - 1))
            refused = post(http, b"[" + one() + b" " * 400_000 + b"]", JSON)
            if refused.status_code == 429:
                break
        assert refused is not None
        assert refused.json()["limit"] == f"{16 * BODY} bytes of bodies at once per worker"
        assert int(refused.headers["retry-after"]) > 0
        # By a connection of its own: what was refused before it was read may cost the one it came by.
        httpx.get(f"{server.url}/healthz").raise_for_status()
    deadline, status = time.monotonic() + 30, 429
    while status != 202:
        assert time.monotonic() < deadline, "what the slow ones held was not given back"
        with httpx.Client(base_url=server.url, timeout=30) as other:
            status = post(other, b"[" + one() + b" " * 400_000 + b"]", JSON).status_code
        time.sleep(0.1)


@pytest.mark.parametrize(
    "request_",
    [
        b"Content-Length: 99\r\n\r\n[]",
        b"Content-Length: 1\r\n\r\n[]",
        b"Content-Length: 2, 3\r\n\r\n[]",
        b"Content-Length: -2\r\n\r\n[]",
        b"Content-Length: 99999999999999999999\r\n\r\n[]",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n[]",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n[]",
        b"X: " + b"x" * 200_000 + b"\r\n\r\n",
    ],
    ids=["short", "long", "two", "negative", "huge", "both", "huge-chunk", "no-chunk", "long-header"],
)
def test_a_wrong_length_is_refused_or_dropped(server: Server, http: httpx.Client, request_: bytes) -> None:
    head = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(server.address, timeout=30) as connection, contextlib.suppress(OSError):
        connection.sendall(head + request_)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(10_000)
        assert not answer or re.match(rb"HTTP/1\.[01] 4\d\d", answer), answer[:200]
    assert post(http, b"[" + one() + b"]", JSON).status_code == 202


def test_a_flood_of_garbage_is_counted_not_kept(server: Server, http: httpx.Client) -> None:
    for _ in range(20):
        assert post(http, b"[" + b"{}," * 499 + b"{}]", JSON).status_code == 422
    page = http.get("/metrics").text
    counted = {
        result: float(re.findall(rf'segue_dead_letters_total{{result="{result}"}} (\S+)', page)[0])
        for result in ("kept", "dropped")
    }
    assert counted["dropped"] > 9_000
    assert counted["kept"] < 1_000
