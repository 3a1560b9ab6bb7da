"""The table of operations: the router, the parameter checks, OpenAPI and /docs are all read from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse

from segue.contracts.vocabulary import EventType
from segue.recommend.api import Response
from segue.serving import handlers, problems
from segue.serving.body import JSON, NDJSON
from segue.serving.handlers import (
    EventsAnswer,
    Experiments,
    Health,
    Listeners,
    Readiness,
    Service,
    TrackAnswer,
    Tracks,
)
from segue.serving.parameters import (
    Choices,
    Country,
    Flag,
    Id,
    Ids,
    Integer,
    Name,
    Parameter,
    Slug,
    Text,
    Values,
)
from segue.serving.platform import ExperimentAnswer, ListenerProfile, TrackInfo
from segue.serving.problems import Kind
from segue.settings.tree import Scope, Settings

_SCOPES: Final[dict[str, Scope]] = {"Catalogue": "catalogue", "Experiments": "experiments"}
"""What a key must allow for changes, where it is not `write`, by group."""
Handler = Callable[[Service, Values, HttpRequest], Awaitable[HttpResponse]]

MAX_SESSION: Final = 500
MAX_FOUND: Final = 100
MAX_WORDS: Final = 200
MAX_KEY: Final = 200


@dataclass(frozen=True)
class Body:
    """A request body: an example for each media type it may have, and whether it is a list of events, of tracks, or one thing."""

    doc: str
    examples: dict[str, Any]
    item: Literal["Event", "Track", "TrackFields", "Experiment"] = "Event"
    many: bool = True


@dataclass(frozen=True)
class Operation:
    """One method of one path. `answer` is the msgspec type of the body, or the media type of a page that has none."""

    method: str
    path: str
    name: str
    group: str
    summary: str
    doc: str
    handler: Handler
    answer: type[Any] | str
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    status: int = 200
    problems: tuple[Kind, ...] = ()

    @property
    def scope(self) -> Scope | None:
        """What a key must allow for it; None for what everybody may ask: whether the server is well, and how to use it."""
        if not self.path.startswith("/v1/"):
            return None
        if self.method == "GET":
            return "read"
        return _SCOPES.get(self.group, "write")


_READ: Final = (problems.INVALID, problems.OVERLOADED, problems.UNAVAILABLE)
_USER: Final = Parameter("user_id", Id("user"), "the listener", 17)


def operations(settings: Settings) -> tuple[Operation, ...]:
    """Every operation, with the limits of these settings."""
    return (
        _recommendations(settings),
        _events(settings),
        *_CATALOGUE,
        *_changes(settings),
        *_PEOPLE,
        *_EXPERIMENTS,
        *_OPERATIONS,
    )


def _recommendations(settings: Settings) -> Operation:
    most = settings.serving.max_k
    return Operation(
        "GET",
        "/v1/recommendations/{surface}",
        "recommendations",
        "Recommendations",
        "Recommend tracks",
        "Tracks for one place in the product, best first; `home` also groups them into shelves. Every answer is written to the "
        "decision log under its `request_id`: send that id back with the events it leads to. A listener who is unknown, or who "
        "does not allow their history to be read, gets an answer that is not personal, and `trace.personalized` says so.",
        handlers.recommendations,
        Response,
        parameters=(
            Parameter(
                "surface",
                Name(tuple(settings.surfaces)),
                "the place",
                "home",
                where="path",
                required=True,
            ),
            _USER,
            Parameter("k", Integer(1, most), "how many tracks", 20, default=min(20, most)),
            Parameter(
                "track_id",
                Id("track"),
                "the track a station or `related` starts from",
                42,
            ),
            Parameter("artist_id", Id("artist"), "the artist a station starts from", 7),
            Parameter(
                "session",
                Ids(MAX_SESSION),
                "tracks of the current session, oldest first",
                "3,5,8",
            ),
            Parameter("session_id", Integer(), "the client's session, which experiments may be split by", 3),
            Parameter("country", Country(), "where the listener is now, if not at home", "DE"),
            Parameter("why", Flag(), "give the reasons of every item", "1", default=False),
            Parameter(
                "seed",
                Integer(),
                "makes exploration repeatable: same seed, same answer",
                1,
            ),
            Parameter(
                "variants",
                Choices(),
                "show what these variants answer, whoever asks; needs the scope `experiments`, and is never counted",
                "more-diverse-home:treatment",
            ),
        ),
        problems=(problems.NOT_FOUND, *_READ),
    )


def _events(settings: Settings) -> Operation:
    limits = settings.serving
    # As of now: what is much older would be refused, and an example is there to be tried.
    example = {"ts": datetime.now(UTC).isoformat(timespec="seconds"), "user_id": 17, "track_id": 42}
    return Operation(
        "POST",
        "/v1/events",
        "events",
        "Events",
        "Send what listeners did",
        f"Up to {limits.max_batch} events and {limits.max_body_bytes} bytes, each event checked on its own: one that is "
        "broken does not harm its neighbours, and `results` says what became of each, in the order sent. What is "
        "accepted is on disk when the answer arrives, and in effect on that listener's next request within a second. "
        f"Events older than {limits.max_event_age_days} days or more than {limits.max_clock_skew_s} s ahead are refused. "
        "Give each event an `event_id` (UUIDv7): sending it twice then counts once. Ids are 64-bit integers: in "
        "JavaScript, do not let JSON.parse round them.",
        handlers.events,
        EventsAnswer,
        parameters=(
            Parameter(
                "key", Text(MAX_KEY), "the key, from a page that can set no header (`sendBeacon`)", "k"
            ),
        ),
        body=Body(
            "A list of events, an object with `events`, or one event a line.",
            {
                JSON: {"events": [{**example, "type": EventType.PLAY, "ms_played": 183_000}]},
                NDJSON: "".join(
                    f"{msgspec.json.encode({**example, 'type': kind}).decode()}\n"
                    for kind in (EventType.LIKE, EventType.HIDE)
                ),
            },
        ),
        status=202,
        problems=(
            problems.INVALID,
            problems.TOO_LARGE,
            problems.WRONG_TYPE,
            problems.NOTHING_ACCEPTED,
            problems.OVERLOADED,
            problems.UNAVAILABLE,
        ),
    )


_CATALOGUE: Final = (
    Operation(
        "GET",
        "/v1/tracks/{track_id}",
        "track",
        "Catalogue",
        "Look up a track",
        "The track as shown to people.",
        handlers.track,
        TrackInfo,
        parameters=(Parameter("track_id", Id("track"), "the track", 42, where="path", required=True),),
        problems=(problems.NOT_FOUND, *_READ),
    ),
    Operation(
        "GET",
        "/v1/search",
        "search",
        "Catalogue",
        "Find tracks by title or artist",
        "Tracks whose title or artist contains the words, best first: enough to pick what a station starts from.",
        handlers.search,
        Tracks,
        parameters=(
            Parameter(
                "q",
                Text(MAX_WORDS, 1),
                "words of a title or a name",
                "night",
                required=True,
            ),
            Parameter("limit", Integer(1, MAX_FOUND), "how many", 10, default=10),
        ),
        problems=_READ,
    ),
)

_TRACK: Final = {
    "title": "Night Bus",
    "artist_id": 7,
    "artist_name": "Ona",
    "genre": "ambient",
    "tags": ["night"],
    "duration_ms": 211_000,
    "uploaded_at": "2026-11-23T08:00:00Z",
    "public": True,
}
_CHANGING: Final = (problems.OVERLOADED, problems.UNAVAILABLE)
_BODIES: Final = (problems.INVALID, problems.TOO_LARGE, problems.WRONG_TYPE)


def _changes(settings: Settings) -> tuple[Operation, ...]:
    one = (Parameter("track_id", Integer(), "the track", 42, where="path", required=True),)
    limits = settings.serving
    return (
        Operation(
            "PUT",
            "/v1/tracks/{track_id}",
            "put-track",
            "Catalogue",
            "Add or change a track",
            "What the body says is so from now on; what it leaves out stays as it is. A track nobody knows is added: public, "
            "not explicit and uploaded now, unless the body says otherwise. The change is on disk when the answer arrives, and "
            "searches and recommendations have it within a second: private or blocked at the next request, new ones "
            "findable by title, by artist and by what resembles them.",
            handlers.put_track,
            TrackAnswer,
            parameters=one,
            body=Body("Fields of a track.", {JSON: _TRACK}, "TrackFields", many=False),
            status=202,
            problems=(*_BODIES, *_CHANGING),
        ),
        Operation(
            "DELETE",
            "/v1/tracks/{track_id}",
            "delete-track",
            "Catalogue",
            "Take a track out",
            "It is not shown any more, from the next request on. Its row and what listeners did with it stay in the warehouse; "
            "a later PUT with `public` brings it back.",
            handlers.delete_track,
            TrackAnswer,
            parameters=one,
            status=202,
            problems=_CHANGING,
        ),
        Operation(
            "POST",
            "/v1/tracks",
            "post-tracks",
            "Catalogue",
            "Add or change many tracks",
            f"Up to {limits.max_batch} tracks and {limits.max_body_bytes} bytes, each with its `track_id` and otherwise as in a "
            "PUT, each checked on its own: `results` says what became of each, in the order sent.",
            handlers.post_tracks,
            EventsAnswer,
            body=Body(
                "A list of tracks, an object with `tracks`, or one track a line.",
                {
                    JSON: [{"track_id": 42, **_TRACK}, {"track_id": 43, "public": False}],
                    NDJSON: f"{msgspec.json.encode({'track_id': 43, 'public': False}).decode()}\n",
                },
                "Track",
            ),
            status=202,
            problems=(*_BODIES, problems.NOTHING_ACCEPTED, *_CHANGING),
        ),
    )


_PEOPLE: Final = (
    Operation(
        "GET",
        "/v1/listeners",
        "listeners",
        "Listeners",
        "Find listeners",
        "The listener with the id that is asked for, ours or SOURCE:ID; without a query, a random handful, each time another. "
        "The `user_id` of the answer is what events are sent with.",
        handlers.listeners,
        Listeners,
        parameters=(
            Parameter(
                "query",
                Text(MAX_WORDS),
                "an id, or SOURCE:ID",
                "17",
                default="",
            ),
            Parameter("limit", Integer(1, MAX_FOUND), "how many", 12, default=12),
        ),
        problems=_READ,
    ),
    Operation(
        "GET",
        "/v1/listeners/{user_id}",
        "listener",
        "Listeners",
        "Look at a listener",
        "Their latest plays, newest first, and what they said for good: likes, follows, hides, blocks. An id that was never seen "
        "answers with `known: false`. Without consent the plays are not read.",
        handlers.listener,
        ListenerProfile,
        parameters=(Parameter("user_id", Id("user"), "the listener", 17, where="path", required=True),),
        problems=_READ,
    ),
)

_EXPERIMENT: Final = {
    "name": "more-diverse-home",
    "layer": "home",
    "share": 0.1,
    "starts": "2026-11-22",
    "ends": "2026-12-06",
    "variants": {"control": {}, "treatment": {"set": {"surfaces.home.selector.diversity": 0.5}}},
    "metrics": {"goals": ["listens_per_listener"], "guardrails": {"skip_rate": 0.02}},
}
_NAMED: Final = (
    Parameter("name", Slug(), "the experiment", "more-diverse-home", where="path", required=True),
)
_EXPERIMENTS: Final = (
    Operation(
        "GET",
        "/v1/experiments",
        "experiments",
        "Experiments",
        "List the experiments",
        "Every experiment of this home, and how it is today.",
        handlers.experiments,
        Experiments,
        problems=_READ,
    ),
    Operation(
        "GET",
        "/v1/experiments/{name}",
        "experiment",
        "Experiments",
        "Look at an experiment",
        "Its file as JSON, without what is left to defaults, and how it is today.",
        handlers.experiment,
        ExperimentAnswer,
        parameters=_NAMED,
        problems=(problems.NOT_FOUND, *_READ),
    ),
    Operation(
        "PUT",
        "/v1/experiments/{name}",
        "put-experiment",
        "Experiments",
        "Start or change an experiment",
        "It is checked by itself, against the settings, and beside the other experiments: slices of one layer may not overlap. "
        "Every worker of this host has it within a second or two. While it runs its `share` may grow, and words, metrics and "
        "`ends` may change; whatever would move listeners, or change what they get, is a 409: put it under another name.",
        handlers.put_experiment,
        ExperimentAnswer,
        parameters=_NAMED,
        body=Body("An experiment.", {JSON: _EXPERIMENT}, "Experiment", many=False),
        problems=(*_BODIES, problems.NOT_FOUND, problems.CONFLICT, *_CHANGING),
    ),
    Operation(
        "POST",
        "/v1/experiments/{name}/stop",
        "stop-experiment",
        "Experiments",
        "Stop an experiment",
        "The kill switch: within a second or two every worker of this host answers all of its units as everybody else. It stays "
        "stopped.",
        handlers.stop_experiment,
        ExperimentAnswer,
        parameters=_NAMED,
        problems=(problems.NOT_FOUND, *_CHANGING),
    ),
    Operation(
        "DELETE",
        "/v1/experiments/{name}",
        "delete-experiment",
        "Experiments",
        "Take an experiment out",
        "What was logged of it stays in the log; the name is free again.",
        handlers.delete_experiment,
        ExperimentAnswer,
        parameters=_NAMED,
        problems=(problems.NOT_FOUND, *_CHANGING),
    ),
)

_OPERATIONS: Final = (
    Operation(
        "GET",
        "/healthz",
        "healthz",
        "Running it",
        "Is the process alive?",
        "Answers 200 as long as the worker's event loop runs. Restart the process if it does not.",
        handlers.healthz,
        Health,
    ),
    Operation(
        "GET",
        "/readyz",
        "readyz",
        "Running it",
        "Can it answer requests?",
        "Answers 200 once a bundle is open and warm, else 503 with the reason. Send traffic only where this is 200.",
        handlers.readyz,
        Readiness,
        problems=(problems.UNAVAILABLE,),
    ),
    Operation(
        "GET",
        "/metrics",
        "metrics",
        "Running it",
        "Numbers for Prometheus",
        "Requests, latencies, stages, events, degradations and the open bundle, added up over the workers of this host.",
        handlers.metrics,
        "text/plain",
    ),
    Operation(
        "GET",
        "/openapi.json",
        "openapi",
        "Running it",
        "This description",
        "The interface as OpenAPI 3.1, generated from the table of operations and the types of their answers.",
        handlers.openapi,
        "application/json",
    ),
)
