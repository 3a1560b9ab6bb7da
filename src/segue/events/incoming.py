"""Events as clients send them: a body of JSON held against the contract, event by event.

A body is an array, an object `{"events": [...]}`, or lines of JSON (application/x-ndjson). Each event gets its own answer;
one that is broken never harms its neighbours. Only a body that is no such thing at all is refused as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec
import pyarrow as pa
from msgspec import Meta, Struct
from msgspec.structs import astuple

from segue.contracts.errors import InvalidInput, Overloaded
from segue.contracts.ids import format_id, new_id, parse_id
from segue.contracts.schema import Column
from segue.contracts.tables import RAW_EVENTS
from segue.contracts.vocabulary import DAY, NEEDS_ARTIST, NEEDS_TRACK, SECOND, EventType
from segue.events.columns import iso_to_us
from segue.events.fields import LINE_TYPES, Breach, array, fields, integer, lines, names_once, text, unknown
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


_REQUIRED: Final = ("type", "ts", "user_id")
_NEEDED_BESIDES: Final[dict[str, str]] = {
    **dict.fromkeys(NEEDS_TRACK, "track_id"),
    **dict.fromkeys(NEEDS_ARTIST, "artist_id"),
    EventType.SEARCH: "query",
}
"""What an event must have, and what besides if it is of some type."""


def _event(raw: bytes | msgspec.Raw, now: int, limits: Serving) -> tuple[Event, bool]:
    """The event, and whether it was given its id here. Most are read at once; what is not plainly right is looked at closely."""
    event = _plain_event(raw, now, limits)
    return (event, False) if event is not None else _looked_at(raw, now, limits)


def _plain_event(raw: bytes | msgspec.Raw, now: int, limits: Serving) -> Event | None:
    """An event with an id, a time in microseconds and nothing wrong; None where that is not certain.

    This is what makes a batch cheap: the decoder checks types, ranges and names of fields as it reads.
    """
    try:
        sent = _sent.decode(raw)
        event_id, request_id = _canonical(sent.event_id), _canonical(sent.request_id)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        return None
    oldest, newest = now - limits.max_event_age_days * DAY, now + limits.max_clock_skew_s * SECOND
    if event_id is None or not oldest <= sent.ts <= newest:
        return None
    # Nothing says the same more briefly than the encoder: what is as brief names no field twice. Some clients put blanks.
    body = bytes(raw)
    if len(body) != len(_encode(sent)) and (
        len(body) > MAX_EVENT or not names_once(body, len(_CHECKS) - astuple(sent).count(None))
    ):
        return None
    needed = _NEEDED_BESIDES.get(sent.type)
    if needed is not None and getattr(sent, needed) is None:
        return None
    return Event(
        event_id,
        sent.ts,
        now,
        sent.user_id,
        sent.type,
        sent.session_id,
        sent.track_id,
        sent.artist_id,
        sent.ms_played,
        sent.surface,
        sent.position,
        request_id,
        sent.playlist_id,
        sent.query,
        sent.country,
        sent.device,
    )


def _canonical(text: str | None) -> bytes | None:
    """The 16 bytes of an id in its usual form, 36 characters. Raises ValueError for another."""
    if text is None:
        return None
    if len(text) != 36 or text[8::5][:4] != "----":
        raise ValueError(text)
    raw = bytes.fromhex(text.replace("-", ""))
    if len(raw) != 16:
        raise ValueError(text)
    return raw


def _looked_at(raw: bytes | msgspec.Raw, now: int, limits: Serving) -> tuple[Event, bool]:
    """The event, and whether it was given its id here. Raises Breach with what is wrong with it."""
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
    yield from _REQUIRED
    if type_ in _NEEDED_BESIDES:
        yield _NEEDED_BESIDES[type_]


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


def _plain_type(column: Column) -> Any:
    """What the decoder accepts of a column at once: never more than its check in _CHECKS does."""
    kind: Any
    if column.name == "ts":
        kind = int
    elif pa.types.is_integer(column.type):
        kind = Annotated[int, Meta(ge=int(column.ge or 0), le=int(column.le or 0))]
    elif column.one_of is not None:
        kind = Literal[tuple(str(name) for name in column.one_of)]
    elif column.max_bytes is not None and column.pattern is None:
        kind = Annotated[
            str, Meta(max_length=column.max_bytes // 4)
        ]  # no character takes more than four bytes
    else:
        pattern = None if column.pattern is None else rf"^(?:{column.pattern})\Z"
        kind = Annotated[str, Meta(pattern=pattern)]
    return kind if column.name in _REQUIRED else kind | None


_Sent: Any = msgspec.defstruct(
    "_Sent",
    [
        (name, _plain_type(column)) if name in _REQUIRED else (name, _plain_type(column), None)
        for name, column in (
            (name, RAW_EVENTS.column(name)) for name in sorted(_CHECKS, key=lambda n: n not in _REQUIRED)
        )
    ],
    forbid_unknown_fields=True,
    omit_defaults=True,
)
_encode: Final = msgspec.json.Encoder().encode
_sent: Final = msgspec.json.Decoder(_Sent)
