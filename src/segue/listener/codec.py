"""A listener's state as bytes: one small header, then the rows of `plays` and `marks` exactly as they lie in memory.

Decoding allocates nothing per row: both arrays are read-only views into the record, so a request pays a few
microseconds however long the history. The first byte is the version of the layout. A reader keeps a decoder for
every version ever written, and refuses a newer one: an old process must not guess at what a new one wrote.

Layout of version 1 (little endian):

    u8 version | u8 flags | u8 len(country) | u8 len(plan) | i64 user_id | i64 joined_at | u32 plays | u32 marks
    country UTF-8 | plan UTF-8 | PLAY[plays] | MARK[marks]

Rows on their way into a record are chunks, one behind the other, so that a store can append without reading:

    u8 version | u32 plays | u32 marks | PLAY[plays] | MARK[marks]
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from segue.contracts.errors import InvalidData, InvalidInput
from segue.listener.state import MARK, PLAY, ListenerState
from segue.settings.tree import State

Rows = npt.NDArray[np.void]

VERSION: Final = 1
_HEADER: Final = struct.Struct("<BBBBqqII")
_CHUNK: Final = struct.Struct("<BII")
_CONSENT, _EXPLICIT_OK, _KNOWN, _JOINED, _COUNTRY, _PLAN = (1 << bit for bit in range(6))
_MAX_TEXT: Final = 255


def longest_record(limits: State) -> int:
    """Bytes of the longest record the limits allow."""
    return _HEADER.size + 2 * _MAX_TEXT + limits.max_plays * PLAY.itemsize + limits.max_marks * MARK.itemsize


def encode(state: ListenerState) -> bytes:
    """The record of a state. Raises InvalidInput where a text of the profile is longer than 255 bytes."""
    country = _text("country", state.country)
    plan = _text("plan", state.plan)
    flags = (
        state.consent * _CONSENT
        | state.explicit_ok * _EXPLICIT_OK
        | state.known * _KNOWN
        | (state.joined_at is not None) * _JOINED
        | (state.country is not None) * _COUNTRY
        | (state.plan is not None) * _PLAN
    )
    header = _HEADER.pack(
        VERSION,
        flags,
        len(country),
        len(plan),
        state.user_id,
        state.joined_at or 0,
        len(state.plays),
        len(state.marks),
    )
    return b"".join((header, country, plan, state.plays.tobytes(), state.marks.tobytes()))


def decode(record: bytes) -> ListenerState:
    """The state in a record; `plays` and `marks` are read-only views of it.

    Raises InvalidData for a record of a newer version, and for one that is shorter or longer than its header says.
    """
    if not record:
        raise InvalidData(
            "listener state: the record is empty; rebuild it from the events",
            field="record",
        )
    reader = _READERS.get(record[0])
    if reader is None:
        raise _newer("record", record[0])
    return reader(record)


def encode_rows(plays: Rows, marks: Rows) -> bytes:
    """One chunk: plays PLAY[p] and marks MARK[m] of one listener, in any order."""
    header = _CHUNK.pack(VERSION, len(plays), len(marks))
    return b"".join((header, plays.tobytes(), marks.tobytes()))


def decode_rows(rows: bytes) -> tuple[Rows, Rows]:
    """The plays and marks of all chunks in `rows`, one behind the other.

    Raises InvalidData for a chunk of a newer version, and for one that is cut short.
    """
    plays, marks, at = [], [], 0
    while at < len(rows):
        if rows[at] != VERSION:
            raise _newer("chunk of rows", rows[at])
        start = at + _CHUNK.size
        if start > len(rows):
            raise _damaged(len(rows), start)
        _, some_plays, some_marks = _CHUNK.unpack_from(rows, at)
        middle = start + some_plays * PLAY.itemsize
        at = middle + some_marks * MARK.itemsize
        if at > len(rows):
            raise _damaged(len(rows), at)
        plays.append(rows[start:middle])
        marks.append(rows[middle:at])
    return np.frombuffer(b"".join(plays), PLAY), np.frombuffer(b"".join(marks), MARK)


def _decode_v1(record: bytes) -> ListenerState:
    if len(record) < _HEADER.size:
        raise _damaged(len(record), _HEADER.size)
    _, flags, country, plan, user_id, joined_at, plays, marks = _HEADER.unpack_from(record)
    plan_at = _HEADER.size + country
    plays_at = plan_at + plan
    marks_at = plays_at + plays * PLAY.itemsize
    end = marks_at + marks * MARK.itemsize
    if len(record) != end:
        raise _damaged(len(record), end)
    return ListenerState(
        user_id,
        country=record[_HEADER.size : plan_at].decode() if flags & _COUNTRY else None,
        plan=record[plan_at:plays_at].decode() if flags & _PLAN else None,
        joined_at=joined_at if flags & _JOINED else None,
        consent=bool(flags & _CONSENT),
        explicit_ok=bool(flags & _EXPLICIT_OK),
        known=bool(flags & _KNOWN),
        plays=np.frombuffer(record, PLAY, plays, plays_at),
        marks=np.frombuffer(record, MARK, marks, marks_at),
    )


_READERS: Final[dict[int, Callable[[bytes], ListenerState]]] = {1: _decode_v1}


def _text(name: str, value: str | None) -> bytes:
    raw = (value or "").encode()
    if len(raw) > _MAX_TEXT:
        raise InvalidInput(
            f"{name}: {len(raw)} bytes, a profile keeps at most {_MAX_TEXT}; shorten it",
            field=name,
            limit=f"at most {_MAX_TEXT} bytes",
        )
    return raw


def _newer(what: str, version: int) -> InvalidData:
    return InvalidData(
        f"listener state: a {what} has layout version {version}, this program reads 1 to {VERSION}; "
        "upgrade it, or rebuild the state from the events",
        field="version",
        limit=f"1..{VERSION}",
    )


def _damaged(got: int, want: int) -> InvalidData:
    return InvalidData(
        f"listener state: the record has {got} bytes where its header asks for {want}; rebuild it from the events",
        field="record",
        limit=f"{want} bytes",
    )
