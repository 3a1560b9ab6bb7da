"""Workers that share a queue, here as pools over one: two in one event loop, whose answers say who gave them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial

import pytest

from segue.contracts.errors import NotFound, Overloaded
from segue.monitoring.metrics import Metrics
from segue.recommend.api import Request
from segue.serving import pool
from segue.serving.lanes import Lane
from segue.serving.pool import Answered, Pool, Prepared, Queue

HOME = Request(surface="home", user_id=7, session=(1, 2), variants={"a": "b"})


class Worker:
    """Answers with its name, or as told: `busy` until it is set free."""

    def __init__(self, name: str, queue: Queue, place: int, most: int = 10) -> None:
        self.name, self.free, self.asked, self.shown = (
            name,
            threading.Event(),
            list[Request](),
            list[Request](),
        )
        self.says: Callable[[Request], bytes] = lambda request: name.encode()
        self.free.set()
        self.lane = Lane("read", 1, Metrics(), most)
        self.pool = Pool(queue, place, self.prepare, self.lane, 1, Metrics())

    def prepare(self, request: Request) -> Prepared:
        self.asked.append(request)
        assert self.free.wait(10)
        answered = Answered(self.says(request), ["total;dur=1.00"])
        return answered, partial(self.shown.append, request)


@contextmanager
def working(names: str = "ab", most: int = 10) -> Iterator[list[Worker]]:
    queue = Queue.make(len(names))
    assert queue is not None
    with closing(queue):
        workers = [Worker(name, queue, place, most) for place, name in enumerate(names)]
        for worker in workers:
            worker.pool.start()
        try:
            yield workers
        finally:
            for worker in workers:
                worker.free.set()
                worker.pool.close()
                worker.lane.close()


def test_whoever_is_free_answers() -> None:
    async def go() -> None:
        with working() as (a, b):
            a.free.clear()
            asked = [asyncio.ensure_future(a.pool.run(HOME)) for _ in range(6)]
            while not a.asked:  # until one has come to a, which is busy: all others are b's
                asked.append(asyncio.ensure_future(a.pool.run(HOME)))
                await asyncio.sleep(0.01)
            done, still = await asyncio.wait(asked, timeout=1.0)
            assert len(still) == 1
            assert {found.result().body for found in done} == {b"b"}
            assert b.asked[0] == HOME
            a.free.set()
            assert (await still.pop()).body == b"a"

    asyncio.run(go())


def test_many_are_answered_each_with_its_own() -> None:
    async def go() -> None:
        with working("abc", most=400) as workers:
            for worker in workers:
                worker.says = lambda request: str(request.user_id).encode()
            asked = [workers[n % 3].pool.run(Request(surface="home", user_id=n)) for n in range(400)]
            found = await asyncio.gather(*asked)
            assert [answered.body for answered in found] == [str(n).encode() for n in range(400)]

    asyncio.run(go())


def test_a_worker_that_dies_with_a_request_in_hand_loses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "PATIENCE_S", 0.2)
    monkeypatch.setattr(pool, "GRACE_S", 0.2)

    async def go() -> None:
        with working("ab") as (a, b):
            b.free.clear()  # it takes some and does not come back
            while not b.asked:
                found = await asyncio.gather(*(a.pool.run(HOME) for _ in range(8)))
                assert {answered.body for answered in found} == {b"a"}
            b.free.set()  # what it answers after all comes too late, and is nobody's
            await asyncio.sleep(0.1)
            assert (await a.pool.run(HOME)).body in (b"a", b"b")

    asyncio.run(go())


@pytest.mark.parametrize("size", [100, 1 << 20], ids=["an error", "too large to send"])
def test_what_another_cannot_say_is_said_by_whoever_was_asked(size: int) -> None:
    def fails(request: Request) -> bytes:
        if size > 100:
            return bytes(size)
        raise NotFound("user_id: nobody", field="user_id")

    async def go() -> None:
        with working() as workers:
            for worker in workers:
                worker.says = fails
            while not all(worker.asked for worker in workers):
                run: Awaitable[Answered] = workers[0].pool.run(HOME)
                if size > 100:
                    assert len((await run).body) == size
                else:
                    with pytest.raises(NotFound, match="nobody"):
                        await run

    asyncio.run(go())


def test_a_full_queue_is_not_waited_for() -> None:
    async def go() -> None:
        with working("a", most=5_000) as (a,):
            a.free.clear()
            waiting = [asyncio.ensure_future(a.pool.run(HOME)) for _ in range(2_000)]
            await asyncio.sleep(0.1)
            a.free.set()
            assert {found.body for found in await asyncio.gather(*waiting)} == {b"a"}

    asyncio.run(go())


def test_too_many_are_refused() -> None:
    async def go() -> None:
        with working("a", most=2) as (a,):
            a.free.clear()
            waiting = [asyncio.ensure_future(a.pool.run(HOME)) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(Overloaded, match="2 read requests"):
                await a.pool.run(HOME)
            a.free.set()
            await asyncio.gather(*waiting)
            assert (await a.pool.run(HOME)).body == b"a"

    asyncio.run(go())


def test_what_waited_too_long_in_the_queue_is_not_answered_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "PATIENCE_S", 0.2)
    monkeypatch.setattr(pool, "GRACE_S", 0.2)

    async def go() -> None:
        with working("a") as (a,):
            a.free.clear()
            asked = [asyncio.ensure_future(a.pool.run(HOME)) for _ in range(8)]
            await asyncio.sleep(0.5)
            a.free.set()
            await asyncio.gather(*asked)
            await a.pool.run(HOME)  # behind all that is still in the queue
            # One had been taken from the queue when its time was over.
            assert len(a.asked) == 8 + 1 + 1

    asyncio.run(go())


def test_an_answer_is_noted_as_shown_once_by_whoever_gave_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by who came too late with it, who failed, or whose answer was too large to be handed over."""
    monkeypatch.setattr(pool, "PATIENCE_S", 0.2)
    monkeypatch.setattr(pool, "GRACE_S", 0.2)

    async def go() -> None:
        with working(most=100) as (a, b):

            async def ask(user: int) -> None:
                await a.pool.run(Request(surface="home", user_id=user))

            a.says = b.says = lambda request: bytes(1 << 21)  # too large for the way from b to a
            users = iter(range(10_000))
            while not b.asked:
                await asyncio.gather(*(ask(next(users)) for _ in range(4)))
            b.free.clear()  # too late
            taken = len(b.asked)
            while len(b.asked) == taken:
                await asyncio.gather(*(ask(next(users)) for _ in range(4)))
            b.free.set()
        told = [request.user_id for worker in (a, b) for request in worker.shown]
        assert sorted(told) == list(range(next(users)))

    asyncio.run(go())


