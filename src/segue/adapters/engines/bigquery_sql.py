"""The statements that keep the promises on BigQuery, as text: what runs is what can be read and reviewed.

Names are relative to the dataset of the connection.
"""

from __future__ import annotations

from textwrap import indent
from typing import Final

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import pyarrow as pa
from google.cloud import bigquery
from ibis.backends.bigquery.datatypes import BigQueryType

from segue.adapters.engines.columns import conformed
from segue.adapters.engines.sql import select
from segue.contracts.ports import Days
from segue.contracts.schema import Table

MARKERS: Final = "_markers"
"""Beside the tables: the highest sequence appended to each table from each source, and the token of whoever did it."""
MAX_CLUSTERED: Final = 4
"""BigQuery clusters by no more columns, and by none of bytes, floats or lists."""
COUNTED: Final = "_rows"
"""What rows are counted as; no column of a table has that name."""
EXPIRES: Final = "expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL 1 DAY)"
"""Staged rows are dropped by whoever staged them; this is for those who died before they could."""


def steps(table: Table, rows: ir.Table, days: Days) -> list[str]:
    """What is asked to make those days of a table: the table, unless it is there; its rows, staged; and their exchange.

    What is staged is held against the table's contract before it is exchanged.
    """
    staged = f"{table.name}_staged"
    held = conformed(table, ibis.table(rows.schema(), name=staged))
    return [
        create(table),
        stage(staged, select("bigquery", rows)),
        replace(table, select("bigquery", held), days),
    ]


def create(table: Table) -> str:
    """The table, partitioned by `day` and clustered by what its rows are sorted by."""
    columns = ",\n".join(
        f"  `{c.name}` {type_of(c.type)}{'' if c.nullable else ' NOT NULL'} OPTIONS (description = {_text(c.doc)})"
        for c in table.columns
    )
    parts = ["PARTITION BY `day`"] if table.daily else []
    clustered = clustering(table)
    parts += [f"CLUSTER BY {', '.join(f'`{name}`' for name in clustered)}"] if clustered else []
    parts.append(f"OPTIONS (description = {_text(table.doc)})")
    return f"CREATE TABLE IF NOT EXISTS `{table.name}` (\n{columns}\n)\n" + "\n".join(parts)


def create_markers() -> str:
    """The table of markers."""
    return (
        f"CREATE TABLE IF NOT EXISTS `{MARKERS}` "
        "(`table` STRING NOT NULL, `source` STRING NOT NULL, `sequence` INT64 NOT NULL, `token` STRING NOT NULL)"
    )


def add_column(table: Table, name: str) -> str:
    """A column that may be null, added to a table that lacks it."""
    kind = type_of(table.column(name).type)
    return f"ALTER TABLE `{table.name}` ADD COLUMN IF NOT EXISTS `{name}` {kind}"


def stage(name: str, rows: str) -> str:
    """Rows computed once and held under a name."""
    return f"CREATE OR REPLACE TABLE `{name}`\nOPTIONS ({EXPIRES})\nAS\n{rows}"


def replace(table: Table, rows: str, days: Days | None) -> str:
    """The days of the table (or all of it) replaced by rows: one statement, so whole or not at all.

    The condition on the partition is a constant: nothing but those days is read or rewritten.
    """
    within = f" AND kept.`day` {between(days)}" if days is not None else ""
    names = _names(table)
    return (
        f"MERGE `{table.name}` AS kept\nUSING (\n{indent(rows, '  ')}\n) AS new\nON FALSE\n"
        f"WHEN NOT MATCHED BY SOURCE{within} THEN DELETE\n"
        f"WHEN NOT MATCHED BY TARGET THEN INSERT ({names}) VALUES ({names})"
    )


def insert(table: Table, staged: str) -> str:
    """What is staged added to the table."""
    return f"INSERT INTO `{table.name}` ({_names(table)})\nSELECT {_names(table)} FROM `{staged}`"


