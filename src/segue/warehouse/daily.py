"""Daily counts of tracks, artists and listeners: what every slower feature is summed from."""

from __future__ import annotations

import ibis.expr.types as ir

from segue.contracts.tables import DAILY_ARTISTS, DAILY_LISTENERS, DAILY_TRACKS
from segue.contracts.vocabulary import DAY, EventType
from segue.warehouse.measures import counts, distinct_plays, times


def daily_tracks(events: ir.Table) -> ir.Table:
    """DAILY_TRACKS from EVENTS, day by day."""
    events = events.filter(events.track_id.notnull())
    rows = events.group_by("day", "track_id").aggregate(
        # Why: a track has one artist; should events disagree, the largest id makes the choice the same everywhere.
        artist_id=events.artist_id.max(),
        **counts(events),
        listeners=distinct_plays(events, "user_id"),
    )
    return rows.select(*DAILY_TRACKS.names)


def daily_artists(events: ir.Table) -> ir.Table:
    """DAILY_ARTISTS from EVENTS, day by day."""
    events = events.filter(events.artist_id.notnull())
    rows = events.group_by("day", "artist_id").aggregate(
        **counts(events),
        follows=times(events.type == EventType.FOLLOW),
        listeners=distinct_plays(events, "user_id"),
    )
    return rows.select(*DAILY_ARTISTS.names)


def daily_listeners(events: ir.Table) -> ir.Table:
    """DAILY_LISTENERS from EVENTS, day by day. A session that began the day before is not counted again."""
    begun_today = events.session_start >= events.ts - events.ts % DAY
    rows = events.group_by("day", "user_id").aggregate(
        **counts(events),
        sessions=events.session_start.nunique(where=begun_today).cast("int64"),
        tracks=distinct_plays(events, "track_id"),
        artists=distinct_plays(events, "artist_id"),
    )
    return rows.select(*DAILY_LISTENERS.names)
