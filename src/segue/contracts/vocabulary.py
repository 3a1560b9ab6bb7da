"""Event types, surfaces, removal reasons and units: spelled here once, imported everywhere."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NewType

TrackId = NewType("TrackId", int)
ArtistId = NewType("ArtistId", int)
UserId = NewType("UserId", int)

SECOND: Final = 1_000_000
"""One second in the unit of every `ts`: UTC microseconds since 1970."""
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

SESSION_GAP: Final = 30 * MINUTE
"""A listener's silence of this length or more ends a session that the client did not name."""
LISTEN_MS: Final = 30_000
"""A play of this length, or to the track's end, is a listen; a shorter one is a skip."""
END_MS: Final = 2_000
"""A play that stops this close to the track's end has reached it."""

DEBUT_DAYS: Final = 14
"""How long a new upload is in the new-artist programme."""
MATCHED: Final = (
    "debuts",
    "fresh",
    "fold_in",
    "graph",
    "co_listened",
    "followed",
    "session_knn",
    "similar",
)
"""Sources that propose a track because it suits the listener or the seed: an exposure by one of them is a relevant one."""


class EventType(StrEnum):
    """What a listener did. `hide` and `block_artist` mean never again; `unlike` only withdraws a like."""

    IMPRESSION = "impression"
    PLAY = "play"
    SKIP = "skip"
    LIKE = "like"
    UNLIKE = "unlike"
    REPOST = "repost"
    UNREPOST = "unrepost"
    FOLLOW = "follow"
    UNFOLLOW = "unfollow"
    PLAYLIST_ADD = "playlist_add"
    SEARCH = "search"
    CLICK = "click"
    SHARE = "share"
    HIDE = "hide"
    BLOCK_ARTIST = "block_artist"


NEEDS_TRACK: Final = frozenset(
    {
        EventType.IMPRESSION,
        EventType.PLAY,
        EventType.SKIP,
        EventType.LIKE,
        EventType.UNLIKE,
        EventType.REPOST,
        EventType.UNREPOST,
        EventType.PLAYLIST_ADD,
        EventType.SHARE,
        EventType.HIDE,
    }
)
NEEDS_ARTIST: Final = frozenset({EventType.FOLLOW, EventType.UNFOLLOW, EventType.BLOCK_ARTIST})


class Surface(StrEnum):
    """A place in the product where recommendations are shown."""

    HOME = "home"
    STATION = "station"
    NEXT_UP = "next-up"
    RELATED = "related"
    PLAYLIST = "playlist"
    ARTISTS = "artists"
    SEARCH = "search"
    PROMPT = "prompt"


class Team(StrEnum):
    """Whom what a listener does with a slot of an interleaved page is credited to."""

    CONTROL = "control"
    TREATMENT = "treatment"
    NEITHER = "neither"


class Removed(StrEnum):
    """Why a candidate was not shown. The first seven are guarantees and hold on every path."""

    COUNTRY = "country"
    EXPLICIT = "explicit"
    PRIVATE = "private"
    BLOCKED_ARTIST = "blocked_artist"
    HIDDEN = "hidden"
    UNPUBLISHED = "unpublished"
    DELETED = "deleted"
    RECENTLY_PLAYED = "recently_played"
    IN_SESSION = "in_session"
    SEED = "seed"
    LOST = "lost"
