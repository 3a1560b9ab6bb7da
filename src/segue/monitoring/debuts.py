"""What an artist is told of their new uploads: whom they reached, how those reacted, what is still owed.

Counts of listeners only, and no group of fewer than five: smaller ones are put together until what is shown is five or more.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Final

import ibis.expr.types as ir
import msgspec
from msgspec import Struct

from segue.contracts.errors import NotFound
from segue.contracts.ports import Days, Engine
from segue.contracts.tables import ARTISTS, DEBUTS, LISTENERS, OUTCOMES, TRACKS
from segue.contracts.vocabulary import DEBUT_DAYS

FEWEST: Final = 5
"""Listeners of the smallest group that is shown."""
OTHER: Final = "other"
UNKNOWN: Final = "unknown"


class Group(Struct, frozen=True):
    """Listeners of a kind who were shown at least one of the new uploads."""

    name: str
    listeners: int


class TrackReport(Struct, frozen=True):
    """A new upload. `listeners` are those of relevant exposures, None where they are fewer than five, and so are counts of what
    so few did; `owed` is what is left of its target, whether or not any surface has the programme; `paused` why it gives
    nothing.
    """

    track_id: int
    title: str | None
    days_left: int
    listeners: int | None
    exposures: int | None
    listens: int | None
    skips: int | None
    owed: int | None
    paused: str | None


class ArtistReport(Struct, frozen=True):
    """The new uploads of an artist at the end of `day`, and the listeners they reached, by country, plan and reaction."""

    artist_id: int
    artist: str | None
    day: date
    target: int
    tracks: tuple[TrackReport, ...]
    reached: int | None
    countries: tuple[Group, ...]
    plans: tuple[Group, ...]
    reactions: tuple[Group, ...]


class _Reached(Struct, frozen=True):
    """A listener who was shown one of the tracks, and what they ever did with any; 0 or 1."""

    country: str | None
    plan: str | None
    liked: int
    hidden: int
    listened: int
    skipped: int


def artist_report(engine: Engine, artist_id: int, target: int) -> ArtistReport:
    """The report of an artist; `target` is the listeners that each upload is to reach. Raises NotFound."""
    named = engine.read(ARTISTS).filter(lambda rows: rows.artist_id == artist_id).select("name")
    names = engine.collect(named)["name"].to_pylist()
    there = engine.days(DEBUTS)
    if there is None:
        raise NotFound("there are no debuts: `segue run` builds them", field="debuts")
    rows = engine.read(DEBUTS, Days(there.last, there.last))
    rows = rows.filter(rows.artist_id == artist_id)
    titles = engine.read(TRACKS).select(track_id="track_id", title="title")
    found = engine.collect(rows.left_join(titles, "track_id").order_by("track_id")).to_pylist()
    if not names and not found:
        raise NotFound(f"artist {artist_id} is not in the catalogue", field="artist_id")
    listeners = _listeners(engine, [row["track_id"] for row in found], there.last)
    return ArtistReport(
        artist_id=artist_id,
        artist=names[0] if names else None,
        day=there.last,
        target=target,
        tracks=tuple(_track(row, target) for row in found),
        reached=_shown(len(listeners)),
        countries=grouped([row.country for row in listeners]),
        plans=grouped([row.plan for row in listeners]),
        reactions=grouped([_reaction(row) for row in listeners]),
    )


def grouped(kinds: Sequence[str | None]) -> tuple[Group, ...]:
    """How many of each kind, the most frequent first; kinds of fewer than five are put together as `other`.

    Where these are still fewer than five, the next smallest is put with them: nobody can be found by subtracting.
    """
    counts: dict[str, int] = {}
    for kind in kinds:
        name = kind or UNKNOWN
        counts[name] = counts.get(name, 0) + 1
    left = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    other = 0
    while left and (left[-1][1] < FEWEST or 0 < other < FEWEST):
        other += left.pop()[1]
    groups = [Group(name, count) for name, count in left]
    return (*groups, Group(OTHER, other)) if other >= FEWEST else tuple(groups)


def _listeners(engine: Engine, tracks: list[int], last: date) -> list[_Reached]:
    """A row per listener who was shown any of the tracks: country, plan, and what they did at best."""
    if not tracks:
        return []
    rows = engine.read(OUTCOMES, Days(last - timedelta(days=DEBUT_DAYS - 1), last))
    rows = rows.filter(rows.track_id.isin(tracks), rows.user_id.notnull())

    def ever(what: ir.BooleanValue) -> ir.IntegerScalar:
        return what.cast("int64").max()

    did = rows.group_by("user_id").aggregate(
        liked=ever(rows.liked),
        hidden=ever(rows.hidden),
        listened=ever(rows.listened),
        skipped=ever(rows.skipped),
    )
    people = engine.read(LISTENERS).select(user_id="user_id", country="country", plan="plan")
    found = did.left_join(people, "user_id").select(
        "country", "plan", "liked", "hidden", "listened", "skipped"
    )
    return msgspec.convert(engine.collect(found).to_pylist(), list[_Reached])


def _reaction(row: _Reached) -> str:
    """The most telling thing that a listener did."""
    return next(
        (what for what in ("hidden", "liked", "listened", "skipped") if getattr(row, what)), "did not play"
    )


def _track(row: dict[str, object], target: int) -> TrackReport:
    reached = int(str(row["listeners"]))
    told = reached >= FEWEST
    return TrackReport(
        track_id=int(str(row["track_id"])),
        title=None if row["title"] is None else str(row["title"]),
        days_left=int(str(row["days_left"])),
        listeners=reached if told else None,
        exposures=int(str(row["exposures"])) if told else None,
        listens=_some(row["listens"]) if told else None,
        skips=_some(row["skips"]) if told else None,
        owed=max(target - reached, 0) if told and row["paused"] is None else (0 if row["paused"] else None),
        paused=None if row["paused"] is None else str(row["paused"]),
    )


def _some(count: object) -> int | None:
    return _shown(int(str(count)))


def _shown(count: int) -> int | None:
    """A count of people, or None where they are fewer than five."""
    return count if count >= FEWEST else None
