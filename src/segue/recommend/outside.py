"""Sources that wait for something outside this process run beside the request, in threads of their own.

A call that comes too late is left alone: its request goes on without it. So that calls that hang do not pile up, a source has
at most MOST of them at once; while it has, it is not asked. The threads are daemons: one that hangs does not keep the
process from ending.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, Generic, TypeVar

T = TypeVar("T")

MOST: Final = 8
"""Calls of one source that may be running at once, in a process."""


class Outside(Generic[T]):
    """Runs calls of named sources. Thread-safe."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._running: Counter[str] = Counter()

    def ask(self, name: str, work: Callable[[], T]) -> Future[T] | None:
        """Begin a call; None where MOST earlier ones of that source have not ended."""
        future: Future[T] = Future()
        with self._turn:
            if self._running[name] >= MOST:
                return None
            threading.Thread(
                target=self._run, args=(name, work, future), name=f"source-{name}", daemon=True
            ).start()
            self._running[name] += 1
        return future

    def _run(self, name: str, work: Callable[[], T], future: Future[T]) -> None:
        try:
            future.set_result(work())
        except Exception as error:  # noqa: BLE001 - whatever it is, it is handed to the request, whose trace says it
            future.set_exception(error)
        finally:
            with self._turn:
                self._running[name] -= 1
