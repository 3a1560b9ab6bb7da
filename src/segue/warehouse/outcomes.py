"""Exposures joined to what the listener then did with the track within 24 hours.

An event that names a request answers that request only. One that names none answers what the surface that it names showed of
that track in the 24 hours before it; one that names neither is nobody's merit: what a listener finds in their own library would
otherwise be credited to every page that showed it too, and a page of what they play anyway would win every comparison. The
listener must be the same either way: a request id alone proves nothing.
"""

from __future__ import annotations

import ibis.expr.types as ir

from segue.contracts.tables import OUTCOMES
from segue.contracts.vocabulary import DAY, EventType
from segue.warehouse.measures import milliseconds, times

WITHIN = DAY
"""How long after an exposure an event still answers it."""


def outcomes(exposures: ir.Table, events: ir.Table) -> ir.Table:
    """OUTCOMES from EXPOSURES and EVENTS. A day needs the events of that day and of the next."""
    slots = exposures.select(
        "day", "request_id", "ts", "user_id", "surface", "position", "track_id", "propensity"
    )
    named = events.request_id.notnull() | events.surface.notnull()
    acts = events.filter(events.type.isin([e.value for e in _ANSWERS]), named).select(
        user_id="user_id",
        track_id="track_id",
        at="ts",
        answers="request_id",
        where="surface",
        type="type",
        ms_played="ms_played",
        listened="listened",
        skipped="skipped",
    )
    later = (acts.at >= slots.ts) & (acts.at < slots.ts + WITHIN)
    meant = (acts.answers == slots.request_id) | (acts.answers.isnull() & (acts["where"] == slots.surface))
    found = slots.inner_join(acts, ["user_id", "track_id", later, meant])
    answers = found.group_by("request_id", "position").aggregate(
        plays=times(found.type == EventType.PLAY),
        listens=times(found.listened),
        skips=times(found.skipped),
        likes=times(found.type == EventType.LIKE),
        hides=times(found.type == EventType.HIDE),
        ms=milliseconds(found),
    )
    rows = slots.left_join(answers, ["request_id", "position"])
    return rows.mutate(
        played=(rows.plays > 0).fill_null(False),
        listened=(rows.listens > 0).fill_null(False),
        skipped=((rows.skips > 0) & (rows.listens == 0)).fill_null(False),
        liked=(rows.likes > 0).fill_null(False),
        hidden=(rows.hides > 0).fill_null(False),
        ms_played=rows.ms.fill_null(0),
    ).select(*OUTCOMES.names)


_ANSWERS = (EventType.PLAY, EventType.SKIP, EventType.LIKE, EventType.HIDE)
