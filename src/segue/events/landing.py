"""From the log into the warehouse: each record once, however often this is run, stopped or killed.

A batch is read, appended, told to whoever keeps the ledger, and only then committed to the log. A kill in between brings
the batch again: what is there already is not appended twice, since every row carries the id of its event or request, and
the ledger is told again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from segue.contracts.ports import Engine, Log, Records
from segue.contracts.schema import Table
from segue.contracts.tables import CANDIDATES, EXPOSURES, LISTENERS, RAW_EVENTS
from segue.contracts.vocabulary import HOUR
from segue.events.columns import days_of
from segue.events.dedup import first_of_each, not_yet_there, rows_by_day
from segue.events.dimensions import Known, merge
from segue.events.records import decode_candidates, decode_events, decode_exposures
from segue.events.rejects import Rejects, keep_rejects
from segue.events.validation import MAX_CONTENT, ROW, check

EVENTS_TOPIC: Final = "events"
EXPOSURES_TOPIC: Final = "exposures"
BATCH_RECORDS: Final = 100_000
"""Records landed in one commit."""
BATCH_RESPONSES: Final = 5_000
"""Responses landed in one commit; each holds a row a slot."""

OnLanded = Callable[[Table, dict[date, int]], None]


class LandReport(msgspec.Struct, frozen=True):
    """What a landing did, in records for `read`, in rows for the others."""

    read: int = 0
    landed: int = 0
    duplicate: int = 0
    rejected: dict[str, int] = {}


@dataclass(frozen=True)
class _Rows:
    """A batch of the log as checked rows of a table, each once; those that broke the contract; and how many were repeats."""

    good: pa.Table
    rejects: Rejects
    repeated: int


def land(
    log: Log,
    engine: Engine,
    *,
    topic: str = EVENTS_TOPIC,
    on_landed: OnLanded | None = None,
    now: int | None = None,
) -> LandReport:
    """Land the events that the log holds and the warehouse does not."""
    moment = time.time_ns() // 1_000 if now is None else now
    return _land(
        log,
        engine,
        _Stream(topic, "warehouse", RAW_EVENTS, "event_id", BATCH_RECORDS, _event_rows),
        moment,
        on_landed,
    )


def land_exposures(
    log: Log,
    engine: Engine,
    *,
    topic: str = EXPOSURES_TOPIC,
    on_landed: OnLanded | None = None,
    now: int | None = None,
) -> LandReport:
    """Land the exposures that the log holds and the warehouse does not."""
    moment = time.time_ns() // 1_000 if now is None else now
    return _land(
        log,
        engine,
        _Stream(topic, "warehouse", EXPOSURES, "request_id", BATCH_RESPONSES, _exposure_rows),
        moment,
        on_landed,
    )


def land_candidates(
    log: Log,
    engine: Engine,
    *,
    topic: str = EXPOSURES_TOPIC,
    on_landed: OnLanded | None = None,
    now: int | None = None,
) -> LandReport:
    """Land what the responses in the log considered and did not show. Records that are none are `land_exposures`' to report."""
    moment = time.time_ns() // 1_000 if now is None else now
    return _land(
        log,
        engine,
        _Stream(topic, "candidates", CANDIDATES, "request_id", BATCH_RESPONSES, _candidate_rows),
        moment,
        on_landed,
    )


@dataclass(frozen=True)
class _Stream:
    """A topic, the group that reads it, and the table it lands in. Rows with one `identity` (16 bytes) come from one record."""

    topic: str
    group: str
    table: Table
    identity: str
    batch: int
    rows: Callable[[Records, int], _Rows]


def _land(log: Log, engine: Engine, stream: _Stream, now: int, on_landed: OnLanded | None) -> LandReport:
    report = LandReport()
    with closing(log.consumer(stream.topic, stream.group)) as consumer:
        while len(records := consumer.poll(stream.batch)):
            rows = stream.rows(records, now)
            keep_rejects(engine, f"log:{stream.topic}", now, rows.rejects)
            fresh = not_yet_there(engine, stream.table, rows.good, stream.identity)
            if stream.table is RAW_EVENTS:
                merge(engine, LISTENERS, fresh.select(["user_id"]), Known.FILL)
            if fresh.num_rows:
                engine.append(stream.table, fresh)
            if on_landed is not None:
                _tell(on_landed, stream.table, rows.good)
            consumer.commit()
            report = LandReport(
                report.read + len(records),
                report.landed + fresh.num_rows,
                report.duplicate + rows.repeated + rows.good.num_rows - fresh.num_rows,
                dict(Counter(report.rejected) + rows.rejects.by_reason),
            )
    return report


def _tell(on_landed: OnLanded, table: Table, rows: pa.Table) -> None:
    if rows.num_rows:
        on_landed(table, rows_by_day(rows))


def _event_rows(found: Records, now: int) -> _Rows:
    loose, decoded = decode_events(found.records)
    loose = loose.append_column(
        ROW, pa.array(found.places, pa.int64()).take(pa.array(decoded.rows, pa.int64()))
    )
    checked = check(RAW_EVENTS, loose, latest=now + HOUR, later=("day",))
    good = checked.good.append_column("day", days_of(checked.good["ts"]))
    good = first_of_each(good.select(RAW_EVENTS.names).cast(RAW_EVENTS.arrow), "event_id")
    rejects = Rejects.join([checked.rejects, unreadable(found, decoded.broken)])
    return _Rows(good, rejects, checked.good.num_rows - good.num_rows)


def _exposure_rows(found: Records, now: int) -> _Rows:
    loose, record, decoded = decode_exposures(found.records)
    loose = loose.append_column(ROW, pa.array(found.places, pa.int64()).take(record))
    checked = check(EXPOSURES, loose, latest=now + HOUR)
    good = _one_record_each(checked.good)
    good = good.select(EXPOSURES.names).cast(EXPOSURES.arrow)
    rejects = Rejects.join([checked.rejects, unreadable(found, decoded.broken)])
    return _Rows(good, rejects, checked.good.num_rows - good.num_rows)


def _candidate_rows(found: Records, now: int) -> _Rows:
    loose, record = decode_candidates(found.records)
    places = pa.array(found.places, pa.int64()).take(record)
    checked = check(CANDIDATES, loose.append_column(ROW, places), latest=now + HOUR)
    good = _one_record_each(checked.good).select(CANDIDATES.names).cast(CANDIDATES.arrow)
    return _Rows(good, checked.rejects, checked.good.num_rows - good.num_rows)


def _one_record_each(rows: pa.Table) -> pa.Table:
    """Of several records with one request_id (a retried append) the first."""
    if rows.num_rows == 0:
        return rows
    first = rows.group_by("request_id", use_threads=False).aggregate([(ROW, "min")])
    kept = first.select([f"{ROW}_min"]).rename_columns([ROW])
    return rows.filter(pc.is_in(rows[ROW], value_set=kept[ROW]))


def unreadable(found: Records, broken: list[tuple[int, str]]) -> Rejects:
    """Records that are none, shown as hexadecimal. Their number is their place in the log."""
    return Rejects(
        [found.places[row] for row, _ in broken],
        [reason for _, reason in broken],
        [None] * len(broken),
        [found.records[row][: MAX_CONTENT // 2].hex() for row, _ in broken],
    )
