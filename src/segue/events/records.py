"""What a log record holds: an event, the exposures of one response, or a dead letter. MessagePack maps, so that fields
can be added.

Absent fields are left out of the map. Decoding is by column: records in, an Arrow table of the contract's columns out; a
record that cannot be read is told apart, never raised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Generic, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Meta, Struct

from segue.contracts.errors import InvalidInput
from segue.contracts.ids import MAX_ID
from segue.contracts.tables import CANDIDATES, EXPOSURES, RAW_EVENTS
from segue.contracts.vocabulary import Removed
from segue.events.columns import days_of

EVENTS_TOPIC: Final = "events"
EXPOSURES_TOPIC: Final = "exposures"
DEAD_LETTERS_TOPIC: Final = "dead-letters"
T = TypeVar("T")
Integer = Annotated[int, Meta(ge=-MAX_ID, le=MAX_ID)]


class Event(Struct, omit_defaults=True, frozen=True):
    """One event, as checked by the API. Fields are the columns of raw_events; ids of events and requests are 16 bytes."""

    event_id: bytes
    ts: Integer
    received_at: Integer
    user_id: Integer
    type: str
    session_id: Integer | None = None
    track_id: Integer | None = None
    artist_id: Integer | None = None
    ms_played: Integer | None = None
    surface: str | None = None
    position: Integer | None = None
    request_id: bytes | None = None
    playlist_id: Integer | None = None
    query: str | None = None
    country: str | None = None
    device: str | None = None


class Lost(Struct, omit_defaults=True, frozen=True):
    """Some of a response's candidates that won no slot, drawn at random. Lists have a value per candidate.

    `share` is the chance that each of the losers had to be drawn; its inverse is the weight of those here.
    """

    share: float
    track_id: list[Integer]
    score: list[float]
    sources: list[list[str]]
    features: list[bytes] | None = None


class Exposure(Struct, omit_defaults=True, frozen=True):
    """One response: what was shown, by slot. Lists have a value per slot, in the order of `track_id`.

    `user_id` is None for a stranger. `features` are the float32 vectors as little-endian bytes (`row.tobytes()`), for the
    sampled responses that keep them, and `lost` is what such a response had besides. `removed` names, for every response,
    the candidates that a rule removed, by the rule.
    """

    request_id: bytes
    ts: Integer
    user_id: Integer | None
    surface: str
    track_id: list[Integer]
    position: list[Integer]
    bundle: str | None = None
    config: str | None = None
    variants: str | None = None
    took_us: Integer | None = None
    degraded: Integer | None = None
    score: list[float] | None = None
    sources: list[list[str]] | None = None
    propensity: list[float | None] | None = None
    team: list[str] | None = None
    features: list[bytes] | None = None
    removed: dict[str, list[Integer]] | None = None
    lost: Lost | None = None


class DeadLetter(Struct, omit_defaults=True, frozen=True):
    """An event that was refused: when (UTC microseconds), from whom it came, why, and what was sent, cut at 2,000 characters."""

    at: Integer
    origin: str
    reason: str
    field: str | None = None
    content: str | None = None


@dataclass(frozen=True)
class Decoded(Generic[T]):
    """Records that could be read, and the numbers of those that could not, with what is wrong."""

    items: list[T]
    rows: list[int]
    broken: list[tuple[int, str]]


_encoder: Final = msgspec.msgpack.Encoder()
_events: Final = msgspec.msgpack.Decoder(Event)
_exposures: Final = msgspec.msgpack.Decoder(Exposure)
_dead_letters: Final = msgspec.msgpack.Decoder(DeadLetter)


def encode_event(event: Event) -> bytes:
    """An event as a log record."""
    return _encoder.encode(event)


def encode_exposure(exposure: Exposure) -> bytes:
    """The exposures of one response as a log record. Raises InvalidInput if a column has another length than `track_id`."""
    fault = _uneven(exposure)
    if fault is not None:
        raise InvalidInput(
            f"exposure: {fault} has not one value per track_id; give as many of each", field=fault
        )
    return _encoder.encode(exposure)


def encode_dead_letter(letter: DeadLetter) -> bytes:
    """A dead letter as a log record."""
    return _encoder.encode(letter)


def decode_dead_letters(records: Sequence[bytes]) -> Decoded[DeadLetter]:
    """The dead letters in records, and what could not be read."""
    return decode(_dead_letters, records)


def read_events(records: Sequence[bytes]) -> list[Event]:
    """The events in records, in order; what is none is left out."""
    return decode(_events, records).items


def decode_events(records: Sequence[bytes]) -> tuple[pa.Table, Decoded[Event]]:
    """Records as loose columns of raw_events (without `day`), and what could not be read."""
    decoded = decode(_events, records)
    names = [name for name in RAW_EVENTS.names if name != "day"]
    return _columns(decoded.items, names, {"event_id": pa.binary(), "request_id": pa.binary()}), decoded


def decode_exposures(records: Sequence[bytes]) -> tuple[pa.Table, pa.Array, Decoded[Exposure]]:
    """Records as rows of exposures (a row a slot), the number of the record of each row, and what could not be read."""
    decoded = decode(_exposures, records)
    for at in reversed(range(len(decoded.items))):
        fault = _uneven(decoded.items[at])
        if fault is not None:
            decoded.broken.append((decoded.rows.pop(at), f"uneven_{fault}"))
            decoded.items.pop(at)
    return _slots(decoded.items), pa.array(_repeated(decoded.rows, decoded.items), pa.int64()), decoded


def decode_candidates(records: Sequence[bytes]) -> tuple[pa.Table, pa.Array]:
    """What the readable records say was not shown, as rows of candidates, and the number of the record of each row."""
    _, _, decoded = decode_exposures(records)
    groups = [
        (row, item, Lost(1.0, ids, [], []), reason)
        for row, item in zip(decoded.rows, decoded.items, strict=True)
        for reason, ids in (item.removed or {}).items()
    ]
    groups += [
        (row, item, item.lost, Removed.LOST.value)
        for row, item in zip(decoded.rows, decoded.items, strict=True)
        if item.lost is not None
    ]
    sizes = [len(group.track_id) for _, _, group, _ in groups]

    def per_group(values: list[Any]) -> list[Any]:
        return [value for value, size in zip(values, sizes, strict=True) for _ in range(size)]

    def per_row(values: list[list[Any] | None]) -> list[Any]:
        return [v for given, size in zip(values, sizes, strict=True) for v in given or [None] * size]

    columns: dict[str, list[Any]] = {
        name: per_group([getattr(item, name) for _, item, _, _ in groups])
        for name in ("request_id", "ts", "user_id", "surface")
    }
    columns["reason"] = per_group([reason for *_, reason in groups])
    columns["share"] = per_group([group.share for _, _, group, _ in groups])
    for name in ("track_id", "score", "sources"):
        columns[name] = per_row([getattr(group, name) for _, _, group, _ in groups])
    columns["features"] = [_vector(v) for v in per_row([group.features for _, _, group, _ in groups])]
    arrays = {name: pa.array(values, CANDIDATES.column(name).type) for name, values in columns.items()}
    arrays["day"] = days_of(arrays["ts"])
    rows = pa.array(per_group([row for row, *_ in groups]), pa.int64())
    return pa.table(arrays).select(CANDIDATES.names), rows


def decode(decoder: msgspec.msgpack.Decoder[T], records: Sequence[bytes]) -> Decoded[T]:
    """What the records hold, and what could not be read."""
    decoded: Decoded[T] = Decoded([], [], [])
    for row, record in enumerate(records):
        try:
            decoded.items.append(decoder.decode(record))
            decoded.rows.append(row)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            decoded.broken.append(
                (row, "not_a_record" if not isinstance(error, msgspec.ValidationError) else "wrong_record")
            )
    return decoded


def _columns(items: list[Event], names: list[str], types: dict[str, pa.DataType]) -> pa.Table:
    """A column per field; integers as int64, whatever narrower type the contract has, so that the check can judge them."""
    arrays = []
    for name in names:
        kind = RAW_EVENTS.column(name).type
        wide = pa.int64() if pa.types.is_integer(kind) else types.get(name, kind)
        arrays.append(pa.array([getattr(item, name) for item in items], wide))
    return pa.table(arrays, names=names)


def _slots(items: list[Exposure]) -> pa.Table:
    columns: dict[str, pa.Array] = {}
    for name in (
        "request_id",
        "ts",
        "user_id",
        "surface",
        "bundle",
        "config",
        "variants",
        "took_us",
        "degraded",
    ):
        kind = pa.int64() if name in ("took_us", "degraded") else EXPOSURES.column(name).type
        columns[name] = pa.array(_repeated([getattr(item, name) for item in items], items), kind)
    for name in ("position", "track_id", "score", "sources", "propensity", "team"):
        kind = pa.int64() if name == "position" else EXPOSURES.column(name).type
        columns[name] = pa.array(_flat([getattr(item, name) for item in items], items), kind)
    vectors = _flat([item.features for item in items], items)
    columns["features"] = pa.array([_vector(v) for v in vectors], EXPOSURES.column("features").type)
    columns["day"] = days_of(columns["ts"])
    return pa.table(columns).select(EXPOSURES.names)


def _repeated(values: list[Any], items: list[Exposure]) -> list[Any]:
    return [value for value, item in zip(values, items, strict=True) for _ in item.track_id]


def _flat(values: list[list[Any] | None], items: list[Exposure]) -> list[Any]:
    filled = [[None] * len(i.track_id) if v is None else v for v, i in zip(values, items, strict=True)]
    return [value for slots in filled for value in slots]


def _vector(value: bytes | None) -> npt.NDArray[np.float32] | None:
    return None if value is None else np.frombuffer(value, "<f4")


def _uneven(exposure: Exposure) -> str | None:
    """The column that has not one value per slot, or a feature vector that is not made of float32."""
    fault = _fault(exposure, ("position", "score", "sources", "propensity", "team", "features"))
    if fault is None and exposure.lost is not None:
        fault = _fault(exposure.lost, ("score", "sources", "features"))
        return f"lost_{fault}" if fault else None
    return fault


def _fault(columns: Exposure | Lost, names: tuple[str, ...]) -> str | None:
    size = len(columns.track_id)
    for name in names:
        values = getattr(columns, name)
        if values is not None and len(values) != size:
            return name
    return "features" if any(len(v) % 4 for v in columns.features or ()) else None
