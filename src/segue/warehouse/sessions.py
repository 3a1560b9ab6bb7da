"""Sessions: a listener's stretches of activity, in the day they began."""

from __future__ import annotations

import ibis.expr.types as ir

from segue.contracts.tables import SESSIONS
from segue.contracts.vocabulary import EventType
from segue.warehouse.measures import day_of, milliseconds, plays, times


def sessions(events: ir.Table) -> ir.Table:
    """SESSIONS from EVENTS. A day comes out right if `events` also holds the day after it."""
    rows = events.group_by("user_id", "session_start").aggregate(
        session_end=events.ts.max(),
        events=events.count().cast("int64"),
        plays=plays(events),
        listens=times(events.listened),
        skips=times(events.skipped),
        tracks=events.track_id.nunique(where=events.type == EventType.PLAY).cast("int64"),
        ms_played=milliseconds(events),
    )
    return rows.mutate(day=day_of(rows.session_start)).select(*SESSIONS.names)