def test_a_worker_that_takes_no_answers_costs_the_others_one_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "PATIENCE_S", 1.0)
    monkeypatch.setattr(pool, "GRACE_S", 0.2)
    other = Request(surface="home", user_id=8)

    async def go() -> None:
        with working(most=100) as (a, b):
            a.free.clear()
            b.says = lambda request: bytes(50_000)
            asked = [asyncio.ensure_future(a.pool.run(HOME)) for _ in range(100)]
            await asyncio.sleep(0)
            queue = b.pool._queue.requests.put
            queue.send(pool._encode(pool._Asked(1, 1, time.perf_counter(), other)))
            time.sleep(0.8)  # a's loop stands still: what b has answered fills the way to it
            assert other in b.asked
            assert len(b.asked) < 50
            a.free.set()
            await asyncio.gather(*asked)

    asyncio.run(go())


def test_what_waits_for_the_worker_before_is_not_mine() -> None:
    mine, its = Request(surface="home", user_id=7), Request(surface="home", user_id=8)

    async def go() -> None:
        with working() as (a, b):
            a.says = b.says = lambda request: str(request.user_id).encode()
            a.free.clear()
            while not b.shown:  # a is killed while it waits: b's answers are left in the line
                asked = pool._Asked(next(a.pool._numbers), 2, time.perf_counter(), its)
                a.pool._queue.requests.put.send(pool._encode(asked))
                await asyncio.sleep(0.01)
            a.free.set()
            again = Worker("again", a.pool._queue, 2)
            again.says = a.says
            again.pool.start()
            for _ in range(20):
                assert (await again.pool.run(mine)).body == b"7"
            again.pool.close()

    asyncio.run(go())


def test_a_fault_of_what_counts_or_notes_stops_no_thread(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*arguments: object) -> None:
        raise OSError("no such directory")

    async def go() -> None:
        with working("a") as (a,):
            monkeypatch.setattr(a.pool._metrics, "waited", fails)
            assert (await a.pool.run(HOME)).body == b"a"  # answered in the end by its lane
            monkeypatch.undo()
            a.pool._prepare = lambda request: (Answered(b"noted", []), fails)
            assert (await a.pool.run(HOME)).body == b"noted"
            a.pool._prepare = a.prepare
            assert (await a.pool.run(HOME)).body == b"a"
        assert len(a.shown) == 2

    asyncio.run(go())
    assert "is not noted" in caplog.text
