"""Engines side by side, which build chunks of one step at once, each with its share of memory, threads and rows.

The days of a step do not read each other, and a chunk is one commit, which touches its own days only: any order will do.
Threads suffice: an engine's work is done outside of Python.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final, TypeVar

import msgspec

from segue.contracts.errors import InvalidInput
from segue.contracts.ports import Engine
from segue.settings.tree import Settings, Warehouse

LEAST_MB: Final = 256
"""Memory below which an engine cannot work."""
OpenEngine = Callable[[Warehouse], Engine]
Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Team:
    """Engines, and the settings each of them was opened with."""

    engines: Sequence[Engine]
    settings: Settings

    def each(
        self, jobs: Sequence[Job], do: Callable[[Engine, Job], Result]
    ) -> Iterator[tuple[Job, Result | BaseException | None]]:
        """Do the jobs in order, as many at once as there are engines.

        Tells each job twice: with None when it begins, with its result or its error when it ends. After an error no other job
        begins, and the error is raised when those at work have ended.
        """
        if len(self.engines) == 1:
            yield from _one_by_one(self.engines[0], jobs, do)
            return
        free: SimpleQueue[Engine] = SimpleQueue()
        for engine in self.engines:
            free.put(engine)

        def work(job: Job) -> Result:
            engine = free.get()
            try:
                return do(engine, job)
            finally:
                free.put(engine)

        waiting, running = deque(jobs), dict[Future[Result], Job]()
        failed: BaseException | None = None
        with ThreadPoolExecutor(len(self.engines)) as pool:
            while waiting or running:
                while waiting and len(running) < len(self.engines):
                    job = waiting.popleft()
                    yield job, None
                    running[pool.submit(work, job)] = job
                for ended in wait(running, return_when=FIRST_COMPLETED).done:
                    job, error = running.pop(ended), ended.exception()
                    if error is None:
                        yield job, ended.result()
                    else:
                        waiting.clear()
                        failed = failed or error
                        yield job, error
        if failed is not None:
            raise failed


@contextmanager
def opened(open_engine: OpenEngine, settings: Settings, size: int) -> Iterator[Team]:
    """A team of that size, for the time of the block."""
    share = shared(settings, size)
    with ExitStack() as stack:
        yield Team([stack.enter_context(closing(open_engine(share.warehouse))) for _ in range(size)], share)


def shared(settings: Settings, size: int) -> Settings:
    """The settings of each of so many engines that work at once. Raises InvalidInput if there is too little memory for them."""
    whole = settings.warehouse
    memory_mb = whole.memory_mb // size
    if size > 1 and memory_mb < LEAST_MB:
        raise InvalidInput(
            f"--parallel: {size} engines would have {memory_mb} MB each of warehouse.memory_mb, {whole.memory_mb}, and "
            f"each needs {LEAST_MB}; ask for at most {max(1, whole.memory_mb // LEAST_MB)}, or raise warehouse.memory_mb",
            field="--parallel",
            limit=f"warehouse.memory_mb / {LEAST_MB}",
        )
    share = msgspec.structs.replace(
        whole,
        memory_mb=memory_mb,
        threads=max(1, (whole.threads or os.cpu_count() or 1) // size),
        chunk_rows=max(1, whole.chunk_rows // size),
    )
    return msgspec.structs.replace(settings, warehouse=share if size > 1 else whole)


def _one_by_one(
    engine: Engine, jobs: Sequence[Job], do: Callable[[Engine, Job], Result]
) -> Iterator[tuple[Job, Result | BaseException | None]]:
    for job in jobs:
        yield job, None
        try:
            result = do(engine, job)
        except Exception as error:
            yield job, error
            raise
        yield job, result
