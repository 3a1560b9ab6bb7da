"""What every importer shares: reading in batches, checking, deduplicating, landing, resuming and counting.

An importer only says how its files become columns named like the contract's (`Importer.read`). From there:

    rows -> contract -> rejects (kept once)
                     -> event ids from content -> tracks, artists, listeners they name -> not there yet? -> raw events

Every step can be repeated: dimensions merge by key, rejects are told apart by content, and events land in one commit
with a marker (this file's bytes, how many of its rows are handled). An import that is killed and started again skips
what its marker covers; a file imported twice lands nothing the second time.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from segue.contracts.errors import InvalidData
from segue.contracts.ports import Engine
from segue.contracts.schema import Table
from segue.contracts.tables import ARTISTS, LISTENERS, RAW_EVENTS, TRACKS
from segue.contracts.vocabulary import MINUTE
from segue.events.columns import days_of
from segue.events.dedup import first_of_each, not_yet_there, rows_by_day
from segue.events.dimensions import DEFAULTS, Known, Merged, merge
from segue.events.erasure import ERASED, without_erased
from segue.events.event_ids import event_ids
from segue.events.idset import IdSet
from segue.events.importers.matching import MATCHED, played_alone, stated_alone
from segue.events.rejects import Rejects, keep_rejects
from segue.events.validation import GIVEN_LATER, check
from segue.settings.tree import Warehouse

MAX_BATCH_BYTES: Final = 256_000_000
"""A batch is cut here however few rows it has."""
WHOLE: Final = date(1970, 1, 1)
"""The day of a table that has no days."""
CLOCK_SKEW: Final = 5 * MINUTE
"""How far in the future an imported event may lie."""

OnLanded = Callable[[Table, dict[date, int]], None]


@dataclass(frozen=True)
class Piece:
    """Some rows of a file, on their way into `table`.

    `rows` has loose columns named like the table's, and `#row`. For events it may also have columns like
    `tracks.title`, `artists.name` or `listeners.external_id`: what the row says in passing about what it names.
    `broken` are rows that could not be read at all. Uncounted pieces are a second reading of rows already counted.
    """

    table: Table
    rows: pa.Table
    broken: Rejects = field(default_factory=Rejects.none)
    counted: bool = True


@dataclass(frozen=True)
class Part:
    """One file to import, or several that only make sense together. `name` is what rejects say they came from."""

    name: str
    files: tuple[Path, ...]


class Importer(Protocol):
    """A format that can be imported. One small file each; see `music30.py`."""

    @property
    def name(self) -> str:
        """What `segue import NAME` calls it."""

    @property
    def identity(self) -> str:
        """The name, the version of the reading, and the options that change what rows mean."""

    @property
    def source(self) -> str:
        """Sets the ids of its events apart from those of other systems."""

    def parts(self, path: Path) -> list[Part]:
        """The files behind the path. Raises NotFound or InvalidData."""

    def read(self, part: Part, batch_rows: int) -> Iterator[Piece]:
        """The rows of a part, in pieces of about `batch_rows` or less. Raises InvalidData after what could be read."""


class ImportReport(msgspec.Struct, frozen=True):
    """What an import did. read = landed + duplicate + all rejected; listeners and tracks are distinct ones in good rows."""

    read: int = 0
    landed: int = 0
    duplicate: int = 0
    rejected: dict[str, int] = {}
    listeners: int = 0
    tracks: int = 0


@dataclass(frozen=True)
class ImportProgress:
    """Where an import is: the part at hand and the counts so far. The last one has `done`, the final report and the warnings."""

    part: str
    seconds: float
    report: ImportReport
    done: bool = False
    warnings: tuple[str, ...] = ()


def import_path(
    importer: Importer,
    path: Path,
    engine: Engine,
    settings: Warehouse,
    *,
    on_landed: OnLanded | None = None,
    now: int | None = None,
) -> Iterator[ImportProgress]:
    """Import everything behind `path`, yielding progress after each batch.

    `on_landed(table, {day: rows})` is called after rows became visible, at least once for each landing even if the import
    is killed in between; and before known rows of a table without days change. `now` is UTC microseconds.

    Raises NotFound or InvalidData; what was read before is landed, and the message says how much.
    """
    started = time.monotonic()
    run = _Run(importer, engine, on_landed, time.time_ns() // 1_000 if now is None else now)
    name = ""
    for part in importer.parts(path):
        name = part.name
        identity = f"{importer.identity}:{_digest(part.files)}"
        try:
            for _ in run.land_part(part, identity, settings.import_batch_rows):
                yield ImportProgress(name, time.monotonic() - started, run.report)
        except InvalidData as error:
            counts = f"so far {run.report.read:,} read, {run.report.landed:,} landed"
            raise InvalidData(f"{error.message} ({counts})", field=error.field, limit=error.limit) from error
    yield ImportProgress(name, time.monotonic() - started, run.report, done=True, warnings=run.warnings())


class _Run:
    """One execution of an import: its counts, and the ids it has already seen to."""

    def __init__(self, importer: Importer, engine: Engine, on_landed: OnLanded | None, now: int) -> None:
        self._importer = importer
        self._engine = engine
        self._on_landed = on_landed
        self._now = now
        self._seen = {table.name: IdSet() for table in (TRACKS, ARTISTS, LISTENERS)}
        self._stated: set[str] = set()
        self._named = {table.name: Merged(0, 0, 0) for table in (TRACKS, ARTISTS, LISTENERS)}
        self._read = self._landed = self._duplicate = 0
        self._rejected: dict[str, int] = {}

    @property
    def report(self) -> ImportReport:
        return ImportReport(
            self._read,
            self._landed,
            self._duplicate,
            dict(sorted(self._rejected.items())),
            len(self._seen[LISTENERS.name]),
            len(self._seen[TRACKS.name]),
        )

    def warnings(self) -> tuple[str, ...]:
        """What was imported without a reject and yet looks wrong."""
        found = (self._mismatch(table) for table in MATCHED)
        return tuple(warning for warning in found if warning is not None)

    def _mismatch(self, table: Table) -> str | None:
        if table.name in self._stated:
            return stated_alone(self._engine, table, self._seen[table.name].ids)
        named = self._named[table.name]
        return played_alone(self._engine, table, named.changed + named.same, named.total)

    def land_part(self, part: Part, identity: str, batch_rows: int) -> Iterator[None]:
        """Land a part batch by batch. A reader that breaks off has what it read landed before its error goes on."""
        handled = self._engine.marker(identity, RAW_EVENTS) or 0
        whole = self._engine.marker(_finished(identity), RAW_EVENTS) is not None
        events = 0
        for piece in _batches(self._importer.read(part, batch_rows), batch_rows):
            origin = f"{self._importer.name}:{part.name}"
            if piece.table is RAW_EVENTS:
                events += piece.rows.num_rows + len(piece.broken)
                self._land_events(piece, origin, (identity, events), known=events <= handled, told=whole)
            else:
                self._land_dimension(piece, origin)
            yield
        if not whole and events:
            self._engine.append(
                RAW_EVENTS, RAW_EVENTS.arrow.empty_table(), marker=(_finished(identity), events)
            )

    def _land_events(
        self, piece: Piece, origin: str, marker: tuple[str, int], *, known: bool, told: bool
    ) -> None:
        latest = self._now + CLOCK_SKEW
        checked = check(RAW_EVENTS, piece.rows, latest=latest, later=GIVEN_LATER)
        self._reject(origin, Rejects.join([piece.broken, checked.rejects]))
        welcome = self._without_erased(RAW_EVENTS, checked.good)
        good = first_of_each(self._complete(welcome), "event_id")
        self._merge_named(good, known=known)
        fresh = good.slice(0, 0) if known else not_yet_there(self._engine, RAW_EVENTS, good, "event_id")
        fresh = fresh.select(RAW_EVENTS.names).cast(RAW_EVENTS.arrow)
        if not known and not self._engine.append(RAW_EVENTS, fresh, marker=marker):
            fresh = fresh.slice(0, 0)  # another process was importing the same file and was first
        if self._on_landed and not told:
            # An earlier, killed import may have landed these rows without telling: tell again.
            days = rows_by_day(good if known else fresh)
            if days:
                self._on_landed(RAW_EVENTS, days)
        self._read += piece.rows.num_rows + len(piece.broken)
        self._landed += fresh.num_rows
        self._duplicate += welcome.num_rows - fresh.num_rows

    def _complete(self, good: pa.Table) -> pa.Table:
        """The rows with what the platform adds: day, event id, time of arrival."""
        n = good.num_rows
        return (
            good.append_column("day", days_of(good["ts"]))
            .append_column("event_id", event_ids(self._importer.source, good))
            .append_column("received_at", pa.array(np.full(n, self._now), pa.int64()))
        )

    def _merge_named(self, good: pa.Table, *, known: bool) -> None:
        """Add the listeners, artists and tracks that the events name, with what the rows say about them in passing."""
        for table, key in ((LISTENERS, "user_id"), (ARTISTS, "artist_id"), (TRACKS, "track_id")):
            named = good.filter(pc.is_valid(good[key]))
            fresh = self._seen[table.name].add(np.asarray(named[key].to_numpy(), np.int64))
            if known or len(fresh) == 0:
                continue
            rows = named.filter(pc.is_in(named[key], value_set=pa.array(fresh)))
            about = {
                name.partition(".")[2]: rows[name]
                for name in rows.column_names
                if name.startswith(f"{table.name}.")
            }
            columns = {key: rows[key], **about}
            if table is TRACKS:
                columns["artist_id"] = rows["artist_id"]
            checked = check(table, pa.table(columns), latest=self._now, optional=DEFAULTS)
            merged = merge(
                self._engine, table, checked.good, Known.FILL, changing=partial(self._changing, table)
            )
            self._named[table.name] += merged

    def _land_dimension(self, piece: Piece, origin: str) -> None:
        table = piece.table
        checked = check(table, piece.rows, latest=self._now, optional=DEFAULTS)
        self._reject(origin, Rejects.join([piece.broken, checked.rejects]))
        good = self._without_erased(table, checked.good)
        given = [name for name in good.column_names if name in table.names]
        merged = merge(
            self._engine,
            table,
            good.select(given),
            Known.UPDATE,
            changing=partial(self._changing, table),
        )
        if table.name in self._seen:
            self._stated.add(table.name)
            self._seen[table.name].add(np.asarray(good[table.key[0]].to_numpy(), np.int64))
        if piece.counted:
            landed = merged.added + merged.changed
            self._read += piece.rows.num_rows + len(piece.broken)
            self._landed += landed
            self._duplicate += good.num_rows - landed

    def _without_erased(self, table: Table, rows: pa.Table) -> pa.Table:
        kept = without_erased(self._engine, table, rows)
        if kept.num_rows < rows.num_rows:
            self._rejected[ERASED] = self._rejected.get(ERASED, 0) + rows.num_rows - kept.num_rows
        return kept

    def _changing(self, table: Table) -> None:
        if self._on_landed:
            self._on_landed(table, {WHOLE: 0})

    def _reject(self, origin: str, rejects: Rejects) -> None:
        keep_rejects(self._engine, origin, self._now, rejects)
        for reason, n in rejects.by_reason.items():
            self._rejected[reason] = self._rejected.get(reason, 0) + n


def _finished(identity: str) -> str:
    return f"{identity}:finished"


def _digest(files: Sequence[Path]) -> str:
    """A hash of the files' bytes: the same file under another name is the same file, a changed one is another."""
    whole = hashlib.blake2b(digest_size=16)
    for path in files:
        with path.open("rb") as stream:
            whole.update(hashlib.file_digest(stream, hashlib.blake2b).digest())
    return whole.hexdigest()


