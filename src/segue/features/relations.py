"""Entities that features describe, and the relations their functions may read.

An entity says of what and as of when: tracks and artists as of the start of the UTC day (a daily snapshot, made from the
daily counts); the listener, alone or crossed with the candidate's track, artist or genre, as of the very moment of the request.
"As of" always means strictly before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from segue.contracts.vocabulary import DAY, HOUR, MINUTE
from segue.features.expression import Span
from segue.listener.state import ADD, FOLLOW, HIDE, LIKE, REPOST

MAX_AGE: Final = 90 * DAY
"""No feature looks further back, marks apart."""
MARKS_AGE: Final = 400 * DAY
"""Marks said longer ago are read by nothing that looks at all events: not by training, and not when state is filled."""


def minutes(n: int) -> Span:
    """A span of n minutes."""
    return n * MINUTE


def hours(n: int) -> Span:
    """A span of n hours."""
    return n * HOUR


def days(n: int) -> Span:
    """A span of n days."""
    return n * DAY


@dataclass(frozen=True)
class Entity:
    """What a feature describes. `key` is the candidate's column it is looked up by, "" where there is none."""

    name: str
    key: str
    daily: bool
    doc: str


Track = Entity("track", "track_id", True, "the candidate, as of the start of the UTC day")
Artist = Entity("artist", "artist_id", True, "the candidate's artist, as of the start of the UTC day")
Listener = Entity("listener", "", False, "the listener, as of the moment of the request")
ListenerTrack = Entity(
    "listener_track", "track_id", False, "the listener and the candidate, as of the moment"
)
ListenerArtist = Entity(
    "listener_artist", "artist_id", False, "the listener and the candidate's artist, as of the moment"
)
ListenerGenre = Entity(
    "listener_genre", "genre", False, "the listener and the candidate's genre, as of the moment"
)
Context = Entity("context", "", False, "the request")
Candidate = Entity("candidate", "track_id", False, "how the candidate came up: named columns of the request")
ENTITIES: Final = (Track, Artist, Listener, ListenerTrack, ListenerArtist, ListenerGenre, Context, Candidate)


@dataclass(frozen=True)
class Rollup:
    """A relation as daily counts: its rows are counted by the sum of `count`'s columns, its columns summed by others."""

    count: tuple[str, ...]
    columns: dict[str, str]


PLAYS: Final = {
    "listened": "played 30 s or more, or to the end",
    "skipped": "given up before that",
    "ms_played": "milliseconds played; 0 where unknown",
    "minutes_ago": "minutes between the play and the moment",
    "recency": "1 for the latest play, 2 for the one before, ...",
    "in_session": "of the session that is going on at the moment (30 minutes of silence end it)",
    "day": "UTC day",
    "track_id": "the track",
    "artist_id": "the artist, where known",
    "genre": "the genre, where known",
}
"""Columns of `plays` as of a moment: the listener's latest plays and skips, at most `state.max_plays`, within 90 days."""
MARKS: Final = {"minutes_ago": "minutes between the mark and the moment"}
"""Columns of a standing mark: likes, reposts, playlist adds, hides of tracks, follows of artists."""
MARK_KINDS: Final = {"likes": LIKE, "reposts": REPOST, "adds": ADD, "hides": HIDE, "follows": FOLLOW}
MARK_KEYS: Final = dict.fromkeys(("likes", "reposts", "adds", "hides"), "track_id") | {"follows": "artist_id"}
"""Which key a mark's target is."""

ROLLUPS: Final = {
    "plays": Rollup(
        ("listens", "skips"),
        {
            "listened": "listens",
            "skipped": "skips",
            "ms_played": "ms_played",
            "listener_days": "listeners",
        },
    ),
    "impressions": Rollup(("impressions",), {}),
    "likes": Rollup(("likes",), {}),
    "reposts": Rollup(("reposts",), {}),
    "adds": Rollup(("adds",), {}),
    "hides": Rollup(("hides",), {}),
}
"""Relations of a track, over daily_tracks; `listener_days` sums each day's distinct listeners."""
ARTIST_ROLLUPS: Final = ROLLUPS | {"follows": Rollup(("follows",), {})}
"""Relations of an artist, over daily_artists."""

FACTS: Final = {
    "track": {
        "age_days": "days since the upload",
        "duration_s": "length in seconds",
        "explicit": "1 if it has explicit words",
    },
    "artist": {"age_days": "days since the artist joined"},
    "listener": {"age_days": "days since the listener joined"},
    "request": {
        "hour": "UTC hour of the day, 0 to 23",
        "weekday": "UTC weekday, Monday 0",
        "surface": "number of the surface in the vocabulary",
    },
}
"""Facts of one entity, by the name of the parameter that stands for it."""


def relations(entity: Entity) -> dict[str, dict[str, str]]:
    """The relations with many rows that features of the entity may read, with the columns of each."""
    if entity in (Track, Artist):
        rollups = ROLLUPS if entity is Track else ARTIST_ROLLUPS
        prose = PLAYS | {"listener_days": "each day's distinct listeners, added up"}
        return {name: {c: prose[c] for c in rollup.columns} for name, rollup in rollups.items()}
    if entity is Listener:
        return {"plays": PLAYS} | dict.fromkeys(MARK_KINDS, MARKS)
    if entity in (ListenerTrack, ListenerArtist, ListenerGenre):
        marks = {name: MARKS for name, key in MARK_KEYS.items() if key == entity.key}
        return {"plays": PLAYS} | marks
    return {}


def facts(entity: Entity) -> dict[str, dict[str, str]]:
    """The facts that features of the entity may read."""
    name = "request" if entity is Context else entity.name
    return {name: FACTS[name]} if name in FACTS else {}
