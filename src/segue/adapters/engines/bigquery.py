"""The engine of a warehouse in the cloud: BigQuery keeps the tables, partitioned by day, and runs the expressions.

A write is a single statement over rows that were staged and checked before (`bigquery_sql.replace`), or a transaction with
its marker (`bigquery_sql.append`). Statements may be sent again: by us where the answer was lost, by BigQuery where a job of
its own failed; each has an id that is made once, and each leaves the same tables behind however often it ran.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date, datetime
from typing import Any, Final
from uuid import uuid4

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq
from google.api_core import exceptions as google
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError, TransportError
from google.cloud import bigquery
from google.cloud.bigquery.retry import DEFAULT_RETRY

from segue.adapters.engines import bigquery_sql
from segue.adapters.engines.columns import check_days, conformed, conformed_rows, first_line
from segue.adapters.engines.sql import select
from segue.contracts.errors import Conflict, InvalidData, InvalidSettings, Overloaded, Unavailable
from segue.contracts.ports import Days
from segue.contracts.schema import Table
from segue.settings.tree import Warehouse

EMULATOR: Final = "BIGQUERY_EMULATOR_HOST"
WHOLE: Final = date(1970, 1, 1)
_NOT_THERE: Final = "__NULL__"


class BigQuery:
    """The `Engine` port on BigQuery, in one dataset. One instance serves one thread at a time."""

    def __init__(self, settings: Warehouse) -> None:
        self._settings = settings.bigquery
        with self._running("BigQuery"):
            self._client, self._reader = _connected(settings)
            self._default = bigquery.DatasetReference(self._client.project, self._settings.dataset)
            place = bigquery.Dataset(self._default)
            if self._settings.location:
                place.location = self._settings.location
            self._client.create_dataset(place, exists_ok=True, retry=self._retry)
        self._known: set[str] = set()
        self._staged: dict[ops.Node, str] = {}

    def read(self, table: Table, days: Days | None = None) -> ir.Table:
        """The table, or its partitions of those days, as an Ibis expression. An absent table reads as empty.

        The expression stands for the table as it is when the expression runs.
        """
        check_days(table, days)
        if not self._there(table):
            return ibis.memtable(table.arrow.empty_table())
        rows = ibis.table(ibis.schema(table.arrow), name=table.name)
        return rows if days is None else rows.filter(rows.day.between(days.first, days.last))

    def overwrite(self, table: Table, rows: ir.Table | pa.Table, days: Days | None = None) -> dict[date, int]:
        """Replace the partitions of `days` (or the whole table) with `rows` in one statement.

        Columns are matched by name. Returns rows written per day (a table without days: under 1970-01-01). Raises
        InvalidData for other columns, a missing value or a row of another day. Whatever goes wrong, the table is as before.
        """
        check_days(table, days)
        given = conformed_rows(table, rows) if isinstance(rows, pa.Table) else conformed(table, rows)
        with self._held(given) as staged:
            counts = self._check(table, staged, days)
            self._create(table)
            self._run(f"table {table.name}", bigquery_sql.replace(table, staged, days))
        return counts

    def append(self, table: Table, rows: pa.Table, *, marker: tuple[str, int] | None = None) -> bool:
        """Add rows in one transaction. With a `marker` (source, sequence) the same append happens only once: False if it had.

        Raises InvalidData for other columns or a missing value, Conflict where another append was at the same marker.
        """
        given = conformed_rows(table, rows)
        if marker is not None and (self._marker(table, marker[0])[0]) >= marker[1]:
            return False
        with self._held(given) as staged:
            self._check(table, staged, None)
            self._create(table)
            if marker is not None:
                self._run("markers", bigquery_sql.create_markers())
                self._run("markers", bigquery_sql.first_marker(table, marker[0]))
            token = uuid4().hex
            self._run(f"table {table.name}", bigquery_sql.append(table, staged, marker, token))
        return marker is None or self._marker(table, marker[0])[1] == token

    def marker(self, source: str, table: Table) -> int | None:
        """The highest sequence appended for that source, or None."""
        reached, _ = self._marker(table, source)
        return reached if reached >= 0 else None

    def collect(self, rows: ir.Table) -> pa.Table:
        """Run the expression and fetch its rows."""
        return self.stream(rows).read_all()

    def stream(self, rows: ir.Table) -> pa.RecordBatchReader:
        """Run the expression and fetch its rows batch by batch, while other queries may run."""
        schema = rows.schema().to_pyarrow()
        found = self._run("query", select("bigquery", self._bound(rows)))

        def batches() -> Iterator[pa.RecordBatch]:
            with self._running("query"):
                for batch in found.to_arrow_iterable(bqstorage_client=self._reader):
                    yield from _as_promised(batch, schema).to_batches()

        return pa.RecordBatchReader.from_batches(schema, batches())

    def days(self, table: Table) -> Days | None:
        """First and last partition that holds rows, or None."""
        counts = self.row_counts(table)
        return Days(min(counts), max(counts)) if counts and table.daily else None

    def row_counts(self, table: Table) -> dict[date, int]:
        """Rows of each day that has some, without reading them. A table without days: under 1970-01-01."""
        if not self._there(table):
            return {}
        found = self._run(f"table {table.name}", bigquery_sql.counts(self._settings.dataset, table))
        counts = {_day(table, row["partition_id"]): int(row["total_rows"]) for row in found}
        return dict(sorted(counts.items()))

    @contextmanager
    def staged(self, rows: ir.Table) -> Iterator[ir.Table]:
        """The rows, computed once into a table of their own, which is dropped when the block ends."""
        with self._held(rows) as name:
            yield ibis.table(rows.schema(), name=name)

    def compact(self, table: Table) -> int:
        """BigQuery has no files of ours to merge."""
        return 0

    def close(self) -> None:
        """Drop what was staged and release the connection."""
        for name in self._staged.values():
            self._drop(name)
        self._client.close()

    @property
    def _retry(self) -> Any:
        return DEFAULT_RETRY.with_timeout(self._settings.deadline_s)

    def _run(self, what: str, text: str) -> Any:
        """The rows a statement gives, once it is done. A lost answer is asked for again until the deadline."""
        config = bigquery.QueryJobConfig(
            maximum_bytes_billed=self._settings.maximum_bytes_billed or None,
            use_query_cache=False,
            labels={"application": "segue"},
        )
        if not text.startswith(bigquery_sql.OF_RECORDS):
            config.default_dataset = self._default
        with self._running(what):
            # Why: job_retry would begin anew whenever the deadline is reached.
            job = self._client.query(text, job_config=config, retry=self._retry, job_retry=None)
            return job.result(timeout=self._settings.deadline_s, retry=self._retry, job_retry=None)

    @contextmanager
    def _held(self, rows: ir.Table | pa.Table) -> Iterator[str]:
        """The name of a table that holds the rows: the one they are in, or one for the time of the block."""
        if isinstance(rows, ir.Table) and isinstance(rows.op(), ops.UnboundTable):
            yield rows.get_name()
            return
        name = _temporary()
        try:
            if isinstance(rows, pa.Table):
                self._load(name, rows)
            else:
                self._run("query", bigquery_sql.stage(name, select("bigquery", self._bound(rows))))
            yield name
        finally:
            self._drop(name)

    def _bound(self, rows: ir.Table) -> ir.Table:
        """The expression with its rows in memory brought to BigQuery."""
        node = rows.op()
        brought: dict[ops.Node, ops.Node] = {}
        for held in node.find(ops.InMemoryTable):
            if held not in self._staged:
                self._staged[held] = _temporary()
                self._load(self._staged[held], held.data.to_pyarrow(held.schema))
            brought[held] = ibis.table(held.schema, name=self._staged[held]).op()
        return node.replace(brought).to_expr() if brought else rows

    def _load(self, name: str, rows: pa.Table) -> None:
        columns = ", ".join(f"`{f.name}` {bigquery_sql.type_of(f.type)}" for f in rows.schema)
        self._run("query", f"CREATE TABLE `{name}` ({columns}) OPTIONS ({bigquery_sql.EXPIRES})")
        if not rows.num_rows:
            return
        file = io.BytesIO()
        pq.write_table(rows, file, compression="zstd")
        file.seek(0)
        lists = bigquery.ParquetOptions()
        lists.enable_list_inference = True
        config = bigquery.LoadJobConfig(
            source_format="PARQUET", write_disposition="WRITE_APPEND", parquet_options=lists
        )
        with self._running("load"):
            self._client.load_table_from_file(file, self._default.table(name), job_config=config).result(
                timeout=self._settings.deadline_s, retry=self._retry
            )

    def _drop(self, name: str) -> None:
        with suppress(google.GoogleAPIError):
            self._client.delete_table(self._default.table(name), not_found_ok=True, retry=self._retry)

    def _check(self, table: Table, staged: str, days: Days | None) -> dict[date, int]:
        """Rows per day of what is staged. Raises InvalidData for a missing value or a row of another day."""
        counts = dict.fromkeys(days or (), 0) if table.daily else {WHOLE: 0}
        for row in self._run(f"table {table.name}", bigquery_sql.checked(table, staged)):
            day = row["day"]
            lacking = {name: n for name, n in row.items() if name not in ("day", "rows") and n}
            if day is None:
                lacking = {"day": row["rows"]}
            for name, n in lacking.items():
                raise InvalidData(
                    f"table {table.name}: {n} rows have no {name}; every row needs one",
                    field=f"{table.name}.{name}",
                    limit="not null",
                )
            if days is not None and not days.first <= day <= days.last:
                raise InvalidData(
                    f"table {table.name}: {row['rows']} rows of {day} in a write of {days.first}..{days.last}; "
                    f"a write may only hold rows of its own days",
                    field=f"{table.name}.day",
                    limit=f"{days.first}..{days.last}",
                )
            counts[day] = row["rows"]
        return counts

    def _create(self, table: Table) -> None:
        if not self._there(table):
            self._run(f"table {table.name}", bigquery_sql.create(table))
            self._known.add(table.name)

    def _there(self, table: Table) -> bool:
        """Whether the table is there. Raises InvalidData if it has another schema than the contract."""
        if table.name in self._known:
            return True
        with self._running(f"table {table.name}"):
            try:
                found = self._client.get_table(self._default.table(table.name), retry=self._retry)
            except google.NotFound:
                return False
        stored = {field.name: _type_name(field) for field in found.schema}
        wanted = {field.name: bigquery_sql.type_of(field.type) for field in table.arrow}
        differences = [f"{name} is missing" for name in wanted if name not in stored]
        differences += [f"{name} is unknown" for name in stored if name not in wanted]
        differences += [
            f"{n} is {stored[n]}, not {wanted[n]}" for n in wanted if n in stored and stored[n] != wanted[n]
        ]
        if differences:
            raise InvalidData(
                f"table {table.name} in dataset {self._settings.dataset} has another schema: {'; '.join(differences)}; "
                f"copy the table away and rebuild it, or use the version of Segue that wrote it",
                field=table.name,
                limit=", ".join(table.names),
            )
        self._known.add(table.name)
        return True

    def _marker(self, table: Table, source: str) -> tuple[int, str]:
        try:
            found = list(self._run("markers", bigquery_sql.marker(table, source)))
        except InvalidData as error:
            if isinstance(error.__cause__, google.NotFound):
                return -1, ""
            raise
        return max(((int(row["sequence"]), str(row["token"])) for row in found), default=(-1, ""))

    @contextmanager
    def _running(self, what: str) -> Iterator[None]:
        try:
            yield
        except DefaultCredentialsError as error:
            raise InvalidSettings(
                f"BigQuery: no credentials; run `gcloud auth application-default login`, or name a service account in "
                f"GOOGLE_APPLICATION_CREDENTIALS ({first_line(error)})",
                field="warehouse.bigquery.project",
            ) from error
        except google.GoogleAPICallError as error:
            raise self._ours(what, error) from error
        except (google.RetryError, TransportError, ConnectionError, TimeoutError) as error:
            raise self._late(what, error) from error

    def _ours(self, what: str, error: google.GoogleAPICallError) -> Exception:
        text = first_line(error)
        reasons = {str(item.get("reason")) for item in error.errors if isinstance(item, dict)}
        if "bytesBilledLimitExceeded" in reasons:
            return Overloaded(
                f"{what}: BigQuery would bill more than warehouse.bigquery.maximum_bytes_billed; raise it, or ask for fewer "
                f"days ({text})",
                field="warehouse.bigquery.maximum_bytes_billed",
                limit=str(self._settings.maximum_bytes_billed),
            )
        if "quotaExceeded" in reasons or isinstance(error, google.TooManyRequests):
            return Overloaded(
                f"{what}: a quota of BigQuery is used up ({text}); try later, or raise the quota"
            )
        if isinstance(error, google.ServerError):
            return self._late(what, error)
        if "concurrent update" in text or "Transaction is aborted" in text:
            return Conflict(
                f"{what}: another writer changed the same rows meanwhile ({text}); nothing was written, run again"
            )
        if isinstance(error, google.Forbidden):
            return InvalidSettings(
                f"{what}: BigQuery refuses ({text}); see docs/how-to/bigquery.md for the roles it needs",
                field="warehouse.bigquery.project",
            )
        return InvalidData(f"{what}: BigQuery cannot do that: {text}; nothing was changed")

    def _late(self, what: str, error: Exception) -> Unavailable:
        return Unavailable(
            f"{what}: BigQuery does not answer within {self._settings.deadline_s:g} s ({first_line(error)}); try again",
            field="warehouse.bigquery.deadline_s",
            limit=f"{self._settings.deadline_s:g} s",
        )


def _connected(settings: Warehouse) -> tuple[Any, Any]:
    """The client, and the one of the Storage Read API (None for an emulator, which keeps no results where that reads)."""
    place = settings.bigquery
    endpoint = place.endpoint or os.environ.get(EMULATOR, "")
    if endpoint:
        address = endpoint if "://" in endpoint else f"http://{endpoint}"
        return bigquery.Client(
            project=place.project or "test",
            location=place.location or None,
            credentials=AnonymousCredentials(),
            client_options=ClientOptions(api_endpoint=address),
        ), None
    from google.cloud.bigquery_storage import BigQueryReadClient

    client = bigquery.Client(project=place.project or None, location=place.location or None)
    return client, BigQueryReadClient(credentials=client._credentials)


def _temporary() -> str:
    return f"_staged_{uuid4().hex}"


def _day(table: Table, partition: str | None) -> date:
    if not table.daily:
        return WHOLE
    return datetime.strptime(str(partition), "%Y%m%d").date()


def _type_name(field: Any) -> str:
    names = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}
    name = names.get(field.field_type, field.field_type)
    return f"ARRAY<{name}>" if field.mode == "REPEATED" else name


def _as_promised(batch: pa.RecordBatch, schema: pa.Schema) -> pa.Table:
    """A batch in the expression's types. BigQuery knows no missing list, and gives an empty one: that is taken as missing."""
    columns = []
    for values, field in zip(batch.columns, schema, strict=True):
        if pa.types.is_list(field.type):
            empty = pa.compute.equal(pa.compute.list_value_length(values), 0)
            values = pa.compute.if_else(empty, pa.scalar(None, values.type), values)
        columns.append(values.cast(field.type))
    return pa.table(columns, schema=schema)
