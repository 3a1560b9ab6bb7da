"""One queue for all workers of a host: whichever has a thread free answers the next request.

A connection stays with the worker that accepted it. If its requests stayed there too, every worker had a queue of its own, and
one would wait behind a request of five milliseconds while the worker beside it had nothing to do. So a worker puts what it is
asked into a queue that the system keeps (a socket that all of them read), and the answer returns by a socket of its own.

A worker may be killed with a request in hand that another one was asked. Whoever was asked does not wait for ever: after
PATIENCE_S it answers itself, and so it does where the other one failed (the error is then its own), or where the answer is too
large to be sent.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from time import perf_counter
from typing import Final

import msgspec
from msgspec import Struct

from segue.monitoring.metrics import Metrics
from segue.recommend.api import Request
from segue.serving.lanes import Lane

PATIENCE_S: Final = 2.0
"""How long a worker waits for another one's answer before it answers itself."""
LOOK_S: Final = 0.2
"""How often a thread that waits for a request looks whether it is still wanted, and how long it tries to hand an answer over."""
MOST_BYTES: Final = 1 << 18
"""More than a message of such a socket may have."""
_LIMIT: Final = struct.pack("ll", 0, int(LOOK_S * 1e6))
_log = logging.getLogger("segue.serving")


class Answered(Struct, frozen=True, array_like=True):
    """A response as it is sent: JSON, and what its stages took as a header says it."""

    body: bytes
    timing: list[str]


class _Asked(Struct, frozen=True, array_like=True):
    number: int
    by: str
    """Path of the socket that the answer goes to."""
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
class Queue:
    """The two ends of the queue and where answers go, made before the workers, who inherit them."""

    put: socket.socket
    take: socket.socket
    folder: int
    """An open directory."""

    @classmethod
    def make(cls, directory: Path) -> Queue | None:
        """None but on Linux (macOS has no such sockets); each worker then answers what it is asked."""
        if sys.platform != "linux":
            return None
        put, take = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        put.setblocking(False)
        # The system's own time limit, not Python's: with that one every thread wakes for every request.
        take.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _LIMIT)
        return cls(put, take, os.open(directory, os.O_RDONLY | os.O_DIRECTORY))

    def place(self) -> str:
        """The path of a new socket. By the open directory, since the path of a socket may have 107 bytes and $TMPDIR more."""
        return f"/proc/self/fd/{self.folder}/answers-{token_hex(8)}"

    def close(self) -> None:
        """Release all of it."""
        self.put.close()
        self.take.close()
        os.close(self.folder)


class Pool:
    """A worker's part in it: what it is asked it puts into the queue, and what it takes from there it answers.

    `answer` is called from `threads` threads of the pool, or from those of `lane` for what this worker answers itself in the
    end. Used from one event loop.
    """

    def __init__(
        self,
        queue: Queue,
        answer: Callable[[Request], Answered],
        lane: Lane,
        threads: int,
        metrics: Metrics,
    ) -> None:
        self._queue = queue
        self._answer = answer
        self._lane = lane
        self._metrics = metrics
        self._path = queue.place()
        self._replies = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._replies.bind(self._path)
        self._replies.setblocking(False)
        self._room = memoryview(bytearray(MOST_BYTES))
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Answered | None]] = {}
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads = [
            threading.Thread(target=self._take, name=f"segue-pool_{n}", daemon=True) for n in range(threads)
        ]

    def start(self) -> None:
        """Begin to answer. Called from the event loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._replies.fileno(), self._read)
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
            patience = self._loop.call_later(PATIENCE_S, _settle, future, None)
            try:
                self._queue.put.send(_encode(_Asked(number, self._path, perf_counter(), request)))
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
            self._loop.remove_reader(self._replies.fileno())
        self._replies.close()
        Path(self._path).unlink(missing_ok=True)

    def _read(self) -> None:
        """Take in what other workers have answered."""
        try:
            while True:
                size = self._replies.recv_into(self._room)
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
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            # With Python's time limit it would try without a pause: poll does not know that the other one has no room.
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _LIMIT)
            while not self._closing:
                try:
                    size = self._queue.take.recv_into(room)
                except BlockingIOError:  # nothing has come
                    continue
                asked = _asked(room[:size])
                waited = perf_counter() - asked.at
                if waited > PATIENCE_S:  # whoever was asked answers already
                    continue
                self._metrics.waited("read", waited)
                self._hand_over(sender, asked.by, _Reply(asked.number, self._try(asked.request)))

    def _try(self, request: Request) -> Answered | None:
        try:
            return self._answer(request)
        except Exception:  # noqa: BLE001 - whoever was asked answers again, and has the error
            return None

    def _hand_over(self, sender: socket.socket, to: str, reply: _Reply) -> None:
        if to == self._path:
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._settle, reply)
            return
        for message in (reply, _Reply(reply.number, None)):
            try:
                sender.sendto(_encode(message), to)
                return
            except OSError as error:  # too large, or the other one is gone or has no time
                _log.debug("an answer could not be handed to %s: %s", to, error)
                if error.errno != errno.EMSGSIZE:
                    return


def _settle(future: asyncio.Future[Answered | None], answered: Answered | None) -> None:
    if not future.done():
        future.set_result(answered)
