"""Rows that lie in BigQuery as they are wanted: read by the Storage API, straight from the table.

No query runs, so nothing is scanned but the columns and days that are fetched, and no result is too large.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import ibis.expr.operations as ops
import ibis.expr.types as ir
import pyarrow as pa
from google.api_core.retry import Retry
from google.cloud import bigquery
from google.cloud.bigquery_storage import BigQueryReadClient, types


@dataclass(frozen=True)
class Stored:
    """Columns of a table, of all its rows or of those of some days."""

    table: str
    columns: tuple[str, ...]
    days: tuple[date, date] | None


def stored(rows: ir.Table) -> Stored | None:
    """What the expression wants, if it is no more than that: columns by their names, and a range of days."""
    node, days = rows.op(), None
    if isinstance(node, ops.Project):
        if any(not isinstance(value, ops.Field) or value.name != name for name, value in node.values.items()):
            return None
        node = node.parent
    if isinstance(node, ops.Filter):
        days = _days(node)
        if days is None:
            return None
        node = node.parent
    return Stored(node.name, tuple(rows.columns), days) if isinstance(node, ops.UnboundTable) else None


def batches_of(
    reader: BigQueryReadClient, table: bigquery.TableReference, wanted: Stored, retry: Retry, timeout: float
) -> Iterator[pa.RecordBatch]:
    """The rows as they are now, in no order, one batch in memory at a time. A stream that breaks goes on where it was.

    `retry` is for each call that fails, `timeout` for the answer to the first, in seconds.
    """
    options = types.ReadSession.TableReadOptions(selected_fields=list(wanted.columns))
    if wanted.days is not None:
        first, last = wanted.days
        options.row_restriction = f"day BETWEEN CAST('{first}' AS DATE) AND CAST('{last}' AS DATE)"
    session = reader.create_read_session(
        parent=f"projects/{table.project}",
        read_session=types.ReadSession(
            table=table.to_bqstorage(), data_format=types.DataFormat.ARROW, read_options=options
        ),
        max_stream_count=1,
        retry=retry,
        timeout=timeout,
    )

    def batches() -> Iterator[pa.RecordBatch]:
        schema = pa.ipc.read_schema(pa.py_buffer(session.arrow_schema.serialized_schema))
        for stream in session.streams:
            for message in reader.read_rows(stream.name, retry=retry):
                rows = pa.py_buffer(message.arrow_record_batch.serialized_record_batch)
                # Why: columns come in the table's order, not in the one asked for.
                yield pa.ipc.read_record_batch(rows, schema).select(list(wanted.columns))

    return batches()


def _days(node: ops.Filter) -> tuple[date, date] | None:
    if len(node.predicates) != 1:
        return None
    (within,) = node.predicates
    if (
        not isinstance(within, ops.Between)
        or not isinstance(within.arg, ops.Field)
        or within.arg.name != "day"
    ):
        return None
    bounds = (within.lower_bound, within.upper_bound)
    if not all(isinstance(bound, ops.Literal) for bound in bounds):
        return None
    first, last = (bound.value for bound in bounds)
    return first, last
