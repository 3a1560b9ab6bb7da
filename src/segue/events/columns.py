"""Columns from outside turned into columns of a contract: whole arrays at a time, each bad value marked, none raising.

Arrow's own casts stop at the first bad value. Here a value that does not fit becomes null and is marked with what is
wrong with it, so that one broken row never costs its neighbours.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segue.contracts.ids import stable_id
from segue.contracts.vocabulary import DAY, SECOND

Mask: TypeAlias = npt.NDArray[np.bool_]

FAULT: Final = "#fault."
"""Prefix of the column that says what was wrong with another column's values."""
GIVEN: Final = "#given."
"""Prefix of the column that shows what stood there before it was converted."""
UNITS: Final[dict[str, int]] = {"s": SECOND, "ms": 1_000, "us": 1}
"""Microseconds in a unit of time."""

_WHOLE: Final = r"^[+-]?[0-9]{1,38}$"
_DECIMAL: Final = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"
_TRUE: Final = ("true", "t", "yes", "1")
_FALSE: Final = ("false", "f", "no", "0")


@dataclass(frozen=True)
class Coerced:
    """A column in its contract's type, null where it could not be. The masks are bool[n] and exclude each other.

    `given` is the column it was made from, so that a reject can show what was there.
    """

    values: pa.Array
    wrong: Mask
    beyond: Mask
    not_utf8: Mask
    given: pa.Array | None = None


def loose(columns: Mapping[str, pa.Array | pa.ChunkedArray | Coerced]) -> pa.Table:
    """A table of columns on their way to a check. What a conversion found wrong with a value stays with its row.

    The faults of a converted column `x` are kept in a column `#fault.x`, null where there is none, and what stood there in
    `#given.x`, as text.
    """
    arrays: dict[str, pa.Array | pa.ChunkedArray] = {}
    for name, column in columns.items():
        if isinstance(column, Coerced):
            arrays[name] = column.values
            arrays |= _faults(name, column)
        else:
            arrays[name] = column
    return pa.table(arrays)


def _faults(name: str, column: Coerced) -> dict[str, pa.Array]:
    if not (column.wrong.any() or column.beyond.any() or column.not_utf8.any()):
        return {}
    reasons = np.full(len(column.wrong), None, object)
    for mask, reason in (
        (column.wrong, "wrong_type"),
        (column.beyond, "out_of_range"),
        (column.not_utf8, "not_utf8"),
    ):
        reasons[mask] = reason
    faults = {f"{FAULT}{name}": pa.array(reasons, pa.string())}
    if column.given is not None:
        shown = np.full(len(reasons), None, object)
        for at in np.flatnonzero(column.wrong | column.beyond | column.not_utf8):
            shown[at] = _as_text(column.given[int(at)].as_py())
        faults[f"{GIVEN}{name}"] = pa.array(shown, pa.string())
    return faults


def _as_text(value: object) -> str:
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return text[:200]


def single(values: pa.ChunkedArray | pa.Array) -> pa.Array:
    """One contiguous array, dictionaries decoded."""
    if isinstance(values, pa.ChunkedArray):
        values = (
            values.chunk(0) if values.num_chunks == 1 else pa.concat_arrays(values.chunks or [_empty(values)])
        )
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def mask_of(values: Any) -> Mask:
    """bool[n] of a boolean array; null is False."""
    filled = pc.fill_null(single(values), False)
    return np.asarray(filled.to_numpy(zero_copy_only=False), dtype=np.bool_)


def different(one: pa.Array, other: pa.Array) -> Mask:
    """bool[n]: where two columns of one type differ; null equals null."""
    if pa.types.is_list(one.type):
        one, other = (pc.binary_join(x, "\x1f") for x in (one, other))
    return mask_of(pc.not_equal(one, other)) | (mask_of(pc.is_null(one)) ^ mask_of(pc.is_null(other)))


def coerce(values: pa.ChunkedArray | pa.Array, to: pa.DataType) -> Coerced:
    """The column as type `to`. Text is read as numbers, truth values and UUIDs where it plainly is one; empty text is null."""
    column = single(values)
    return replace(_coerced(column, to), given=column)


