"""Listens: plays of 30 s or more, or to the track's end."""

from __future__ import annotations

import ibis.expr.types as ir

from segue.contracts.tables import LISTENS


def listens(events: ir.Table) -> ir.Table:
    """LISTENS from EVENTS, day by day."""
    return events.filter(events.listened & events.track_id.notnull()).select(*LISTENS.names)
