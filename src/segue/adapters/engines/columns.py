"""Rows on their way into a table, whichever engine it lives in: the contract's columns, in its types, in one order only."""

from __future__ import annotations

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import pyarrow as pa

from segue.contracts.errors import InvalidData
from segue.contracts.ports import Days
from segue.contracts.schema import Table


def check_days(table: Table, days: Days | None) -> None:
    """Raise InvalidData if days are asked of a table that has none."""
    if days is not None and not table.daily:
        raise InvalidData(f"table {table.name} has no days; read and overwrite it whole", field=table.name)


def order_of(table: Table) -> tuple[str, ...]:
    """Columns that put the rows into one order only: partition, sort, then the key (every column where there is none)."""
    first = ("day",) if table.daily else ()
    return tuple(dict.fromkeys((*first, *table.sort, *(table.key or table.names))))


def conformed(table: Table, rows: ir.Table) -> ir.Table:
    """The expression with the contract's columns in its order and types. Raises InvalidData if they do not fit."""
    check_columns(table, rows.schema())
    return typed(table, rows)


def typed(table: Table, rows: ir.Table) -> ir.Table:
    """The contract's columns of the expression, cast where an engine keeps them in a wider type, null where files lack them."""
    there = set(rows.columns)
    return rows.select(
        *(_as(rows[f.name], f.type) if f.name in there else _nothing(f.name, f.type) for f in table.arrow)
    )


def conformed_rows(table: Table, rows: pa.Table) -> pa.Table:
    """The rows as the contract has them, in order. Raises InvalidData if they do not fit."""
    check_columns(table, ibis.schema(rows.schema))
    try:
        cast = pa.table([rows[f.name].cast(f.type) for f in table.arrow], names=list(table.names))
    except pa.ArrowInvalid as error:
        raise InvalidData(f"table {table.name}: {error}", field=table.name) from error
    return cast.sort_by([(name, "ascending") for name in order_of(table)])


def check_columns(table: Table, given: ibis.Schema) -> None:
    """Raise InvalidData for a column that lacks, is too many, or is of another kind."""
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


def first_line(error: Exception) -> str:
    """The first line of an error's text, or the name of its type."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _nothing(name: str, wanted: pa.DataType) -> ir.Value:
    return ibis.null(dt.DataType.from_pyarrow(wanted)).name(name)


def _as(value: ir.Value, wanted: pa.DataType) -> ir.Value:
    target = dt.DataType.from_pyarrow(wanted)
    name = value.get_name()
    same = value.type().copy(nullable=True) == target.copy(nullable=True)
    return value if same else value.cast(target).name(name)


def _kind(kind: dt.DataType) -> str:
    """Types of one kind may be cast into each other on the way to a table; a value that does not fit is an error."""
    if kind.is_integer():
        return "integer"
    if kind.is_numeric() and not kind.is_boolean():
        return "number"
    return str(kind.copy(nullable=True))
