"""Bounded lanes: a few threads that run the blocking calls of one kind, and a limit on who may wait for them.

Why threads, and why so few. A recommendation is some milliseconds of work, part of it Python, part of it
kernels without the interpreter lock. Run on the event loop it would be a little faster (measured with 4 ms
of such work and 16 callers on one core: 305 requests/s against 280), but nothing else would be heard
meanwhile: a health check took 51 ms at the median instead of 0.2, and the loop cannot refuse what it has
not read. In a lane the loop stays free, knows how many wait, and says "busy" at once instead of letting a
queue grow beyond what a caller's patience allows. More cores are used by more workers, not by more threads: two
threads that take turns at the interpreter lock answered 7% fewer requests per second of CPU than one. A second one pays
where a store waits long for a network or a disk.

Events have a lane of their own, since each waits for a disk to say that it is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from time import perf_counter
from typing import ParamSpec, TypeVar

from segue.contracts.errors import Overloaded
from segue.monitoring.metrics import Metrics

P = ParamSpec("P")
T = TypeVar("T")


class Lane:
    """A thread pool with a bounded queue. Used from one event loop."""

    def __init__(self, name: str, threads: int, metrics: Metrics, max_inside: int) -> None:
        self._name = name
        self._metrics = metrics
        self._max_inside = max_inside
        self._inside = 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"segue-{name}")

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Counts what is inside. Raises Overloaded if the lane is full."""
        if self._inside >= self._max_inside:
            self._metrics.shed(self._name)
            raise Overloaded(
                f"{self._inside} {self._name} requests are waiting in this worker; try again in a second",
                limit=f"at most {self._max_inside} at once per worker",
            )
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `work(...)`, run in a thread of this lane. Raises Overloaded if the lane is full."""
        asked = perf_counter()

        def timed() -> T:
            self._metrics.waited(self._name, perf_counter() - asked)
            return work(*args, **kwargs)

        with self.admitted():
            return await asyncio.get_running_loop().run_in_executor(self._pool, timed)

    def close(self) -> None:
        """Finish what is running or waiting, then end the threads."""
        self._pool.shutdown(wait=True)
