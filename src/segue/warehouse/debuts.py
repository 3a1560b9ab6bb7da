"""How new uploads fare: whom they were shown to since they came, what became of it, and whether the quality guard pauses them.

A debut's rate of listens per exposure is estimated from its own exposures and from its genre's debuts, whose rate counts
like 20 exposures (a Beta prior). It is paused once its own have been as many, and even the upper bound of its rate is below
half of its genre's: such a track has had its chance.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Final

import ibis
import ibis.expr.types as ir

from segue.contracts.tables import DEBUTS
from segue.contracts.vocabulary import DAY, DEBUT_DAYS, MATCHED
from segue.warehouse.measures import times

WEIGHT: Final = 20.0
"""Exposures that the prior counts for; and the fewest of its own a track is paused after."""
FLOOR: Final = 0.5
"""Share of its genre's rate that the upper bound of a track's must reach."""
SURE: Final = 1.645
"""Standard deviations to a bound that is passed in 5% of cases."""


def debuts(outcomes: ir.Table, exposures: ir.Table, tracks: ir.Table) -> ir.Table:
    """DEBUTS of the days that OUTCOMES has. A day needs the 13 days before it."""
    days = outcomes.select("day").distinct()
    days = days.mutate(number=days.day.epoch_days().cast("int64"))
    new = _new(tracks, days)
    there = days.cross_join(new)
    there = there.filter(there.number >= there.born, there.number < there.born + DEBUT_DAYS)
    sums = _counts(_shown(outcomes, exposures, new))
    sums = sums.rename(of="track_id", at="number")
    found = there.left_join(sums, [there.track_id == sums.of, sums.at <= there.number])
    totals = found.group_by(
        "day", "track_id", "artist_id", "genre", "uploaded_at", "number", "born"
    ).aggregate(
        **{
            name: found[name].sum().fill_null(0).cast("int64")
            for name in ("exposures", "relevant", "listeners", "listens", "skips")
        }
    )
    return _judged(totals).select(*DEBUTS.names)


def _number(ts: ir.IntegerValue) -> ir.IntegerValue:
    """Days since 1970."""
    return ((ts - ts % DAY) / DAY).cast("int64")


def _new(tracks: ir.Table, days: ir.Table) -> ir.Table:
    """Public uploads that are debuts on a day between the first and the last."""
    span = days.aggregate(since=days.number.min() - (DEBUT_DAYS - 1), until=days.number.max())
    known = tracks.filter(tracks.public & tracks.uploaded_at.notnull())
    known = known.select("track_id", "artist_id", "genre", "uploaded_at", born=_number(known.uploaded_at))
    return known.inner_join(span, [known.born >= span.since, known.born <= span.until]).drop("since", "until")


def _shown(outcomes: ir.Table, exposures: ir.Table, new: ir.Table) -> ir.Table:
    """What became of the exposures of new uploads, and which of them were relevant."""
    # Why before anything else: slots of all tracks, of weeks, would be joined and looked into for the few of new uploads.
    slots = exposures.semi_join(new, "track_id")
    proposed = reduce(or_, (slots.sources.contains(name) for name in MATCHED))
    slots = slots.select("request_id", "position", proposed=proposed.fill_null(False))
    rows = outcomes.inner_join(new.select("track_id", "uploaded_at"), "track_id")
    rows = rows.filter(rows.ts >= rows.uploaded_at, rows.ts < rows.uploaded_at + DEBUT_DAYS * DAY)
    rows = rows.select("request_id", "position", "ts", "user_id", "track_id", "listened", "skipped")
    rows = rows.inner_join(slots, ["request_id", "position"])
    return rows.select(
        "track_id",
        "user_id",
        "listened",
        "skipped",
        number=_number(rows.ts),
        relevant=rows.proposed & rows.user_id.notnull(),
    )


def _counts(shown: ir.Table) -> ir.Table:
    """By track and day: exposures, what became of them, and for how many listeners it was the first relevant one."""
    counts = shown.group_by("track_id", "number").aggregate(
        exposures=shown.count().cast("int64"),
        relevant=times(shown.relevant),
        listens=times(shown.listened),
        skips=times(shown.skipped),
    )
    met = shown.filter(shown.relevant)
    firsts = met.group_by("track_id", "user_id").aggregate(number=met.number.min())
    reached = firsts.group_by("track_id", "number").aggregate(listeners=firsts.count().cast("int64"))
    joined = counts.left_join(reached, ["track_id", "number"])
    return joined.select("track_id", "number", "exposures", "relevant", "listens", "skips", "listeners")


def _judged(totals: ir.Table) -> ir.Table:
    genre, everything = ibis.window(group_by=["day", "genre"]), ibis.window(group_by="day")

    def shrunk(rows: ir.Table, over: ir.WindowBuilder, to: ir.FloatingValue) -> ir.FloatingValue:
        listens, shown = rows.listens.sum().over(over), rows.exposures.sum().over(over)
        return (listens.cast("float64") + WEIGHT * to) / (shown.cast("float64") + WEIGHT)

    rows = totals.mutate(overall=shrunk(totals, everything, ibis.literal(0.1)))
    rows = rows.mutate(prior=shrunk(rows, genre, rows.overall))
    weight = rows.exposures.cast("float64") + WEIGHT
    rows = rows.mutate(rate=(rows.listens.cast("float64") + WEIGHT * rows.prior) / weight)
    spread = (rows.rate * (1.0 - rows.rate) / (rows.exposures.cast("float64") + WEIGHT + 1.0)).sqrt()
    rows = rows.mutate(upper=rows.rate + SURE * spread)
    refused = (rows.exposures >= int(WEIGHT)) & (rows.upper < FLOOR * rows.prior)
    return rows.mutate(
        days_left=(rows.born + (DEBUT_DAYS - 1) - rows.number).cast("int32"),
        paused=ibis.ifelse(refused, "listened to far less than its genre", ibis.null("string")),
    )
