"""Parameters of an operation: each parses its own text, says its own limit and describes itself for OpenAPI.

Query strings are read strictly: a misspelt or repeated parameter is an error with a hint, not a default
applied in silence.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol
from urllib.parse import parse_qsl

from segue.contracts.errors import InvalidInput
from segue.contracts.ids import MAX_ID, MAX_NAMED, named_id
from segue.serving.problems import QueryTooLong

MAX_QUERY_BYTES: Final = 16_384
"""Longer query strings are refused: the largest honest one is a session of a few hundred ids."""
MAX_FIELDS: Final = 50

Schema = dict[str, Any]
Values = dict[str, Any]
_SLUG: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
_CHOICES: Final = re.compile(f"{_SLUG.pattern}:{_SLUG.pattern}(,{_SLUG.pattern}:{_SLUG.pattern})*")
_DIGITS: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


class Form(Protocol):
    """How the text of a parameter is read. `limit` completes the sentence "must be ..."."""

    @property
    def limit(self) -> str:
        """What a value must satisfy, in words."""

    def parse(self, text: str) -> Any:
        """The value. Raises ValueError."""

    def schema(self) -> Schema:
        """The JSON Schema of the value."""


@dataclass(frozen=True)
class Integer:
    """A whole number in a range, written in plain digits."""

    ge: int = 0
    le: int = MAX_ID

    @property
    def limit(self) -> str:
        """The range in words."""
        return f"an integer from {self.ge} to {self.le}"

    def parse(self, text: str) -> int:
        """The number. Raises ValueError."""
        if not _DIGITS.fullmatch(text):
            raise ValueError(text)
        value = int(text)
        if not self.ge <= value <= self.le:
            raise ValueError(text)
        return value

    def schema(self) -> Schema:
        """An integer with its bounds."""
        return {
            "type": "integer",
            "format": "int64",
            "minimum": self.ge,
            "maximum": self.le,
        }


@dataclass(frozen=True)
class Id:
    """An id of ours, or an outside id behind the name of the system it is from."""

    kind: Literal["user", "track", "artist"]

    @property
    def limit(self) -> str:
        """The two ways to write it."""
        return (
            f"an integer from 0 to {MAX_ID}, or SOURCE:ID for an id that was text where it was imported from"
        )

    def parse(self, text: str) -> int:
        """Our id. Raises ValueError."""
        return named_id(self.kind, text)

    def schema(self) -> Schema:
        """An integer or a text with a colon."""
        named = {"type": "string", "pattern": r"^[^:]+:[\s\S]+$", "maxLength": MAX_NAMED}
        return {"anyOf": [Integer().schema(), named]}


@dataclass(frozen=True)
class Flag:
    """Yes or no."""

    limit: str = "1, 0, true or false"

    def parse(self, text: str) -> bool:
        """The truth value. Raises ValueError."""
        if text not in ("0", "1", "true", "false"):
            raise ValueError(text)
        return text in ("1", "true")

    def schema(self) -> Schema:
        """The four spellings."""
        return {"type": "string", "enum": ["1", "0", "true", "false"]}


@dataclass(frozen=True)
class Text:
    """Words, of bounded length."""

    max_chars: int
    min_chars: int = 0

    @property
    def limit(self) -> str:
        """The length in words."""
        return f"text of {self.min_chars} to {self.max_chars} characters"

    def parse(self, text: str) -> str:
        """The text without surrounding blanks. Raises ValueError."""
        text = text.strip()
        if not self.min_chars <= len(text) <= self.max_chars:
            raise ValueError(text)
        return text

    def schema(self) -> Schema:
        """A string with its bounds."""
        return {
            "type": "string",
            "minLength": self.min_chars,
            "maxLength": self.max_chars,
        }


@dataclass(frozen=True)
class Country:
    """A country code."""

    limit: str = "two capital letters (ISO 3166), such as DE"

    def parse(self, text: str) -> str:
        """The code. Raises ValueError."""
        if not re.fullmatch(r"[A-Z]{2}", text):
            raise ValueError(text)
        return text

    def schema(self) -> Schema:
        """A string with its pattern."""
        return {"type": "string", "pattern": "^[A-Z]{2}$"}


@dataclass(frozen=True)
class Ids:
    """A comma-separated list of ids."""

    max_items: int

    @property
    def limit(self) -> str:
        """The form in words."""
        return f"up to {self.max_items} ids from 0 to {MAX_ID}, with commas between"

    def parse(self, text: str) -> tuple[int, ...]:
        """The ids in order; an empty text is an empty list. Raises ValueError."""
        if not text:
            return ()
        parts = text.split(",")
        if len(parts) > self.max_items:
            raise ValueError(text)
        return tuple(Integer().parse(part) for part in parts)

    def schema(self) -> Schema:
        """A list that OpenAPI writes with commas (style form, explode false)."""
        return {
            "type": "array",
            "items": Integer().schema(),
            "maxItems": self.max_items,
        }


@dataclass(frozen=True)
class Slug:
    """A name in small letters, digits and dashes."""

    limit: str = "1 to 60 small letters, digits and dashes, such as more-diverse-home"

    def parse(self, text: str) -> str:
        """The name. Raises ValueError."""
        if not _SLUG.fullmatch(text):
            raise ValueError(text)
        return text

    def schema(self) -> Schema:
        """A string with its pattern."""
        return {"type": "string", "pattern": f"^{_SLUG.pattern}$"}


@dataclass(frozen=True)
class Choices:
    """Variants by experiment."""

    limit: str = "EXPERIMENT:VARIANT, several with commas between"

    def parse(self, text: str) -> dict[str, str]:
        """The variants by experiment. Raises ValueError."""
        if not _CHOICES.fullmatch(text):
            raise ValueError(text)
        pairs = [(name, variant) for name, _, variant in (part.partition(":") for part in text.split(","))]
        if len({name for name, _ in pairs}) < len(pairs):
            raise ValueError(text)
        return dict(pairs)

    def schema(self) -> Schema:
        """A string with its pattern."""
        return {"type": "string", "pattern": f"^{_CHOICES.pattern}$"}


@dataclass(frozen=True)
class Name:
    """One of a few names; an unknown one is not found rather than invalid, because it is a path."""

    names: tuple[str, ...]

    @property
    def limit(self) -> str:
        """The names in words."""
        return f"one of {', '.join(self.names)}"

    def parse(self, text: str) -> str:
        """The name as it is; the operation decides whether it exists."""
        return text

    def schema(self) -> Schema:
        """A closed set."""
        return {"type": "string", "enum": list(self.names)}


@dataclass(frozen=True)
class Parameter:
    """One parameter of an operation."""

    name: str
    form: Form
    doc: str
    example: str | int
    where: Literal["query", "path"] = "query"
    default: str | int | bool | None = None
    required: bool = False

    def parse(self, text: str) -> Any:
        """The value of this parameter. Raises InvalidInput naming the field and the limit."""
        try:
            return self.form.parse(text)
        except ValueError as error:
            shown = text if len(text) <= 40 else f"{text[:40]}…"
            raise InvalidInput(
                f"{self.name}: {shown!r} must be {self.form.limit}",
                field=self.name,
                limit=self.form.limit,
            ) from error


def read_parameters(parameters: Sequence[Parameter], query: bytes, path: Mapping[str, str]) -> Values:
    """The values of all parameters of a request, absent optional ones as their default.

    `query` is the raw query string. Raises InvalidInput for an unknown, repeated, missing or bad parameter
    and QueryTooLong.
    """
    given = _read_query(query)
    known = {p.name for p in parameters if p.where == "query"}
    for name in given:
        if name not in known:
            raise _unknown(name, known)
    return {p.name: _value(p, path if p.where == "path" else given) for p in parameters}


def _value(parameter: Parameter, given: Mapping[str, str]) -> Any:
    text = given.get(parameter.name)
    if text is not None:
        return parameter.parse(text)
    if parameter.required:
        raise InvalidInput(
            f"{parameter.name}: is missing; it must be {parameter.form.limit}",
            field=parameter.name,
            limit=parameter.form.limit,
        )
    return parameter.default


def _read_query(query: bytes) -> dict[str, str]:
    if not query:
        return {}
    if len(query) > MAX_QUERY_BYTES:
        raise QueryTooLong(
            f"the query string has {len(query)} bytes; send at most {MAX_QUERY_BYTES}",
            field="query string",
            limit=f"at most {MAX_QUERY_BYTES} bytes",
        )
    try:
        pairs = parse_qsl(
            query.decode("utf-8"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except UnicodeDecodeError as error:
        raise InvalidInput(
            "the query string is not UTF-8",
            field="query string",
            limit="percent-encoded UTF-8",
        ) from error
    except ValueError as error:
        limit = f"at most {MAX_FIELDS} parameters"
        raise InvalidInput(f"the query string has too many parameters; send {limit}", limit=limit) from error
    given = dict(pairs)
    if len(given) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInput(f"{twice[:60]}: is given more than once", field=twice[:60], limit="once")
    return given


def _unknown(name: str, known: set[str]) -> InvalidInput:
    near = difflib.get_close_matches(name[:60], sorted(known), 1)
    names = f"known here: {', '.join(sorted(known))}" if known else "this path takes none"
    hint = f"did you mean {near[0]}?" if near else names
    return InvalidInput(f"{name[:60]!r} is not a parameter; {hint}", field=name[:60], limit=hint)
