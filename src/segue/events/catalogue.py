"""Changes of the catalogue, from the log into `tracks` and `artists`: the last word on each field, however often it is landed.

A change overrules what the tables say. A track nobody knew is added as the contract's defaults have it, uploaded when
its change was received if that does not say when; of a track that is taken out, the row stays and is not public.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import date
from typing import Any, Final

import ibis
import pyarrow as pa

from segue.contracts.ports import Engine, Log, Records
from segue.contracts.schema import Table
from segue.contracts.tables import ARTISTS, TRACKS
from segue.events.changes import TOPIC, Latest, TrackChange, decode_changes
from segue.events.dimensions import DEFAULTS, Known, merge
from segue.events.landing import LandReport, OnLanded, unreadable
from segue.events.rejects import Rejects, keep_rejects
from segue.events.validation import ROW, Checked, check

BATCH_CHANGES: Final = 50_000
"""Changes landed in one go."""
SOURCE: Final = f"log:{TOPIC}"
"""Under this name `tracks` keeps the moment of the latest change that is in it."""
WHOLE: Final = date(1970, 1, 1)


def land_catalogue(
    log: Log, engine: Engine, *, on_landed: OnLanded | None = None, now: int | None = None
) -> LandReport:
    """Land the changes that the log holds and the tables have not taken in. Returns counts of changes and of tracks."""
    moment = time.time_ns() // 1_000 if now is None else now
    report = LandReport()
    with closing(log.consumer(TOPIC, "warehouse")) as consumer:
        while len(records := consumer.poll(BATCH_CHANGES)):
            landed = _land(engine, records, moment, on_landed or _quiet)
            consumer.commit()
            report = LandReport(
                report.read + landed.read,
                report.landed + landed.landed,
                report.duplicate + landed.duplicate,
                dict(Counter(report.rejected) + Counter(landed.rejected)),
            )
    return report


def as_of(engine: Engine) -> int | None:
    """The moment of the latest change that is in `tracks`, None if none ever landed. Ask before the table is read."""
    return engine.marker(SOURCE, TRACKS)


def _land(engine: Engine, records: Records, now: int, on_landed: OnLanded) -> LandReport:
    decoded = decode_changes(records.records)
    places = {
        change.track_id: records.places[row] for row, change in zip(decoded.rows, decoded.items, strict=True)
    }
    tracks = _check(TRACKS, _tracks(engine, decoded.items), places, now)
    artists = check(ARTISTS, _artists(decoded.items), latest=now)
    rejects = Rejects.join([tracks.rejects, unreadable(records, decoded.broken)])
    keep_rejects(engine, SOURCE, now, rejects)

    def changing(table: Table) -> Callable[[], None]:
        return lambda: on_landed(table, {WHOLE: 0})

    merge(engine, ARTISTS, artists.good, Known.UPDATE, changing=changing(ARTISTS))
    merged = merge(engine, TRACKS, tracks.good, Known.UPDATE, changing=changing(TRACKS))
    if decoded.items:
        latest = max(change.received_at for change in decoded.items)
        engine.append(TRACKS, TRACKS.arrow.empty_table(), marker=(SOURCE, latest))
    changed = merged.added + merged.changed
    return LandReport(len(records), changed, merged.same, dict(rejects.by_reason))


def _tracks(engine: Engine, changes: Iterable[TrackChange]) -> pa.Table:
    """The rows of tracks that changes speak of, as they are to be."""
    latest: dict[int, Latest] = {}
    said: dict[int, dict[str, Any]] = {}
    received: dict[int, int] = {}
    for change in changes:
        key = change.track_id
        news = dict(latest.setdefault(key, Latest()).news(change))
        said.setdefault(key, {"track_id": key}).update(news)
        received[key] = min(change.received_at, received.get(key, change.received_at))
    held = engine.read(TRACKS)
    wanted = ibis.memtable(pa.table({"track_id": pa.array(list(said), pa.int64())}))
    known = engine.collect(held.semi_join(wanted, "track_id")) if said else TRACKS.arrow.empty_table()
    rows = {row["track_id"]: row for row in known.to_pylist()}
    fresh = {name: value for name, value in DEFAULTS.items() if name in TRACKS.names}
    return pa.Table.from_pylist(
        [(rows.get(key) or fresh | {"uploaded_at": received[key]}) | said[key] for key in said], TRACKS.arrow
    )


def _artists(changes: Iterable[TrackChange]) -> pa.Table:
    """The artists that changes name, with what they are called where that is said."""
    latest: dict[int, Latest] = {}
    names: dict[int, str | None] = {}
    for change in changes:
        if change.artist_id is not None:
            names.setdefault(change.artist_id, None)
            word = latest.setdefault(change.artist_id, Latest())
            if change.artist_name is not None and word.take("name", change.received_at, change.artist_name):
                names[change.artist_id] = change.artist_name
    return pa.table(
        {"artist_id": pa.array(list(names), pa.int64()), "name": pa.array(list(names.values()), pa.string())}
    )


def _check(table: Table, rows: pa.Table, places: dict[int, int], now: int) -> Checked:
    numbers = pa.array([places[key] for key in rows["track_id"].to_pylist()], pa.int64())
    return check(table, rows.append_column(ROW, numbers), latest=now)


def _quiet(_table: Table, _days: dict[date, int]) -> None:
    return
