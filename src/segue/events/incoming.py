"""Events as clients send them: a body of JSON held against the contract, event by event.

A body is an array, an object `{"events": [...]}`, or lines of JSON (application/x-ndjson). Each event gets its own answer;
one that is broken never harms its neighbours. Only a body that is no such thing at all is refused as a whole.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from typing import Any, Final, Literal, TypeVar

import msgspec
import pyarrow as pa
from msgspec import Struct

from segue.contracts.errors import InvalidInput, Overloaded
from segue.contracts.ids import format_id, new_id, parse_id
from segue.contracts.schema import Column
from segue.contracts.tables import RAW_EVENTS
from segue.contracts.vocabulary import DAY, NEEDS_ARTIST, NEEDS_TRACK, SECOND, EventType
from segue.events.columns import iso_to_us
from segue.events.flood import WINDOW_S
from segue.events.records import Event, encode_event
from segue.events.rejects import MAX_CONTENT
from segue.settings.tree import Serving

JSON_TYPES: Final = ("", "application/json")
LINE_TYPES: Final = (
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/x-jsonlines",
)


TOO_MANY: Final = "too_many"
Part = TypeVar("Part")


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


class _Refused(Exception):
    """One event breaks the contract."""

    def __init__(self, reason: str, field: str | None, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.field = field
        self.message = message


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
                raise _Refused(
                    "conflict", "event_id", "an event before it has this event_id and says something else"
                )
            if not admit(event.user_id):
                raise _Refused(
                    TOO_MANY, "user_id", f"more than {_events_of_one(limits)}; send it again later"
                )
        except _Refused as refused:
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
        lines = (line for line in BytesIO(body) if line.strip())
        return _few([*islice(lines, most + 1)], most)
    if kind not in JSON_TYPES:
        raise InvalidInput(
            f"content-type: {kind[:80]!r} is not known; send application/json or application/x-ndjson",
            field="content-type",
            limit="application/json, application/x-ndjson",
        )
    try:
        if body.lstrip()[:1] == b"{":
            return _few([*_envelope.decode(body).events], most)
        return _few([*_array.decode(body)], most)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        parts = _one_by_one(body, most)
        if parts is not None:
            return parts
        raise InvalidInput(
            f'body: {str(error)[:200]}; send an array of events, or {{"events": [...]}}',
            field="body",
            limit="JSON",
        ) from error


def _few(parts: list[Part], most: int) -> list[Part]:
    """The parts, if there are no more than `most`."""
    if len(parts) > most:
        raise InvalidInput(
            f"events: there are more than {most:,}; send at most that many at once",
            field="events",
            limit=f"{most} events",
        )
    return parts


def _one_by_one(body: bytes, most: int) -> list[bytes | msgspec.Raw] | None:
    """The events of a body that as a whole is no strict JSON, such as one with half an emoji in a text: each to be judged alone.

    None if it is not JSON by a laxer parser either.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    events = found.get("events") if isinstance(found, dict) and len(found) == 1 else found
    if not isinstance(events, list):
        return None
    return [
        json.dumps(event, ensure_ascii=False).encode("utf-8", "surrogatepass") for event in _few(events, most)
    ]


class _Envelope(Struct, forbid_unknown_fields=True):
    events: list[msgspec.Raw]


_envelope: Final = msgspec.json.Decoder(_Envelope)
_array: Final = msgspec.json.Decoder(list[msgspec.Raw])
_object: Final = msgspec.json.Decoder(dict[str, Any])


def _event(raw: bytes | msgspec.Raw, now: int, limits: Serving) -> tuple[Event, bool]:
    """The event, and whether it was given its id here."""
    try:
        said = _object.decode(raw)
    except UnicodeDecodeError as error:
        raise _Refused("not_utf8", None, "text must be UTF-8") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise _Refused("not_json", None, f"not a JSON object: {str(error)[:200]}") from error
    _check_once(raw, said)
    checked = {name: _value(name, value) for name, value in said.items() if value is not None}
    for name in _needed(checked.get("type")):
        if checked.get(name) is None:
            raise _Refused(f"missing_{name}", name, f"{name} is missing: {RAW_EVENTS.column(name).doc}")
    _check_time(checked["ts"], now, limits)
    assigned = "event_id" not in checked
    event_id = new_id() if assigned else checked.pop("event_id")
    return Event(event_id=event_id, received_at=now, **checked), assigned


def _check_once(raw: bytes | msgspec.Raw, said: dict[str, Any]) -> None:
    """Refuse an event that names a field twice: of which value it means, two readers may think differently."""
    if bytes(raw).count(b'":') == len(said):
        return  # as many as there are fields; there may be more within texts, and fewer with blanks: these are looked at
    try:
        pairs = json.loads(bytes(raw), object_pairs_hook=list)
    except (ValueError, RecursionError) as error:
        raise _Refused("not_json", None, f"not a JSON object: {str(error)[:200]}") from error
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise _Refused("repeated_field", name[:100], f"{name[:100]!r} is given more than once")
        seen.add(name)


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
        raise _Refused(
            "ts_too_old",
            "ts",
            f"ts is older than {limits.max_event_age_days} days; it is in microseconds since 1970, UTC",
        )
    if ts > now + limits.max_clock_skew_s * SECOND:
        raise _Refused(
            "ts_in_future",
            "ts",
            f"ts is more than {limits.max_clock_skew_s} s in the future; check the clock",
        )


def _value(name: str, value: Any) -> Any:
    """One field of an event, checked. Raises _Refused."""
    check = _CHECKS.get(name)
    if check is None:
        near = difflib.get_close_matches(name[:100], list(_CHECKS), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise _Refused("unknown_field", name[:100], f"{name[:100]!r} is not a field of an event{hint}")
    return check(value)


def _integer(column: Column) -> Callable[[Any], int]:
    name = column.name
    low, high = int(column.ge or 0), int(column.le or 0)

    def check(value: Any) -> int:
        if type(value) is not int:
            raise _Refused(f"wrong_type_{name}", name, f"{name} must be a whole number")
        if name != "ts" and not low <= value <= high:
            raise _Refused(f"out_of_range_{name}", name, f"{name} must lie from {low} to {high}")
        return value

    return check


def _text(column: Column) -> Callable[[Any], str]:
    name, known, longest = column.name, column.one_of, column.max_bytes
    form = re.compile(column.pattern) if column.pattern is not None else None

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise _Refused(f"wrong_type_{name}", name, f"{name} must be text")
        if known is not None and value not in known:
            raise _Refused(f"unknown_{name}", name, f"{name} must be one of {', '.join(known)}")
        if longest is not None and len(value.encode()) > longest:
            raise _Refused(f"too_long_{name}", name, f"{name} may take {longest} bytes")
        if form is not None and not form.fullmatch(value):
            raise _Refused(f"unknown_{name}", name, f"{name} must be {column.doc}")
        return value

    return check


def _uuid(column: Column) -> Callable[[Any], bytes]:
    name = column.name

    def check(value: Any) -> bytes:
        try:
            return parse_id(value if isinstance(value, str) else "", name)
        except InvalidInput as error:
            raise _Refused(f"wrong_type_{name}", name, error.message) from error

    return check


def _time(value: Any) -> int:
    """Microseconds since 1970 or ISO 8601 text, UTC unless it names a zone."""
    if type(value) is int:
        return value
    micros = iso_to_us(value) if isinstance(value, str) else None
    if micros is None:
        raise _Refused(
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
            checks[column.name] = _integer(column)
        else:
            checks[column.name] = _uuid(column) if pa.types.is_binary(column.type) else _text(column)
    return checks


_CHECKS: Final = _checks()
