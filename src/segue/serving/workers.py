"""Who replaces a worker, and when that is of no use.

granian ends the server if one worker dies twice within seconds, whatever it died of; and it goes on for ever with a worker that
takes longer than that to fail. What matters is how it died. A worker that was killed (kill -9, out of memory) is replaced, for as
long as it takes. One that ends by itself with an error, or aborts, soon after its start, cannot start: another one could not
either.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import count
from multiprocessing.connection import wait
from typing import Any, Final

from granian.server.mp import MPServer, WorkerProcess

START_S: Final = 60.0
"""A worker that fails by itself so soon could not start."""
AGAIN_S: Final = 5.0
"""A worker that was killed so soon is replaced after PAUSE_S: what kills it may do so at every start."""
PAUSE_S: Final = 0.5


LOOK_S: Final = 1.0
"""How often a worker looks whether it is still wanted."""


_log = logging.getLogger("segue.serving")


def end_with(parent: int, drain_s: float) -> None:
    """Have this worker end when the server's process does, even if that was killed: it would go on answering from a port that
    the next server cannot have. It answers what it has begun, for `drain_s` at most. Returns at once.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_S)
        _log.error("the server's process %d is gone: this worker ends", parent)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(drain_s)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def keep_to_cpu(worker: int, workers: int) -> None:
    """Keep this worker and its threads to a CPU of their own, where there are as many workers as CPUs they may run on.

    What a request needs then stays in that CPU's cache, and no thread of a worker wakes another one across CPUs, which in a
    virtual machine costs more than what most threads are woken for. Requests cannot pile up on a CPU that others keep busy:
    workers share them. Call it before threads are started.
    """
    if hasattr(os, "sched_setaffinity"):  # Linux
        cpus = sorted(os.sched_getaffinity(0))
        if len(cpus) == workers:
            os.sched_setaffinity(0, {cpus[worker]})


class Server(MPServer):
    """granian's server, with our answer to a worker that dies."""

    _failed = False
    """A worker could not start: that is what the server ended of."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._places: dict[int, WorkerProcess] = {}

    def _spawn_worker(self, idx: int, target: Any, callback_loader: Any) -> WorkerProcess:  # type: ignore[override]
        """Tell what loads the application which worker it is, from 0, and its place: the first that no living worker has. That is
        below the number of workers, or that number itself while one makes room for another.
        """
        place = next(n for n in count() if n not in self._places or _ended(self._places[n]))
        worker = super()._spawn_worker(idx, target, partial(callback_loader, idx, place))
        self._places[place] = worker
        return worker

    def shutdown(self, exit_code: int = 0) -> None:
        """End the workers. Raises SystemExit with status 1 if one of them could not start."""
        exit_code = exit_code or int(self._failed)
        try:
            super().shutdown(exit_code)  # type: ignore[no-untyped-call]
        except SystemExit:
            if exit_code:
                raise
            # A worker that was killed and not yet replaced when the server was told to end is an error to granian, not to us.

    def _stop_workers(self) -> None:
        """End all workers; kills those that take too long."""
        for worker in self.wrks:
            worker.terminate()  # type: ignore[no-untyped-call]
        until = time.monotonic() + (self.workers_kill_timeout or 0)
        for worker in self.wrks:
            if not _ended(worker, max(until - time.monotonic(), 0)):
                _log.warning(
                    "worker-%d is killed: it has not ended within %d s",
                    worker.idx + 1,
                    self.workers_kill_timeout,
                )
                worker.kill()  # type: ignore[no-untyped-call]
            worker.join()  # type: ignore[no-untyped-call]
        self.wrks.clear()

    def _respawn_workers(
        self,
        workers: Iterable[int],
        spawn_target: Callable[..., None],
        target_loader: Callable[..., Any],
        delay: float = 0,
    ) -> None:
        # Not only those of `workers`: one that died while that list was emptied is in no list any more.
        dead = [worker for worker in self.wrks if not worker.is_alive()]  # type: ignore[no-untyped-call]
        for worker in dead:
            age = time.monotonic() - worker.birth
            code = worker.inner.exitcode or 0
            # What is not Python aborts where it cannot have a thread or a file.
            if (code > 0 or code == -signal.SIGABRT) and age < START_S:
                _log.error("worker-%d cannot start: its error stands above. The server ends", worker.idx + 1)
                self._failed = True
                self.signal_handler_interrupt()  # type: ignore[no-untyped-call]
                return
            if age < AGAIN_S:
                time.sleep(PAUSE_S)
        # With a delay each worker in turn makes room for a new one (SIGHUP).
        chosen = workers if delay else [worker.idx for worker in dead]
        super()._respawn_workers(chosen, spawn_target, target_loader, delay)
        self.respawned_wrks.clear()  # of which granian's own rule is made


def _ended(worker: WorkerProcess, within_s: float = 0.0) -> bool:
    """Whether it has, or does soon. The kernel says so: granian asks the object of a process that its watcher waits for in
    another thread, and which then takes one for alive that has just ended.
    """
    return bool(wait([worker.inner.sentinel], within_s))
