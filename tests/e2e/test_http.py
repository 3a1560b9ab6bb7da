"""The HTTP server as a real process on a free port: every route, every error path, several workers, and fuzz over OpenAPI."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from server_process import SERVER, Running, worker_pids

from segue.contracts.ids import MAX_ID
from segue.recommend.api import Response
from segue.serving.platform import ListenerProfile, TrackInfo
from segue.serving.problems import Problem
from segue.serving.server import DRAIN_S, FILES

CRASHES, IS_DOWN, IS_BUSY, IS_SLOW, IS_SLOWER = range(900_001, 900_006)
BIG_TRACK = 2**62 + 12345
MAX_K = 50
MAX_BODY = 200_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with two workers."""
    running = Running(tmp_path_factory.mktemp("server"), "--body", str(MAX_BODY))
    yield running
    assert running.stop() == 0


@pytest.fixture
def http(server: Running) -> Iterator[httpx.Client]:
    """A client of that server."""
    with httpx.Client(base_url=server.url, timeout=20) as client:
        yield client


def problem_of(answer: httpx.Response, status: int, field: str | None = None) -> Problem:
    """The problem document of an error, checked against the status and field that were expected."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = msgspec.json.decode(answer.content, type=Problem)
    assert found.status == status
    assert found.instance.endswith(answer.headers["x-request-id"])
    if field is not None:
        assert found.field == field
        assert field in found.detail
    return found


# --- answers
# ---------------------------------------------------------------------------------------------------------


def test_alive_and_ready(http: httpx.Client) -> None:
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.get("/readyz").json() == {"ready": True, "bundle": "2026-11-21-4f1c", "degraded": {}}


def test_not_ready_until_there_is_a_bundle(tmp_path: Path) -> None:
    bundle = tmp_path / "CURRENT"
    running = Running(tmp_path, "--ready-after", str(bundle), workers=1)
    try:
        answer = httpx.get(f"{running.url}/readyz")
        assert "no bundle in CURRENT" in problem_of(answer, 503).detail
        assert int(answer.headers["retry-after"]) > 0
        bundle.touch()
        assert httpx.get(f"{running.url}/readyz").status_code == 200
    finally:
        running.stop()


@pytest.mark.parametrize(
    "path",
    [
        "home?user_id=3&k=9&why=1",
        "home",
        "home?user_id=58",
        "station?track_id=5&user_id=3",
        "station?artist_id=5&country=DE&seed=4",
        "next-up?user_id=3&session=1,2,3",
        "next-up?session=",
        f"related?track_id={BIG_TRACK}&k={MAX_K}",
        f"home?user_id={MAX_ID}",
    ],
)
def test_every_surface_answers_in_the_documented_shape(http: httpx.Client, path: str) -> None:
    answer = http.get(f"/v1/recommendations/{path}")
    assert answer.status_code == 200
    found = msgspec.json.decode(answer.content, type=Response)
    assert found.surface == path.partition("?")[0]
    wanted = re.search(r"k=(\d+)", path)
    assert len(found.items) == (int(wanted[1]) if wanted else 20)
    assert all((item.why is not None) == ("why=1" in path) for item in found.items)
    stages = [stage.name.replace(":", "-") for stage in found.trace.stages]
    assert [part.partition(";")[0] for part in answer.headers["server-timing"].split(", ")] == [
        *stages,
        "total",
    ]


def test_parameters_reach_the_platform(http: httpx.Client) -> None:
    session = http.get("/v1/recommendations/next-up?session=1,2,3&k=50").json()
    assert session["trace"]["removed"]["in_session"] == 3
    first = http.get("/v1/recommendations/home?seed=5").json()["items"]
    assert first == http.get("/v1/recommendations/home?seed=5").json()["items"]
    assert first != http.get("/v1/recommendations/home?seed=6").json()["items"]


def test_tracks_keep_all_63_bits_of_an_id(http: httpx.Client) -> None:
    track = msgspec.json.decode(http.get(f"/v1/tracks/{BIG_TRACK}").content, type=TrackInfo)
    assert track.track_id == BIG_TRACK
    assert problem_of(http.get(f"/v1/tracks/{BIG_TRACK + 1}"), 404).field == "track_id"


def test_search_and_listeners(http: httpx.Client) -> None:
    tracks = http.get("/v1/search", params={"q": " night ", "limit": 5}).json()["tracks"]
    assert 0 < len(tracks) <= 5
    assert all("night" in f"{t['title']} {t['artist']}".lower() for t in tracks)
    assert http.get("/v1/search?q=nothing-is-called-so").json() == {"tracks": []}
    found = http.get("/v1/listeners?query=5&limit=3").json()["listeners"]
    assert [row["user_id"] for row in found] == [5]
    assert len(http.get("/v1/listeners?limit=3").json()["listeners"]) == 3
    profile = msgspec.json.decode(http.get("/v1/listeners/3").content, type=ListenerProfile)
    assert profile.known
    assert len(profile.plays) > 0
    closed = msgspec.json.decode(http.get("/v1/listeners/58").content, type=ListenerProfile)
    assert not closed.consent
    assert closed.plays == ()


# --- bad requests
# ----------------------------------------------------------------------------------------------------

HOME = "/v1/recommendations/home"
BAD = [
    (f"{HOME}?k=0", "k"),
    (f"{HOME}?k={MAX_K + 1}", "k"),
    (f"{HOME}?k=1000000", "k"),
    (f"{HOME}?k=-1", "k"),
    (f"{HOME}?k=1.0", "k"),
    (f"{HOME}?k=1e1", "k"),
    (f"{HOME}?k=", "k"),
    (f"{HOME}?k=007", "k"),
    (f"{HOME}?k=%D9%A3", "k"),
    (f"{HOME}?k=5&k=6", "k"),
    (f"{HOME}?user_id=null", "user_id"),
    (f"{HOME}?user_id=anna", "user_id"),
    (f"{HOME}?user_id={MAX_ID + 1}", "user_id"),
    (f"{HOME}?user_id={'9' * 4000}", "user_id"),
    (f"{HOME}?user_id=-5", "user_id"),
    (f"{HOME}?usr_id=5", "usr_id"),
    (f"{HOME}?why=perhaps", "why"),
    (f"{HOME}?country=de", "country"),
    (f"{HOME}?country=GERMANY", "country"),
    (f"{HOME}?seed=x", "seed"),
    ("/v1/recommendations/next-up?session=1,,2", "session"),
    ("/v1/recommendations/next-up?session=1,a", "session"),
    ("/v1/recommendations/next-up?session=" + ",".join("1" * 501), "session"),
    (f"{HOME}?user_id=%FF%FE", "query string"),
    ("/v1/recommendations/related", "track_id"),
    ("/v1/tracks/abc", "track_id"),
    (f"/v1/tracks/{MAX_ID + 1}", "track_id"),
    ("/v1/tracks/1.5", "track_id"),
    ("/v1/listeners/x", "user_id"),
    ("/v1/listeners?limit=101", "limit"),
    ("/v1/search", "q"),
    ("/v1/search?q=", "q"),
    ("/v1/search?q=" + "a" * 201, "q"),
    ("/healthz?verbose=1", "verbose"),
]


@pytest.mark.parametrize(("path", "field"), BAD, ids=[p[:60] for p, _ in BAD])
def test_bad_parameters_name_the_field_and_the_limit(http: httpx.Client, path: str, field: str) -> None:
    answer = http.get(path)
    found = problem_of(answer, 400, field)
    assert len(answer.content) < 2_000
    assert found.limit is not None or field == "track_id"


def test_a_misspelt_parameter_gets_a_hint(http: httpx.Client) -> None:
    assert "did you mean user_id?" in problem_of(http.get(f"{HOME}?usr_id=5"), 400).detail


def test_too_many_parameters_and_too_long_queries(http: httpx.Client) -> None:
    many = "&".join(f"p{n}=1" for n in range(60))
    assert problem_of(http.get(f"{HOME}?{many}"), 400).limit == "at most 50 parameters"
    problem_of(http.get(f"{HOME}?user_id={'1' * 20_000}"), 414)


def test_unknown_paths_and_surfaces(http: httpx.Client) -> None:
    assert (
        "home, next-up, station, related"
        in problem_of(http.get("/v1/recommendations/hom"), 404, "surface").detail
    )
    for path in (
        "/nothing",
        "/v1",
        "/v1/tracks/",
        "/healthz/",
        "/console/../app.py",
        "/console/%2e%2e/app.py",
        "/a//b",
    ):
        problem_of(http.get(path), 404)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_wrong_methods_say_the_right_one(http: httpx.Client, method: str) -> None:
    answer = http.request(method, HOME)
    problem_of(answer, 405)
    assert "GET" in answer.headers["allow"]
    answer = http.get("/v1/events")
    problem_of(answer, 405)
    assert answer.headers["allow"] == "POST"


def test_faults_show_an_id_and_nothing_from_inside(server: Running, http: httpx.Client) -> None:
    answer = http.get(f"{HOME}?user_id={CRASHES}")
    problem_of(answer, 500)
    assert not re.search("secret|Traceback|RuntimeError", answer.text)
    request_id = answer.headers["x-request-id"]
    assert request_id in answer.text
    log = server.said()
    assert request_id in log
    assert "a secret from inside" in log
    assert http.get("/healthz").status_code == 200


def test_stores_that_are_down_and_limits_say_when_to_come_back(http: httpx.Client) -> None:
    down = http.get(f"{HOME}?user_id={IS_DOWN}")
    assert "does not answer" in problem_of(down, 503).detail
    busy = http.get(f"{HOME}?user_id={IS_BUSY}")
    assert problem_of(busy, 429).limit == "10 a second"
    assert int(down.headers["retry-after"]) > 0
    assert int(busy.headers["retry-after"]) > 0


# --- events
# ----------------------------------------------------------------------------------------------------------


def happened(kind: str, user: int, **rest: Any) -> dict[str, Any]:
    """Something that happens now."""
    return {"type": kind, "ts": time.time_ns() // 1000, "user_id": user, **rest}


def like(user: int, track: int) -> dict[str, Any]:
    """A like."""
    return happened("like", user, track_id=track)


def test_one_bad_event_does_not_harm_its_neighbours(http: httpx.Client) -> None:
    batch = [like(31, 1), happened("like", 31), "nonsense", like(31, 2), happened("dance", 31)]
    answer = http.post("/v1/events", json={"events": batch})
    assert answer.status_code == 202
    found = answer.json()
    assert (found["accepted"], found["rejected"]) == (2, 3)
    assert [r["status"] for r in found["results"]] == [
        "accepted",
        "rejected",
        "rejected",
        "accepted",
        "rejected",
    ]
    assert found["results"][1]["field"] == "track_id"


def test_lines_of_json_may_be_broken_one_by_one(http: httpx.Client) -> None:
    lines = [msgspec.json.encode(like(32, n)) for n in range(3)] + [
        b"{broken",
        b"\xff\xfe",
        b"",
        b"[" * 5_000,
    ]
    headers = {"content-type": "application/x-ndjson; charset=UTF-8"}
    answer = http.post("/v1/events", content=b"\n".join(lines), headers=headers).json()
    assert (answer["accepted"], answer["rejected"]) == (3, 3)
    assert len({r["event_id"] for r in answer["results"][:3]}) == 3


def test_an_event_is_in_effect_on_the_next_request_of_any_worker(server: Running) -> None:
    path = f"{server.url}/v1/recommendations/home?user_id=33&k={MAX_K}"
    items = httpx.get(path).json()["items"]
    track, artist = items[0]["track_id"], items[1]["artist_id"]
    events = [
        happened("hide", 33, track_id=track),
        happened("block_artist", 33, artist_id=artist),
    ]
    assert httpx.post(f"{server.url}/v1/events", json=events).status_code == 202
    for _ in range(12):  # each on a connection of its own, so that both workers answer some
        found = httpx.get(path).json()["items"]
        assert track not in {i["track_id"] for i in found}
        assert artist not in {i["artist_id"] for i in found}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe{}",
        b'{"events": 1}',
        b"[" * 100_000,
        b"[" * 90_000 + b"]" * 90_000,
        b"12",
        b"null",
        b"{}",
    ],
    ids=["empty", "cut", "not-utf8", "no-list", "deep-open", "deep", "number", "null", "no-events"],
)
def test_bodies_that_are_no_batch(http: httpx.Client, body: bytes) -> None:
    problem_of(http.post("/v1/events", content=body, headers={"content-type": "application/json"}), 400)


@pytest.mark.parametrize("batch", [[], [{}], [{"type": "like"}] * 3, [None], [[]], [like(1, MAX_ID + 1)]])
def test_batches_of_which_nothing_is_accepted(http: httpx.Client, batch: list[Any]) -> None:
    answer = http.post("/v1/events", json=batch)
    problem_of(answer, 422)
    assert len(answer.json()["results"]) == len(batch)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/html"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json; charset=latin-1"},
        {"content-type": "application/json", "content-encoding": "br"},
    ],
    ids=["none", "html", "form", "latin-1", "brotli"],
)
def test_bodies_of_another_type(http: httpx.Client, headers: dict[str, str]) -> None:
    problem_of(http.post("/v1/events", content=b"[]", headers=headers), 415)


def test_bodies_that_are_too_large(http: httpx.Client) -> None:
    headers = {"content-type": "application/json"}
    declared = http.post("/v1/events", content=b" " * (MAX_BODY + 1), headers=headers)
    assert problem_of(declared, 413, "body").limit == f"at most {MAX_BODY} bytes"
    pieces = (b" " * 10_000 for _ in range(30))
    problem_of(http.post("/v1/events", content=pieces, headers=headers), 413)
    fits = b"[]" + b" " * (MAX_BODY - 2)
    problem_of(http.post("/v1/events", content=fits, headers=headers), 422)


# --- every answer
# ----------------------------------------------------------------------------------------------------


def test_every_answer_carries_the_security_headers(http: httpx.Client) -> None:
    for path in (
        "/",
        "/docs",
        "/healthz",
        "/nothing",
        HOME,
        f"{HOME}?k=0",
        f"{HOME}?user_id={CRASHES}",
        "/metrics",
    ):
        headers = http.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert "total;dur=" in headers["server-timing"]


def test_request_ids_are_kept_if_plain_and_replaced_if_not(http: httpx.Client) -> None:
    assert (
        http.get("/healthz", headers={"x-request-id": "trace-1.2_3"}).headers["x-request-id"] == "trace-1.2_3"
    )
    for bad in ("a b", "x" * 65, "<script>", ""):
        given = http.get("/healthz", headers={"x-request-id": bad}).headers["x-request-id"]
        assert re.fullmatch(r"[0-9a-f-]{36}", given)


def test_pages_are_sent_once_and_then_confirmed(http: httpx.Client) -> None:
    page = http.get("/")
    assert page.headers["content-type"].startswith("text/html")
    again = http.get("/", headers={"if-none-match": page.headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""
    assert http.head("/").status_code == 200


def test_pages_ask_nothing_from_elsewhere(http: httpx.Client) -> None:
    for start in ("/", "/docs"):
        page = http.get(start).text
        assert not re.search(r"<script(?![^>]*\bsrc=)|\bstyle=|\son\w+=|<style", page)
        linked = re.findall(r'(?:src|href)="([^"#]+)"', page)
        assert linked
        for link in linked:
            assert re.match(r"/[^/]", link), link
            assert http.get(link).status_code == 200, link


# --- numbers
# ---------------------------------------------------------------------------------------------------------


def numbers(http: httpx.Client) -> dict[str, float]:
    """All samples of /metrics by name and labels."""
    answer = http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    lines = (line.rpartition(" ") for line in answer.text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def test_numbers_are_those_of_all_workers(server: Running, http: httpx.Client) -> None:
    before = numbers(http)
    for _ in range(24):
        httpx.get(f"{server.url}/v1/recommendations/station?track_id=1")
    httpx.post(f"{server.url}/v1/events", json=[like(34, 1), like(34, 2), happened("like", 3)])
    asked = 'segue_http_requests_total{method="GET",route="recommendations",status="200",surface="station"}'
    degraded = 'segue_degraded_total{stage="source:co_listened",surface="station"}'
    stage = 'segue_stage_seconds_count{stage="score",surface="station"}'
    for _ in range(6):  # whichever worker is asked says the same
        with httpx.Client(base_url=server.url) as other:
            after = numbers(other)
        for name in (asked, degraded, stage):
            assert after[name] - before.get(name, 0) == 24
        accepted = [k for k in after if k.startswith("segue_events_total") and 'result="accepted"' in k]
        rejected = [k for k in after if k.startswith("segue_events_total") and '"missing_track_id"' in k]
        assert sum(after[k] - before.get(k, 0) for k in accepted) == 2
        assert sum(after[k] - before.get(k, 0) for k in rejected) == 1
        assert after['segue_workers_by_bundle{bundle="2026-11-21-4f1c"}'] in (1, 2)


def test_invented_names_do_not_grow_the_numbers(http: httpx.Client) -> None:
    for n in range(30):
        http.get(f"/v1/recommendations/x{n}")
        http.get(f"/y{n}")
        http.request(f"METHOD{n}", "/healthz")
    assert not [name for name in numbers(http) if re.search(r'"(x|y|METHOD)\d', name)]


# --- load, death and the end
# -----------------------------------------------------------------------------------------


async def ask(server: Running, path: str) -> str:
    """The head of an answer, over a connection of its own; much cheaper than a client when there are hundreds."""
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer.partition(b"\r\n\r\n")[0].decode()


def test_a_flood_is_refused_at_once_and_health_still_answers(server: Running) -> None:
    async def flood() -> tuple[list[str], str, int]:
        asked = [asyncio.ensure_future(ask(server, f"{HOME}?user_id={IS_SLOW}")) for _ in range(250)]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        health = await ask(server, "/healthz")
        waiting = sum(not a.done() for a in asked)
        return await asyncio.gather(*asked), health, waiting

    answers, health, waiting = asyncio.run(flood())
    assert health.startswith("HTTP/1.1 200")
    assert waiting > 0, "health was to be asked while others waited"
    served = [a for a in answers if a.startswith("HTTP/1.1 200")]
    refused = [a for a in answers if a.startswith("HTTP/1.1 429") and "\r\nretry-after: 1" in a]
    assert len(served) + len(refused) == 250
    assert len(served) >= 64
    assert refused
    assert httpx.get(f"{server.url}{HOME}?user_id={IS_SLOW}").status_code == 200


def workers_of(running: Running) -> set[int]:
    """The worker processes. Skips where there is no /proc to find them."""
    children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children")
    if not children.exists():
        pytest.skip("needs /proc to find the workers")
    return worker_pids(running.process.pid)


def test_a_worker_that_is_killed_is_replaced_however_often(tmp_path: Path) -> None:
    running = Running(tmp_path, workers=2)
    try:
        for round_ in range(5):
            before = workers_of(running)
            victims = sorted(before)[-1:] if round_ < 4 else before  # the newest dies again; in the end both
            for victim in victims:
                os.kill(victim, signal.SIGKILL)
            deadline = time.monotonic() + 20
            while len(now := workers_of(running)) != 2 or now & set(victims):
                assert running.process.poll() is None, running.said()
                assert time.monotonic() < deadline, running.said()
                time.sleep(0.02)
        running.await_answer()
        assert httpx.get(f"{running.url}{HOME}").status_code == 200
    finally:
        assert running.stop() == 0


def test_each_worker_keeps_to_a_cpu_of_its_own(tmp_path: Path) -> None:
    all_cpus = os.sched_getaffinity(0)
    some = set(sorted(all_cpus)[:2])
    os.sched_setaffinity(0, some)  # the server inherits it
    try:
        running = Running(tmp_path, workers=len(some))
    finally:
        os.sched_setaffinity(0, all_cpus)
    try:
        await_cpus(running, some)
        os.kill(min(workers_of(running)), signal.SIGKILL)
        await_cpus(running, some)
    finally:
        running.stop()


def await_cpus(running: Running, cpus: set[int]) -> None:
    """Wait until each of these CPUs has a worker that keeps to it."""
    deadline = time.monotonic() + 30
    while True:
        kept = []
        for pid in workers_of(running):
            with contextlib.suppress(ProcessLookupError):
                kept.append(os.sched_getaffinity(pid))
        if sorted(kept, key=min) == [{cpu} for cpu in sorted(cpus)]:
            return
        assert time.monotonic() < deadline, (kept, running.said())
        time.sleep(0.05)


def test_a_worker_that_ends_by_itself_after_it_served_is_replaced(tmp_path: Path) -> None:
    running = Running(tmp_path, workers=1)
    try:
        [victim] = workers_of(running)
        os.kill(victim, signal.SIGTERM)  # it ends in order, with status 0
        deadline = time.monotonic() + 20
        while not workers_of(running) - {victim}:
            assert time.monotonic() < deadline, running.said()
            time.sleep(0.02)
        running.await_answer()
    finally:
        assert running.stop() == 0


def test_a_worker_that_cannot_start_ends_the_server_with_the_reason(tmp_path: Path) -> None:
    nowhere = tmp_path / "absent" / "events.jsonl"
    ended = subprocess.run(
        [sys.executable, str(SERVER), "--workers", "2", "--events", str(nowhere)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "FileNotFoundError" in ended.stderr
    assert "cannot start" in ended.stderr


def test_too_few_open_files_are_said_at_once_and_a_low_limit_is_raised(tmp_path: Path) -> None:
    command = [sys.executable, str(SERVER), "--events", str(tmp_path / "e.jsonl")]
    ended = subprocess.run(
        ["sh", "-c", 'ulimit -n 100 && exec "$@"', "sh", *command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode != 0
    assert "this process may open 100 files, and a server needs 512 or more" in ended.stderr
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))  # the server inherits it
    try:
        running = Running(tmp_path, workers=1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        [worker] = workers_of(running)
        assert resource.prlimit(worker, resource.RLIMIT_NOFILE)[0] == min(hard, FILES)
    finally:
        assert running.stop() == 0


def test_it_ends_after_answering_what_it_began(tmp_path: Path) -> None:
    running = Running(tmp_path, workers=2)
    answers: list[httpx.Response] = []
    asking = threading.Thread(
        target=lambda: answers.append(httpx.get(f"{running.url}{HOME}?user_id={IS_SLOWER}", timeout=20))
    )
    asking.start()
    time.sleep(0.4)
    assert running.stop() == 0
    asking.join(20)
    assert [a.status_code for a in answers] == [200]
    assert running.events.with_suffix(".closed").read_text() == "closed\n" * 2


def test_a_second_server_on_the_same_port_is_refused(server: Running, tmp_path: Path) -> None:
    port = server.url.rpartition(":")[2]
    second = subprocess.run(
        [sys.executable, str(SERVER), "--port", port, "--events", str(tmp_path / "e.jsonl")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode != 0
    assert f"Conflict: serving.port: 127.0.0.1:{port} is in use" in second.stderr


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/tracks/%FF%FE HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /v1/recommendations/home?user_id=\xff HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 1_000_000 + b"\r\n\r\n",
    ],
    ids=[
        "binary",
        "version",
        "path-bytes",
        "path-escape",
        "query-bytes",
        "negative-length",
        "cut-body",
        "long-header",
    ],
)
def test_broken_http_harms_nobody(server: Running, http: httpx.Client, raw: bytes) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection, contextlib.suppress(OSError):
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(10_000)
        assert not answer or re.match(rb"HTTP/1\.[01] 4\d\d", answer), answer[:200]
    assert http.get("/healthz").status_code == 200


# --- OpenAPI
# ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def described(server: Running) -> dict[str, Any]:
    """The OpenAPI document."""
    found: dict[str, Any] = httpx.get(f"{server.url}/openapi.json").json()
    return found


def test_openapi_describes_everything(described: dict[str, Any]) -> None:
    assert described["openapi"] == "3.1.0"
    assert set(described["paths"]) == {
        "/v1/recommendations/{surface}",
        "/v1/events",
        "/v1/tracks",
        "/v1/tracks/{track_id}",
        "/v1/search",
        "/v1/experiments",
        "/v1/experiments/{name}",
        "/v1/experiments/{name}/stop",
        "/v1/listeners",
        "/v1/listeners/{user_id}",
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
    }
    text = msgspec.json.encode(described).decode()
    for name in re.findall(r'"\$ref":"#/components/schemas/(\w+)"', text):
        assert name in described["components"]["schemas"]
    names = []
    for path, methods in described["paths"].items():
        for operation in methods.values():
            names.append(operation["operationId"])
            assert operation["summary"]
            assert operation["description"]
            assert {"400", "500"} <= set(operation["responses"])
            parameters = operation.get("parameters", [])
            assert {p["name"] for p in parameters if p["in"] == "path"} == set(re.findall(r"{(\w+)}", path))
            assert all(p["description"] and "example" in p for p in parameters)
    assert len(names) == len(set(names))


def test_examples_of_openapi_work_as_they_stand(described: dict[str, Any], http: httpx.Client) -> None:
    order = ("put", "post", "get", "delete")  # what is asked for has been put there
    every = [(method, path) for path, methods in described["paths"].items() for method in methods]
    for method, path in sorted(every, key=lambda one: order.index(one[0])):
        operation = described["paths"][path][method]
        examples = {p["name"]: p["example"] for p in operation.get("parameters", [])}
        query = {
            p["name"]: ",".join(map(str, p["example"])) if isinstance(p["example"], list) else p["example"]
            for p in operation.get("parameters", [])
            if p["in"] == "query"
        }
        url = path.format_map(examples)
        said = [code for code in operation["responses"] if code.startswith("2")]
        sent = operation.get("requestBody", {"content": {"application/json": {"example": ""}}})
        for media, content in sent["content"].items():
            example = content["example"]
            body = example.encode() if isinstance(example, str) else msgspec.json.encode(example)
            headers = {"content-type": media} if body else {}
            answer = http.request(method, url, params=query, content=body, headers=headers)
            assert [str(answer.status_code)] == said, (method, url, answer.text)


def conforms(value: Any, schema: dict[str, Any], schemas: dict[str, Any]) -> bool:
    """Whether a value meets the part of JSON Schema that msgspec writes."""
    if "$ref" in schema:
        return conforms(value, schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "anyOf" in schema:
        return any(conforms(value, option, schemas) for option in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    kind = schema.get("type")
    if kind == "object":
        if not isinstance(value, dict) or not set(schema.get("required", ())) <= set(value):
            return False
        properties = schema.get("properties")
        if properties is None:
            rest = schema.get("additionalProperties", {})
            return not isinstance(rest, dict) or all(conforms(v, rest, schemas) for v in value.values())
        return set(value) <= set(properties) and all(
            conforms(v, properties[k], schemas) for k, v in value.items()
        )
    if kind == "array":
        return isinstance(value, list) and all(conforms(v, schema.get("items", {}), schemas) for v in value)
    types: dict[str, Any] = {
        "integer": int,
        "number": (int, float),
        "string": str,
        "boolean": bool,
        "null": type(None),
    }
    return kind is None or (
        isinstance(value, types[kind]) and (kind == "boolean" or not isinstance(value, bool))
    )


TEXTS = st.one_of(
    st.integers(-5, 2**65).map(str),
    st.sampled_from(
        ["home", "1", "0", "DE", "1,2,3", "", "%", "null", "true", "NaN", "../..", "'--", "\x00"]
    ),
    st.text(max_size=30),
)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_asked_the_answer_is_one_that_is_documented(
    described: dict[str, Any], http: httpx.Client, data: st.DataObject
) -> None:
    paths = [p for p, methods in described["paths"].items() if "get" in methods]
    path = data.draw(st.sampled_from(paths))
    operation = described["paths"][path]["get"]
    names = [p["name"] for p in operation.get("parameters", []) if p["in"] == "query"]
    query = data.draw(
        st.dictionaries(st.one_of(st.sampled_from([*names, "k"]), st.text(max_size=8)), TEXTS, max_size=4)
    )
    url = re.sub(r"{\w+}", lambda _: quote(data.draw(TEXTS), safe=""), path)
    check(http.get(url, params=query), operation, described)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(
                    st.sampled_from(["type", "user_id", "track_id", "events", "event_id"]), inner, max_size=4
                )
            ),
        ).map(lambda value: msgspec.json.encode(value) if not _too_big(value) else b"[1e999]"),
    ),
    media=st.sampled_from(["application/json", "application/x-ndjson", "text/html"]),
)
def test_whatever_is_posted_the_answer_is_one_that_is_documented(
    described: dict[str, Any], http: httpx.Client, body: bytes, media: str
) -> None:
    answer = http.post("/v1/events", content=body, headers={"content-type": media})
    check(answer, described["paths"]["/v1/events"]["post"], described)


def _too_big(value: Any) -> bool:
    if isinstance(value, int):
        return not -(2**63) <= value < 2**64
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_too_big(part) for part in parts)


def check(answer: httpx.Response, operation: dict[str, Any], described: dict[str, Any]) -> None:
    """The answer has a documented status, media type and shape, and is no fault of the server."""
    status = str(answer.status_code)
    if status == "404" and "404" not in operation["responses"]:
        assert "no such path" in answer.text  # an empty or slashed path parameter leads elsewhere
        return
    assert status in set(operation["responses"]) - {"500"}, (status, answer.text)
    content = operation["responses"][status]["content"]
    media = answer.headers["content-type"].partition(";")[0]
    assert media in content
    if media.endswith("json"):
        schema = content[media]["schema"]
        assert conforms(answer.json(), schema, described["components"]["schemas"]), answer.text


def test_a_server_told_to_end_does_not_wait_for_workers_that_are_starting(tmp_path: Path) -> None:
    running = Running(tmp_path, "--fork-s", "0.5", workers=2)  # so long a worker has the server's handlers
    before = workers_of(running)
    for victim in before:
        os.kill(victim, signal.SIGKILL)
    while not workers_of(running) - before:
        time.sleep(0.001)
    began = time.monotonic()
    assert running.stop() == 0
    assert time.monotonic() - began < DRAIN_S / 2


def test_workers_end_when_the_server_s_process_is_killed(tmp_path: Path) -> None:
    running = Running(tmp_path, workers=2)
    try:
        orphans = workers_of(running)
        running.process.kill()
        deadline = time.monotonic() + 20
        while any(Path(f"/proc/{pid}").exists() for pid in orphans):
            assert time.monotonic() < deadline, "workers go on without their server"
            time.sleep(0.05)
        with pytest.raises(httpx.ConnectError):  # the port is free for the next server
            httpx.get(f"{running.url}/healthz")
        assert "this worker ends" in running.said()
    finally:
        running.stop()
