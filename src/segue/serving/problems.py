"""Errors as problem documents (RFC 9457): which field, which limit, and what to do; never what is inside.

Every error Segue raises on purpose has one status here. What is not in the table is a fault of ours: it
becomes a 500 that names only the request's id, under which the log has the traceback.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import Struct
from starlette.responses import Response

from segue.contracts.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    Overloaded,
    SegueError,
    Unavailable,
)
from segue.serving.keys import Forbidden, Unauthorized
from segue.serving.platform import EventResult

MEDIA_TYPE: Final = "application/problem+json"


class BodyTooLarge(InvalidInput):
    """A request body is larger than the server takes."""


class WrongMediaType(InvalidInput):
    """A request body is of a type or encoding the operation does not take."""


class QueryTooLong(InvalidInput):
    """A query string is longer than the server reads."""


class Problem(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An error. `field` names what is wrong, `limit` what it must satisfy, `instance` the request."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    field: str | None = None
    limit: str | None = None


class BatchProblem(Problem, frozen=True, omit_defaults=True, kw_only=True):
    """A batch of which nothing was accepted; `results` say why, in the order it was sent."""

    rejected: int
    results: tuple[EventResult, ...]


@dataclass(frozen=True)
class Kind:
    """One kind of problem: its status, the anchor of its paragraph in /docs, its title, and when to come back."""

    status: int
    slug: str
    title: str
    retry_after_s: int | None = None


INVALID: Final = Kind(400, "invalid-input", "A value breaks its contract")
NOT_FOUND: Final = Kind(404, "not-found", "There is no such thing")
WRONG_METHOD: Final = Kind(405, "wrong-method", "This path takes another method")
CONFLICT: Final = Kind(409, "conflict", "Somebody else is changing the same thing", retry_after_s=1)
UNAUTHORIZED: Final = Kind(401, "unauthorized", "A key is needed")
FORBIDDEN: Final = Kind(403, "forbidden", "The key does not allow this")
TOO_LARGE: Final = Kind(413, "body-too-large", "The body is too large")
TOO_LONG: Final = Kind(414, "query-too-long", "The query string is too long")
WRONG_TYPE: Final = Kind(415, "wrong-media-type", "The body is of a type this path does not take")
NOTHING_ACCEPTED: Final = Kind(422, "nothing-accepted", "Nothing in the batch meets its contract")
OVERLOADED: Final = Kind(429, "overloaded", "The server is busy", retry_after_s=1)
UNEXPECTED: Final = Kind(500, "unexpected", "The server made a mistake")
UNAVAILABLE: Final = Kind(503, "unavailable", "Something this needs does not answer", retry_after_s=2)

KINDS: Final = {
    k.status: k
    for k in (
        INVALID,
        UNAUTHORIZED,
        FORBIDDEN,
        NOT_FOUND,
        WRONG_METHOD,
        CONFLICT,
        TOO_LARGE,
        TOO_LONG,
        WRONG_TYPE,
        NOTHING_ACCEPTED,
        OVERLOADED,
        UNEXPECTED,
        UNAVAILABLE,
    )
}

_BY_CLASS: Final[tuple[tuple[type[SegueError], Kind], ...]] = (
    # The first class that fits counts, so the narrow ones come first.
    (Unauthorized, UNAUTHORIZED),
    (Forbidden, FORBIDDEN),
    (BodyTooLarge, TOO_LARGE),
    (QueryTooLong, TOO_LONG),
    (WrongMediaType, WRONG_TYPE),
    (InvalidInput, INVALID),
    (NotFound, NOT_FOUND),
    (Conflict, CONFLICT),
    (Overloaded, OVERLOADED),
    (Unavailable, UNAVAILABLE),
)


def kind_of(error: SegueError) -> Kind:
    """The kind of an error; UNEXPECTED for those no caller can do anything about."""
    return next((kind for cls, kind in _BY_CLASS if isinstance(error, cls)), UNEXPECTED)


def type_of(kind: Kind) -> str:
    """The URI of a kind: its paragraph in the API page."""
    return f"/docs#{kind.slug}"


def instance_of(request_id: str) -> str:
    """The URI that names one request in problem documents and in the log."""
    return f"urn:segue:request:{request_id}"


def problem(
    kind: Kind,
    detail: str,
    request_id: str,
    *,
    field: str | None = None,
    limit: str | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """The response for a problem of that kind."""
    document = Problem(
        type=type_of(kind),
        title=kind.title,
        status=kind.status,
        detail=detail,
        instance=instance_of(request_id),
        field=field,
        limit=limit,
    )
    extra = dict(headers or {})
    if kind.retry_after_s is not None:
        extra.setdefault("Retry-After", str(kind.retry_after_s))
    return _response(document, extra)


def nothing_accepted(results: tuple[EventResult, ...], request_id: str, item: str = "event") -> Response:
    """The response for a batch of which no event (or no track) was accepted."""
    kind = NOTHING_ACCEPTED
    first = next((r.detail or r.reason for r in results), None)
    detail = (
        f"none of {len(results)} {item}s was accepted; the first: {first}"
        if first
        else f"the batch has no {item}s"
    )
    return _response(
        BatchProblem(
            type=type_of(kind),
            title=kind.title,
            status=kind.status,
            detail=detail,
            instance=instance_of(request_id),
            field=f"{item}s",
            limit=f"at least one {item} that meets its contract",
            rejected=len(results),
            results=results,
        ),
        {},
    )


def unexpected(request_id: str) -> Response:
    """The response for a fault of ours: an id to ask about, and nothing from inside."""
    return problem(
        UNEXPECTED,
        f"This is a fault of the server. Its log has the details under {request_id}.",
        request_id,
    )


def _response(document: Problem, headers: dict[str, str]) -> Response:
    body = msgspec.json.encode(document)
    return Response(
        body,
        document.status,
        headers={"Cache-Control": "no-store", **headers},
        media_type=MEDIA_TYPE,
    )
