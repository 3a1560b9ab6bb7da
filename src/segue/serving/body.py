"""Request bodies: the right type, and never more bytes in memory than the limits: of one, packed or unpacked, and of all."""

from __future__ import annotations

import asyncio
import zlib
from types import TracebackType
from typing import Final, Self

from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest

from segue.contracts.errors import InvalidInput, Overloaded
from segue.serving.problems import BodyTooLarge, WrongMediaType

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
PLAIN: Final = "text/plain"
"""What a page's `sendBeacon` sends without asking the server first: taken for JSON."""
GZIP: Final = "gzip"
DISCARD: Final = 20_000_000
"""Bytes beyond the limit that are still taken in, for nothing but to be able to answer."""
BODY_S: Final = 20
"""A client that has not sent its whole body after this long is told so: open connections are not free."""
_UTF8: Final = ("utf-8", "utf8", '"utf-8"')


AT_ONCE: Final = 16
"""Bodies of the largest size that a worker holds at once: slow clients cost connections, not memory."""


class Room:
    """Bytes of bodies that a worker may hold. Used from one event loop."""

    def __init__(self, max_bytes: int) -> None:
        self.most = self.left = AT_ONCE * max_bytes


class Held:
    """The share of one request in a room, given back when the block ends."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._size = 0

    def add(self, size: int) -> None:
        """Take more. Raises Overloaded if there is no room."""
        if size > self._room.left:
            raise Overloaded(
                "too many bodies are being sent to this worker; try again in a second",
                field="body",
                limit=f"{self._room.most} bytes of bodies at once per worker",
            )
        self._room.left -= size
        self._size += size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._room.left += self._size


def content_type(request: HttpRequest) -> str:
    """The body's media type without its parameters. Raises WrongMediaType unless it is UTF-8 JSON or NDJSON, plain or gzip."""
    full = request.headers.get("content-type", "")
    media, *parameters = (part.strip().lower() for part in full.split(";"))
    limit = f"{JSON} or {NDJSON}"
    if media not in (JSON, NDJSON, PLAIN):
        raise WrongMediaType(
            f"Content-Type {full[:80]!r}: send {limit}",
            field="Content-Type",
            limit=limit,
        )
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "charset" and value not in _UTF8:
            raise WrongMediaType(
                f"charset {value[:40]!r}: send UTF-8",
                field="Content-Type",
                limit="UTF-8",
            )
    if _encoding(request) not in ("identity", GZIP):
        raise WrongMediaType(
            f"Content-Encoding {_encoding(request)[:40]!r}: send the body as it is, or gzip",
            field="Content-Encoding",
            limit="identity or gzip",
        )
    return JSON if media == PLAIN else media


def _encoding(request: HttpRequest) -> str:
    return request.headers.get("content-encoding", "identity").strip().lower()


async def read_body(request: HttpRequest, max_bytes: int, held: Held) -> bytes:
    """The whole body, of which never more than `max_bytes` are held.

    A body that is too large is read on without being kept, up to DISCARD bytes more: a client that is
    still sending would not see the answer if the connection were closed on it. Raises BodyTooLarge;
    InvalidInput if the client stops half-way; Overloaded if the worker holds too much already.
    """
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= max_bytes:
                    held.add(len(chunk))
                    chunks.append(chunk)
                elif size > DISCARD + max_bytes:
                    break
                else:
                    chunks.clear()
    except TimeoutError as error:
        raise InvalidInput(
            f"the body did not arrive within {BODY_S} s; {size} bytes did", field="body", limit=f"{BODY_S} s"
        ) from error
    except ClientDisconnect as error:
        raise InvalidInput(
            f"the body ended after {size} bytes, before its Content-Length",
            field="body",
            limit="a whole body",
        ) from error
    if size > max_bytes:
        raise _too_large(max_bytes)
    body = b"".join(chunks)
    if _encoding(request) != GZIP:
        return body
    found = _unpacked(body, max_bytes)
    held.add(len(found))
    return found


def _unpacked(body: bytes, max_bytes: int) -> bytes:
    """The body of a gzip file, never unpacked beyond the limit: a few kilobytes can stand for gigabytes."""
    reader = zlib.decompressobj(wbits=31)
    try:
        found = reader.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise InvalidInput(f"the body is no gzip file: {error}", field="body", limit="gzip") from error
    if len(found) > max_bytes:
        raise _too_large(max_bytes)
    if not reader.eof or reader.unused_data:
        raise InvalidInput("the body is not one whole gzip file", field="body", limit="gzip")
    return found


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"the body is larger than {max_bytes} bytes; send the events in smaller batches",
        field="body",
        limit=f"at most {max_bytes} bytes",
    )
