"""The rows that metrics add up, as expressions that every engine runs. Each has `user_id`, a moment `ts` and int64 columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import ibis
import ibis.expr.types as ir

from segue.contracts.experiments import FAILED
from segue.contracts.vocabulary import EventType
from segue.experiments.metrics import ANSWERS, CREATORS, DAYS, FIRSTS, HEAD, NEW_ARTIST, PLAYS, SLOTS, Source


@dataclass(frozen=True)
class Tables:
    """What metrics are made from: the days of the experiment and the PRE_DAYS before, by the contracts of these tables.

    `outcomes` and `exposures` are of the experiment's surfaces only; `before` is `daily_artists` of the PRE_DAYS before it.
    """

    events: ir.Table
    outcomes: ir.Table
    exposures: ir.Table
    tracks: ir.Table
    artists: ir.Table
    before: ir.Table


def _one() -> ir.IntegerScalar:
    return ibis.literal(1, "int64")


def _plays(tables: Tables) -> ir.Table:
    rows = tables.events.filter(tables.events.type.isin([EventType.PLAY.value, EventType.SKIP.value]))
    return rows.select(
        user_id=rows.user_id,
        ts=rows.ts,
        plays=_one(),
        listens=rows.listened.cast("int64"),
        skips=rows.skipped.cast("int64"),
        ms=rows.ms_played.cast("int64").fill_null(0),
    )


def _days(tables: Tables) -> ir.Table:
    heard = tables.events.filter(tables.events.listened)
    rows = heard.group_by("user_id", "day").aggregate(ts=heard.ts.max())
    return rows.select(user_id=rows.user_id, ts=rows.ts, active=_one())


def _firsts(tables: Tables) -> ir.Table:
    played = tables.events.filter((tables.events.type == EventType.PLAY) & tables.events.artist_id.notnull())
    rows = played.group_by("user_id", "artist_id").aggregate(ts=played.ts.min())
    return rows.select(user_id=rows.user_id, ts=rows.ts, artists=_one())


def _slots(tables: Tables) -> ir.Table:
    rows = tables.outcomes
    counted = {name: rows[name].cast("int64") for name in ("listened", "skipped", "liked", "hidden")}
    return rows.select(
        user_id=rows.user_id,
        request_id=rows.request_id,
        ts=rows.ts,
        shown=_one(),
        played=rows.played.cast("int64"),
        **counted,
    )


def _creators(tables: Tables) -> ir.Table:
    music = tables.tracks.select(track_id="track_id", artist_id="artist_id")
    rows = tables.outcomes.select("user_id", "request_id", "ts", "track_id").inner_join(music, "track_id")
    rows = rows.filter(rows.artist_id.notnull()).select("user_id", "request_id", "ts", "artist_id")
    joined = tables.artists.select(artist_id="artist_id", joined_at="joined_at")
    rows = rows.left_join(joined, "artist_id").drop("artist_id_right")
    rows = rows.left_join(big_artists(tables.before), "artist_id").drop("artist_id_right")
    new = (rows.joined_at <= rows.ts) & (rows.joined_at > rows.ts - NEW_ARTIST)
    return rows.select(
        user_id=rows.user_id,
        request_id=rows.request_id,
        ts=rows.ts,
        shown=_one(),
        small=rows.big.isnull().cast("int64"),
        new=new.fill_null(False).cast("int64"),
    )


def _answers(tables: Tables) -> ir.Table:
    rows = tables.exposures.filter((tables.exposures.position == 0) & tables.exposures.took_us.notnull())
    return rows.select(
        user_id=rows.user_id,
        request_id=rows.request_id,
        ts=rows.ts,
        answers=_one(),
        us=rows.took_us.cast("int64"),
        degraded=(rows.degraded.fill_null(0) > 0).cast("int64"),
        failed=rows.variants.contains(f'":"{FAILED}').fill_null(False).cast("int64"),
    )


def big_artists(before: ir.Table) -> ir.Table:
    """The artists that are not small: artist_id, and `big`, which is true."""
    sums = before.group_by("artist_id").aggregate(listens=before.listens.sum().cast("int64"))
    order = ibis.cumulative_window(order_by=[ibis.desc(sums.listens), sums.artist_id])
    ranked = sums.mutate(
        above=(sums.listens.sum().over(order) - sums.listens).cast("int64"),
        all=sums.listens.sum().over(ibis.window()).cast("int64"),
    )
    share, of = HEAD
    return ranked.filter(ranked.above * of < ranked["all"] * share).select(
        artist_id=ranked.artist_id, big=ibis.literal(True)
    )


_ROWS: Final[dict[Source, Callable[[Tables], ir.Table]]] = {
    PLAYS: _plays,
    DAYS: _days,
    FIRSTS: _firsts,
    SLOTS: _slots,
    CREATORS: _creators,
    ANSWERS: _answers,
}


def rows_of(source: Source, tables: Tables) -> ir.Table:
    """The source's rows: user_id, ts, its columns as int64, and request_id where it is of requests."""
    return _ROWS[source](tables)
