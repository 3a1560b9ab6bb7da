"""The engine of a warehouse in the cloud: BigQuery keeps the tables, partitioned by day, and runs the expressions.

A write is a single statement over rows that were staged and checked before (`bigquery_sql.replace`), or a transaction with
its marker (`bigquery_sql.append`). How statements are sent, and sent again, is in `bigquery_jobs`; how stored rows are
fetched is in `bigquery_storage`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Final
from uuid import uuid4

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.compute as pc
from google.cloud import bigquery

from segue.adapters.engines import bigquery_sql
from segue.adapters.engines.bigquery_jobs import Jobs
from segue.adapters.engines.bigquery_storage import stored
from segue.adapters.engines.columns import check_days, conformed, conformed_rows
from segue.adapters.engines.sql import select
from segue.contracts.errors import Conflict, InvalidData
from segue.contracts.ports import Days
from segue.contracts.schema import Table
from segue.settings.tree import Warehouse

WHOLE: Final = date(1970, 1, 1)
STAGED: Final = "_staged_"
"""How the names of tables begin that hold rows for a while."""
KEPT: Final = timedelta(days=1)
"""Staged rows are dropped by whoever staged them; BigQuery drops those of a process that died before it could."""
ATTEMPTS: Final = 5
"""How often an append with a marker is made again after another one of its source got in between."""


class BigQuery:
    """The `Engine` port on BigQuery, in one dataset. One instance serves one thread at a time."""

    def __init__(self, settings: Warehouse) -> None:
        self._jobs = Jobs(settings.bigquery)
        self._dataset = settings.bigquery.dataset
        self._known: dict[str, Table | None] = {}
        self._order: dict[str, tuple[str, ...]] = {}
        """Columns of the tables that are known, as they are stored."""

    def read(self, table: Table, days: Days | None = None) -> ir.Table:
        """The table, or its partitions of those days, as an Ibis expression. An absent table reads as empty.

        The expression stands for the table as it is when the expression runs.
        """
        check_days(table, days)
        if not self._there(table):
            return ibis.memtable(table.arrow.empty_table())
        order, schema = self._order[table.name], ibis.schema(table.arrow)
        # Why nullable: what is computed may be null for all that Ibis knows, and no union would take both.
        rows = ibis.table({name: schema[name].copy(nullable=True) for name in order}, name=table.name)
        # Why: a column that was gained stands last, and rows are told apart by place when they are fetched.
        rows = rows if order == table.names else rows.select(*table.names)
        return rows if days is None else rows.filter(rows.day.between(days.first, days.last))

    def overwrite(self, table: Table, rows: ir.Table | pa.Table, days: Days | None = None) -> dict[date, int]:
        """Replace the partitions of `days` (or the whole table) with `rows` in one statement.

        Columns are matched by name. Returns rows written per day (a table without days: under 1970-01-01). Raises
        InvalidData for other columns, a missing value or a row of another day, Conflict if another writer was at the same
        partitions at the same moment. Whatever goes wrong, the table is as before.
        """
        check_days(table, days)
        with ExitStack() as held:
            if isinstance(rows, pa.Table):
                given = conformed_rows(table, rows)
                counts = _checked_rows(table, given, days)
                staged = held.enter_context(self._loaded(given))
            else:
                conformed(table, rows)
                staged = held.enter_context(self.staged(rows))
                counts = self._checked(table, staged, days)
            self._create(table)
            source = select("bigquery", conformed(table, staged))
            self._jobs.run(f"table {table.name}", bigquery_sql.replace(table, source, days))
        return counts

    def append(self, table: Table, rows: pa.Table, *, marker: tuple[str, int] | None = None) -> bool:
        """Add rows in one transaction. With a `marker` (source, sequence) the same append happens only once: False if it had.

        Raises InvalidData for other columns or a missing value, Conflict if others append from the same source all the time.
        """
        given = conformed_rows(table, rows)
        _checked_rows(table, given, None)
        reached = None if marker is None else self._marker(table, marker[0])
        if marker is not None and reached is not None and reached[0] >= marker[1]:
            return False
        with self._loaded(given) as staged:
            self._create(table)
            if marker is None:
                added = bigquery_sql.insert(table, staged.get_name())
                self._jobs.run(f"table {table.name}", added)
                return True
            if reached is None:
                self._jobs.run("markers", bigquery_sql.create_markers())
                self._jobs.run("markers", bigquery_sql.first_marker(table, marker[0]))
            return self._append_marked(table, staged.get_name(), marker)

    def marker(self, source: str, table: Table) -> int | None:
        """The highest sequence appended for that source, or None."""
        reached = self._marker(table, source)
        return None if reached is None or reached[0] < 0 else reached[0]

    def collect(self, rows: ir.Table) -> pa.Table:
        """Run the expression and fetch its rows."""
        return self.stream(rows).read_all()

    def stream(self, rows: ir.Table) -> pa.RecordBatchReader:
        """Run the expression and fetch its rows batch by batch, while other queries may run.

        Rows that lie in a table as they are wanted are read from its storage, without a query.
        """
        schema = rows.schema().to_pyarrow()
        wanted = stored(rows)
        found = None if wanted is None else self._jobs.stored(wanted)
        if found is None:
            with self._bound(rows) as bound:
                found = self._jobs.results(self._jobs.run("query", select("bigquery", bound)))

        def batches() -> Iterator[pa.RecordBatch]:
            with self._jobs.running("query"):
                for batch in found:
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
        text = bigquery_sql.counts(self._dataset, table)
        found = self._jobs.run(f"table {table.name}", text, relative=False)
        counts = {_day(table, row["partition_id"]): int(row["total_rows"]) for row in found}
        return dict(sorted(counts.items()))

    @contextmanager
    def staged(self, rows: ir.Table) -> Iterator[ir.Table]:
        """The rows, computed once into a table of their own, which is dropped when the block ends."""
        if _is_staged(rows):
            yield rows
            return
        name = _temporary()
        try:
            with self._bound(rows) as bound:
                self._jobs.run("query", bigquery_sql.stage(name, select("bigquery", bound)))
            yield ibis.table(rows.schema(), name=name)
        finally:
            self._jobs.drop(name)

    def compact(self, table: Table) -> int:
        """BigQuery has no files of ours to merge."""
        return 0

    def vacuum(self, table: Table, keep: timedelta = timedelta(days=7)) -> int:
        """BigQuery lets go of what its time travel no longer reaches by itself."""
        return 0

    def scan_bytes(self, rows: ir.Table) -> int:
        """Bytes that BigQuery would read, and bill, for the expression: by a dry run, which costs nothing."""
        with self._bound(rows) as bound:
            return self._jobs.dry_run_bytes(select("bigquery", bound))

    def close(self) -> None:
        """Release the connection."""
        self._jobs.close()

    def _append_marked(self, table: Table, staged: str, marker: tuple[str, int]) -> bool:
        token = uuid4().hex
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._jobs.run(f"table {table.name}", bigquery_sql.append(table, staged, marker, token))
                break
            except Conflict:
                if attempt == ATTEMPTS:
                    raise
        return self._marker(table, marker[0]) == (marker[1], token)

    @contextmanager
    def _bound(self, rows: ir.Table) -> Iterator[ir.Table]:
        """The expression with its rows in memory brought to BigQuery, for as long as the block lasts."""
        node = rows.op()
        with ExitStack() as held:
            brought: dict[ops.Node, ops.Node] = {
                part: held.enter_context(self._loaded(part.data.to_pyarrow(part.schema))).op()
                for part in node.find(ops.InMemoryTable)
            }
            yield node.replace(brought).to_expr() if brought else rows

    @contextmanager
    def _loaded(self, rows: pa.Table) -> Iterator[ir.Table]:
        """The rows, in a table of their own for as long as the block lasts."""
        name = _temporary()
        fields = [bigquery_sql.field_of(field) for field in rows.schema]
        place = bigquery.Table(self._jobs.table(name), schema=fields)
        place.expires = datetime.now(UTC) + KEPT
        try:
            self._jobs.create(place)
            if rows.num_rows:
                self._jobs.load(place, rows)
            yield ibis.table(ibis.schema(rows.schema), name=name)
        finally:
            self._jobs.drop(name)

    def _checked(self, table: Table, staged: ir.Table, days: Days | None) -> dict[date, int]:
        """Rows per day of what is staged. Raises InvalidData for a missing value or a row of another day."""
        found = self._jobs.run(f"table {table.name}", bigquery_sql.checked(table, staged.get_name()))
        counts: dict[date | None, int] = {}
        for row in found:
            counts[row["day"]] = row[bigquery_sql.COUNTED]
            for name, lacking in row.items():
                if name not in ("day", bigquery_sql.COUNTED) and lacking:
                    raise _missing(table, name, lacking)
        return _counted(table, counts, days)

    def _create(self, table: Table) -> None:
        if not self._there(table):
            self._jobs.run(f"table {table.name}", bigquery_sql.create(table))
            self._known[table.name], self._order[table.name] = table, table.names

    def _there(self, table: Table) -> bool:
        """Whether the table is there, with the columns its contract gained. Raises InvalidData if its schema is another."""
        if self._known.get(table.name) == table:
            return True
        found = self._jobs.schema(table.name)
        if found is None:
            return False
        stored = {field.name: bigquery_sql.type_name(field) for field in found}
        wanted = {field.name: bigquery_sql.type_of(field.type) for field in table.arrow}
        gained = [f.name for f in table.arrow if f.nullable and f.name not in stored]
        differences = [f"{name} is missing" for name in wanted if name not in stored and name not in gained]
        differences += [f"{name} is unknown" for name in stored if name not in wanted]
        differences += [
            f"{n} is {stored[n]}, not {wanted[n]}" for n in wanted if n in stored and stored[n] != wanted[n]
        ]
        if differences:
            raise InvalidData(
                f"table {table.name} in dataset {self._dataset} has another schema: {'; '.join(differences)}; "
                f"copy the table away and rebuild it, or use the version of Segue that wrote it",
                field=table.name,
                limit=", ".join(table.names),
            )
        for name in gained:
            self._jobs.run(f"table {table.name}", bigquery_sql.add_column(table, name))
        self._known[table.name], self._order[table.name] = table, (*stored, *gained)
        return True

    def _marker(self, table: Table, source: str) -> tuple[int, str] | None:
        """The highest sequence (-1: none yet) and who appended it; None where nobody ever tried."""
        if bigquery_sql.MARKERS not in self._known:
            if self._jobs.schema(bigquery_sql.MARKERS) is None:
                return None
            self._known[bigquery_sql.MARKERS] = None
        found = self._jobs.run("markers", bigquery_sql.marker(table, source))
        return max(((int(row["sequence"]), str(row["token"])) for row in found), default=None)


def _checked_rows(table: Table, rows: pa.Table, days: Days | None) -> dict[date, int]:
    """Rows per day. Raises InvalidData for a missing value or a row of another day."""
    for column in table.columns:
        if not column.nullable and rows[column.name].null_count:
            raise _missing(table, column.name, rows[column.name].null_count)
    if not table.daily:
        return {WHOLE: rows.num_rows}
    found = pc.value_counts(rows["day"].combine_chunks()).to_pylist()
    return _counted(table, {item["values"]: item["counts"] for item in found}, days)


def _counted(table: Table, found: dict[date | None, int], days: Days | None) -> dict[date, int]:
    counts = dict.fromkeys(days or (), 0) if table.daily else {WHOLE: 0}
    for day, rows in found.items():
        if day is None:
            raise _missing(table, "day", rows)
        if days is not None and not days.first <= day <= days.last:
            raise InvalidData(
                f"table {table.name}: {rows} rows of {day} in a write of {days.first}..{days.last}; "
                f"a write may only hold rows of its own days",
                field=f"{table.name}.day",
                limit=f"{days.first}..{days.last}",
            )
        counts[day] = rows
    return counts


def _missing(table: Table, column: str, rows: int) -> InvalidData:
    return InvalidData(
        f"table {table.name}: {rows} rows have no {column}; every row needs one",
        field=f"{table.name}.{column}",
        limit="not null",
    )


def _is_staged(rows: ir.Table) -> bool:
    node = rows.op()
    return isinstance(node, ops.UnboundTable) and node.name.startswith(STAGED)


def _temporary() -> str:
    return f"{STAGED}{uuid4().hex}"


def _day(table: Table, partition: str | None) -> date:
    return datetime.strptime(str(partition), "%Y%m%d").date() if table.daily else WHOLE


def _as_promised(batch: pa.RecordBatch, schema: pa.Schema) -> pa.Table:
    """A batch in the expression's types. BigQuery knows no missing list, and gives an empty one: that is taken as missing."""
    columns = []
    for values, field in zip(batch.columns, schema, strict=True):
        if pa.types.is_list(field.type):
            empty = pc.equal(pc.list_value_length(values), 0)
            values = pc.if_else(empty, pa.scalar(None, values.type), values)
        columns.append(values.cast(field.type))
    return pa.table(columns, schema=schema)
