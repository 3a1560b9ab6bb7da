"""Bodies of JSON taken apart: into things to be judged one by one, and each into fields held against its columns."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable
from io import BytesIO
from itertools import islice
from typing import Any, Final, TypeVar

import msgspec

from segue.contracts.errors import InvalidInput
from segue.contracts.schema import Column

LINE_TYPES: Final = (
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/x-jsonlines",
)
COMMAS: Final = 40
"""More than a thing has in its JSON: twice its fields."""
Part = TypeVar("Part")


class Breach(Exception):
    """One thing of a body breaks its contract: a short stable reason, the field at fault, and what to tell the caller."""

    def __init__(self, reason: str, field: str | None, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.field = field
        self.message = message


def lines(body: bytes, most: int, things: str) -> list[bytes | msgspec.Raw]:
    """A thing a line. Raises InvalidInput if there are more than `most`."""
    return few([*islice((line for line in BytesIO(body) if line.strip()), most + 1)], most, things)


def array(body: bytes, most: int, things: str) -> list[bytes | msgspec.Raw]:
    """The things of an array, or of an object that has them under their name.

    A body that as a whole is no strict JSON, such as one with half an emoji in a text, is read by a laxer parser: each thing
    is to be judged alone. Raises InvalidInput if it is none of these, or holds more than `most`.
    """
    _refuse_hordes(body, most, things)
    try:
        if body.lstrip()[:1] == b"{":
            named = _envelope.decode(body)
            if [*named] != [things]:
                raise msgspec.ValidationError(f"the object has other fields than `{things}`")
            return few([*named[things]], most, things)
        return few([*_array.decode(body)], most, things)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        parts = _one_by_one(body, most, things)
        if parts is not None:
            return parts
        raise InvalidInput(
            f'body: {str(error)[:200]}; send an array of {things}, or {{"{things}": [...]}}',
            field="body",
            limit="JSON",
        ) from error


def few(parts: list[Part], most: int, things: str) -> list[Part]:
    """The parts, if there are no more than `most`. Raises InvalidInput."""
    if len(parts) > most:
        raise _horde(most, things)
    return parts


def fields(raw: bytes | msgspec.Raw, max_bytes: int, thing: str) -> dict[str, Any]:
    """The fields of one thing. Raises Breach if it is too large or no JSON object, or names a field twice."""
    if memoryview(raw).nbytes > max_bytes:
        raise Breach("too_large", None, f"{thing} may take {max_bytes:,} bytes")
    try:
        said = _object.decode(raw)
    except UnicodeDecodeError as error:
        raise Breach("not_utf8", None, "text must be UTF-8") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise _no_object(error) from error
    _check_once(raw, said)
    return said


def names_once(said: bytes, given: int) -> bool:
    """Whether so many fields were named, and no more: certain only where no blank stands behind a quotation mark."""
    blanks = b'" ' in said or b'"\n' in said or b'"\r' in said or b'"\t' in said
    return not blanks and said.count(b'":') == given


def unknown(name: str, known: Iterable[str], thing: str) -> Breach:
    """What to raise for a field that is none, with a hint."""
    near = difflib.get_close_matches(name[:100], list(known), 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return Breach("unknown_field", name[:100], f"{name[:100]!r} is not a field of {thing}{hint}")


def integer(column: Column) -> Callable[[Any], int]:
    """A check of whole numbers in the column's range."""
    name = column.name
    low, high = int(column.ge or 0), int(column.le or 0)

    def check(value: Any) -> int:
        if type(value) is not int:
            raise Breach(f"wrong_type_{name}", name, f"{name} must be a whole number")
        if name != "ts" and not low <= value <= high:
            raise Breach(f"out_of_range_{name}", name, f"{name} must lie from {low} to {high}")
        return value

    return check


def text(column: Column) -> Callable[[Any], str]:
    """A check of text: the column's length, form and words."""
    name, known, longest = column.name, column.one_of, column.max_bytes
    form = re.compile(column.pattern) if column.pattern is not None else None

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise Breach(f"wrong_type_{name}", name, f"{name} must be text")
        if known is not None and value not in known:
            raise Breach(f"unknown_{name}", name, f"{name} must be one of {', '.join(known)}")
        if longest is not None and len(value.encode()) > longest:
            raise Breach(f"too_long_{name}", name, f"{name} may take {longest} bytes")
        if form is not None and not form.fullmatch(value):
            raise Breach(f"unknown_{name}", name, f"{name} must be {column.doc}")
        return value

    return check


_envelope: Final = msgspec.json.Decoder(dict[str, list[msgspec.Raw]])
_array: Final = msgspec.json.Decoder(list[msgspec.Raw])
_object: Final = msgspec.json.Decoder(dict[str, Any])


def _refuse_hordes(body: bytes, most: int, things: str) -> None:
    """Raise InvalidInput for an array of far too many elements, before all of them take some fifty bytes each.

    A body without many commas is not looked at, and of others no more than is needed to know.
    """
    start = _ARRAY.match(body)
    if start is None or body.count(b",") <= COMMAS * most:
        return
    text = body[start.end() :].decode("utf-8", "replace")
    at = 0
    try:
        for _ in range(most + 1):
            _, end = _decode_one(text, _BLANK.match(text, at).end())  # type: ignore[union-attr]
            at = _BLANK.match(text, end).end() + 1  # type: ignore[union-attr]
            if text[at - 1] != ",":
                return
    except (ValueError, IndexError, RecursionError):
        return  # what is wrong with it is said by whoever reads it
    raise _horde(most, things)


_ARRAY: Final = re.compile(rb'\s*(?:\{\s*"[a-z]{1,20}"\s*:\s*)?\[')
_BLANK: Final = re.compile(r"\s*")
_decode_one: Final = json.JSONDecoder().raw_decode


def _horde(most: int, things: str) -> InvalidInput:
    return InvalidInput(
        f"{things}: there are more than {most:,}; send at most that many at once",
        field=things,
        limit=f"{most} {things}",
    )


def _one_by_one(body: bytes, most: int, things: str) -> list[bytes | msgspec.Raw] | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    parts = found.get(things) if isinstance(found, dict) and len(found) == 1 else found
    if not isinstance(parts, list):
        return None
    return [
        json.dumps(part, ensure_ascii=False).encode("utf-8", "surrogatepass")
        for part in few(parts, most, things)
    ]


def _check_once(raw: bytes | msgspec.Raw, said: dict[str, Any]) -> None:
    """Refuse what names a field twice: of which value it means, two readers may think differently."""
    if names_once(bytes(raw), len(said)):
        return
    try:
        pairs = json.loads(bytes(raw), object_pairs_hook=list)
    except (ValueError, RecursionError) as error:
        raise _no_object(error) from error
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise Breach("repeated_field", name[:100], f"{name[:100]!r} is given more than once")
        seen.add(name)


def _no_object(error: Exception) -> Breach:
    return Breach("not_json", None, f"not a JSON object: {str(error)[:200]}")
