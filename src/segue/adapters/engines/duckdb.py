"""The engine of one machine: DuckDB runs the expressions, Delta keeps the tables.

Every query has a cursor of its own: on one DuckDB connection a second query silently ends a stream that is still being
read. Results have no order unless the expression asks for one; what is written is sorted by (day, table.sort, key), so
that the same rows give the same files whatever the threads did.
"""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import socket
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import pyarrow as pa

from segue.adapters.engines.delta import DeltaTables
from segue.contracts.errors import InvalidData, Overloaded
from segue.contracts.ports import Days
from segue.contracts.schema import Table
from segue.settings.tree import Warehouse

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

BATCH = 65_536
"""Rows of a batch on the way from DuckDB to a reader or to disk."""
_SPILL = ".spill"
_QUIET = "SET enable_progress_bar = false"
"""Where DuckDB believes that it is used interactively, it would draw over the output of whoever called."""


class DuckDBDelta:
    """The `Engine` port on DuckDB and Delta, below one root directory.

    Memory beyond `settings.memory_mb` spills to `root/.spill`. One instance serves one thread at a time.
    """

    def __init__(self, root: Path, settings: Warehouse) -> None:
        self._tables = DeltaTables(root)
        self.root = self._tables.root
        self._spill = _spill_directory(self.root / _SPILL)
        self._settings = settings
        self._backend: Backend = ibis.duckdb.connect(
            ":memory:",
            memory_limit=f"{settings.memory_mb}MB",
            threads=settings.threads or os.cpu_count() or 1,
            temp_directory=str(self._spill),
            preserve_insertion_order=False,
        )
        self._backend.raw_sql(_QUIET)
        self._staged = 0
        self._release = weakref.finalize(self, shutil.rmtree, self._spill, ignore_errors=True)

    def read(self, table: Table, days: Days | None = None) -> ir.Table:
        """The table, or its partitions of those days, as an Ibis expression. An absent table reads as empty.

        The expression stands for the commit that is newest now, whatever is written later.
        """
        if days is not None and not table.daily:
            raise InvalidData(f"table {table.name} has no days; read it whole", field=table.name)
        files = self._tables.files(table, days)
        if not files:
            return ibis.memtable(table.arrow.empty_table())
        with self._running(f"table {table.name}"):
            rows = self._backend.table(self._view(table, files))
        return rows.select(*(_as(rows[f.name], f.type) for f in table.arrow))

    def overwrite(self, table: Table, rows: ir.Table | pa.Table, days: Days | None = None) -> dict[date, int]:
        """Replace the partitions of `days` (or the whole table) with `rows` in one commit.

        Columns are matched by name. Returns rows written per day (a table without days: under 1970-01-01). Raises
        InvalidData for other columns, a missing value, a row of another day or a full disk, Conflict if another writer
        changed the same days meanwhile. Whatever goes wrong, the table is as before.
        """
        if days is not None and not table.daily:
            raise InvalidData(f"table {table.name} has no days; overwrite it whole", field=table.name)
        given = ibis.memtable(rows) if isinstance(rows, pa.Table) else rows
        _check_columns(table, given.schema())
        ordered = given.select(*(_as(given[f.name], f.type) for f in table.arrow)).order_by(*_order(table))
        with self._running(f"table {table.name}"):
            return self._tables.replace(table, lambda: self._stream(ordered), days)

    def append(self, table: Table, rows: pa.Table, *, marker: tuple[str, int] | None = None) -> bool:
        """Add rows in one commit. With a `marker` (source, sequence) the same append happens only once: False if it had.

        Raises InvalidData for other columns, a missing value or a full disk.
        """
        _check_columns(table, ibis.schema(rows.schema))
        try:
            typed = pa.table([rows[f.name].cast(f.type) for f in table.arrow], names=list(table.names))
        except pa.ArrowInvalid as error:
            raise InvalidData(f"table {table.name}: {error}", field=table.name) from error
        return self._tables.add(table, typed.sort_by([(name, "ascending") for name in _order(table)]), marker)

    def marker(self, source: str, table: Table) -> int | None:
        """The highest sequence appended for that source, or None."""
        return self._tables.marker(source, table)

    def collect(self, rows: ir.Table) -> pa.Table:
        """Run the expression and fetch its rows."""
        with self._running("query"):
            return self._session().to_pyarrow(rows)

    def stream(self, rows: ir.Table) -> pa.RecordBatchReader:
        """Run the expression and fetch its rows batch by batch, while other queries may run."""
        reader = self._stream(rows)

        def batches() -> Iterator[pa.RecordBatch]:
            with self._running("query"):
                yield from reader

        return pa.RecordBatchReader.from_batches(reader.schema, batches())

    def days(self, table: Table) -> Days | None:
        """First and last partition that holds rows, or None."""
        counts = self.row_counts(table)
        return Days(min(counts), max(counts)) if counts and table.daily else None

    def row_counts(self, table: Table) -> dict[date, int]:
        """Rows of each day that has some, without reading them. A table without days: under 1970-01-01."""
        return self._tables.row_counts(table)

    @contextmanager
    def staged(self, rows: ir.Table) -> Iterator[ir.Table]:
        """The rows, computed once and held by the engine (in memory, then on disk) until the block ends."""
        self._staged += 1
        name = f"staged_{self._staged}"
        with self._running("query"):
            held = self._backend.create_table(name, rows)
        try:
            yield held
        finally:
            self._backend.drop_table(name)

    def compact(self, table: Table) -> int:
        """Merge the small files of a table whose partitions hold many. Rows stay the same. Returns files removed."""
        return self._tables.compact(table)

    def vacuum(self, table: Table, keep: timedelta = timedelta(days=7)) -> int:
        """Delete files that no commit of the last `keep` refers to, for good. Returns how many."""
        return self._tables.vacuum(table, keep)

    def close(self) -> None:
        """Release memory and the spill directory. The engine cannot be used afterwards."""
        self._backend.disconnect()
        self._release()

    def _session(self) -> Backend:
        """A backend on a cursor of its own over the same database."""
        session = ibis.duckdb.from_connection(self._backend.con.cursor())
        session.raw_sql(_QUIET)
        return session

    def _stream(self, rows: ir.Table) -> pa.RecordBatchReader:
        with self._running("query"):
            return self._session().to_pyarrow_batches(rows, chunk_size=BATCH)

    def _view(self, table: Table, files: list[str]) -> str:
        """A view over these files; the same files give the same view, so that repeated reads add nothing."""
        digest = hashlib.blake2b("\n".join(files).encode(), digest_size=12).hexdigest()
        name = f"{table.name}_{digest}"
        listed = ", ".join("'" + glob.escape(path).replace("'", "''") + "'" for path in files)
        parts = (
            ", hive_partitioning = true, hive_types = {'day': DATE}"
            if table.daily
            else ", hive_partitioning = false"
        )
        self._backend.raw_sql(
            f'CREATE OR REPLACE VIEW "{name}" AS SELECT * FROM read_parquet([{listed}]{parts})'
        )
        return name

    @contextmanager
    def _running(self, what: str) -> Iterator[None]:
        try:
            yield
        except duckdb.OutOfMemoryException as error:
            raise Overloaded(
                f"{what}: the engine needs more than its {self._settings.memory_mb} MB; raise warehouse.memory_mb "
                f"or lower warehouse.chunk_rows ({_first_line(error)})",
                field="warehouse.memory_mb",
                limit=str(self._settings.memory_mb),
            ) from error
        except (duckdb.IOException, duckdb.InvalidInputException, duckdb.ConversionException) as error:
            raise InvalidData(f"{what} cannot be read: {_first_line(error)}") from error
        except duckdb.OutOfRangeException as error:
            raise InvalidData(f"{what}: a value does not fit its column: {_first_line(error)}") from error


