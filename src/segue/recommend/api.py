"""What is asked of the recommender and what it answers."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from segue.contracts.vocabulary import Team

Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Request(Struct, frozen=True, forbid_unknown_fields=True):
    """One request for recommendations. Times are UTC microseconds."""

    surface: str
    user_id: Id | None = None
    k: Annotated[int, Meta(ge=1)] = 20
    track_id: Id | None = None
    artist_id: Id | None = None
    session: tuple[Id, ...] | None = None
    session_id: Id | None = None
    country: str | None = None
    now: int | None = None
    seed: int | None = None
    why: bool = False
    variants: dict[str, str] | None = None
    """Variants that are asked for, by experiment: whoever looks at an experiment, not a listener, asks so."""


class Reason(Struct, frozen=True, omit_defaults=True):
    """Why one item is there: a sentence, the plays that led to it, the features that weighed most."""

    text: str
    because_of: tuple[dict[str, int | str], ...] = ()
    features: dict[str, float] = {}
    moved: str | None = None


class Item(Struct, frozen=True, omit_defaults=True):
    """One recommended track."""

    track_id: int
    position: int
    score: float
    sources: tuple[str, ...]
    propensity: float | None
    title: str | None = None
    artist_id: int | None = None
    artist: str | None = None
    genre: str | None = None
    duration_ms: int | None = None
    why: Reason | None = None
    team: Team | None = None
    """Of a page that two recommenders share: whom the slot is credited to. Such slots have no propensity."""


class Shelf(Struct, frozen=True):
    """A titled row of the home page."""

    name: str
    title: str
    items: tuple[Item, ...]


class Stage(Struct, frozen=True, omit_defaults=True):
    """What one stage of the pipeline did. `ms` is wall time; `degraded` says what was left out and why."""

    name: str
    ms: float
    rows: int
    degraded: str | None = None


class Trace(Struct, frozen=True):
    """How the answer came about."""

    stages: tuple[Stage, ...]
    removed: dict[str, int]
    personalized: bool
    degraded: tuple[str, ...] = ()
    variants: dict[str, str] = {}
    """The variants that made it, by experiment, where they could make a difference; marked if forced or failed."""


class Response(Struct, frozen=True):
    """One answer. `bundle` and `config` say which models and which settings made it."""

    request_id: str
    surface: str
    user_id: int | None
    ts: int
    bundle: str
    config: str
    items: tuple[Item, ...]
    shelves: tuple[Shelf, ...]
    trace: Trace
