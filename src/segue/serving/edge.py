"""The outermost layer: every answer, good or bad, leaves with an id, its timing and the security headers, and is counted."""

from __future__ import annotations

import logging
import re
from time import perf_counter
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segue.contracts.ids import format_id, new_id
from segue.monitoring.metrics import Metrics
from segue.serving.hosts import name_of
from segue.serving.problems import INVALID, instance_of, problem, unexpected

logger = logging.getLogger("segue.serving")

REQUEST_ID: Final = "segue.request_id"
ROUTE: Final = "segue.route"
SURFACE: Final = "segue.surface"
TIMING: Final = "segue.timing"
KEY: Final = "segue.key"
"""Keys in the ASGI scope: written by the operation, read here when the answer leaves."""

_OUTSIDE_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_CSP: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing inline and nothing from elsewhere: text of the catalogue that looks like markup stays text."""
_SECURITY: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", _CSP),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Edge:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, metrics: Metrics, hosts: frozenset[str] | None) -> None:
        self._app = app
        self._metrics = metrics
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        scope[REQUEST_ID] = request_id = _request_id(scope)
        status = 0

        async def leave(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    *_headers(scope, request_id, started),
                ]
            await send(message)

        try:
            stranger = self._stranger(scope)
            await (self._app if stranger is None else _not_here(stranger, request_id))(scope, receive, leave)
        except Exception:
            # The one place that catches everything: what gets here is a fault of ours. The caller gets an
            # id, the log the traceback, and the worker lives on. An answer that had already begun can only
            # be cut off.
            logger.exception(
                "%s %s failed: %s",
                scope["method"],
                scope["path"],
                instance_of(request_id),
            )
            if status:
                raise
            await unexpected(request_id)(scope, receive, leave)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.request(
                method,
                scope.get(ROUTE, "none"),
                scope.get(SURFACE, ""),
                status,
                perf_counter() - started,
            )

    def _stranger(self, scope: Scope) -> str | None:
        """The name the caller used for this server, if it is not one of ours. Browsers always send one."""
        if self._hosts is None:
            return None
        named = (name_of(value) for name, value in scope["headers"] if name == b"host")
        return next((name for name in named if name not in self._hosts), None)


def _not_here(name: str, request_id: str) -> ASGIApp:
    return problem(
        INVALID,
        f"Host: {name[:60]!r} is no name of this server; use localhost, or add the name to serving.allowed_hosts",
        request_id,
        field="Host",
        limit="a name in serving.allowed_hosts",
    )


def _request_id(scope: Scope) -> str:
    """The caller's id, if it is a plain one, else a new UUIDv7."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _OUTSIDE_ID.fullmatch(value):
            return str(value, "ascii")
    return format_id(new_id())


def _headers(scope: Scope, request_id: str, started: float) -> list[tuple[bytes, bytes]]:
    total = f"total;dur={(perf_counter() - started) * 1000:.2f}"
    timing = ", ".join([*scope.get(TIMING, ()), total])
    return [
        (b"x-request-id", request_id.encode()),
        (b"server-timing", timing.encode()),
        *_SECURITY,
    ]
