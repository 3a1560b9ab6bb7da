"""Workers that share a queue, here as pools over one: two in one event loop, whose answers say who gave them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from segue.contracts.errors import NotFound, Overloaded
from segue.monitoring.metrics import Metrics
from segue.recommend.api import Request
from segue.serving import pool
from segue.serving.lanes import Lane
from segue.serving.pool import Answered, Pool, Queue

HOME = Request(surface="home", user_id=7, session=(1, 2), variants={"a": "b"})


class Worker:
    """Answers with its name, or as told: `busy` until it is set free."""

    def __init__(self, name: str, queue: Queue, most: int = 10) -> None:
        self.name, self.free, self.asked = name, threading.Event(), list[Request]()
        self.says: Callable[[Request], bytes] = lambda request: name.encode()
        self.free.set()
        self.lane = Lane("read", 1, Metrics(), most)
        self.pool = Pool(queue, self.answer, self.lane, 1, Metrics())

    def answer(self, request: Request) -> Answered:
        self.asked.append(request)
        assert self.free.wait(10)
        return Answered(self.says(request), ["total;dur=1.00"])


@contextmanager
def working(folder: Path, names: str = "ab", most: int = 10) -> Iterator[list[Worker]]:
    queue = Queue.make(folder)
    assert queue is not None
    with closing(queue):
        workers = [Worker(name, queue, most) for name in names]
        for worker in workers:
            worker.pool.start()
        try:
            yield workers
        finally:
            for worker in workers:
                worker.free.set()
                worker.pool.close()
                worker.lane.close()
    assert not list(folder.iterdir())


def test_whoever_is_free_answers(tmp_path: Path) -> None:
    async def go() -> None:
        with working(tmp_path) as (a, b):
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


def test_many_are_answered_each_with_its_own(tmp_path: Path) -> None:
    async def go() -> None:
        with working(tmp_path, "abc", most=400) as workers:
            for worker in workers:
                worker.says = lambda request: str(request.user_id).encode()
            asked = [workers[n % 3].pool.run(Request(surface="home", user_id=n)) for n in range(400)]
            found = await asyncio.gather(*asked)
            assert [answered.body for answered in found] == [str(n).encode() for n in range(400)]

    asyncio.run(go())


def test_a_worker_that_dies_with_a_request_in_hand_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "PATIENCE_S", 0.2)

    async def go() -> None:
        with working(tmp_path, "ab") as (a, b):
            b.free.clear()  # it takes some and does not come back
            while not b.asked:
                found = await asyncio.gather(*(a.pool.run(HOME) for _ in range(8)))
                assert {answered.body for answered in found} == {b"a"}
            b.free.set()  # what it answers after all comes too late, and is nobody's
            await asyncio.sleep(0.1)
            assert (await a.pool.run(HOME)).body in (b"a", b"b")

    asyncio.run(go())


@pytest.mark.parametrize("size", [100, 1 << 20], ids=["an error", "too large to send"])
def test_what_another_cannot_say_is_said_by_whoever_was_asked(tmp_path: Path, size: int) -> None:
    def fails(request: Request) -> bytes:
        if size > 100:
            return bytes(size)
        raise NotFound("user_id: nobody", field="user_id")

    async def go() -> None:
        with working(tmp_path) as workers:
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


def test_a_full_queue_is_not_waited_for(tmp_path: Path) -> None:
    async def go() -> None:
        with working(tmp_path, "a", most=5_000) as (a,):
            a.free.clear()
            waiting = [asyncio.ensure_future(a.pool.run(HOME)) for _ in range(2_000)]
            await asyncio.sleep(0.1)
            a.free.set()
            assert {found.body for found in await asyncio.gather(*waiting)} == {b"a"}

    asyncio.run(go())


def test_too_many_are_refused(tmp_path: Path) -> None:
    async def go() -> None:
        with working(tmp_path, "a", most=2) as (a,):
            a.free.clear()
            waiting = [asyncio.ensure_future(a.pool.run(HOME)) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(Overloaded, match="2 read requests"):
                await a.pool.run(HOME)
            a.free.set()
            await asyncio.gather(*waiting)
            assert (await a.pool.run(HOME)).body == b"a"

    asyncio.run(go())


def test_the_temporary_directory_may_have_a_long_path(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 50)
    folder.mkdir()

    async def go() -> None:
        with working(folder) as workers:
            while not all(worker.asked for worker in workers):
                assert (await workers[0].pool.run(HOME)).body in (b"a", b"b")

    asyncio.run(go())


def test_what_waited_too_long_in_the_queue_is_not_answered_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "PATIENCE_S", 0.2)

    async def go() -> None:
        with working(tmp_path, "a") as (a,):
            a.free.clear()
            asked = [asyncio.ensure_future(a.pool.run(HOME)) for _ in range(8)]
            await asyncio.sleep(0.5)
            a.free.set()
            await asyncio.gather(*asked)
            await a.pool.run(HOME)  # behind all that is still in the queue
            # One had been taken from the queue when its time was over.
            assert len(a.asked) == 8 + 1 + 1

    asyncio.run(go())
