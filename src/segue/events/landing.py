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

from segue.contracts.ids import format_id
from segue.contracts.ports import Engine, Log, Records
from segue.contracts.schema import Table
from segue.contracts.tables import CANDIDATES, EXPOSURES, LISTENERS, RAW_EVENTS, REJECTS
from segue.contracts.vocabulary import DAY
from segue.events.columns import days_of
from segue.events.dedup import Once, not_yet_there, once_each, once_there, rows_by_day
from segue.events.dimensions import Known, merge
from segue.events.erasure import ERASED, without_erased
from segue.events.records import (
    DEAD_LETTERS_TOPIC,
    EVENTS_TOPIC,
    EXPOSURES_TOPIC,
    DeadLetter,
    decode_candidates,
    decode_dead_letters,
    decode_events,
    decode_exposures,
)
from segue.events.rejects import MAX_CONTENT, Rejects, keep_reject_rows, keep_rejects
from segue.events.validation import ROW, as_content, check

BATCH_RECORDS: Final = 100_000
"""Records landed in one commit."""
BATCH_RESPONSES: Final = 5_000
"""Responses landed in one commit; each holds a row a slot."""
_CONTENT: Final = tuple(n for n in RAW_EVENTS.names if n not in ("day", "event_id", "received_at"))
"""What an event says. Two that say the same under one id are one event, sent twice."""

CLOCK_ERROR: Final = DAY
"""How far ahead of this machine's clock a record may say it was written: whoever wrote it judged by another clock, or by this one
before it was set right, and what was acknowledged must land."""

OnLanded = Callable[[Table, dict[date, int]], None]


class LandReport(msgspec.Struct, frozen=True):
    """What a landing did, in records for `read`, in rows for the others. `rejected` is by reason; `conflict` among them is an
    event whose id was another event's before.
    """

    read: int = 0
    landed: int = 0
    duplicate: int = 0
    rejected: dict[str, int] = {}


@dataclass(frozen=True)
class _Rows:
    """A batch of the log as checked rows of a table, each once, and what broke the contract."""

    once: Once
    rejects: Rejects


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
        _Stream(topic, "warehouse", RAW_EVENTS, "event_id", "received_at", BATCH_RECORDS, _event_rows),
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
        _Stream(topic, "warehouse", EXPOSURES, "request_id", "ts", BATCH_RESPONSES, _exposure_rows),
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
        _Stream(topic, "candidates", CANDIDATES, "request_id", "ts", BATCH_RESPONSES, _candidate_rows),
        moment,
        on_landed,
    )


def land_dead_letters(log: Log, engine: Engine, *, now: int | None = None) -> LandReport:
    """Put the events that were refused over HTTP into the table `rejects`. A reject's row is its place in the log."""
    moment = time.time_ns() // 1_000 if now is None else now
    report = LandReport()
    with closing(log.consumer(DEAD_LETTERS_TOPIC, "warehouse")) as consumer:
        while len(found := consumer.poll(BATCH_RESPONSES)):
            decoded = decode_dead_letters(found.records)
            broken = unreadable(found, decoded.broken)
            keep_rejects(engine, f"log:{DEAD_LETTERS_TOPIC}", moment, broken)
            letters = decoded.items
            rows = {
                "day": days_of(pa.array([letter.at for letter in letters], pa.int64())),
                "row": [found.places[row] for row in decoded.rows],
            } | {name: [getattr(letter, name) for letter in letters] for name in DeadLetter.__struct_fields__}
            landed = keep_reject_rows(engine, pa.table(rows, schema=REJECTS.arrow))
            consumer.commit()
            report = LandReport(
                report.read + len(found),
                report.landed + landed,
                report.duplicate + len(letters) - landed,
                dict(Counter(report.rejected) + broken.by_reason),
            )
            if any(letter.at > moment for letter in letters):
                break  # as in _land
    return report


@dataclass(frozen=True)
class _Stream:
    """A topic, the group that reads it, and the table it lands in. Rows with one `identity` (16 bytes) come from one record;
    `came` is when the log got it."""

    topic: str
    group: str
    table: Table
    identity: str
    came: str
    batch: int
    rows: Callable[[Records, int], _Rows]


