"""The engine of one machine: DuckDB runs the expressions, Delta keeps the tables.

Every query has a cursor of its own: on one DuckDB connection a second query silently ends a stream that is still being
read. Results have no order unless the expression asks for one; what is written is sorted by (day, table.sort, key), so
that the same rows give the same files whatever the threads did.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import ibis
import ibis.expr.types as ir
import pyarrow as pa

from segue.adapters.engines.columns import check_days, first_line, typed
from segue.adapters.engines.delta import DataFile
from segue.adapters.engines.on_delta import BATCH, OnDelta
from segue.contracts.errors import InvalidData, Overloaded
from segue.contracts.ports import Days
from segue.contracts.schema import Table
from segue.settings.tree import Warehouse

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

_QUIET = "SET enable_progress_bar = false"
"""Where DuckDB believes that it is used interactively, it would draw over the output of whoever called."""


class DuckDBDelta(OnDelta):
    """The `Engine` port on DuckDB and Delta, below one root directory.

    Memory beyond `settings.memory_mb` spills to `root/.spill`. One instance serves one thread at a time.
    """

    def __init__(self, root: Path, settings: Warehouse) -> None:
        super().__init__(root)
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

    def read(self, table: Table, days: Days | None = None) -> ir.Table:
        """The table, or its partitions of those days, as an Ibis expression. An absent table reads as empty.

        The expression stands for the commit that is newest now, whatever is written later.
        """
        check_days(table, days)
        files = self._tables.files(table, days)
        if not files:
            return ibis.memtable(table.arrow.empty_table())
        with self._running(f"table {table.name}"):
            return typed(table, self._backend.table(self._view(table, files)))

    def collect(self, rows: ir.Table) -> pa.Table:
        """Run the expression and fetch its rows."""
        with self._running("query"):
            return self._session().to_pyarrow(rows)

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

    def close(self) -> None:
        """Release memory and the spill directory. The engine cannot be used afterwards."""
        self._backend.disconnect()
        super().close()

    def _session(self) -> Backend:
        """A backend on a cursor of its own over the same database."""
        session = ibis.duckdb.from_connection(self._backend.con.cursor())
        session.raw_sql(_QUIET)
        return session

    def _stream(self, rows: ir.Table) -> pa.RecordBatchReader:
        with self._running("query"):
            return self._session().to_pyarrow_batches(rows, chunk_size=BATCH)

    def _view(self, table: Table, files: list[DataFile]) -> str:
        name = self._view_of(table, files)
        listed = ", ".join("'" + glob.escape(file.path).replace("'", "''") + "'" for file in files)
        parts = (
            "hive_partitioning = true, hive_types = {'day': DATE}"
            if table.daily
            else "hive_partitioning = false"
        )
        # Why: files of an older schema lack columns, and else the first file would say which there are.
        self._backend.raw_sql(
            f'CREATE OR REPLACE VIEW "{name}" AS SELECT * FROM read_parquet([{listed}], {parts}, union_by_name = true)'
        )
        return name

    @contextmanager
    def _running(self, what: str) -> Iterator[None]:
        try:
            yield
        except duckdb.OutOfMemoryException as error:
            raise Overloaded(
                f"{what}: the engine needs more than its {self._settings.memory_mb} MB; raise warehouse.memory_mb "
                f"or lower warehouse.chunk_rows ({first_line(error)})",
                field="warehouse.memory_mb",
                limit=str(self._settings.memory_mb),
            ) from error
        except (duckdb.IOException, duckdb.InvalidInputException, duckdb.ConversionException) as error:
            raise InvalidData(f"{what} cannot be read: {first_line(error)}") from error
        except duckdb.OutOfRangeException as error:
            raise InvalidData(f"{what}: a value does not fit its column: {first_line(error)}") from error
