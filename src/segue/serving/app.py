"""The web application: the table of operations behind one edge.

A request passes the edge (id, timing, headers, counting), the router, the parameter check of its operation, a lane (or the
pool that the workers share), and the platform. The platform is given; this room knows nothing about where its answers come from.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from math import ceil
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route

from segue.contracts.errors import Overloaded, SegueError
from segue.monitoring.metrics import Metrics
from segue.serving import openapi
from segue.serving.body import Room
from segue.serving.edge import KEY, REQUEST_ID, ROUTE, Edge
from segue.serving.handlers import Service, prepare
from segue.serving.hosts import allowed_hosts
from segue.serving.keys import Keys
from segue.serving.lanes import Lane
from segue.serving.operations import Operation, operations
from segue.serving.pages import console_routes, docs_routes
from segue.serving.parameters import read_parameters
from segue.serving.platform import Platform
from segue.serving.pool import Pool, Queue
from segue.serving.problems import INVALID, KINDS, UNAUTHORIZED, UNEXPECTED, kind_of, problem
from segue.settings.tree import Settings

HEALTH_S: Final = 1.0
"""How often a worker notes how it is."""


def make_app(
    platform: Platform,
    settings: Settings,
    metrics: Metrics | None = None,
    shared: Queue | None = None,
    place: int = 0,
) -> Starlette:
    """The application over a platform, which it closes when it shuts down.

    `metrics` are those of this worker among several; None counts this process alone. `shared`: the queue in which the workers
    share requests, and `place` this one's among them.
    """
    counted = Metrics() if metrics is None else metrics
    table, limits = operations(settings), settings.serving
    reads = Lane("read", limits.read_threads, counted, limits.max_waiting)
    pool = None
    if shared is not None:
        pool = Pool(shared, place, partial(prepare, platform, counted), reads, limits.read_threads, counted)
    service = Service(
        platform=platform,
        settings=settings,
        metrics=counted,
        reads=reads,
        writes=Lane("write", limits.write_threads, counted, limits.max_waiting),
        openapi=msgspec.json.encode(openapi.document(table)),
        keys=Keys(limits),
        room=Room(limits.max_body_bytes),
        pool=pool,
    )
    routes: list[BaseRoute] = [_route(service, operation) for operation in table]
    routes += docs_routes()
    if limits.console:
        routes += console_routes()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        service.start()
        noting = asyncio.create_task(_note_health(service))
        yield
        noting.cancel()
        service.close()

    app = Starlette(
        routes=routes,
        middleware=[Middleware(Edge, metrics=counted, hosts=allowed_hosts(limits))],
        exception_handlers={SegueError: _on_segue_error, HTTPException: _on_http_error},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


async def _note_health(service: Service) -> None:
    """Note it for whichever worker is scraped: a gauge is a file that each worker writes."""
    while True:
        health = service.platform.health()
        service.metrics.health(health.degraded, health.lag_s, health.backlog)
        await asyncio.sleep(HEALTH_S)


def _route(service: Service, operation: Operation) -> Route:
    async def endpoint(http: HttpRequest) -> Response:
        http.scope[ROUTE] = operation.name
        http.scope[KEY] = service.keys.admit(http, operation.scope)
        values = read_parameters(operation.parameters, http.scope["query_string"], http.path_params)
        return await operation.handler(service, values, http)

    origins = service.settings.serving.cors_origins
    if operation.scope != "write" or not origins:
        return Route(operation.path, endpoint, methods=[operation.method], name=operation.name)
    # Pages of these origins may tell, and read the answer; nothing else is opened to them.
    sharing = Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=[operation.method],
        allow_headers=["Authorization", "Content-Encoding", "X-Request-Id"],
        max_age=86_400,
    )
    return Route(
        operation.path,
        endpoint,
        methods=[operation.method, "OPTIONS"],
        name=operation.name,
        middleware=[sharing],
    )


async def _on_segue_error(http: HttpRequest, error: Exception) -> Response:
    if not isinstance(error, SegueError):
        raise error
    kind = kind_of(error)
    if kind is UNEXPECTED:
        raise error
    headers = {"WWW-Authenticate": "Bearer"} if kind is UNAUTHORIZED else {}
    if isinstance(error, Overloaded) and error.retry_after_s is not None:
        headers["Retry-After"] = str(ceil(error.retry_after_s))
    return problem(
        kind,
        error.message,
        http.scope[REQUEST_ID],
        field=error.field,
        limit=error.limit,
        headers=headers,
    )


def _methods(http: HttpRequest) -> set[str]:
    """The methods that the path takes."""
    routes = (route for route in http.app.routes if isinstance(route, Route))
    fitting = (route.methods or () for route in routes if route.matches(http.scope)[0] is not Match.NONE)
    return {method for methods in fitting for method in methods}


async def _on_http_error(http: HttpRequest, error: Exception) -> Response:
    """What the router itself refuses: an unknown path, a wrong method."""
    if not isinstance(error, HTTPException):
        raise error
    kind = KINDS.get(error.status_code, INVALID)
    headers = dict(error.headers or {})
    if kind.status == 405:
        # The router names the methods of the first operation of the path only.
        limit = ", ".join(sorted(_methods(http)))
        headers["Allow"] = limit
        detail = f"{http.method} is not possible here; use {limit}"
    else:
        detail, limit = (
            f"{http.url.path[:200]}: there is no such path; /docs lists them",
            None,
        )
    return problem(kind, detail, http.scope[REQUEST_ID], limit=limit, headers=headers)
