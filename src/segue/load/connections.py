"""Connections that stay open, up to a bound, each carrying one request at a time.

Raw asyncio and httptools (llhttp, the parser of Node.js): the generator shares the machine with the server it measures, so a
request must cost it little.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from httptools import HttpParserError, HttpResponseParser

from segue.load.plan import Address
from segue.load.sessions import Request

Done = Callable[[int, bytes], None]
"""Gets status and body of an answer; a status of 0 means that there is none, and the body says why."""

TIMED_OUT: Final = "no answer in time"
BROKEN: Final = "connection broken"
NO_CONNECTION: Final = "no free connection in time"
UNFINISHED: Final = "unfinished at the end"


@dataclass(slots=True)
class Exchange:
    """A request on its way, `since` a moment of the loop's clock."""

    request: Request
    since: float
    done: Done

    def fail(self, why: str) -> None:
        """There is no answer."""
        self.done(0, why.encode())


class Pool:
    """The connections of one generator."""

    def __init__(self, address: Address, limit: int, headers: str) -> None:
        self._address = address
        self._limit = limit
        self._tail = f" HTTP/1.1\r\nHost: {address.host_header}\r\n{headers}"
        self._open: set[_Connection] = set()
        self._idle: list[_Connection] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: deque[Exchange] = deque()
        self.sent = 0
        self.waited = 0
        self.bytes_out = 0
        self.bytes_in = 0

    def send(self, exchange: Exchange) -> None:
        """Send a request now, or as soon as a connection is free."""
        self.sent += 1
        self.dispatch(exchange)

    def dispatch(self, exchange: Exchange) -> None:
        """Have a connection take a request."""
        if self._idle:
            self._idle.pop().send(exchange, self._wire(exchange.request))
            return
        self._waiting.append(exchange)
        if len(self._open) + len(self._opening) < self._limit:
            self._begin()
        else:
            self.waited += 1

    def expire(self, before: float) -> None:
        """Give up what began to wait before this moment of the loop's clock."""
        for connection in [c for c in self._open if c.exchange and c.exchange.since < before]:
            connection.fail(TIMED_OUT)
        while self._waiting and self._waiting[0].since < before:
            self._waiting.popleft().fail(NO_CONNECTION)

    def close(self) -> None:
        """Close everything; what has no answer yet fails."""
        for task in self._opening:
            task.cancel()
        while self._waiting:
            self._waiting.popleft().fail(UNFINISHED)
        for connection in list(self._open):
            connection.fail(UNFINISHED)

    def free(self, connection: _Connection) -> None:
        """Called by a connection that has its answer and can take the next request."""
        if self._waiting:
            exchange = self._waiting.popleft()
            connection.send(exchange, self._wire(exchange.request))
        else:
            self._idle.append(connection)

    def lost(self, connection: _Connection) -> None:
        """Called by a connection that is closed."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._refill()

    def _refill(self) -> None:
        if self._waiting and len(self._open) + len(self._opening) < self._limit:
            self._begin()

    def _begin(self) -> None:
        task = asyncio.get_running_loop().create_task(self._connect())
        self._opening.add(task)
        task.add_done_callback(self._opened)

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        self._refill()

    async def _connect(self) -> None:
        tls = ssl.create_default_context() if self._address.tls else None
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(self), self._address.host, self._address.port, ssl=tls
            )
        except OSError as error:
            if self._waiting:
                self._waiting.popleft().fail(f"cannot connect: {error.strerror or error}")
            return
        self._open.add(connection)
        self.free(connection)

    def _wire(self, request: Request) -> bytes:
        if request.body is None:
            head = f"GET {request.path}{self._tail}\r\n".encode()
            self.bytes_out += len(head)
            return head
        head = (
            f"POST {request.path}{self._tail}Content-Type: application/json\r\n"
            f"Content-Length: {len(request.body)}\r\n\r\n"
        ).encode()
        self.bytes_out += len(head) + len(request.body)
        return head + request.body


class _Connection(asyncio.Protocol):
    """One connection; also the callbacks of its parser."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._parser = HttpResponseParser(self)
        self._body: list[bytes] = []
        self._transport: asyncio.Transport
        self._answered = self._heard = False
        self.exchange: Exchange | None = None

    def send(self, exchange: Exchange, wire: bytes) -> None:
        """Write a request; the connection must be idle."""
        self.exchange, self._heard = exchange, False
        self._transport.write(wire)

    def fail(self, why: str) -> None:
        """Close it; a request without an answer fails."""
        self._transport.abort()
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.fail(why)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: it is open."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes came."""
        self._heard = True
        self._pool.bytes_in += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            self.fail(f"not HTTP: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: it is closed. A request that an idle connection was closed under is sent again, as RFC 9112, 9.3.1, has it."""
        exchange = self.exchange
        if exchange is not None and self._answered and not self._heard:
            self.exchange = None
            self._pool.lost(self)
            self._pool.dispatch(exchange)
        else:
            self.fail(BROKEN)
            self._pool.lost(self)

    def on_body(self, body: bytes) -> None:
        """httptools: a part of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """httptools: the answer is whole."""
        exchange, self.exchange, self._answered = self.exchange, None, True
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        status = self._parser.get_status_code()
        if self._parser.should_keep_alive():
            self._pool.free(self)
        else:
            self._transport.close()
        if exchange is not None:
            exchange.done(status, body)