def _coerced(column: pa.Array, to: pa.DataType) -> Coerced:
    if pa.types.is_null(column.type):
        return _clean(pa.nulls(len(column), to))
    if pa.types.is_integer(to):
        return _to_integer(column, to)
    if pa.types.is_floating(to):
        return _to_floating(column, to)
    if pa.types.is_boolean(to):
        return _to_boolean(column)
    if pa.types.is_string(to):
        return _to_text(column)
    if pa.types.is_binary(to):
        return _to_uuid(column)
    return _by_cast(column, to)


def is_text(type_: pa.DataType) -> bool:
    """Whether values of the type are text, or bytes that may be text."""
    return bool(
        pa.types.is_string(type_)
        or pa.types.is_large_string(type_)
        or pa.types.is_string_view(type_)
        or pa.types.is_binary(type_)
        or pa.types.is_large_binary(type_)
        or pa.types.is_binary_view(type_)
        or pa.types.is_fixed_size_binary(type_)
    )


def times(values: pa.ChunkedArray | pa.Array, unit: str) -> Coerced:
    """UTC microseconds, int64, from numbers in `unit` ("s", "ms", "us"), or from dates and ISO 8601 text (unit "iso").

    Text without a zone is taken as UTC. Arrow timestamps and dates are understood whatever `unit` says.
    """
    column = single(values)
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return _clean(column.cast(pa.timestamp("us"), safe=False).cast(pa.int64()))
    if unit == "iso":
        return replace(_from_iso(column), given=column)
    return scaled(column, UNITS[unit])


def scaled(values: pa.ChunkedArray | pa.Array, factor: int) -> Coerced:
    """int64 of the numbers times `factor`, rounded down; fractions are allowed, whole numbers stay exact."""
    column = single(values)
    if is_text(column.type) or pa.types.is_null(column.type):
        text = _to_text(column)
        whole = mask_of(pc.match_substring_regex(text.values, _WHOLE))
        as_number = _to_integer(column, pa.int64()) if bool(np.all(whole | _nulls(text.values))) else None
        number = as_number or _to_floating(column, pa.float64())
    elif pa.types.is_floating(column.type):
        number = _to_floating(column, pa.float64())
    else:
        number = _to_integer(column, pa.int64())
    limit = (2**63 - 1) // factor
    low, high = (pa.scalar(x, pa.int64()).cast(number.values.type, safe=False) for x in (-limit, limit))
    beyond = mask_of(pc.or_(pc.less(number.values, low), pc.greater(number.values, high)))
    kept = _drop(number.values, beyond)
    product = pc.multiply(kept, pa.scalar(factor, number.values.type))
    if pa.types.is_floating(product.type):
        product = pc.floor(product).cast(pa.int64(), safe=False)
    return Coerced(product, number.wrong, number.beyond | beyond, number.not_utf8, column)


def stable_ids(namespace: str, values: pa.ChunkedArray | pa.Array) -> pa.Array:
    """int64 ids of a column of outside ids: integers stay themselves, text goes through `ids.stable_id`; null stays null.

    Each distinct text is hashed once.
    """
    column = single(values)
    if not is_text(column.type):
        return _to_integer(column, pa.int64()).values
    text = _to_text(column).values
    coded = text.dictionary_encode()
    ids = [stable_id(namespace, outside) for outside in coded.dictionary.to_pylist()]
    return pa.array(ids, pa.int64()).take(coded.indices)


def clip(values: pa.ChunkedArray | pa.Array, max_bytes: int) -> pa.Array:
    """Text cut so that it takes at most `max_bytes` in UTF-8."""
    column = single(values)
    long = mask_of(pc.greater(pc.binary_length(column), max_bytes))
    if not long.any():
        return column
    # Why one by one: only the few that are too long, and a cut must not fall into a character.
    cut = [text.encode()[:max_bytes].decode(errors="ignore") for text in column.filter(long).to_pylist()]
    return pc.replace_with_mask(column, pa.array(long), pa.array(cut, column.type))