def _order(table: Table) -> tuple[str, ...]:
    """Columns that put the rows into one order only: partition, sort, then the key (every column where there is none)."""
    first = ("day",) if table.daily else ()
    return tuple(dict.fromkeys((*first, *table.sort, *(table.key or table.names))))


def _as(value: ir.Value, wanted: pa.DataType) -> ir.Value:
    target = dt.DataType.from_pyarrow(wanted)
    name = value.get_name()
    same = value.type().copy(nullable=True) == target.copy(nullable=True)
    return value if same else value.cast(target).name(name)


def _check_columns(table: Table, given: ibis.Schema) -> None:
    missing = [name for name in table.names if name not in given.names]
    unknown = [name for name in given.names if name not in table.names]
    if missing or unknown:
        parts = [f"lacks {', '.join(missing)}"] if missing else []
        parts += [f"has {', '.join(unknown)}, which the table does not know"] if unknown else []
        raise InvalidData(
            f"table {table.name}: what should be written {' and '.join(parts)}",
            field=f"{table.name}.{(missing + unknown)[0]}",
            limit=", ".join(table.names),
        )
    for field in table.arrow:
        wanted, got = dt.DataType.from_pyarrow(field.type), given[field.name]
        if _kind(wanted) != _kind(got) and not got.is_null():
            raise InvalidData(
                f"table {table.name}: column {field.name} is {wanted}, but what should be written is {got}",
                field=f"{table.name}.{field.name}",
                limit=str(field.type),
            )


def _kind(kind: dt.DataType) -> str:
    """Types of one kind may be cast into each other on the way to a table; a value that does not fit is an error."""
    if kind.is_integer():
        return "integer"
    if kind.is_numeric() and not kind.is_boolean():
        return "number"
    return str(kind.copy(nullable=True))


def _spill_directory(parent: Path) -> Path:
    """A fresh directory for this process; those of processes that died on this host are removed."""
    parent.mkdir(parents=True, exist_ok=True)
    host = socket.gethostname()
    for left in parent.glob(f"{glob.escape(host)}-*-*"):
        pid = left.name.rsplit("-", 2)[1]
        if pid.isdecimal() and not _alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{host}-{os.getpid()}-", dir=parent))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