def append(table: Table, staged: str, marker: tuple[str, int], token: str) -> str:
    """What is staged added to the table in one transaction with its marker, unless that sequence was reached already.

    The marker is updated, not inserted: of two transactions that update one row BigQuery lets one through.
    """
    source, sequence = marker
    row = f"`table` = {_text(table.name)} AND `source` = {_text(source)}"
    return (
        f"BEGIN TRANSACTION;\n"
        f"UPDATE `{MARKERS}` SET `sequence` = {sequence}, `token` = {_text(token)} "
        f"WHERE {row} AND `sequence` < {sequence};\n"
        f"{insert(table, staged)}\n"
        f"WHERE EXISTS (SELECT 1 FROM `{MARKERS}` WHERE {row} AND `token` = {_text(token)});\n"
        f"COMMIT TRANSACTION"
    )


def first_marker(table: Table, source: str) -> str:
    """A row for the source of a table, that nothing was appended from yet."""
    values = f"{_text(table.name)} AS `table`, {_text(source)} AS `source`"
    return (
        f"MERGE `{MARKERS}` AS kept\nUSING (SELECT {values}) AS new\n"
        f"ON kept.`table` = new.`table` AND kept.`source` = new.`source`\n"
        f"WHEN NOT MATCHED THEN INSERT (`table`, `source`, `sequence`, `token`) VALUES (`table`, `source`, -1, '')"
    )


def marker(table: Table, source: str) -> str:
    """The sequence and the token of the source."""
    return (
        f"SELECT `sequence`, `token` FROM `{MARKERS}` "
        f"WHERE `table` = {_text(table.name)} AND `source` = {_text(source)}"
    )


def counts(dataset: str, table: Table) -> str:
    """Rows of each partition, from BigQuery's own records. The one statement that names its dataset itself."""
    return (
        f"SELECT partition_id, total_rows FROM `{dataset}`.INFORMATION_SCHEMA.PARTITIONS "
        f"WHERE table_name = {_text(table.name)} AND total_rows > 0"
    )


def checked(table: Table, staged: str) -> str:
    """Per day: rows, and how many of them lack a value that they must have."""
    day = "`day`" if table.daily else "DATE '1970-01-01'"
    lacking = [
        f"COUNTIF(`{c.name}` IS NULL) AS `{c.name}`"
        for c in table.columns
        if not c.nullable and not pa.types.is_list(c.type) and c.name != "day"
    ]
    columns = ", ".join([f"{day} AS `day`", f"COUNT(*) AS `{COUNTED}`", *lacking])
    return f"SELECT {columns} FROM `{staged}` GROUP BY 1 ORDER BY 1"


def between(days: Days) -> str:
    """A filter on a partition column."""
    return f"BETWEEN DATE '{days.first}' AND DATE '{days.last}'"


def clustering(table: Table) -> list[str]:
    """The columns a table is clustered by: those it is sorted by on other engines, then its key."""
    names = dict.fromkeys(name for name in (*table.sort, *table.key) if name != "day")
    return [name for name in names if _clusters(table.column(name).type)][:MAX_CLUSTERED]


def type_of(kind: pa.DataType) -> str:
    """BigQuery's name of a type. Its integers have 64 bits, its floats too: values survive, widths are the contract's."""
    return str(BigQueryType.to_string(dt.DataType.from_pyarrow(kind)))


def field_of(field: pa.Field) -> bigquery.SchemaField:
    """A column of a table that holds rows for a while: what it lacks is checked before they go on."""
    of_list = pa.types.is_list(field.type)
    kind = type_of(field.type.value_type if of_list else field.type)
    return bigquery.SchemaField(field.name, kind, mode="REPEATED" if of_list else "NULLABLE")


def type_name(field: bigquery.SchemaField) -> str:
    """What `type_of` calls the type of a column that BigQuery describes."""
    names = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}
    name = names.get(field.field_type, field.field_type)
    return f"ARRAY<{name}>" if field.mode == "REPEATED" else name


def _names(table: Table) -> str:
    return ", ".join(f"`{name}`" for name in table.names)


def _clusters(kind: pa.DataType) -> bool:
    return not (pa.types.is_binary(kind) or pa.types.is_floating(kind) or pa.types.is_nested(kind))


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
