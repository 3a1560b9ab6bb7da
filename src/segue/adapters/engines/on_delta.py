"""What engines share whose tables are Delta tables below one root directory: everything that needs no query."""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import socket
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import date, timedelta
from pathlib import Path

import ibis.expr.operations as ops
import ibis.expr.types as ir
import pyarrow as pa

from segue.adapters.engines.columns import check_days, conformed, conformed_rows, order_of
from segue.adapters.engines.delta import DataFile, DeltaTables
from segue.contracts.ports import Days
from segue.contracts.schema import Table

BATCH = 65_536
"""Rows of a batch on the way from an engine to a reader or to disk."""
SPILL = ".spill"


class OnDelta(ABC):
    """The half of the `Engine` port that needs Delta's log only, and writes, which stream an engine's rows into a commit.

    `root/.spill` holds a directory per process for what does not fit into memory. One instance serves one thread at a time.
    """

    def __init__(self, root: Path) -> None:
        self._tables = DeltaTables(root)
        self.root = self._tables.root
        self._spill = _spill_directory(self.root / SPILL)
        self._release = weakref.finalize(self, shutil.rmtree, self._spill, ignore_errors=True)
        self._sizes: dict[str, int] = {}
        """Bytes of the files behind each view."""

    @abstractmethod
    def read(self, table: Table, days: Days | None = None) -> ir.Table:
        """The table, or its partitions of those days, as an Ibis expression. An absent table reads as empty.

        The expression stands for the commit that is newest now, whatever is written later.
        """

    @abstractmethod
    def collect(self, rows: ir.Table) -> pa.Table:
        """Run the expression and fetch its rows."""

    @abstractmethod
    def staged(self, rows: ir.Table) -> AbstractContextManager[ir.Table]:
        """The rows, computed once and held by the engine until the block ends."""

    @abstractmethod
    def _stream(self, rows: ir.Table) -> pa.RecordBatchReader:
        """Batches of the expression, in its types; other queries may run meanwhile."""

    @abstractmethod
    def _running(self, what: str) -> AbstractContextManager[None]:
        """Turns the engine's own errors into ours. `what` is said to be at work."""

    def overwrite(self, table: Table, rows: ir.Table | pa.Table, days: Days | None = None) -> dict[date, int]:
        """Replace the partitions of `days` (or the whole table) with `rows` in one commit.

        Columns are matched by name. Returns rows written per day (a table without days: under 1970-01-01). Raises
        InvalidData for other columns, a missing value, a row of another day or a full disk, Conflict if another writer
        changed the same days meanwhile. Whatever goes wrong, the table is as before.
        """
        check_days(table, days)
        if isinstance(rows, pa.Table):
            held = conformed_rows(table, rows)
            return self._tables.replace(table, lambda: held.to_reader(BATCH), days)
        ordered = conformed(table, rows).order_by(*order_of(table))
        with self._running(f"table {table.name}"):
            return self._tables.replace(table, lambda: self._stream(ordered), days)

    def append(self, table: Table, rows: pa.Table, *, marker: tuple[str, int] | None = None) -> bool:
        """Add rows in one commit. With a `marker` (source, sequence) the same append happens only once: False if it had.

        Raises InvalidData for other columns, a missing value or a full disk.
        """
        return self._tables.add(table, conformed_rows(table, rows), marker)

    def marker(self, source: str, table: Table) -> int | None:
        """The highest sequence appended for that source, or None."""
        return self._tables.marker(source, table)

    def stream(self, rows: ir.Table) -> pa.RecordBatchReader:
        """Run the expression and fetch its rows batch by batch, while other queries may run."""
        reader = self._stream(rows)

        def batches() -> Iterator[pa.RecordBatch]:
            with self._running("query"):
                yield from reader

        return pa.RecordBatchReader.from_batches(reader.schema, batches())

    def scan_bytes(self, rows: ir.Table) -> int:
        """Bytes of the files behind the expression, each table once: columns that it leaves out are not deducted."""
        return sum(self._sizes.get(name, 0) for name in {t.name for t in rows.op().find(ops.DatabaseTable)})

    def _view_of(self, table: Table, files: list[DataFile]) -> str:
        """The name of the view over these files; the same files give the same view, so that repeated reads add nothing."""
        digest = hashlib.blake2b("\n".join(file.path for file in files).encode(), digest_size=12).hexdigest()
        name = f"{table.name}_{digest}"
        self._sizes[name] = sum(file.bytes for file in files)
        return name

    def days(self, table: Table) -> Days | None:
        """First and last partition that holds rows, or None."""
        counts = self.row_counts(table)
        return Days(min(counts), max(counts)) if counts and table.daily else None

    def row_counts(self, table: Table) -> dict[date, int]:
        """Rows of each day that has some, without reading them. A table without days: under 1970-01-01."""
        return self._tables.row_counts(table)

    def compact(self, table: Table) -> int:
        """Merge the small files of a table whose partitions hold many. Rows stay the same. Returns files removed."""
        return self._tables.compact(table)

    def vacuum(self, table: Table, keep: timedelta = timedelta(days=7)) -> int:
        """Delete files that no commit of the last `keep` refers to, for good. Returns how many."""
        return self._tables.vacuum(table, keep)

    def close(self) -> None:
        """Release what the engine holds. It cannot be used afterwards."""
        self._release()


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
