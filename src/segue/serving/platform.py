"""What the server asks of the rest of Segue: one narrow port, and the records it answers with.

The port keeps HTTP apart from bundles, stores and logs: wiring implements it over the real ones, the tests
over a handful of tracks in memory, and the server cannot tell which it has. Every method may block for some
milliseconds; the server calls all but `ready`, `health`, `bundle_version` and `close` from a thread of a bounded lane
(see lanes.py), so they must be thread-safe.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

from msgspec import Meta, Struct

from segue.contracts.experiments import Experiment
from segue.recommend.api import Id, Request, Response

Micros = Annotated[int, Meta(description="UTC microseconds since 1970")]


class TrackInfo(Struct, frozen=True, omit_defaults=True):
    """A track as shown to people."""

    track_id: Id
    title: str | None = None
    artist_id: int | None = None
    artist: str | None = None
    genre: str | None = None
    tags: tuple[str, ...] = ()
    description: str | None = None
    duration_ms: int | None = None
    uploaded_at: Micros | None = None
    explicit: bool = False


class ListenerSummary(Struct, frozen=True, omit_defaults=True):
    """One row of a list of listeners."""

    user_id: Id
    name: str | None = None
    country: str | None = None
    plan: str | None = None
    plays: int = 0
    last_play: Micros | None = None
    consent: bool = True


class Play(Struct, frozen=True, omit_defaults=True):
    """One play or skip of a listener's history."""

    ts: Micros
    track_id: Id
    title: str | None = None
    artist_id: int | None = None
    artist: str | None = None
    genre: str | None = None
    ms_played: int | None = None
    duration_ms: int | None = None
    listened: bool = False
    skipped: bool = False


class Mark(Struct, frozen=True, omit_defaults=True):
    """A standing statement about a track (`like`, `repost`, `hide`, `playlist_add`) or an artist (`follow`, `block_artist`)."""

    kind: Literal["like", "repost", "follow", "hide", "block_artist", "playlist_add"]
    target_id: Id
    ts: Micros
    title: str | None = None


class ListenerProfile(Struct, frozen=True, omit_defaults=True):
    """What is known of one listener. Without consent `plays` is empty: the history is not read, here either."""

    user_id: Id
    known: bool
    consent: bool
    explicit_ok: bool
    name: str | None = None
    country: str | None = None
    plan: str | None = None
    joined_at: Micros | None = None
    plays: tuple[Play, ...] = ()
    marks: tuple[Mark, ...] = ()


class EventResult(Struct, frozen=True, omit_defaults=True):
    """What became of one event, or track, of a batch. `reason` is a short stable name such as `missing_track_id`."""

    status: Literal["accepted", "rejected"]
    event_id: str | None = None
    track_id: Id | None = None
    reason: str | None = None
    field: str | None = None
    detail: str | None = None


class ExperimentAnswer(Struct, frozen=True, omit_defaults=True):
    """An experiment, how it is today, and when it was stopped, if it was."""

    experiment: Experiment
    status: Literal["scheduled", "running", "ended", "stopped"]
    stopped_at: Micros | None = None


@dataclass(frozen=True)
class Receipt:
    """An answer per item sent, in order. `acknowledged` is done when those accepted are durable, or fails with why not.

    `kept` of those refused are kept for whoever looks into it.
    """

    results: tuple[EventResult, ...]
    acknowledged: Future[None]
    kept: int = 0


@dataclass(frozen=True)
class Health:
    """What a process that can answer is lacking. `degraded` says why, by part: `state` cannot be read, `follower` not written, or
    the `catalogue` not kept up to date.

    `lag_s` is how long the oldest event has waited that this process is to fold into listener state; `backlog` what lies in the
    log behind the events at hand, in bytes or records, or None.
    """

    degraded: dict[str, str]
    lag_s: float = 0.0
    backlog: int | None = None


class Platform(Protocol):
    """The recommender, the catalogue, the listeners and the event log, as one process sees them.

    Methods raise the errors of segue.contracts.errors; the server turns them into problem documents.
    """

    def prepare(self, request: Request) -> tuple[Response, Callable[[], None]]:
        """The answer to one request, and what notes that it was shown: to be called once, and not at all for an answer that
        nobody gets. Raises InvalidInput, NotFound, Unavailable.
        """

    def track(self, track_id: int) -> TrackInfo:
        """The track. Raises NotFound; a private track is not found."""

    def listener(self, user_id: int) -> ListenerProfile:
        """The listener with their latest plays, newest first; an id never seen answers with `known=False`."""

    def listeners(self, query: str, limit: int) -> tuple[ListenerSummary, ...]:
        """The listener whose id is `query`, ours or SOURCE:ID; for an empty query a random handful, each time another."""

    def search_tracks(self, text: str, limit: int) -> tuple[TrackInfo, ...]:
        """Public tracks whose title or artist contains `text`, best first."""

    def ingest(self, body: bytes, content_type: str, caller: str | None = None) -> Receipt:
        """Check a batch of events, say what becomes of each, and begin to make the good ones durable.

        `content_type` is application/json or application/x-ndjson, without parameters; `caller` the name of the key, if any.
        Raises InvalidInput if the body as a whole cannot be read, Overloaded if too many events wait already.
        """

    def change_track(self, track_id: int, body: bytes) -> Future[None]:
        """Begin to make durable what a JSON object says of a track. Raises InvalidInput, Overloaded."""

    def remove_track(self, track_id: int) -> Future[None]:
        """Begin to make durable that a track is not to be shown. Raises Overloaded."""

    def change_tracks(self, body: bytes, content_type: str) -> Receipt:
        """The same for a batch of tracks, each with its `track_id`. Raises InvalidInput, Overloaded."""

    def experiments(self) -> tuple[ExperimentAnswer, ...]:
        """All experiments, by name."""

    def experiment(self, name: str) -> ExperimentAnswer:
        """One experiment. Raises NotFound."""

    def put_experiment(self, name: str, body: bytes) -> ExperimentAnswer:
        """Keep what a JSON object says of an experiment; workers take it in within a second or two.

        Raises InvalidInput for what is wrong with it, alone or beside the others; Conflict for a change that may not be made.
        """

    def stop_experiment(self, name: str) -> ExperimentAnswer:
        """End an experiment, now and for good. Raises NotFound."""

    def delete_experiment(self, name: str) -> ExperimentAnswer:
        """Take an experiment out; answers with what it was. Raises NotFound."""

    def ready(self) -> tuple[bool, str]:
        """Whether requests can be answered now and, if not, why. Cheap: called on the event loop."""

    def health(self) -> Health:
        """What is lacking although requests are answered. Cheap: called on the event loop."""

    def bundle_version(self) -> str | None:
        """The bundle requests are answered from, or None. Cheap: called on the event loop."""

    def close(self) -> None:
        """Release everything; called once, when the worker has answered its last request."""
