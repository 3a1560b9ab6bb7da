"""Delta tables on a file system: which files hold a day, and commits that happen whole or not at all.

A table lives under `root/<name>/`; a daily one is split into `day=YYYY-MM-DD/` folders. Every change is one entry of Delta's
log (https://github.com/delta-io/delta/blob/master/PROTOCOL.md): a reader sees the files of the last whole entry, a
writer that was overtaken by another on the same days is refused, and an append can carry a (source, sequence) pair so
that a retry does not add its rows again.

A contract may gain a column that may be null: older files are read as null there, and the first write adds it to the table.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    Schema,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.schema import Field

from segue.adapters.engines.columns import first_line
from segue.contracts.errors import Conflict, InvalidData
from segue.contracts.ports import Days
from segue.contracts.schema import Column, Table

WHOLE = date(1970, 1, 1)
"""Stands for "the whole table" where a day is asked for."""
ROW_GROUP = 131_072
"""Rows of a Parquet row group: the unit DuckDB hands to a thread, and what a lookup of one listener reads."""
APPEND_ATTEMPTS = 5
"""Each finds one more thing that another has done meanwhile: created the table, appended the marker."""
MANY_FILES = 32
"""A partition with more files than this is worth compacting."""

_NO_ROOM = (
    *(f"os error {code}" for code in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)),
    "No space left on device",
    "File too large",
)
_FEW_VALUES = ("weight",)
"""Numbers that repeat: weights of co-listens are sums of few fractions."""
_CREATING = threading.Lock()
"""Chunks of a step are built side by side in one process; processes take turns at a home."""
_UNUSABLE = frozenset("[]^|\\\n")
"""Characters of a path that delta-rs cannot turn into a URL (it panics)."""


class DataFile(NamedTuple):
    """A file of a table's newest commit, by Delta's log. `day` is 1970-01-01 where the table has none."""

    day: date
    path: str
    rows: int
    bytes: int


class DeltaTables:
    """The tables of one root directory. Holds no state but the path: every call sees the newest commit."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        if unusable := _UNUSABLE & set(str(self.root)):
            raise InvalidData(
                f"tables cannot live at {str(self.root)!r}: Delta cannot open a path with {' '.join(sorted(unusable))!r}; "
                f"choose another directory",
                field="root",
            )

    def files(self, table: Table, days: Days | None = None) -> list[DataFile]:
        """The data files of those days (or all), in order of day. Empty for an absent table.

        Raises InvalidData that names the first one which the log has and the disk has not.
        """
        found = sorted(
            file for file in self._parts(table) if days is None or days.first <= file.day <= days.last
        )
        for file in found:
            if not Path(file.path).exists():
                raise self._lost(table, file)
        return found

    def row_counts(self, table: Table) -> dict[date, int]:
        """Rows of each day that has some, from the log alone. A table without days: under 1970-01-01."""
        counts: dict[date, int] = {}
        for file in self._parts(table):
            counts[file.day] = counts.get(file.day, 0) + file.rows
        return {day: counts[day] for day in sorted(counts) if counts[day]}

    def replace(
        self, table: Table, rows: Callable[[], pa.RecordBatchReader], days: Days | None
    ) -> dict[date, int]:
        """Replace the days (or the whole table) by `rows()`, which come in the table's schema and sorted by day.

        The table is opened before the rows are computed: whoever commits to the same days in between is noticed.
        Returns rows per day. Raises InvalidData for a row of another day, a missing value or a full disk, and Conflict
        if another writer changed the same days meanwhile; the table is then as before.
        """
        delta = self._writable(table)
        checked = _Checked(table, rows(), days)
        with self._writing(table, checked):
            write_deltalake(
                delta,
                checked.reader(),
                mode="overwrite",
                predicate=_predicate(days) if days is not None else None,
                writer_properties=_writer(table),
            )
        return checked.counts

    def stored(self, table: Table) -> Table | None:
        """The table as it is stored, whatever its contract says; None if it is not there."""
        path = self._path(table)
        if not DeltaTable.is_deltatable(str(path)):
            return None
        with self._reading(table):
            delta = DeltaTable(str(path))
        fields = pa.schema(delta.schema().to_arrow())
        columns = tuple(Column(f.name, f.type, "", nullable=f.nullable) for f in fields)
        return Table(
            table.name, table.doc, columns, table.key, daily=delta.metadata().partition_columns == ["day"]
        )

    def rewrite(
        self, table: Table, stored: Table, rows: Callable[[], pa.RecordBatchReader]
    ) -> dict[date, int]:
        """Replace a table that is stored with another schema by `rows()`, which come in its contract's, sorted by day.

        One commit: readers have the old schema and rows, or the new. Markers stay. Returns rows per day; raises as `replace`.
        """
        delta = self._opened(stored) or self._created(table)
        checked = _Checked(table, rows(), None)
        with self._writing(table, checked):
            write_deltalake(
                delta,
                checked.reader(),
                mode="overwrite",
                schema_mode="overwrite",
                writer_properties=_writer(table),
            )
        return checked.counts

    def add(self, table: Table, rows: pa.Table, marker: tuple[str, int] | None) -> bool:
        """Append `rows`, which come in the table's schema. With a marker: only if its sequence was not appended yet."""
        for _ in range(APPEND_ATTEMPTS - 1):
            # Why: an append is in nobody's way. It fails where another creates the table or appends the same marker at once, and
            # then nothing was written: the next try finds what the other left.
            with suppress(Conflict):
                return self._add(table, rows, marker)
        return self._add(table, rows, marker)

    def _add(self, table: Table, rows: pa.Table, marker: tuple[str, int] | None) -> bool:
        delta = self._writable(table)
        if marker is not None and _reached(delta, marker):
            return False
        checked = _Checked(table, rows.to_reader(ROW_GROUP), None)
        transactions = [Transaction(*marker)] if marker is not None else None
        with self._writing(table, checked):
            write_deltalake(
                delta,
                checked.reader(),
                mode="append",
                writer_properties=_writer(table),
                commit_properties=CommitProperties(app_transactions=transactions),
            )
        return True

    def marker(self, source: str, table: Table) -> int | None:
        """The highest sequence appended for that source, or None."""
        delta = self._opened(table)
        return None if delta is None else delta.transaction_version(source)

    def compact(self, table: Table) -> int:
        """Merge the small files of a table whose partitions hold many. Rows stay the same. Returns files removed."""
        per_day: dict[date, int] = {}
        for file in self._parts(table):
            per_day[file.day] = per_day.get(file.day, 0) + 1
        delta = self._opened(table)
        if delta is None or max(per_day.values(), default=0) <= MANY_FILES:
            return 0
        with self._writing(table):
            return int(delta.optimize.compact(writer_properties=_writer(table))["numFilesRemoved"])

    def vacuum(self, table: Table, keep: timedelta) -> int:
        """Delete files that no commit of the last `keep` refers to, for good. Returns how many.

        A reader or writer that is still at work on an older commit fails if `keep` is shorter than its run.
        """
        delta = self._opened(table)
        if delta is None:
            return 0
        hours = int(keep.total_seconds() // 3600)
        with self._writing(table):
            removed = delta.vacuum(hours, dry_run=False, enforce_retention_duration=False, full=True)
        return len(removed)

    def _path(self, table: Table) -> Path:
        return self.root / table.name

    def _parts(self, table: Table) -> list[DataFile]:
        delta = self._opened(table)
        if delta is None:
            return []
        with self._reading(table):
            actions = pa.table(delta.get_add_actions(flatten=True))
        # Why: paths in the log are URL-encoded relative ones; `file_uris` would also encode the root's own characters.
        paths = [str(self._path(table) / unquote(path)) for path in actions["path"].to_pylist()]
        days = actions["partition.day"].to_pylist() if table.daily and paths else [WHOLE] * len(paths)
        sizes = (actions[name].to_pylist() for name in ("num_records", "size_bytes"))
        return [DataFile(*file) for file in zip(days, paths, *sizes, strict=True)]

    def _lost(self, table: Table, file: DataFile) -> InvalidData:
        path = Path(file.path).relative_to(self._path(table))
        day = file.day.isoformat()
        again = f"build the day again: `segue run --step S --from {day} --to {day} --force`, S being the step that writes it"
        return InvalidData(
            f"table {table.name} cannot be read: its file {path} is in the log and not on the disk; "
            f"{again if table.derived and table.daily else 'restore it from a backup'}",
            field=table.name,
            limit=file.path,
        )

    def _opened(self, table: Table) -> DeltaTable | None:
        """The table at its newest commit, None if nothing was ever committed. Raises InvalidData if it is damaged or other.

        It may lack columns that may be null.
        """
        path = self._path(table)
        if not any((path / "_delta_log").glob("*.json")) and not any((path / "_delta_log").glob("*.parquet")):
            return None
        with self._reading(table):
            delta = DeltaTable(str(path))
            differences = _differences(table, delta)
        if differences:
            raise InvalidData(
                f"table {table.name} at {path} was written with another schema: {differences}; "
                f"`segue migrate {table.name}` rewrites it, or use the version of Segue that wrote it",
                field=table.name,
                limit=", ".join(table.names),
            )
        return delta

    def _writable(self, table: Table) -> DeltaTable:
        """The table at its newest commit, made if it is not there, with all columns of its contract."""
        delta = self._opened(table) or self._created(table)
        if not (gained := _gained(table, delta)):
            return delta
        with suppress(Conflict), self._writing(table):
            # Why: of two writers that find the table without a column one adds it, and both may write then.
            delta.alter.add_columns(gained)
        return self._opened(table) or self._created(table)

    def created(self, table: Table) -> Path:
        """The directory of the table, which is created empty unless it is there."""
        if self._opened(table) is None:
            self._created(table)
        return self._path(table)

    def _created(self, table: Table) -> DeltaTable:
        path = self._path(table)
        # Why: of two that create a table at once the second would enter its metadata again, which overtakes who writes already.
        with _CREATING, self._writing(table):
            if (delta := self._opened(table)) is not None:
                return delta
            path.mkdir(parents=True, exist_ok=True)
            schema = Schema.from_arrow(table.arrow)
            try:
                DeltaTable.create(
                    str(path), schema, mode="ignore", partition_by=["day"] if table.daily else None
                )
            except (CommitFailedError, DeltaError):
                # Why: two writers may create the table at once; the loser finds it there.
                if self._opened(table) is None:
                    raise
        delta = self._opened(table)
        if delta is None:
            raise Conflict(
                f"table {table.name} at {path} vanished while it was being created; try again",
                field=table.name,
            )
        return delta

    @contextmanager
    def _reading(self, table: Table) -> Iterator[None]:
        try:
            yield
        except (DeltaError, TableNotFoundError, OSError, ValueError) as error:
            raise InvalidData(
                f"table {table.name} at {self._path(table)} cannot be read: its log is damaged ({first_line(error)}); "
                f"restore the directory from a backup, or move it away and rebuild the table",
                field=table.name,
            ) from error

    @contextmanager
    def _writing(self, table: Table, rows: _Checked | None = None) -> Iterator[None]:
        try:
            yield
        except CommitFailedError as error:
            raise Conflict(
                f"table {table.name}: another writer changed the same rows meanwhile ({first_line(error)}); "
                f"nothing was written, run the step again",
                field=table.name,
            ) from error
        except (DeltaError, OSError, ValueError, pa.ArrowException) as error:
            if rows is not None and rows.error is not None:
                raise rows.error from None
            raise _unwritable(table, self._path(table), error) from error


class _Checked:
    """Batches on their way to disk: each is checked, and counted by day. Delta turns what goes wrong in the source into
    text of its own, so the real error is kept aside."""

    def __init__(self, table: Table, rows: pa.RecordBatchReader, days: Days | None) -> None:
        self._table = table
        self._rows = rows
        self._days = days
        self.error: Exception | None = None
        self.counts: dict[date, int] = dict.fromkeys(days or (), 0) if table.daily else {WHOLE: 0}

    def reader(self) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(self._table.arrow, self._batches())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._rows:
                self._check(batch)
                yield pa.RecordBatch.from_arrays(batch.columns, schema=self._table.arrow)
        except Exception as error:
            self.error = error
            raise

    def _check(self, batch: pa.RecordBatch) -> None:
        for column, values in zip(self._table.columns, batch.columns, strict=True):
            if not column.nullable and values.null_count:
                raise InvalidData(
                    f"table {self._table.name}: {values.null_count} rows have no {column.name}; every row needs one",
                    field=f"{self._table.name}.{column.name}",
                    limit="not null",
                )
        if not self._table.daily:
            self.counts[WHOLE] += batch.num_rows
            return
        for day, rows in _per_day(batch.column(0)):
            if self._days is not None and not self._days.first <= day <= self._days.last:
                raise InvalidData(
                    f"table {self._table.name}: {rows} rows of {day} in a write of "
                    f"{self._days.first}..{self._days.last}; a write may only hold rows of its own days",
                    field=f"{self._table.name}.day",
                    limit=f"{self._days.first}..{self._days.last}",
                )
            self.counts[day] = self.counts.get(day, 0) + rows


def _per_day(days: pa.Array) -> list[tuple[date, int]]:
    counted = pc.value_counts(days)
    return [(item["values"], item["counts"]) for item in counted.to_pylist()]


def _predicate(days: Days) -> str:
    return f"day >= '{days.first.isoformat()}' AND day <= '{days.last.isoformat()}'"


def _writer(table: Table) -> WriterProperties:
    # Why: a dictionary makes a column smaller only where few values come again and again. Elsewhere it costs a tenth of writing
    # and of the bytes. Level 3 of zstd would take another tenth of the writing, and save a hundredth of the bytes.
    dictionary = {
        c.name: ColumnProperties(dictionary_enabled=_repeats(c)) for c in table.columns if c.name != "day"
    }
    return WriterProperties(
        compression="ZSTD",
        compression_level=2,
        max_row_group_size=ROW_GROUP,
        column_properties=dictionary,
    )


def _repeats(column: Column) -> bool:
    kind = column.type
    return (
        pa.types.is_string(kind)
        or pa.types.is_list(kind)
        or pa.types.is_int16(kind)
        or column.name in _FEW_VALUES
    )


def _reached(delta: DeltaTable, marker: tuple[str, int]) -> bool:
    source, sequence = marker
    reached = delta.transaction_version(source)
    return reached is not None and reached >= sequence


def _gained(table: Table, delta: DeltaTable) -> list[Field]:
    """The columns that may be null which the contract has and the stored schema has not."""
    stored = {f.name for f in delta.schema().fields}
    return [f for f in Schema.from_arrow(table.arrow).fields if f.nullable and f.name not in stored]


def _differences(table: Table, delta: DeltaTable) -> str:
    """How the stored schema differs from the contract's, columns it gained apart, in words; empty if it does not."""
    stored = {f.name: str(f.type) for f in delta.schema().fields}
    wanted = {f.name: str(f.type) for f in Schema.from_arrow(table.arrow).fields}
    gained = {f.name for f in _gained(table, delta)}
    found = [f"{name} is missing" for name in wanted if name not in stored and name not in gained]
    found += [f"{name} is unknown" for name in stored if name not in wanted]
    found += [
        f"{n} is {stored[n]}, not {wanted[n]}" for n in wanted if n in stored and stored[n] != wanted[n]
    ]
    partitions = list(delta.metadata().partition_columns)
    if not found and partitions != (["day"] if table.daily else []):
        found.append(f"it is partitioned by {partitions or 'nothing'}")
    return "; ".join(found)


def _unwritable(table: Table, path: Path, error: Exception) -> InvalidData:
    text = str(error)
    if any(sign in text for sign in _NO_ROOM):
        return InvalidData(
            f"table {table.name} at {path} cannot be written: no room on the disk; nothing was changed, "
            f"make room (vacuum removes what old commits left behind) and run again",
            field=table.name,
        )
    return InvalidData(
        f"table {table.name} at {path} cannot be written: {first_line(error)}; nothing was changed",
        field=table.name,
    )
