"""The engine of many machines: Spark runs the expressions, Delta keeps the tables.

Spark here needs no connector for Delta: it reads the Parquet files that Delta's log lists, and what it computes it leaves as
Parquet in the spill directory, from where it is streamed through the same commit as DuckDB's rows. So the promises are the
same, and the driver holds one batch at a time. `root` must be a directory that all executors see.

A Spark that has Delta of its own (`spark.sql.catalog.spark_catalog` names its catalogue) writes natively instead: executors
write the table's files, and no row passes the driver.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import date
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.backends.pyspark import Backend as PySparkBackend
from ibis.backends.pyspark.datatypes import PySparkSchema
from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from segue.adapters.engines.columns import check_days, conformed, first_line, order_of, typed
from segue.adapters.engines.on_delta import BATCH, OnDelta
from segue.contracts.errors import InvalidData, Overloaded, SegueError, Unavailable
from segue.contracts.ports import Days
from segue.contracts.schema import Table
from segue.settings.tree import Warehouse

_QUIET: Final = Path(__file__).with_name("spark-log4j2.properties")
_GLOB: Final = str.maketrans({sign: f"\\{sign}" for sign in "{}*?"})
"""Characters of a path that Hadoop would expand."""

_NO_MEMORY: Final = ("OutOfMemoryError", "UNABLE_TO_ACQUIRE_MEMORY", "spark.driver.maxResultSize")
_NO_FIT: Final = ("CAST_OVERFLOW", "ARITHMETIC_OVERFLOW", "CAST_INVALID_INPUT")
_NO_ROOM: Final = ("No space left on device", "File too large")
_NO_FILE: Final = ("FAILED_READ_FILE", "PATH_NOT_FOUND", "CANNOT_READ_FILE_FOOTER", "FileNotFoundException")
_LOST: Final = ("ExecutorLostFailure", "FetchFailed", "SparkContext was shut down", "stopped SparkContext")


class SparkDelta(OnDelta):
    """The `Engine` port on Spark and Delta, below one root directory.

    The process's Spark application is shared by all instances; each has a session of its own. One instance serves one thread
    at a time.
    """

    DELTA = "org.apache.spark.sql.delta.catalog.DeltaCatalog"
    """The catalogue of a Spark that has Delta of its own."""

    def __init__(self, root: Path, settings: Warehouse) -> None:
        super().__init__(root)
        self._settings = settings
        with self._running("Spark"):
            self._session = application(settings, self.root).newSession()
            self._backend = _Backend()
            self._backend.register_options()
            self._backend.do_connect(self._session)

    def read(self, table: Table, days: Days | None = None) -> ir.Table:
        """The table, or its partitions of those days, as an Ibis expression. An absent table reads as empty.

        The expression stands for the commit that is newest now, whatever is written later.
        """
        check_days(table, days)
        files = self._tables.files(table, days)
        if not files:
            return ibis.memtable(table.arrow.empty_table())
        with self._running(f"table {table.name}"):
            schema = PySparkSchema.from_ibis(ibis.schema(table.arrow))
            base = str(self.root / table.name).translate(_GLOB)
            reader = self._session.read.schema(schema).option("basePath", base)
            rows = reader.parquet(*(file.path.translate(_GLOB) for file in files))
            return typed(table, self._named(self._view_of(table, files), rows.select(*table.names)))

    def overwrite(self, table: Table, rows: ir.Table | pa.Table, days: Days | None = None) -> dict[date, int]:
        """As every engine; natively where Spark has Delta of its own."""
        native = self._session.conf.get("spark.sql.catalog.spark_catalog", "") == self.DELTA
        if native and isinstance(rows, ir.Table):
            return self._overwrite_natively(table, rows, days)
        return super().overwrite(table, rows, days)

    def collect(self, rows: ir.Table) -> pa.Table:
        """Run the expression and fetch its rows."""
        with self._running("query"):
            return self._frame(rows).toArrow().cast(rows.schema().to_pyarrow())

    @contextmanager
    def staged(self, rows: ir.Table) -> Iterator[ir.Table]:
        """The rows, computed once and held as Parquet in the spill directory until the block ends."""
        folder = self._written(rows)
        try:
            with self._running("query"):
                schema = PySparkSchema.from_ibis(rows.schema())
                held = self._session.read.schema(schema).parquet(str(folder).translate(_GLOB))
                yield self._named(folder.name, held)
        finally:
            self._session.catalog.dropTempView(folder.name)
            shutil.rmtree(folder, ignore_errors=True)

    def _stream(self, rows: ir.Table) -> pa.RecordBatchReader:
        schema = rows.schema().to_pyarrow()
        folder = self._written(rows)

        def batches() -> Iterator[pa.RecordBatch]:
            try:
                # Why: Spark numbers its files in the order of the rows.
                for path in sorted(folder.glob("part-*.parquet")):
                    with pq.ParquetFile(path) as file:
                        for batch in file.iter_batches(BATCH):
                            yield batch.cast(schema)
            finally:
                shutil.rmtree(folder, ignore_errors=True)

        return pa.RecordBatchReader.from_batches(schema, batches())

    def _written(self, rows: ir.Table) -> Path:
        """The rows of the expression as Parquet files, in a folder of their own."""
        folder = self._spill / f"staged_{uuid4().hex}"
        with self._running("query"):
            self._frame(rows).write.parquet(str(folder))
        return folder

    def _frame(self, rows: ir.Table) -> DataFrame:
        self._backend._run_pre_execute_hooks(rows)
        return self._session.sql(self._backend.compile(rows))

    def _named(self, name: str, rows: DataFrame) -> ir.Table:
        rows.createOrReplaceTempView(name)
        return self._backend.table(name)

    def _overwrite_natively(self, table: Table, rows: ir.Table, days: Days | None) -> dict[date, int]:
        check_days(table, days)
        ordered = conformed(table, rows).order_by(*order_of(table))
        path = str(self._tables.created(table))
        with self._running(f"table {table.name}"):
            writer = self._frame(ordered).write.format("delta").mode("overwrite")
            if days is not None:
                writer = writer.option("replaceWhere", f"day between '{days.first}' and '{days.last}'")
            writer.save(path)
        counts = self.row_counts(table)
        return counts if days is None else {day: counts.get(day, 0) for day in days}

    def _running(self, what: str) -> AbstractContextManager[None]:
        return running(what, self._settings)


@contextmanager
def running(what: str, settings: Warehouse) -> Iterator[None]:
    """Turns Spark's errors into ours. `what` is said to be at work."""
    try:
        yield
    except SegueError:
        raise
    except (PySparkException, Py4JError, ConnectionError) as error:
        raise _ours(what, error, settings) from error


