"""What is counted, defined once for every table that counts it. Sums are cast to int64: engines widen them differently."""

from __future__ import annotations

import ibis.expr.types as ir

from segue.contracts.vocabulary import SECOND, EventType


def times(what: ir.BooleanValue) -> ir.IntegerScalar:
    """How often it is true; null counts as not."""
    return what.nullif(False).count().cast("int64")


def plays(events: ir.Table) -> ir.IntegerScalar:
    """Plays, however short."""
    return times(events.type == EventType.PLAY)


def milliseconds(events: ir.Table) -> ir.IntegerScalar:
    """Milliseconds played, of plays and skips; unknown lengths count as nothing."""
    heard = events.type.isin([EventType.PLAY.value, EventType.SKIP.value])
    return events.ms_played.cast("int64").sum(where=heard).fill_null(0).cast("int64")


def counts(events: ir.Table) -> dict[str, ir.IntegerScalar]:
    """The columns that daily_tracks, daily_artists and daily_listeners share."""
    return {
        "plays": plays(events),
        "listens": times(events.listened),
        "skips": times(events.skipped),
        "ms_played": milliseconds(events),
        "impressions": times(events.type == EventType.IMPRESSION),
        "likes": times(events.type == EventType.LIKE),
        "reposts": times(events.type == EventType.REPOST),
        "adds": times(events.type == EventType.PLAYLIST_ADD),
        "hides": times(events.type.isin([EventType.HIDE.value, EventType.BLOCK_ARTIST.value])),
    }


def distinct_plays(events: ir.Table, column: str) -> ir.IntegerScalar:
    """Distinct values of the column among plays."""
    return events[column].nunique(where=events.type == EventType.PLAY).cast("int64")


def day_of(ts: ir.IntegerValue) -> ir.DateValue:
    """UTC date of a time in microseconds.

    Whole seconds are the one unit of time that every engine can read; the division is exact because nothing is left over.
    """
    return ((ts - ts % SECOND) / SECOND).cast("int64").as_timestamp("s").date()
