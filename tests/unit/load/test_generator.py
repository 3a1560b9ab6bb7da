"""The generator against servers that misbehave, in one event loop with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from segue.load.connections import BROKEN, NO_CONNECTION, TIMED_OUT
from segue.load.generator import NOT_SENT, Generator, new_loop
from segue.load.plan import Address, Plan
from segue.load.tally import Tally

PAGE = msgspec.json.encode(
    {
        "request_id": "01a205ec-6ed4-7a4e-a953-32b2bf98f07e",
        "surface": "home",
        "items": [{"track_id": n, "position": n} for n in range(20)],
    }
)
Answer = Callable[[str, bytes], Awaitable[bytes | None]]


def http(body: bytes, status: int = 200, more: str = "") -> bytes:
    return f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


async def well(head: str, body: bytes) -> bytes | None:
    """As Segue answers."""
    if head.startswith("GET"):
        return http(PAGE)
    results = [{"status": "accepted", "event_id": event["event_id"]} for event in msgspec.json.decode(body)]
    return http(msgspec.json.encode({"accepted": len(results), "rejected": 0, "results": results}), 202)


def drive(
    answer: Answer, begun: list[Generator] | None = None, one_each: bool = False, **changes: Any
) -> Tally:
    """What a run against a server that answers so has counted. None as an answer closes the connection."""

    handlers: list[asyncio.Task[Any]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.append(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(
                    (int(line[15:]) for line in head.split("\r\n") if line.startswith("Content-Length:")), 0
                )
                said = await answer(head, await reader.readexactly(length))
                if said is None:
                    return
                writer.write(said)
                if one_each:
                    await reader.read(1)
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def run() -> Tally:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        given: dict[str, Any] = {"rate": 200.0, "duration_s": 1.0, "speed": 1_000.0}
        plan = Plan(Address("127.0.0.1", port, False, "localhost"), range(10), **given | changes)
        told: list[Tally] = []
        generator = Generator(plan, 0, told.append)
        if begun is not None:
            begun.append(generator)
        await generator.run()
        server.close()
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
        assert told[-1].over
        return told[-1]

    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(run())


def errors(tally: Tally) -> dict[str, int]:
    found: dict[str, int] = {}
    for kind in tally.kinds.values():
        for what, count in kind.errors.items():
            found[what] = found.get(what, 0) + count
    return found


def answered(tally: Tally) -> int:
    return sum(kind.latency.total for kind in tally.kinds.values())


def intended(tally: Tally) -> int:
    return sum(kind.intended for kind in tally.kinds.values())


def test_every_request_that_was_due_is_answered_and_every_event_acknowledged(tmp_path: Path) -> None:
    kept = tmp_path / "events.jsonl"
    heads: list[str] = []

    async def listen(head: str, body: bytes) -> bytes | None:
        heads.append(head)
        return await well(head, body)

    tally = drive(listen, key="secret", acknowledged=kept)
    assert errors(tally) == {}
    assert 100 < intended(tally) == answered(tally) == len(heads)
    assert {"home", "next-up", "events"} <= tally.kinds.keys()
    assert all("Authorization: Bearer secret\r\n" in head and "Host: localhost\r\n" in head for head in heads)
    lines = [msgspec.json.decode(line) for line in kept.read_bytes().splitlines()]
    assert 50 < tally.events == tally.acknowledged == len(lines) == len({line["event_id"] for line in lines})


def test_a_stall_is_charged_with_everything_that_was_due_in_it() -> None:
    """A closed loop would see one slow answer per connection, and a p99 of milliseconds: coordinated omission."""
    stall = asyncio.Event()
    seen = 0

    async def stalling(head: str, body: bytes) -> bytes | None:
        nonlocal seen
        seen += 1
        if seen == 50:
            asyncio.get_running_loop().call_later(1.0, stall.set)
        if seen >= 50:
            await stall.wait()
        return await well(head, body)

    tally = drive(stalling, duration_s=2.5, connections=4)
    waited = sum(
        kind.latency.counts[bucket]
        for kind in tally.kinds.values()
        for bucket in kind.latency.counts
        if bucket >= (11 << 7) + 128  # 256 ms and more
    )
    assert errors(tally) == {}
    assert waited > 100, "three quarters of the 200 that were due in that second waited for 256 ms or more"
    assert tally.waited > 50, "and most of them for a connection"


def test_a_request_that_an_idle_connection_was_closed_under_is_sent_again() -> None:
    tally = drive(well, one_each=True)
    assert errors(tally) == {}
    assert answered(tally) == intended(tally) > 100


def test_what_the_warm_up_held_is_not_counted() -> None:
    async def slow_at_first(head: str, body: bytes) -> bytes | None:
        return await well(head, body)

    whole = drive(slow_at_first, duration_s=1.5)
    part = drive(slow_at_first, duration_s=1.5, warm_up_s=1.0)
    assert 0 < intended(part) < intended(whole) * 0.6
    assert part.seconds < 0.51


def test_refusals_breaks_and_nonsense_are_counted_by_kind() -> None:
    said = [
        http(b"{}", 429),
        None,
        b"nonsense\r\n\r\n",
        http(b"[]"),
        http(PAGE, more="Connection: close\r\n"),
    ]

    async def badly(head: str, body: bytes) -> bytes | None:
        said.append(said.pop(0))
        return said[-1]

    found = errors(drive(badly))
    assert found.keys() >= {"status 429", BROKEN}
    assert any(what.startswith("not HTTP") for what in found)
    assert any(what.startswith("another answer than Segue's") for what in found)


def test_a_server_that_never_answers_ends_the_run_all_the_same() -> None:
    async def never(head: str, body: bytes) -> bytes | None:
        await asyncio.sleep(60)
        return None

    tally = drive(never, timeout_s=0.3, connections=2)
    found = errors(tally)
    assert answered(tally) == 0
    assert found.keys() >= {TIMED_OUT, NO_CONNECTION, NOT_SENT}
    assert sum(found.values()) == intended(tally), "what was never sent was due all the same"
    assert 100 < intended(tally) < 320


def test_nobody_listening_is_an_error_of_each_request() -> None:
    async def run() -> Tally:
        plan = Plan(
            Address("127.0.0.1", 9, False, "localhost"), (1,), rate=50.0, duration_s=1.0, speed=1_000.0
        )
        told: list[Tally] = []
        await Generator(plan, 0, told.append).run()
        return told[-1]

    with asyncio.Runner(loop_factory=new_loop) as runner:
        tally = runner.run(run())
    assert any(what.startswith("cannot connect") for what in errors(tally))
    assert sum(errors(tally).values()) == intended(tally) > 20


def test_refused_events_are_counted_by_reason_and_not_kept(tmp_path: Path) -> None:
    async def picky(head: str, body: bytes) -> bytes | None:
        if head.startswith("GET"):
            return http(PAGE)
        results = [{"status": "rejected", "reason": "ts_in_future"} for _ in msgspec.json.decode(body)]
        results[0] = {"status": "accepted"}
        return http(
            msgspec.json.encode({"accepted": 1, "rejected": len(results) - 1, "results": results}), 202
        )

    kept = tmp_path / "events.jsonl"
    tally = drive(picky, acknowledged=kept, duration_s=2.0)
    posts = tally.kinds["events"].intended
    assert tally.acknowledged == posts == len(kept.read_bytes().splitlines())
    assert tally.refused == {"ts_in_future": tally.events - posts}
    assert tally.events > posts


def test_a_run_can_be_stopped() -> None:
    async def stop_at(head: str, body: bytes) -> bytes | None:
        started[0].stop()
        return await well(head, body)

    started: list[Generator] = []
    tally = drive(stop_at, duration_s=600.0, begun=started)
    assert 0 < tally.seconds < 60
    assert answered(tally) >= 1