def _batches(pieces: Iterator[Piece], batch_rows: int) -> Iterator[Piece]:
    """Pieces of one table joined, or cut, to `batch_rows`; what is pending comes out before an error does."""
    pending: dict[tuple[str, bool], list[Piece]] = {}
    try:
        for piece in pieces:
            group = pending.setdefault((piece.table.name, piece.counted), [])
            for part in _cut(piece, batch_rows):
                held = sum(p.rows.num_rows for p in group), sum(p.rows.nbytes for p in group)
                if group and (held[0] + part.rows.num_rows > batch_rows or held[1] > MAX_BATCH_BYTES):
                    yield _join(group)
                    group.clear()
                group.append(part)
    except InvalidData:
        yield from (_join(group) for group in pending.values() if group)
        raise
    yield from (_join(group) for group in pending.values() if group)


def _cut(piece: Piece, rows: int) -> Iterator[Piece]:
    """The piece in parts of at most `rows` rows; its broken rows go with the first."""
    yield replace(piece, rows=piece.rows.slice(0, rows))
    for at in range(rows, piece.rows.num_rows, rows):
        yield Piece(piece.table, piece.rows.slice(at, rows), counted=piece.counted)


def _join(pieces: list[Piece]) -> Piece:
    rows = pa.concat_tables([p.rows for p in pieces], promote_options="permissive").combine_chunks()
    return Piece(pieces[0].table, rows, Rejects.join([p.broken for p in pieces]), pieces[0].counted)
