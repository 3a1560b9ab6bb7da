"""Changes of tracks as callers send them: bodies of JSON held against the contract of `tracks`, track by track.

Like events (see incoming.py): in a batch each track gets its own answer, and one that is broken never harms its neighbours.
The text comes from uploaders and is never trusted: it is bounded, kept as it is, and shown as text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import pyarrow as pa
from msgspec import Struct

from segue.contracts.errors import InvalidInput
from segue.contracts.ids import MAX_ID
from segue.contracts.schema import Column
from segue.contracts.tables import ARTISTS, LATEST, MAX_BLOCKED, MAX_TAG, MAX_TAGS, TRACKS
from segue.events.changes import TrackChange, encode_change
from segue.events.columns import iso_to_us
from segue.events.fields import LINE_TYPES, Breach, array, fields, integer, lines, text, unknown
from segue.settings.tree import Serving

MAX_TRACK: Final = 100_000
"""Bytes of one track as it is sent: several times what the longest texts take."""
LOWER: Final = ("genre", "tags")
"""Kept in lower case, as the contract has them."""
_COUNTRY: Final = re.compile(r"[A-Z]{2}", re.ASCII)


class TrackResult(Struct, frozen=True):
    """The answer to one track of a batch."""

    status: Literal["accepted", "rejected"]
    track_id: int | None = None
    reason: str | None = None
    field: str | None = None
    message: str | None = None


@dataclass(frozen=True)
class IncomingTracks:
    """Accepted changes as log records, and an answer per track sent."""

    records: list[bytes]
    results: list[TrackResult]


def decode_track(body: bytes, track_id: int, received_at: int) -> bytes:
    """The record of a change of one track, whose id is known: the body is an object of what is so from now on.

    Raises InvalidInput naming the field and the limit.
    """
    try:
        said = fields(body, MAX_TRACK, "a track")
        if "track_id" in said:
            raise Breach("unknown_field", "track_id", "track_id is in the path; leave it out of the body")
        return encode_change(_change(said | {"track_id": track_id}, received_at))
    except Breach as refused:
        raise InvalidInput(refused.message, field=refused.field or "body", limit=refused.reason) from refused


def decode_tracks(
    body: bytes, content_type: str, stamp: Callable[[], int], limits: Serving
) -> IncomingTracks:
    """The changes of a body: an array of tracks, an object `{"tracks": [...]}`, or a track a line. `stamp` gives each its moment.

    Raises InvalidInput if the body holds too many tracks, or is no such thing.
    """
    read = lines if content_type in LINE_TYPES else array
    found = IncomingTracks([], [])
    for part in read(body, limits.max_batch, "tracks"):
        track_id = None
        try:
            said = fields(part, MAX_TRACK, "a track")
            given = said.get("track_id")
            track_id = given if type(given) is int and 0 <= given <= MAX_ID else None
            change = _change(said, stamp())
        except Breach as refused:
            result = TrackResult("rejected", track_id, refused.reason, refused.field, refused.message)
            found.results.append(result)
            continue
        found.records.append(encode_change(change))
        found.results.append(TrackResult("accepted", change.track_id))
    return found


def removal(track_id: int, received_at: int) -> bytes:
    """The record that takes a track out of everything that is shown."""
    return encode_change(TrackChange(track_id, received_at, public=False))


def _change(said: dict[str, Any], received_at: int) -> TrackChange:
    """What is said of a track, checked. Raises Breach."""
    checked = {name: _value(name, value) for name, value in said.items()}
    if "track_id" not in checked:
        raise Breach("missing_track_id", "track_id", "track_id is missing: the track")
    if "artist_name" in checked and "artist_id" not in checked:
        raise Breach("missing_artist_id", "artist_id", "artist_id is missing: whose name artist_name is")
    return TrackChange(received_at=received_at, **checked)


def _value(name: str, value: Any) -> Any:
    check = _CHECKS.get(name)
    if check is None:
        raise unknown(name, _CHECKS, "a track")
    if value is None:
        raise Breach(
            f"wrong_type_{name}",
            name,
            f'{name}: null says nothing; leave it out, or empty a text with "", a list with []',
        )
    return check(_lower(value) if name in LOWER else value)


def _lower(value: Any) -> Any:
    if isinstance(value, list):
        return [_lower(text) for text in value]
    return value.lower() if isinstance(value, str) else value


def _flag(name: str) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        if not isinstance(value, bool):
            raise Breach(f"wrong_type_{name}", name, f"{name} must be true or false")
        return value

    return check


def _uploaded_at(value: Any) -> int:
    """Microseconds since 1970 or ISO 8601 text. The future is allowed: until then the track is not shown."""
    micros = iso_to_us(value) if isinstance(value, str) else value
    if type(micros) is not int or not 0 <= micros <= LATEST:
        raise Breach(
            "wrong_type_uploaded_at" if type(micros) is not int else "out_of_range_uploaded_at",
            "uploaded_at",
            f"uploaded_at must be microseconds since 1970, up to {LATEST}, or a time like 2026-11-23T08:00:00Z",
        )
    return micros


def _texts(name: str, most: int, limit: str, good: Callable[[str], bool]) -> Callable[[Any], list[str]]:
    """A list of texts, each once."""

    def check(value: Any) -> list[str]:
        if not isinstance(value, list) or not all(isinstance(text, str) and good(text) for text in value):
            raise Breach(f"wrong_type_{name}", name, f"{name} must be a list of {limit}")
        if len(value) > most:
            raise Breach(f"too_long_{name}", name, f"{name} may hold {most} of them")
        return list(dict.fromkeys(value))

    return check


def _check_of(column: Column) -> Callable[[Any], Any]:
    match column.name:
        case "uploaded_at":
            return _uploaded_at
        case "tags":
            return _texts("tags", MAX_TAGS, f"texts of at most {MAX_TAG} bytes", _is_tag)
        case "blocked_countries":
            return _texts(column.name, MAX_BLOCKED, "ISO 3166 codes such as DE", _is_country)
    if pa.types.is_boolean(column.type):
        return _flag(column.name)
    return integer(column) if pa.types.is_integer(column.type) else text(column)


def _is_tag(text: str) -> bool:
    return len(text.encode()) <= MAX_TAG


def _is_country(text: str) -> bool:
    return _COUNTRY.fullmatch(text) is not None


FIELDS: Final = (*TRACKS.columns, replace(ARTISTS.column("name"), name="artist_name"))
"""What may be said of a track, as columns."""
_CHECKS: Final = {column.name: _check_of(column) for column in FIELDS}