def _land(log: Log, engine: Engine, stream: _Stream, now: int, on_landed: OnLanded | None) -> LandReport:
    report = LandReport()
    with closing(log.consumer(stream.topic, stream.group)) as consumer:
        while len(records := consumer.poll(stream.batch)):
            rows = stream.rows(records, now)
            once, erased = _without_erased(engine, stream.table, rows.once)
            there = _against(engine, stream, once.rows)
            conflicts = [_conflicting(found.conflicts) for found in (once, there)]
            rejects = Rejects.join([rows.rejects, *conflicts])
            keep_rejects(engine, f"log:{stream.topic}", now, rejects)
            fresh = there.rows.select(stream.table.names).cast(stream.table.arrow)
            if stream.table is RAW_EVENTS:
                merge(engine, LISTENERS, fresh.select(["user_id"]), Known.FILL)
            if fresh.num_rows:
                engine.append(stream.table, fresh)
            if on_landed is not None:
                _tell(on_landed, stream.table, once.rows)
            consumer.commit()
            report = LandReport(
                report.read + len(records),
                report.landed + fresh.num_rows,
                report.duplicate + once.repeated + there.repeated,
                dict(Counter(report.rejected) + rejects.by_reason + Counter({ERASED: erased})),
            )
            newest = pc.max(rows.once.rows[stream.came]).as_py()
            if newest is not None and newest > now:
                break  # came since this began: while events flow there are always some, a few at a time, for the next landing
    return report


def _without_erased(engine: Engine, table: Table, once: Once) -> tuple[Once, int]:
    """The rows of those who are not erased, and how many of the others there were."""
    rows, conflicts = (without_erased(engine, table, part) for part in (once.rows, once.conflicts))
    return Once(rows, once.repeated, conflicts), once.rows.num_rows - rows.num_rows


def _against(engine: Engine, stream: _Stream, rows: pa.Table) -> Once:
    """What the warehouse does not have yet. Only events may say something else under an id that it has: clients make theirs."""
    if stream.table is RAW_EVENTS:
        return once_there(engine, RAW_EVENTS, rows, "event_id", _CONTENT)
    fresh = not_yet_there(engine, stream.table, rows, stream.identity)
    return Once(fresh, rows.num_rows - fresh.num_rows, rows.slice(0, 0))


def _conflicting(rows: pa.Table) -> Rejects:
    n = rows.num_rows
    contents = [
        as_content({k: format_id(v) if isinstance(v, bytes) else v for k, v in row.items() if v is not None})
        for row in rows.to_pylist()
    ]
    return Rejects(rows[ROW].to_pylist(), ["conflict"] * n, ["event_id"] * n, [*contents])


def _tell(on_landed: OnLanded, table: Table, rows: pa.Table) -> None:
    if rows.num_rows:
        on_landed(table, rows_by_day(rows))


def _event_rows(found: Records, now: int) -> _Rows:
    loose, decoded = decode_events(found.records)
    loose = loose.append_column(
        ROW, pa.array(found.places, pa.int64()).take(pa.array(decoded.rows, pa.int64()))
    )
    # By the later of the two clocks: one that was set back since, however far, must not have refused what was acknowledged.
    judged = pc.max_element_wise(loose["received_at"], now)
    checked = check(RAW_EVENTS, loose, latest=pc.add(judged, CLOCK_ERROR), later=("day",))
    good = checked.good.append_column("day", days_of(checked.good["ts"]))
    rejects = Rejects.join([checked.rejects, unreadable(found, decoded.broken)])
    return _Rows(once_each(good, "event_id", _CONTENT), rejects)


def _exposure_rows(found: Records, now: int) -> _Rows:
    loose, record, decoded = decode_exposures(found.records)
    loose = loose.append_column(ROW, pa.array(found.places, pa.int64()).take(record))
    checked = check(EXPOSURES, loose, latest=now + CLOCK_ERROR)
    rejects = Rejects.join([checked.rejects, unreadable(found, decoded.broken)])
    return _Rows(_one_record_each(checked.good), rejects)


def _candidate_rows(found: Records, now: int) -> _Rows:
    loose, record = decode_candidates(found.records)
    places = pa.array(found.places, pa.int64()).take(record)
    checked = check(CANDIDATES, loose.append_column(ROW, places), latest=now + CLOCK_ERROR)
    return _Rows(_one_record_each(checked.good), checked.rejects)


def _one_record_each(rows: pa.Table) -> Once:
    """Of several records with one request_id (a retried append) the first."""
    if rows.num_rows == 0:
        return Once(rows, 0, rows)
    first = rows.group_by("request_id", use_threads=False).aggregate([(ROW, "min")])
    kept = first.select([f"{ROW}_min"]).rename_columns([ROW])
    good = rows.filter(pc.is_in(rows[ROW], value_set=kept[ROW]))
    return Once(good, rows.num_rows - good.num_rows, rows.slice(0, 0))


def unreadable(found: Records, broken: list[tuple[int, str]]) -> Rejects:
    """Records that are none, shown as hexadecimal. Their number is their place in the log."""
    return Rejects(
        [found.places[row] for row, _ in broken],
        [reason for _, reason in broken],
        [None] * len(broken),
        [found.records[row][: MAX_CONTENT // 2].hex() for row, _ in broken],
    )
