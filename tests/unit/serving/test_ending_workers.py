"""How the server's process ends its workers, and tells them apart."""

import logging
import multiprocessing
import signal
import threading
import time
from multiprocessing.connection import wait
from types import SimpleNamespace
from typing import Any

import pytest
from granian.constants import Interfaces

from segue.serving.workers import Server


def ends_when_told(started: Any) -> None:
    started.set()
    signal.pause()


def goes_on(started: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    started.set()
    time.sleep(600)


def _worker(target: Any) -> SimpleNamespace:
    """One as granian keeps it, another thread of which waits for its end."""
    context = multiprocessing.get_context("fork")
    started = context.Event()
    inner = context.Process(target=target, args=(started,))
    inner.start()
    assert started.wait(60)
    threading.Thread(target=inner.join, daemon=True).start()
    return SimpleNamespace(inner=inner, idx=0, terminate=inner.terminate, kill=inner.kill, join=inner.join)


def _ended(caplog: pytest.LogCaptureFixture, *targets: Any) -> tuple[list[int | None], list[str]]:
    server = Server("segue", interface=Interfaces.ASGI, workers_kill_timeout=1)
    server.wrks = [_worker(target) for target in targets]
    processes = [worker.inner for worker in server.wrks]
    with caplog.at_level(logging.WARNING, "segue.serving"):
        server._stop_workers()
    assert server.wrks == []
    until = (
        time.monotonic() + 60
    )  # the thread that was told how one ended says it to the others within moments
    while any(process.exitcode is None for process in processes):
        assert time.monotonic() < until
        time.sleep(0.001)
    return [process.exitcode for process in processes], [record.getMessage() for record in caplog.records]


def test_workers_that_end_are_not_called_killed(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(20):
        codes, said = _ended(caplog, ends_when_told, ends_when_told)
        assert said == []
        assert set(codes) == {-signal.SIGTERM}


def test_a_worker_that_does_not_end_is_killed_and_named(caplog: pytest.LogCaptureFixture) -> None:
    codes, said = _ended(caplog, goes_on, ends_when_told)

    assert codes == [-signal.SIGKILL, -signal.SIGTERM]
    assert said == ["worker-1 is killed: it has not ended within 1 s"]


def tells_its_place(idx: int, name: str, load: Any, *rest: Any) -> None:
    load()
    signal.pause()


def test_each_living_worker_has_a_place_of_its_own() -> None:
    server = Server("segue", interface=Interfaces.ASGI)
    server._ssp = server._shd = server._sso = None
    told = multiprocessing.get_context("fork").SimpleQueue()
    workers = {}

    def begin() -> int:
        worker = server._spawn_worker(0, tells_its_place, lambda *named: told.put(named))
        worker.start()
        place = told.get()[1]
        assert place not in workers
        workers[place] = worker
        return int(place)

    def end(place: int) -> None:
        worker = workers.pop(place)
        worker.kill()
        assert wait([worker.inner.sentinel], 60)

    try:
        assert [begin() for _ in range(3)] == [0, 1, 2]
        end(1)
        assert begin() == 1
        end(0)
        end(2)
        assert [begin(), begin()] == [0, 2]
    finally:
        for place in list(workers):
            end(place)


@pytest.mark.parametrize("code", [-signal.SIGABRT, 1])
def test_a_worker_that_ends_by_itself_at_its_start_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    server = Server("segue", interface=Interfaces.ASGI)
    told: list[bool] = []
    monkeypatch.setattr(server, "signal_handler_interrupt", lambda: told.append(True))
    inner = SimpleNamespace(exitcode=code)
    server.wrks = [SimpleNamespace(inner=inner, idx=0, birth=time.monotonic(), is_alive=lambda: False)]
    server._respawn_workers([0], goes_on, goes_on)
    assert told == [True]
