"""What each operation does once its parameters are read: ask the platform, encode the answer."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import msgspec
from msgspec import Struct
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from segue.contracts.errors import NotFound, Unavailable
from segue.monitoring.metrics import MEDIA_TYPE as METRICS_TYPE
from segue.monitoring.metrics import Metrics
from segue.recommend.api import Request, Stage
from segue.serving.body import JSON, Held, Room, content_type, read_body
from segue.serving.edge import KEY, REQUEST_ID, SURFACE, TIMING
from segue.serving.keys import Keys
from segue.serving.lanes import Lane
from segue.serving.parameters import Values
from segue.serving.platform import EventResult, ExperimentAnswer, ListenerSummary, Platform, TrackInfo
from segue.serving.pool import Answered, Pool, Prepared
from segue.serving.problems import WrongMediaType, nothing_accepted
from segue.settings.tree import Settings

_encode: Final = msgspec.json.Encoder().encode
_NO_STORE: Final = {"Cache-Control": "no-store"}
_TOKEN: Final = re.compile(r"[^A-Za-z0-9_.-]+")


class Health(Struct, frozen=True):
    """The process is alive."""

    status: str


class Readiness(Struct, frozen=True):
    """The process can answer requests, from this bundle. `degraded` says why a part does not work, by its name."""

    ready: bool
    bundle: str | None
    degraded: dict[str, str]


class EventsAnswer(Struct, frozen=True):
    """What became of a batch. `results` stand in the order the events were sent."""

    accepted: int
    rejected: int
    results: tuple[EventResult, ...]


class TrackAnswer(Struct, frozen=True):
    """The change is durable: searches, recommendations and the next bundle have it."""

    track_id: int


class Listeners(Struct, frozen=True):
    """Listeners that fit a query."""

    listeners: tuple[ListenerSummary, ...]


class Experiments(Struct, frozen=True):
    """All experiments."""

    experiments: tuple[ExperimentAnswer, ...]


class Tracks(Struct, frozen=True):
    """Tracks that fit a query, best first."""

    tracks: tuple[TrackInfo, ...]


@dataclass(frozen=True)
class Service:
    """What the operations of one worker share."""

    platform: Platform
    settings: Settings
    metrics: Metrics
    reads: Lane
    writes: Lane
    openapi: bytes
    keys: Keys
    room: Room
    pool: Pool | None
    """Shares the requests for recommendations among the workers; None: this one answers its own."""

    def start(self) -> None:
        """Begin to answer. Called from the event loop."""
        if self.pool is not None:
            self.pool.start()

    def close(self) -> None:
        """Finish what is running, then release the platform."""
        if self.pool is not None:
            self.pool.close()
        self.reads.close()
        self.writes.close()
        self.platform.close()


async def healthz(service: Service, values: Values, http: HttpRequest) -> Response:
    """The process is alive."""
    return _json(Health("ok"))


async def readyz(service: Service, values: Values, http: HttpRequest) -> Response:
    """The process can answer. Raises Unavailable with the reason where it cannot."""
    ready, reason = service.platform.ready()
    version = service.platform.bundle_version()
    service.metrics.bundle(version)
    if not ready:
        raise Unavailable(f"not ready: {reason}")
    return _json(Readiness(True, version, service.platform.health().degraded))


async def recommendations(service: Service, values: Values, http: HttpRequest) -> Response:
    """Recommend. Raises NotFound for an unknown surface."""
    surface = values["surface"]
    if surface not in service.settings.surfaces:
        names = ", ".join(service.settings.surfaces)
        raise NotFound(
            f"{surface[:60]!r} is not a surface; there are {names}",
            field="surface",
            limit=f"one of {names}",
        )
    http.scope[SURFACE] = surface
    if values["variants"]:
        service.keys.admit(http, "experiments")
    request = Request(**values)
    if service.pool is not None:
        answered = await service.pool.run(request)
    else:
        answered = await service.reads.run(answer, service.platform, service.metrics, request)
    service.metrics.bundle(service.platform.bundle_version())
    http.scope[TIMING] = answered.timing
    return Response(answered.body, headers=_NO_STORE, media_type=JSON)


def prepare(platform: Platform, metrics: Metrics, request: Request) -> Prepared:
    """Recommend, counted and encoded; runs in a thread of some worker, not always the one that was asked."""
    response, note = platform.prepare(request)
    metrics.answer(response)
    return Answered(_encode(response), _timing(response.trace.stages)), note


def answer(platform: Platform, metrics: Metrics, request: Request) -> Answered:
    """The same where this worker is the one that was asked."""
    answered, note = prepare(platform, metrics, request)
    note()
    return answered


async def track(service: Service, values: Values, http: HttpRequest) -> Response:
    """One track."""
    return _json(await service.reads.run(service.platform.track, values["track_id"]))


async def search(service: Service, values: Values, http: HttpRequest) -> Response:
    """Tracks by title or artist."""
    return _json(
        Tracks(await service.reads.run(service.platform.search_tracks, values["q"], values["limit"]))
    )


async def listeners(service: Service, values: Values, http: HttpRequest) -> Response:
    """Listeners by id or name, or a random handful."""
    found = await service.reads.run(service.platform.listeners, values["query"], values["limit"])
    return _json(Listeners(found))


async def listener(service: Service, values: Values, http: HttpRequest) -> Response:
    """One listener with their latest plays and standing marks."""
    return _json(await service.reads.run(service.platform.listener, values["user_id"]))


async def events(service: Service, values: Values, http: HttpRequest) -> Response:
    """Take a batch of events: 202 where something is kept (it is durable now), 422 where nothing is."""
    media, caller = content_type(http), http.scope.get(KEY)
    with Held(service.room) as held:
        body = await read_body(http, service.settings.serving.max_body_bytes, held)
        receipt = await service.writes.run(service.platform.ingest, body, media, caller)
    results = receipt.results
    service.keys.spend(caller, len(results))
    await asyncio.wrap_future(receipt.acknowledged)
    accepted = sum(result.status == "accepted" for result in results)
    service.metrics.events(accepted, (r.reason or "unknown" for r in results if r.status == "rejected"))
    service.metrics.dead_letters(receipt.kept, len(results) - accepted - receipt.kept)
    if not accepted:
        return nothing_accepted(results, http.scope[REQUEST_ID])
    return _json(EventsAnswer(accepted, len(results) - accepted, results), 202)


async def put_track(service: Service, values: Values, http: HttpRequest) -> Response:
    """Say what is so of one track from now on."""
    content_type(http)
    track_id = values["track_id"]
    with Held(service.room) as held:
        body = await read_body(http, service.settings.serving.max_body_bytes, held)
        acknowledged = await service.writes.run(service.platform.change_track, track_id, body)
    await asyncio.wrap_future(acknowledged)
    return _json(TrackAnswer(track_id), 202)


async def delete_track(service: Service, values: Values, http: HttpRequest) -> Response:
    """Take one track out of everything that is shown."""
    track_id = values["track_id"]
    await asyncio.wrap_future(await service.writes.run(service.platform.remove_track, track_id))
    return _json(TrackAnswer(track_id), 202)


async def post_tracks(service: Service, values: Values, http: HttpRequest) -> Response:
    """Take a batch of tracks: 202 where something is kept, 422 where nothing is."""
    media = content_type(http)
    with Held(service.room) as held:
        body = await read_body(http, service.settings.serving.max_body_bytes, held)
        receipt = await service.writes.run(service.platform.change_tracks, body, media)
    await asyncio.wrap_future(receipt.acknowledged)
    results = receipt.results
    accepted = sum(result.status == "accepted" for result in results)
    if not accepted:
        return nothing_accepted(results, http.scope[REQUEST_ID], "track")
    return _json(EventsAnswer(accepted, len(results) - accepted, results), 202)


async def experiments(service: Service, values: Values, http: HttpRequest) -> Response:
    """All experiments."""
    return _json(Experiments(await service.writes.run(service.platform.experiments)))


async def experiment(service: Service, values: Values, http: HttpRequest) -> Response:
    """One experiment."""
    return _json(await service.writes.run(service.platform.experiment, values["name"]))


async def put_experiment(service: Service, values: Values, http: HttpRequest) -> Response:
    """Keep an experiment."""
    if content_type(http) != JSON:
        raise WrongMediaType(f"Content-Type: send {JSON}", field="Content-Type", limit=JSON)
    with Held(service.room) as held:
        body = await read_body(http, service.settings.serving.max_body_bytes, held)
        return _json(await service.writes.run(service.platform.put_experiment, values["name"], body))


async def stop_experiment(service: Service, values: Values, http: HttpRequest) -> Response:
    """End an experiment for good."""
    return _json(await service.writes.run(service.platform.stop_experiment, values["name"]))


async def delete_experiment(service: Service, values: Values, http: HttpRequest) -> Response:
    """Take an experiment out."""
    return _json(await service.writes.run(service.platform.delete_experiment, values["name"]))


async def metrics(service: Service, values: Values, http: HttpRequest) -> Response:
    """The numbers of all workers of this host. Outside the lanes: they are wanted most when the lanes are full."""
    service.metrics.bundle(service.platform.bundle_version())
    page = await asyncio.to_thread(service.metrics.page)
    return Response(page, media_type=METRICS_TYPE, headers=_NO_STORE)


async def openapi(service: Service, values: Values, http: HttpRequest) -> Response:
    """The description of this interface."""
    return Response(service.openapi, media_type=JSON)


def _json(answer: Any, status: int = 200) -> Response:
    return Response(_encode(answer), status, headers=_NO_STORE, media_type=JSON)


def _timing(stages: tuple[Stage, ...]) -> list[str]:
    return [f"{_token(stage.name)};dur={stage.ms:.2f}" for stage in stages]


@cache
def _token(stage: str) -> str:
    """The name of a stage as a header may say it. There are as many as sources and stages of the pipeline."""
    return _TOKEN.sub("-", stage)
