"""The statements that keep the promises on BigQuery, as text: what runs is what can be read and reviewed.

Names are relative to the dataset of the connection.
"""

from __future__ import annotations

from typing import Final

import ibis.expr.datatypes as dt
import pyarrow as pa
from ibis.backends.bigquery.datatypes import BigQueryType

from segue.adapters.engines.columns import order_of
from segue.contracts.ports import Days
from segue.contracts.schema import Table

MARKERS: Final = "_markers"
"""Beside the tables: the highest sequence appended to each table from each source, and the token of whoever did it."""
MAX_CLUSTERED: Final = 4
"""BigQuery clusters by no more columns, and by none of bytes, floats or lists."""
EXPIRES: Final = "expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL 1 DAY)"
"""Staged rows are dropped by whoever staged them; this is for those who died before they could."""


OF_RECORDS: Final = "SELECT partition_id"
"""How a statement begins that asks BigQuery's own records. It names its dataset, and must not be given one besides."""


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


def stage(name: str, rows: str) -> str:
    """Rows computed once and held under a name."""
    return f"CREATE OR REPLACE TABLE `{name}`\nOPTIONS ({EXPIRES})\nAS\n{rows}"


def replace(table: Table, staged: str, days: Days | None) -> str:
    """The days of the table (or all of it) replaced by what is staged: one statement, so whole or not at all.

    The condition on the partition is a constant: nothing but those days is read or rewritten.
    """
    within = f" AND kept.`day` {between(days)}" if days is not None else ""
    names = ", ".join(f"`{name}`" for name in table.names)
    return (
        f"MERGE `{table.name}` AS kept\nUSING `{staged}` AS staged\nON FALSE\n"
        f"WHEN NOT MATCHED BY SOURCE{within} THEN DELETE\n"
        f"WHEN NOT MATCHED BY TARGET THEN INSERT ({names}) VALUES ({names})"
    )


def append(table: Table, staged: str, marker: tuple[str, int] | None, token: str) -> str:
    """What is staged added to the table; with a marker only if its sequence was not reached yet, in one transaction.

    The marker is updated, not inserted: of two transactions that update one table BigQuery lets one through.
    """
    names = ", ".join(f"`{name}`" for name in table.names)
    insert = f"INSERT INTO `{table.name}` ({names})\nSELECT {names} FROM `{staged}`"
    if marker is None:
        return insert
    source, sequence = marker
    row = f"`table` = {_text(table.name)} AND `source` = {_text(source)}"
    return (
        f"BEGIN TRANSACTION;\n"
        f"UPDATE `{MARKERS}` SET `sequence` = {sequence}, `token` = {_text(token)} "
        f"WHERE {row} AND `sequence` < {sequence};\n"
        f"{insert}\nWHERE EXISTS (SELECT 1 FROM `{MARKERS}` WHERE {row} AND `token` = {_text(token)});\n"
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
    """Rows of each partition, from BigQuery's own records."""
    return (
        f"{OF_RECORDS}, total_rows FROM {dataset}.INFORMATION_SCHEMA.PARTITIONS "
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
    columns = ", ".join([f"{day} AS `day`", "COUNT(*) AS `rows`", *lacking])
    return f"SELECT {columns} FROM `{staged}` GROUP BY 1 ORDER BY 1"


def between(days: Days) -> str:
    """A filter on a partition column."""
    return f"BETWEEN DATE '{days.first}' AND DATE '{days.last}'"


def clustering(table: Table) -> list[str]:
    """The columns a table is clustered by."""
    fit = [name for name in order_of(table) if name != "day" and _clusters(table.column(name).type)]
    return fit[:MAX_CLUSTERED]


def type_of(kind: pa.DataType) -> str:
    """BigQuery's name of a type. Its integers have 64 bits, its floats too: values survive, widths are the contract's."""
    return str(BigQueryType.to_string(dt.DataType.from_pyarrow(kind)))


def _clusters(kind: pa.DataType) -> bool:
    return not (pa.types.is_binary(kind) or pa.types.is_floating(kind) or pa.types.is_nested(kind))


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
