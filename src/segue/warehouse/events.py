"""Clean events: one row an event_id, the artist filled in, sessions cut, plays judged.

A session is what the client says it is (`session_id`), else a stretch of a listener's unnamed events without a
silence of SESSION_GAP. Its start is looked for on the event's own day and the day before, no further: so
a partition depends on two days of raw events only, and is the same whether it is built alone or with a year around it.
"""

from __future__ import annotations

from typing import Final

import ibis
import ibis.expr.types as ir

from segue.contracts.tables import EVENTS
from segue.contracts.vocabulary import DAY, END_MS, LISTEN_MS, SESSION_GAP, EventType

UNNAMED: Final = -1
"""The session of events whose client names none; ids begin at 0."""


def clean_events(raw: ir.Table, tracks: ir.Table) -> ir.Table:
    """EVENTS from RAW_EVENTS and TRACKS. A day comes out right if `raw` also holds the day before it."""
    return judge_plays(cut_sessions(deduplicate(raw)), tracks).select(*EVENTS.names)


def deduplicate(raw: ir.Table) -> ir.Table:
    """Each event_id once a day: the copy received first, and among equals the first by content."""
    key = ["day", "event_id"]
    repeated = raw.group_by(key).having(raw.count() > 1).aggregate()
    # Why: copies are few. Only they are put into order, the rest passes by.
    copies = raw.semi_join(repeated, key)
    content = [copies[name] for name in raw.columns if name not in (*key, "received_at")]
    nth = ibis.row_number().over(group_by=key, order_by=[copies.received_at, *content])
    firsts = copies.mutate(nth=nth).filter(ibis._.nth == 0).drop("nth")
    # Why a view: of one relation joined twice Ibis would write the SQL twice, and engines would count all rows twice.
    return raw.anti_join(repeated.view(), key).union(firsts)


def cut_sessions(rows: ir.Table) -> ir.Table:
    """The rows with `session_start`."""
    # Why: rows are wide and many. Put into order is only what starts depend on: of a named session the first moment of each
    # day, of unnamed events each moment.
    rows = rows.mutate(
        stream=rows.session_id.fill_null(UNNAMED),
        moment=ibis.ifelse(rows.session_id.isnull(), rows.ts, rows.ts - rows.ts % DAY),
    )
    key = ["user_id", "stream", "moment"]
    starts = _starts(rows.group_by(key).aggregate(ts=rows.ts.min()))
    return rows.inner_join(starts, key).drop("stream", "moment")


def _starts(moments: ir.Table) -> ir.Table:
    """The moments of each listener's streams with the `session_start` of the events at them."""
    stream = ["user_id", "stream"]
    yesterday = ibis.window(
        group_by=stream,
        order_by=moments.ts - moments.ts % DAY,
        range=(ibis.preceding(DAY), ibis.preceding(0)),
    )
    moments = moments.mutate(
        before=moments.ts.lag(1).over(group_by=stream, order_by=moments.ts),
        earliest=moments.ts.min().over(yesterday),
    )
    silence = moments.before.isnull() | (moments.ts - moments.before >= SESSION_GAP)
    begins = (moments.stream == UNNAMED) & silence
    moments = moments.mutate(begin=ibis.ifelse(begins, moments.ts, ibis.null("int64")))
    last_begin = moments.begin.max().over(ibis.cumulative_window(group_by=stream, order_by=moments.ts))
    # Why: a stretch that began before yesterday starts, for this day, with the listener's first event of yesterday.
    start = ibis.greatest(moments.earliest, ibis.coalesce(last_begin, moments.earliest))
    return moments.select(*stream, "moment", session_start=start)


def judge_plays(rows: ir.Table, tracks: ir.Table) -> ir.Table:
    """The rows with `artist_id` filled from the catalogue, `listened` and `skipped`."""
    known = tracks.select(track_id="track_id", its_artist="artist_id", length="duration_ms")
    rows = rows.left_join(known, "track_id").drop("track_id_right")
    play = rows.type == EventType.PLAY
    ended = (rows.length > 0) & (rows.ms_played >= rows.length - END_MS)
    # Why: of a play whose length was not reported we only know that it happened.
    enough = rows.ms_played.isnull() | (rows.ms_played >= LISTEN_MS) | ended.fill_null(False)
    listened = play & enough
    return rows.mutate(
        artist_id=ibis.coalesce(rows.artist_id, rows.its_artist),
        listened=listened,
        skipped=(play & ~listened) | (rows.type == EventType.SKIP),
    )
