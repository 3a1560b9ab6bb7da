"""One queue for all workers of a host: whichever has a thread free answers the next request.

A connection stays with the worker that accepted it. If its requests stayed there too, every worker had a queue of its own, and
one would wait behind a request of five milliseconds while the worker beside it had nothing to do. So a worker puts what it is
asked into a queue that the system keeps (a socket that all of them read), and the answer returns by a socket of its own.
All of these are pairs that the server makes before its workers, who inherit them: they have no name that somebody else
on the machine could write to, no file that is left behind or swept away, and their room is counted in bytes.

A worker may be killed with a request in hand that another one was asked. Whoever was asked does not wait for ever: when
PATIENCE_S are over it answers itself, and so it does where the other one failed (the error is then its own), or where the answer
is too large to be sent. Only the answer that somebody waits for is noted as shown.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import socket
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from secrets import randbits
from time import perf_counter
from typing import Final

import msgspec
from msgspec import Struct

from segue.monitoring.metrics import Metrics
from segue.recommend.api import Request
from segue.serving.lanes import Lane

PATIENCE_S: Final = 2.0
"""What another worker has not answered after this long is not answered by it any more."""
LOOK_S: Final = 0.2
"""How often a thread that waits for a request looks whether it is still wanted, and how long it tries to hand an answer over."""
GRACE_S: Final = 2 * LOOK_S
"""How much longer whoever was asked waits, before it answers itself: what was handed over in time arrives in time."""
MOST_BYTES: Final = 1 << 20
"""More than a message may have; net.core.wmem_max allows for less, 416 KB by default."""
_LIMIT: Final = struct.pack("ll", 0, int(LOOK_S * 1e6))
_log = logging.getLogger("segue.serving")


class Answered(Struct, frozen=True, array_like=True):
    """A response as it is sent: JSON, and what its stages took as a header says it."""

    body: bytes
    timing: list[str]


Prepared = tuple[Answered, Callable[[], None]]
"""An answer, and what notes that it was shown."""


class _Asked(Struct, frozen=True, array_like=True):
    number: int
    by: int
    """The place of the worker that the answer goes to."""
    at: float
    """perf_counter, which on one host is one clock."""
    request: Request


class _Reply(Struct, frozen=True, array_like=True):
    number: int
    answered: Answered | None
    """None: whoever was asked is to answer itself."""


_encode: Final = msgspec.msgpack.Encoder().encode
_asked: Final = msgspec.msgpack.Decoder(_Asked).decode
_reply: Final = msgspec.msgpack.Decoder(_Reply).decode


@dataclass(frozen=True)
class Line:
    """A connected pair of sockets that carries messages whole and in order."""

    put: socket.socket
    take: socket.socket

    @classmethod
    def make(cls) -> Line:
        """With as much room as the system gives, and with its own time limits, not Python's: with those every thread wakes for
        every message, and a full line is tried without a pause.
        """
        put, take = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        put.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MOST_BYTES // 2)  # it doubles that
        put.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _LIMIT)
        take.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _LIMIT)
        return cls(put, take)

    def close(self) -> None:
        """Release both ends."""
        self.put.close()
        self.take.close()


@dataclass(frozen=True)
class Queue:
    """Where requests go, and where answers go: a line to each place that a worker can have."""

    requests: Line
    answers: tuple[Line, ...]

    @classmethod
    def make(cls, workers: int) -> Queue | None:
        """None but on Linux (macOS has no such sockets); each worker then answers what it is asked."""
        if sys.platform != "linux":
            return None
        # One place more: on SIGHUP a worker begins before the one it replaces has ended.
        return cls(Line.make(), tuple(Line.make() for _ in range(workers + 1)))

    def close(self) -> None:
        """Release all of it."""
        for line in (self.requests, *self.answers):
            line.close()


class Pool:
    """A worker's part in it: what it is asked it puts into the queue, and what it takes from there it answers.

    `place` is this worker's among the living. `prepare` is called from `threads` threads of the pool, or from those of `lane`
    for what this worker answers itself in the end. Used from one event loop.
    """

    def __init__(
        self,
        queue: Queue,
        place: int,
        prepare: Callable[[Request], Prepared],
        lane: Lane,
        threads: int,
        metrics: Metrics,
    ) -> None:
        self._queue = queue
        self._place = place
        self._prepare = prepare
        self._lane = lane
        self._metrics = metrics
        self._answers = queue.answers[place].take
        self._room = memoryview(bytearray(MOST_BYTES))
        # What waits in the line may be for the worker that had this place before, and is somebody else's page.
        self._numbers = itertools.count(randbits(62))
        self._waiting: dict[int, asyncio.Future[Answered | None]] = {}
        self._full: dict[int, float] = {}
        """When a worker was last found to take no answers, by place."""
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads = [
            threading.Thread(target=self._take, name=f"segue-pool_{n}", daemon=True) for n in range(threads)
        ]

    def start(self) -> None:
        """Begin to answer. Called from the event loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._answers.fileno(), self._read)
        for thread in self._threads:
            thread.start()

    async def run(self, request: Request) -> Answered:
        """The answer of whichever worker is free first. Raises what answering raises, and Overloaded where this worker waits for
        too many already.
        """
        assert self._loop is not None
        number = next(self._numbers)
        with self._lane.admitted():
            future: asyncio.Future[Answered | None] = self._loop.create_future()
            self._waiting[number] = future
            patience = self._loop.call_later(PATIENCE_S + GRACE_S, _settle, future, None)
            message = _encode(_Asked(number, self._place, perf_counter(), request))
            try:
                self._queue.requests.put.send(message, socket.MSG_DONTWAIT)
                answered = await future
            except OSError:  # the queue is full
                answered = None
            finally:
                patience.cancel()
                del self._waiting[number]
        if answered is None:
            answered = await self._lane.run(self._answer, request)
        return answered

    def close(self) -> None:
        """Finish what is at hand and stop. Nobody may wait in `run` any more."""
        self._closing = True
        for thread in self._threads:
            thread.join()
        if self._loop is not None:
            self._loop.remove_reader(self._answers.fileno())

    def _answer(self, request: Request) -> Answered:
        answered, note = self._prepare(request)
        note()
        return answered

    def _read(self) -> None:
        """Take in what other workers have answered."""
        try:
            while True:
                size = self._answers.recv_into(self._room, 0, socket.MSG_DONTWAIT)
                self._settle(_reply(self._room[:size]))
        except BlockingIOError:
            return

    def _settle(self, reply: _Reply) -> None:
        future = self._waiting.get(reply.number)
        if future is not None:  # else it came too late
            _settle(future, reply.answered)

    def _take(self) -> None:
        """Answer what comes, until closed."""
        room = memoryview(bytearray(MOST_BYTES))
        while not self._closing:
            try:
                size = self._queue.requests.take.recv_into(room)
            except BlockingIOError:  # nothing has come
                continue
            asked = _asked(room[:size])
            waited = perf_counter() - asked.at
            # Whoever was asked answers already, or has taken no answers since.
            if waited > PATIENCE_S or asked.at < self._full.get(asked.by, 0.0):
                continue
            self._do(asked, waited)

    def _do(self, asked: _Asked, waited: float) -> None:
        try:
            self._metrics.waited("read", waited)
            answered, note = self._prepare(asked.request)
        except Exception:  # noqa: BLE001 - whoever was asked answers again, and has the error
            self._hand_over(asked, None)
            return
        if perf_counter() - asked.at >= PATIENCE_S or not self._hand_over(asked, answered):
            return
        try:
            note()
        except Exception:  # noqa: BLE001 - it is on its way, and this thread must go on
            _log.exception("an answer was shown that is not noted")

    def _hand_over(self, asked: _Asked, answered: Answered | None) -> bool:
        """Whether it was."""
        reply = _Reply(asked.number, answered)
        if asked.by == self._place:
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._settle, reply)
            return True
        try:
            self._queue.answers[asked.by].put.send(_encode(reply))
        except OSError as error:
            _log.debug("an answer could not be handed to the worker at %d: %s", asked.by, error)
            if error.errno == errno.EMSGSIZE:
                self._hand_over(asked, None)
            else:  # it has no time
                self._full[asked.by] = perf_counter()
            return False
        return True


def _settle(future: asyncio.Future[Answered | None], answered: Answered | None) -> None:
    if not future.done():
        future.set_result(answered)
