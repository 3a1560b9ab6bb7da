"""Delta tables brought into their contract's schema: columns renamed, retyped, gained or dropped, in one commit."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from segue.adapters.engines.delta import DataFile, DeltaTables
from segue.contracts.errors import InvalidData, InvalidInput, NotFound
from segue.contracts.schema import Table

BATCH = 65_536
"""Rows in memory at once, besides those of the Parquet writers."""


def migrate(
    root: Path, table: Table, renamed: Mapping[str, str], dropped: Collection[str]
) -> dict[date, int] | None:
    """Rewrite the table below `root` into its contract's schema. `renamed` maps old names to new ones, `dropped` names old ones.

    Every file is read and written once, batch by batch; the old ones stay until a vacuum. Returns rows per day, or None where the
    schema is the contract's already. Raises NotFound for an absent table, InvalidInput where it is not said what becomes of a
    column or a column would have no values, InvalidData where a value does not fit its new type: the table is then as before.
    """
    tables = DeltaTables(root)
    stored = tables.stored(table)
    if stored is None:
        raise NotFound(
            f"there is no table {table.name} below {root}: there is nothing to migrate", field="table"
        )
    sources = _sources(table, stored, renamed, dropped)
    if stored.arrow.equals(table.arrow) and not renamed:
        return None
    files = tables.files(stored)
    rows = pa.RecordBatchReader.from_batches
    return tables.rewrite(table, stored, lambda: rows(table.arrow, _rows(table, sources, files)))


def _sources(
    table: Table, stored: Table, renamed: Mapping[str, str], dropped: Collection[str]
) -> dict[str, str | None]:
    """From which stored column each column of the contract comes; None: it is null."""
    if stored.daily != table.daily:
        raise InvalidInput(
            f"table {table.name}: its days cannot be migrated; build it again", field=table.name
        )
    for old in (*renamed, *dropped):
        if old not in stored.names:
            raise InvalidInput(
                f"table {table.name} has no column {old}; it has {', '.join(stored.names)}",
                field=f"{table.name}.{old}",
            )
    came = {new: old for old, new in renamed.items()}
    sources = {name: came.get(name, name if name in stored.names else None) for name in table.names}
    left = [name for name in stored.names if name not in sources.values() and name not in dropped]
    if left or (unknown := [new for new in came if new not in table.names]):
        name = left[0] if left else unknown[0]
        raise InvalidInput(
            f"table {table.name}: the contract has no column {name}; say what becomes of it: --rename {name}=NEW or "
            f"--drop {name}",
            field=f"{table.name}.{name}",
            limit=", ".join(table.names),
        )
    for column in table.columns:
        if sources[column.name] is None and not column.nullable:
            raise InvalidInput(
                f"table {table.name}: column {column.name} must have a value, and no stored column gives it one; rename one, "
                f"let it be null, or build the table again",
                field=f"{table.name}.{column.name}",
                limit="not null",
            )
    return sources


def _rows(table: Table, sources: Mapping[str, str | None], files: list[DataFile]) -> Iterator[pa.RecordBatch]:
    for file in files:
        with pq.ParquetFile(file.path) as opened:
            for batch in opened.iter_batches(BATCH):
                columns = [
                    _column(table, field, sources[field.name], batch, file.day) for field in table.arrow
                ]
                yield pa.RecordBatch.from_arrays(columns, schema=table.arrow)


def _column(table: Table, field: pa.Field, source: str | None, batch: pa.RecordBatch, day: date) -> pa.Array:
    if field.name == "day" and table.daily:
        return pa.repeat(pa.scalar(day, field.type), len(batch))
    if source is None or source not in batch.schema.names:
        return pa.nulls(len(batch), field.type)
    try:
        return batch[source].cast(field.type)
    except pa.ArrowInvalid as error:
        raise InvalidData(
            f"table {table.name}: column {source} of {day} does not fit {field.name}, {field.type}: {error}; nothing was changed",
            field=f"{table.name}.{field.name}",
            limit=str(field.type),
        ) from error
