"""Events as clients send them: a body of JSON held against the contract, event by event.

A body is an array, an object `{"events": [...]}`, or lines of JSON (application/x-ndjson). Each event gets its own answer;
one that is broken never harms its neighbours. Only a body that is no such thing at all is refused as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
import pyarrow as pa
from msgspec import Struct

from segue.contracts.errors import InvalidInput, Overloaded
from segue.contracts.ids import format_id, new_id, parse_id
from segue.contracts.schema import Column
from segue.contracts.tables import RAW_EVENTS
from segue.contracts.vocabulary import DAY, NEEDS_ARTIST, NEEDS_TRACK, SECOND, EventType
from segue.events.columns import iso_to_us
from segue.events.fields import LINE_TYPES, Breach, array, fields, integer, lines, text, unknown
from segue.events.flood import WINDOW_S
from segue.events.records import Event, encode_event
from segue.events.rejects import MAX_CONTENT
from segue.settings.tree import Serving

JSON_TYPES: Final = ("", "application/json")
TOO_MANY: Final = "too_many"
MAX_EVENT: Final = 32_000
"""Bytes of one event as it is sent: several times what the longest texts take."""


class EventResult(Struct, frozen=True, omit_defaults=True):
    """The answer to one event. `assigned` means that it came without an id and was given this one."""

    index: int
    status: Literal["accepted", "rejected"]
    event_id: str | None = None
    assigned: bool = False
    reason: str | None = None
    field: str | None = None
    message: str | None = None


@dataclass(frozen=True)
class Refused:
    """An event that was not accepted: why, the field at fault, and what was sent, cut at 2,000 characters."""

    reason: str
    field: str | None
    content: str


@dataclass(frozen=True)
class Incoming:
    """Accepted events, as they are and as log records (in the same order), those refused, and an answer per event sent."""

    events: list[Event]
    records: list[bytes]
    refused: list[Refused]
    results: list[EventResult]


def decode_body(
    body: bytes,
    content_type: str,
    now: int,
    limits: Serving,
    admit: Callable[[int], bool] = lambda user_id: True,
) -> Incoming:
    """The events of a request body. `now` is UTC microseconds; `admit` says whether another event of a listener is taken.

    Raises InvalidInput if the body is too large, holds too many events, or is not JSON of one of the known forms, and
    Overloaded if all that it holds are events of listeners of whom no more are taken.
    """
    if len(body) > limits.max_body_bytes:
        raise InvalidInput(
            f"body: {len(body):,} bytes are too many; send at most {limits.max_body_bytes:,} at once",
            field="body",
            limit=f"{limits.max_body_bytes} bytes",
        )
    found = Incoming([], [], [], [])
    seen: dict[bytes, bytes] = {}
    for index, part in enumerate(_parts(body, content_type, limits.max_batch)):
        try:
            event, assigned = _event(part, now, limits)
            record = encode_event(event)
            if seen.setdefault(event.event_id, record) != record:
                raise Breach(
                    "conflict", "event_id", "an event before it has this event_id and says something else"
                )
            if not admit(event.user_id):
                raise Breach(TOO_MANY, "user_id", f"more than {_events_of_one(limits)}; send it again later")
        except Breach as refused:
            found.refused.append(Refused(refused.reason, refused.field, _shown(part)))
            found.results.append(
                EventResult(
                    index, "rejected", reason=refused.reason, field=refused.field, message=refused.message
                )
            )
            continue
        found.events.append(event)
        found.records.append(record)
        found.results.append(EventResult(index, "accepted", format_id(event.event_id), assigned))
    if found.refused and {refused.reason for refused in found.refused} == {TOO_MANY} and not found.events:
        raise Overloaded(
            f"user_id: more than {_events_of_one(limits)}; come again in {WINDOW_S} s",
            field="user_id",
            limit=f"{_events_of_one(limits)} (serving.listener_events_per_s)",
            retry_after_s=WINDOW_S,
        )
    return found


def _events_of_one(limits: Serving) -> str:
    return f"{limits.listener_events_per_s * WINDOW_S:,} events of one listener in {WINDOW_S} s"


def _shown(part: bytes | msgspec.Raw) -> str:
    # No character takes more than four bytes.
    return bytes(memoryview(part)[: 4 * MAX_CONTENT]).decode("utf-8", "replace")[:MAX_CONTENT]


def _parts(body: bytes, content_type: str, most: int) -> list[bytes | msgspec.Raw]:
    kind = content_type.partition(";")[0].strip().lower()
    if kind in LINE_TYPES:
        return lines(body, most, "events")
    if kind not in JSON_TYPES:
        raise InvalidInput(
            f"content-type: {kind[:80]!r} is not known; send application/json or application/x-ndjson",
            field="content-type",
            limit="application/json, application/x-ndjson",
        )
    return array(body, most, "events")


def _event(raw: bytes | msgspec.Raw, now: int, limits: Serving) -> tuple[Event, bool]:
    """The event, and whether it was given its id here."""
    said = fields(raw, MAX_EVENT, "an event")
    checked = {name: _value(name, value) for name, value in said.items() if value is not None}
    for name in _needed(checked.get("type")):
        if checked.get(name) is None:
            raise Breach(f"missing_{name}", name, f"{name} is missing: {RAW_EVENTS.column(name).doc}")
    _check_time(checked["ts"], now, limits)
    assigned = "event_id" not in checked
    event_id = new_id() if assigned else checked.pop("event_id")
    return Event(event_id=event_id, received_at=now, **checked), assigned


def _needed(type_: str | None) -> Iterable[str]:
    yield from ("type", "ts", "user_id")
    if type_ in NEEDS_TRACK:
        yield "track_id"
    if type_ in NEEDS_ARTIST:
        yield "artist_id"
    if type_ == EventType.SEARCH:
        yield "query"


def _check_time(ts: int, now: int, limits: Serving) -> None:
    if ts < now - limits.max_event_age_days * DAY:
        raise Breach(
            "ts_too_old",
            "ts",
            f"ts is older than {limits.max_event_age_days} days; it is in microseconds since 1970, UTC",
        )
    if ts > now + limits.max_clock_skew_s * SECOND:
        raise Breach(
            "ts_in_future",
            "ts",
            f"ts is more than {limits.max_clock_skew_s} s in the future; check the clock",
        )


def _value(name: str, value: Any) -> Any:
    """One field of an event, checked. Raises Breach."""
    check = _CHECKS.get(name)
    if check is None:
        raise unknown(name, _CHECKS, "an event")
    return check(value)


def _uuid(column: Column) -> Callable[[Any], bytes]:
    name = column.name

    def check(value: Any) -> bytes:
        try:
            return parse_id(value if isinstance(value, str) else "", name)
        except InvalidInput as error:
            raise Breach(f"wrong_type_{name}", name, error.message) from error

    return check


def _time(value: Any) -> int:
    """Microseconds since 1970 or ISO 8601 text, UTC unless it names a zone."""
    if type(value) is int:
        return value
    micros = iso_to_us(value) if isinstance(value, str) else None
    if micros is None:
        raise Breach(
            "wrong_type_ts", "ts", "ts must be microseconds since 1970, or a time like 2026-11-23T08:00:00Z"
        )
    return micros


def _checks() -> dict[str, Callable[[Any], Any]]:
    """A check per field that a client may send, made from the contract."""
    checks: dict[str, Callable[[Any], Any]] = {"ts": _time}
    for column in RAW_EVENTS.columns:
        if column.name in ("day", "received_at", "ts"):
            continue
        if pa.types.is_integer(column.type):
            checks[column.name] = integer(column)
        else:
            checks[column.name] = _uuid(column) if pa.types.is_binary(column.type) else text(column)
    return checks


_CHECKS: Final = _checks()