def _empty(values: pa.ChunkedArray) -> pa.Array:
    return pa.array([], values.type)


def _none(n: int) -> Mask:
    return np.zeros(n, np.bool_)


def _clean(values: pa.Array) -> Coerced:
    return Coerced(values, _none(len(values)), _none(len(values)), _none(len(values)))


def _nulls(values: pa.Array) -> Mask:
    return mask_of(pc.is_null(values))


def _drop(values: pa.Array, bad: Mask) -> pa.Array:
    return pc.if_else(pa.array(bad), pa.scalar(None, values.type), values) if bad.any() else values


def _all_wrong(column: pa.Array, to: pa.DataType) -> Coerced:
    none = _none(len(column))
    return Coerced(pa.nulls(len(column), to), ~_nulls(column), none, none)


def _to_integer(column: pa.Array, to: pa.DataType) -> Coerced:
    if is_text(column.type):
        return _text_to_integer(column, to)
    if pa.types.is_floating(column.type):
        wide = column.cast(pa.float64())
        whole = mask_of(pc.and_(pc.is_finite(wide), pc.equal(pc.floor(wide), wide)))
        wrong = ~whole & ~_nulls(column)
        beyond = whole & mask_of(pc.greater_equal(pc.abs(wide), 2.0**63))
        wide = _drop(wide, wrong | beyond).cast(pa.int64(), safe=False)
    elif pa.types.is_integer(column.type):
        wrong = _none(len(column))
        beyond = (
            mask_of(pc.greater(column, pa.scalar(2**63 - 1, pa.uint64())))
            if pa.types.is_uint64(column.type)
            else wrong
        )
        wide = _drop(column, beyond).cast(pa.int64())
    else:
        return _all_wrong(column, to)
    values, outside = _narrow(wide, to)
    return Coerced(values, wrong, beyond | outside, _none(len(column)))


def _narrow(wide: pa.Array, to: pa.DataType) -> tuple[pa.Array, Mask]:
    bounds = np.iinfo(to.to_pandas_dtype())
    if to.bit_width == 64:
        return wide, _none(len(wide))
    outside = mask_of(pc.or_(pc.less(wide, int(bounds.min)), pc.greater(wide, int(bounds.max))))
    return _drop(wide, outside).cast(to), outside


def _text_to_integer(column: pa.Array, to: pa.DataType) -> Coerced:
    text = _to_text(column)
    trimmed = _trim(text.values)
    whole = mask_of(pc.match_substring_regex(trimmed, _WHOLE))
    wrong = ~whole & ~_nulls(trimmed)
    exact = _drop(trimmed, wrong).cast(pa.decimal128(38, 0))
    low, high = (
        pa.scalar(-(2**63)).cast(pa.decimal128(38, 0)),
        pa.scalar(2**63 - 1).cast(pa.decimal128(38, 0)),
    )
    beyond = mask_of(pc.or_(pc.less(exact, low), pc.greater(exact, high)))
    values, outside = _narrow(_drop(exact, beyond).cast(pa.int64()), to)
    return Coerced(values, wrong, beyond | outside, text.not_utf8)


def _to_floating(column: pa.Array, to: pa.DataType) -> Coerced:
    if is_text(column.type):
        text = _to_text(column)
        trimmed = _trim(text.values)
        wrong = ~mask_of(pc.match_substring_regex(trimmed, _DECIMAL)) & ~_nulls(trimmed)
        wide, not_utf8 = _drop(trimmed, wrong).cast(pa.float64()), text.not_utf8
    elif (
        pa.types.is_floating(column.type)
        or pa.types.is_integer(column.type)
        or pa.types.is_decimal(column.type)
    ):
        wide, wrong, not_utf8 = column.cast(pa.float64(), safe=False), _none(len(column)), _none(len(column))
        wrong = mask_of(pc.is_nan(wide))
    else:
        return _all_wrong(column, to)
    beyond = mask_of(pc.is_inf(wide))
    return Coerced(_drop(wide, wrong | beyond).cast(to, safe=False), wrong, beyond, not_utf8)


