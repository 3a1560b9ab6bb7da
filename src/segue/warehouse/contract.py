"""The contract of a table, checked on the rows themselves before anybody can read them.

Every rule of `contracts.tables` that can be asked of a row (not null, range, closed set, text length, a number that is one)
and the uniqueness of the key within a day, in one aggregation: one pass of the engine, one row back.
"""

from __future__ import annotations

from dataclasses import dataclass

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from segue.contracts.errors import ContractBroken
from segue.contracts.ports import Engine
from segue.contracts.schema import Column, Table

EXAMPLES = 3
"""Rows shown of each breach."""
_UNIQUE = "unique"


@dataclass(frozen=True)
class Rule:
    """One thing that must hold of every row. `broken` is true (never null) for a row that breaks it."""

    column: str
    limit: str
    broken: ir.BooleanValue


def check(engine: Engine, table: Table, rows: ir.Table) -> None:
    """Raise ContractBroken if the rows break the table's contract: which rules, how many rows, and up to three of them."""
    rules = rules_of(table, rows)
    found = engine.collect(_aggregation(table, rows, rules)).to_pylist()[0]
    breaches = [(rule, int(found[f"rule_{n}"])) for n, rule in enumerate(rules) if found[f"rule_{n}"]]
    repeated = int(found[_UNIQUE] or 0)
    if not breaches and not repeated:
        return
    words = [f"{count:,} rows break `{rule.column} {rule.limit}`" for rule, count in breaches]
    if repeated:
        words.append(f"{repeated:,} rows repeat a key ({', '.join(_key(table))})")
        column, limit = table.key[0], _UNIQUE
        examples = _repeats(table, rows)
    if breaches:
        column, limit = breaches[0][0].column, breaches[0][0].limit
        examples = rows.filter(breaches[0][0].broken)
    shown = _shown(engine.collect(examples.order_by(*table.names[:3]).limit(EXAMPLES)))
    raise ContractBroken(
        f"{table.name}: of {found['rows']:,} rows {'; '.join(words)}. For example: {shown}. Nothing was written; "
        f"correct the input or the step that makes this table, then run again",
        field=f"{table.name}.{column}",
        limit=limit,
    )


def rules_of(table: Table, rows: ir.Table) -> list[Rule]:
    """The rules of the table's columns, over these rows."""
    return [rule for column in table.columns for rule in _column_rules(column, rows[column.name])]


def _column_rules(column: Column, value: ir.Value) -> list[Rule]:
    rules: list[Rule] = []

    def must(limit: str, broken: ir.BooleanValue) -> None:
        rules.append(Rule(column.name, limit, broken.fill_null(False)))

    if not column.nullable:
        must("is not null", value.isnull())
    if column.ge is not None:
        must(f">= {column.ge}", value < column.ge)
    if column.le is not None:
        must(f"<= {column.le}", value > column.le)
    if pa.types.is_floating(column.type):
        must("is a number", value.isnan())
    if column.one_of is not None:
        must(f"is one of {', '.join(column.one_of)}", ~value.isin([str(v) for v in column.one_of]))
    # Why: a text has at most as many characters as bytes, and characters are what every engine counts.
    if column.max_bytes is not None:
        must(f"has at most {column.max_bytes} characters", value.length() > column.max_bytes)
    return rules


def _aggregation(table: Table, rows: ir.Table, rules: list[Rule]) -> ir.Table:
    totals = rows.aggregate(
        rows=rows.count(),
        **{f"rule_{n}": rule.broken.cast("int64").sum().cast("int64") for n, rule in enumerate(rules)},
    )
    if not table.key:
        return totals.mutate(**{_UNIQUE: ibis.literal(0, "int64")})
    groups = rows.group_by(*_key(table)).aggregate(copies=rows.count())
    repeats = groups.aggregate(**{_UNIQUE: (groups.copies - 1).sum().cast("int64")})
    return totals.cross_join(repeats)


def _repeats(table: Table, rows: ir.Table) -> ir.Table:
    groups = rows.group_by(*_key(table)).aggregate(copies=rows.count())
    return rows.semi_join(groups.filter(groups.copies > 1), list(_key(table)))


def _key(table: Table) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*(("day",) if table.daily else ()), *table.key)))


def _shown(rows: pa.Table) -> str:
    return "; ".join(
        "{" + ", ".join(f"{name}: {_text(value)}" for name, value in row.items() if value is not None) + "}"
        for row in rows.to_pylist()
    )


def _text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)[:80]