def _ours(what: str, error: Exception, settings: Warehouse) -> Exception:
    """The error as one of ours; itself if it means that we asked for something wrong."""
    text = _text(error)
    if any(sign in text for sign in _NO_MEMORY):
        return Overloaded(
            f"{what}: Spark needs more memory than it has; raise warehouse.memory_mb (or spark.executor.memory in "
            f"warehouse.spark.conf) or lower warehouse.chunk_rows ({_reason(text)})",
            field="warehouse.memory_mb",
            limit=str(settings.memory_mb),
        )
    if any(sign in text for sign in _NO_ROOM):
        return InvalidData(f"{what}: no room on the disk; nothing was changed, make room and run again")
    if any(sign in text for sign in _NO_FIT):
        return InvalidData(f"{what}: a value does not fit its column: {_reason(text)}")
    if any(sign in text for sign in _NO_FILE):
        return InvalidData(f"{what} cannot be read: {_reason(text)}")
    if isinstance(error, PySparkException) or not _gone(error, text):
        return error
    return Unavailable(
        f"{what}: Spark is gone or lost an executor once too often ({_reason(text)}); nothing was changed, run again",
        field="warehouse.spark.master",
    )


def glob_escaped(path: Path) -> str:
    """A path for Hadoop, which would expand some of its characters."""
    return str(path).translate(_GLOB)


class _Backend(PySparkBackend):  # type: ignore[misc]
    """Ibis's backend, but rows in memory go to Spark as Arrow: by way of pandas, a column with a null would become floats."""

    def _register_in_memory_table(self, op: ops.InMemoryTable) -> None:
        rows = op.data.to_pyarrow(op.schema)
        schema = PySparkSchema.from_ibis(op.schema)
        self._session.createDataFrame(rows, schema=schema).createOrReplaceTempView(op.name)


def application(settings: Warehouse, root: Path) -> SparkSession:
    """The process's Spark application, started by whoever comes first."""
    master = settings.spark.master or f"local[{settings.threads or os.cpu_count() or 1}]"
    builder = SparkSession.builder.master(master).appName(settings.spark.app_name)
    given: dict[str, Any] = {**_defaults(settings, master, root), **settings.spark.conf}
    for name, value in given.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def _defaults(settings: Warehouse, master: str, root: Path) -> dict[str, str]:
    """Properties of Spark that `warehouse.spark.conf` may overrule. On one machine nothing listens but for this machine."""
    everywhere = {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.ansi.enabled": "true",
        "spark.sql.sources.parallelPartitionDiscovery.threshold": "10000",
        "spark.ui.showConsoleProgress": "false",
    }
    if not master.startswith("local"):
        return everywhere
    threads = settings.threads or os.cpu_count() or 1
    return everywhere | {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.driver.memory": f"{settings.memory_mb}m",
        "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={_QUIET.as_uri()}",
        "spark.sql.shuffle.partitions": str(2 * threads),
        "spark.sql.warehouse.dir": str(root),
    }


def _text(error: Exception) -> str:
    """What the error says, with the Java errors below it where Spark is still there to tell them."""
    try:
        return str(error)
    except (Py4JError, ConnectionError):
        return type(error).__name__


def _gone(error: Exception, text: str) -> bool:
    return not isinstance(error, Py4JJavaError) or any(sign in text for sign in _LOST)


def _reason(text: str) -> str:
    """The line of a Java stack that says most: the last cause."""
    causes = [line for line in text.splitlines() if line.startswith("Caused by: ") or "Exception: " in line]
    return (causes[-1] if causes else first_line(Exception(text))).removeprefix("Caused by: ")[:300]
