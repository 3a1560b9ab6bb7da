"""OpenAPI 3.1, generated from the table of operations and the msgspec types of their answers."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa

import segue
from segue.contracts.schema import Column
from segue.contracts.tables import MAX_BLOCKED, MAX_TAG, MAX_TAGS, MAX_TEXT, RAW_EVENTS, TRACKS
from segue.serving.body import JSON, NDJSON
from segue.serving.operations import Body, Operation
from segue.serving.parameters import Parameter
from segue.serving.problems import (
    FORBIDDEN,
    INVALID,
    KINDS,
    MEDIA_TYPE,
    NOTHING_ACCEPTED,
    UNAUTHORIZED,
    UNEXPECTED,
    BatchProblem,
    Kind,
    Problem,
)

Document = dict[str, Any]
EVENT, TRACK, FIELDS = "Event", "Track", "TrackFields"
_OURS: Final = ("day", "received_at")
"""Columns that the platform fills in."""
_ITEMS: Final[dict[str, tuple[int, Document]]] = {
    "tags": (MAX_TAGS, {"maxLength": MAX_TAG}),
    "blocked_countries": (MAX_BLOCKED, {"pattern": "^[A-Z]{2}$"}),
}
"""Lists that callers send: how long they may be, and what is in them."""
_REF: Final = "#/components/schemas/{name}"
_HEADERS: Final[Document] = {
    "X-Request-Id": {
        "description": "names this request in the log; yours, if you sent a plain one",
        "schema": {"type": "string"},
    },
    "Server-Timing": {
        "description": "milliseconds of each stage and in total",
        "schema": {"type": "string"},
    },
}
_RETRY: Final[Document] = {
    "description": "seconds to wait before trying again",
    "schema": {"type": "integer"},
}


def document(operations: Sequence[Operation]) -> Document:
    """The OpenAPI document of these operations."""
    answers = [op.answer for op in operations if not isinstance(op.answer, str)]
    _, schemas = msgspec.json.schema_components([*answers, Problem, BatchProblem], ref_template=_REF)
    schemas |= {EVENT: _event(), TRACK: _track(), FIELDS: _fields()}
    paths: Document = {}
    for op in operations:
        paths.setdefault(op.path, {})[op.method.lower()] = _operation(op)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Segue",
            "version": segue.__version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Music recommendations: ask for tracks, say what listeners did, and be heard at once. "
            "Times are UTC microseconds; ids are integers from 0 to 2^63-1.",
        },
        "tags": [{"name": name} for name in dict.fromkeys(op.group for op in operations)],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "asked for where the settings name keys",
                }
            },
        },
        "x-problems": [
            {
                "slug": k.slug,
                "status": k.status,
                "title": k.title,
                "retry_after_s": k.retry_after_s,
            }
            for k in KINDS.values()
        ],
    }


def _operation(op: Operation) -> Document:
    # A path without parameters cannot be asked wrongly, except by adding some.
    guarded = (UNAUTHORIZED, FORBIDDEN) if op.scope else ()
    kinds = dict.fromkeys([INVALID, *guarded, *op.problems, UNEXPECTED])
    found: Document = {
        "operationId": op.name,
        "tags": [op.group],
        "summary": op.summary,
        "description": op.doc,
        "responses": {
            str(op.status): _answer(op),
            **{str(kind.status): _problem(kind) for kind in kinds},
        },
    }
    if op.scope:
        found["security"] = [{}, {"key": [op.scope]}]
    if op.parameters:
        found["parameters"] = [_parameter(parameter) for parameter in op.parameters]
    if op.body is not None:
        found["requestBody"] = _body(op.body)
    return found


def _answer(op: Operation) -> Document:
    if isinstance(op.answer, str):
        content: Document = {op.answer: {"schema": {}}}
        doc = op.summary
    else:
        content = {JSON: {"schema": {"$ref": _REF.format(name=op.answer.__name__)}}}
        doc = inspect.cleandoc(op.answer.__doc__ or op.summary)
    return {"description": doc, "headers": _HEADERS, "content": content}


def _problem(kind: Kind) -> Document:
    headers = _HEADERS if kind.retry_after_s is None else {**_HEADERS, "Retry-After": _RETRY}
    schema = BatchProblem if kind is NOTHING_ACCEPTED else Problem
    content = {MEDIA_TYPE: {"schema": {"$ref": _REF.format(name=schema.__name__)}}}
    return {"description": kind.title, "headers": headers, "content": content}


def _parameter(parameter: Parameter) -> Document:
    schema = dict(parameter.form.schema())
    if parameter.default is not None:
        default = parameter.default
        schema["default"] = str(int(default)) if isinstance(default, bool) else default
    found: Document = {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.required,
        "description": f"{parameter.doc}: {parameter.form.limit}",
        "schema": schema,
    }
    if schema.get("type") == "array":
        found |= {
            "style": "form",
            "explode": False,
            "example": [int(x) for x in str(parameter.example).split(",")],
        }
    else:
        found["example"] = parameter.example
    return found


def _body(body: Body) -> Document:
    one: Document = {"$ref": _REF.format(name=body.item)}
    many, things = {"type": "array", "items": one}, f"{body.item.lower()}s"
    batch: Document = {
        "type": "object",
        "required": [things],
        "properties": {things: many},
        "additionalProperties": False,
    }
    lines = {"type": "string", "description": f"{things}, one a line"}
    schemas = {JSON: {"anyOf": [many, batch]} if body.many else one, NDJSON: lines}
    content = {
        media: {"schema": schemas[media], "example": example} for media, example in body.examples.items()
    }
    return {"required": True, "description": body.doc, "content": content}


def _event() -> Document:
    """An event as clients send it, from the contract of the table it lands in."""
    columns = [column for column in RAW_EVENTS.columns if column.name not in _OURS]
    return {
        "title": EVENT,
        "description": "Something a listener did. Which of the ids it needs depends on its type.",
        "type": "object",
        "properties": {column.name: _column(column) for column in columns},
        "required": ["ts", "user_id", "type"],
        "additionalProperties": False,
    }


def _fields() -> Document:
    """What callers say of a track, from the contract of the table it lands in."""
    name = {"type": "string", "maxLength": MAX_TEXT, "description": "name of the artist `artist_id`"}
    key = TRACKS.key[0]
    return {
        "title": FIELDS,
        "description": "What is so of a track. What is left out stays as it is.",
        "type": "object",
        "properties": {c.name: _column(c) for c in TRACKS.columns if c.name != key} | {"artist_name": name},
        "dependentRequired": {"artist_name": ["artist_id"]},
        "additionalProperties": False,
    }


def _track() -> Document:
    """The same, with the track's id."""
    found, key = _fields(), TRACKS.key[0]
    found["properties"] = {key: _column(TRACKS.column(key)), **found["properties"]}
    return found | {"title": TRACK, "required": [key]}


def _column(column: Column) -> Document:
    found: Document = {"description": column.doc}
    if column.name in ("ts", "uploaded_at"):
        moment = {"type": "string", "format": "date-time"}
        micros = {"type": "integer", "minimum": column.ge, "maximum": column.le}
        found |= {"anyOf": [micros, moment], "description": f"{column.doc}, or ISO 8601 text"}
    elif pa.types.is_list(column.type):
        most, item = _ITEMS[column.name]
        found |= {"type": "array", "items": {"type": "string", **item}, "maxItems": most}
    elif pa.types.is_boolean(column.type):
        found |= {"type": "boolean"}
    elif pa.types.is_integer(column.type):
        found |= {"type": "integer", "minimum": column.ge, "maximum": column.le}
    elif pa.types.is_binary(column.type):
        found |= {"type": "string", "format": "uuid"}
    elif column.one_of is not None:
        found |= {"type": "string", "enum": list(column.one_of)}
    else:
        doc = f"{column.doc}; at most {column.max_bytes:,} bytes of UTF-8"
        found |= {"type": "string", "maxLength": column.max_bytes, "description": doc}
        if column.pattern is not None:
            found["pattern"] = f"^{column.pattern}$"
    return found
