"""Identifiers: 64-bit integers for people and music, UUIDv7 (16 bytes) for events and requests.

An outside id that is an integer in [0, 2**63) stays itself; any other becomes the first 63 bits of BLAKE2b over
"namespace:id", so that importing twice, anywhere, gives the same id without a central counter. Two of n ids collide
with probability about n**2 / 2**64 (0.9% for any pair among 400 million); the dimension tables keep the outside id, and
their contract (one id, one outside id) shows a collision.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
import uuid
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from segue.contracts.errors import InvalidInput

MAX_ID = 2**63 - 1
MAX_NAMED: Final = 1_000
"""Characters of an id as a person writes it."""
_entropy: Final[list[bytes]] = []
"""Random bytes for ids to come. Threads share it, processes must not: what one has drawn, its child would draw again."""
os.register_at_fork(after_in_child=_entropy.clear)
_DIGITS: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


def stable_id(namespace: str, outside: str) -> int:
    """The 64-bit id of an outside id: itself if it is a canonical integer, else a 63-bit hash."""
    if outside.isdecimal() and outside.isascii() and str(int(outside)) == outside and int(outside) <= MAX_ID:
        return int(outside)
    digest = hashlib.blake2b(f"{namespace}:{outside}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def named_id(kind: Literal["user", "track", "artist"], text: str) -> int:
    """The 64-bit id that a person writes: its digits, or SOURCE:ID, an outside id behind the name of the system it is from.

    Raises ValueError for anything else.
    """
    if _DIGITS.fullmatch(text) and int(text) <= MAX_ID:
        return int(text)
    source, colon, outside = text.partition(":")
    if not (source and colon and outside) or len(text) > MAX_NAMED:
        raise ValueError(text)
    return stable_id(f"{source}/{kind}", outside)


def new_id() -> bytes:
    """A fresh UUIDv7 as 16 bytes: time-ordered to the millisecond (RFC 9562)."""
    try:
        entropy = _entropy.pop()
    except IndexError:
        # For many at once: to ask the system for a few bytes a thread lets go of the interpreter, and waits to have it back.
        drawn = secrets.token_bytes(10 * 256)
        _entropy.extend(drawn[at : at + 10] for at in range(10, len(drawn), 10))
        entropy = drawn[:10]
    return uuid7(time.time_ns() // 1_000_000, entropy)


def uuid7(milliseconds: int, entropy: bytes) -> bytes:
    """A UUIDv7 from a time and 10 bytes of entropy, of which 74 bits are used."""
    rest = bytearray(entropy[:10])
    rest[0] = 0x70 | (rest[0] & 0x0F)
    rest[2] = 0x80 | (rest[2] & 0x3F)
    return milliseconds.to_bytes(6, "big") + bytes(rest)


def uuid7_column(ts: npt.NDArray[np.int64], entropy: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """UUIDv7s for a column of events.

    `ts` int64[n] in microseconds, `entropy` uint64[n, 2] (random, or a hash of the row for a reproducible id).
    Returns uint8[n, 16].
    """
    out = np.empty((len(ts), 16), np.uint8)
    ms = (ts // 1000).astype(">u8")
    out[:, :6] = ms.view(np.uint8).reshape(-1, 8)[:, 2:]
    raw = np.ascontiguousarray(entropy.astype(">u8")).view(np.uint8).reshape(-1, 16)
    out[:, 6:] = raw[:, 6:]
    out[:, 6] = 0x70 | (out[:, 6] & 0x0F)
    out[:, 8] = 0x80 | (out[:, 8] & 0x3F)
    return out


def format_id(raw: bytes) -> str:
    """The canonical text of a 16-byte id."""
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def parse_id(text: str, field: str = "id") -> bytes:
    """A 16-byte id from its canonical text.

    Raises InvalidInput naming `field` if the text is not a UUID.
    """
    try:
        return uuid.UUID(text).bytes
    except (ValueError, AttributeError) as error:
        raise InvalidInput(
            f"{field}: {text[:60]!r} is not a UUID; send one like {format_id(new_id())}",
            field=field,
            limit="UUID, version 7 preferred",
        ) from error