def _to_boolean(column: pa.Array) -> Coerced:
    if pa.types.is_boolean(column.type):
        return _clean(column)
    if is_text(column.type):
        text = _to_text(column)
        lower = pc.utf8_lower(_trim(text.values))
        not_utf8 = text.not_utf8
    elif pa.types.is_integer(column.type):
        lower, not_utf8 = column.cast(pa.string()), _none(len(column))
    else:
        return _all_wrong(column, pa.bool_())
    true, false = (pc.is_in(lower, value_set=pa.array(words)) for words in (_TRUE, _FALSE))
    wrong = ~mask_of(true) & ~mask_of(false) & ~_nulls(lower)
    return Coerced(
        pc.if_else(pa.array(wrong | _nulls(lower)), None, true), wrong, _none(len(column)), not_utf8
    )


def _to_text(column: pa.Array) -> Coerced:
    none = _none(len(column))
    if pa.types.is_string(column.type):
        return _clean(column)
    if pa.types.is_integer(column.type):
        return _clean(column.cast(pa.string()))
    if not is_text(column.type):
        return _all_wrong(column, pa.string())
    try:
        return _clean(column.cast(pa.string()))
    except pa.ArrowInvalid:
        raw = column.to_pylist()
        bad = np.fromiter((not _is_utf8(value) for value in raw), np.bool_, len(raw))
        kept = pa.array([None if b else value for value, b in zip(raw, bad, strict=True)], pa.binary())
        return Coerced(kept.cast(pa.string()), none, none, bad)


def _is_utf8(value: bytes | None) -> bool:
    try:
        return value is None or bool(value.decode("utf-8") or True)
    except UnicodeDecodeError:
        return False


def _trim(text: pa.Array) -> pa.Array:
    """Without surrounding space; empty is null, as CSV has no other way to leave a value out."""
    trimmed = pc.utf8_trim_whitespace(text)
    return _drop(trimmed, mask_of(pc.equal(pc.binary_length(trimmed), 0)))


def _to_uuid(column: pa.Array) -> Coerced:
    """16-byte ids from 16 raw bytes or canonical UUID text."""
    if not is_text(column.type):
        return _all_wrong(column, pa.binary())
    parsed = [_uuid(value) for value in column.to_pylist()]
    values = pa.array(parsed, pa.binary())
    none = _none(len(column))
    return Coerced(values, _nulls(values) & ~_nulls(column), none, none)


def _uuid(value: bytes | str | None) -> bytes | None:
    if value is None or (isinstance(value, bytes) and len(value) == 16):
        return value if isinstance(value, bytes) else None
    try:
        return uuid.UUID(value if isinstance(value, str) else value.decode("ascii")).bytes
    except ValueError:
        return None


def _by_cast(column: pa.Array, to: pa.DataType) -> Coerced:
    try:
        return _clean(column.cast(to))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return _all_wrong(column, to)


def _from_iso(column: pa.Array) -> Coerced:
    text = _to_text(column)
    trimmed = _trim(text.values)
    for zone in ("UTC", None):
        try:
            whole = trimmed.cast(pa.timestamp("us", zone))
        except pa.ArrowInvalid:
            continue
        return Coerced(whole.cast(pa.int64()), text.wrong, text.beyond, text.not_utf8)
    values = pa.array([None if t is None else iso_to_us(t) for t in trimmed.to_pylist()], pa.int64())
    return Coerced(values, text.wrong | (_nulls(values) & ~_nulls(trimmed)), text.beyond, text.not_utf8)


def iso_to_us(text: str) -> int | None:
    """UTC microseconds of an ISO 8601 time; one without a zone is UTC. None if it is no such time."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * DAY) + since.seconds * SECOND + since.microseconds


def days_of(ts: pa.ChunkedArray | pa.Array) -> pa.Array:
    """date32 of UTC microseconds."""
    micros = np.asarray(single(ts).to_numpy(zero_copy_only=False), dtype=np.int64)
    return pa.array((micros // DAY).astype(np.int32), pa.int32()).cast(pa.date32())
