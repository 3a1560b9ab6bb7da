"""The contract of a table, checked on the rows themselves before anybody can read them.

`check`: every rule of `contracts.tables` that can be asked of a row (not null, range, closed set, text length, a number that
is one) and the uniqueness of the key within a day, in one aggregation: one pass of the engine, one row back.

`check_fresh`: whether the newest row is as new as the table promises.

What a day says as a whole is held against other days in `segue.warehouse.watch`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from statistics import median

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from segue.contracts.ports import Days, Engine
from segue.contracts.schema import Column, Table
from segue.contracts.vocabulary import DAY, HOUR
from segue.warehouse.findings import Breach, Finding, Part
from segue.warehouse.usual import MIN_DAYS, MIN_ROWS

EXAMPLES = 3
"""Rows shown of each breach."""
FRESH = "newest row, hours before the end of the day"
_UNIQUE = "unique"


@ibis.udf.scalar.builtin(name="bit_length")  # type: ignore[untyped-decorator]
def bits(text: str) -> int:  # type: ignore[empty-body]
    """Bits of the text in UTF-8. DuckDB and Spark know it by that name."""


@dataclass(frozen=True)
class Rule:
    """One thing that must hold of every row. `broken` is true (never null) for a row that breaks it."""

    column: str
    limit: str
    broken: ir.BooleanValue


def check(engine: Engine, table: Table, rows: ir.Table) -> None:
    """Raise Breach if the rows break the table's contract: which rules, how many rows, and up to three of them."""
    rules = rules_of(table, rows)
    found = engine.collect(_aggregation(table, rows, rules)).to_pylist()[0]
    breaches = [(rule, int(found[f"rule_{n}"])) for n, rule in enumerate(rules) if found[f"rule_{n}"]]
    repeated = int(found[_UNIQUE] or 0)
    if not breaches and not repeated:
        return
    findings = [
        _finding(
            table, f"{rule.column} {rule.limit}", count, f"{count:,} rows break `{rule.column} {rule.limit}`"
        )
        for rule, count in breaches
    ]
    if repeated:
        words = f"{repeated:,} rows repeat a key ({', '.join(_key(table))})"
        findings.append(_finding(table, _UNIQUE, repeated, words))
        column, limit = table.key[0], _UNIQUE
        examples = _repeats(table, rows)
    if breaches:
        column, limit = breaches[0][0].column, breaches[0][0].limit
        examples = rows.filter(breaches[0][0].broken)
    shown = [
        shortened(row)
        for row in engine.collect(examples.order_by(*table.names[:3]).limit(EXAMPLES)).to_pylist()
    ]
    raise Breach(
        f"{table.name}: of {found['rows']:,} rows {'; '.join(finding.said for finding in findings)}. For example: "
        f"{'; '.join(shown)}. Nothing was written; correct the input or the step that makes this table, then run again",
        findings,
        field=f"{table.name}.{column}",
        limit=limit,
        examples=shown,
    )


def _finding(table: Table, rule: str, seen: int, said: str) -> Finding:
    return Finding(table.name, None, Part(rule, None, ""), "breach", seen, said)


def check_fresh(engine: Engine, table: Table, whole: date) -> None:
    """Raise Breach if the newest row is too old for a run that takes all days up to `whole` to be over."""
    if table.fresh_hours is None:
        return
    counts = {day: n for day, n in engine.row_counts(table).items() if day <= whole}
    if len(counts) < MIN_DAYS or median(counts.values()) < MIN_ROWS:
        return
    last = max(counts)
    rows = engine.read(table, Days(last, last))
    newest = int(engine.collect(rows.aggregate(ts=rows.ts.max()))["ts"][0].as_py())
    age = ((whole - date(1970, 1, 1)).days + 1) * DAY - newest
    if age > table.fresh_hours * HOUR:
        said = f"its newest row is {age / HOUR:.0f} hours older than the end of {whole}; at most {table.fresh_hours} are taken"
        raise Breach(
            f"{table.name}: {said}. What reads it does not run",
            [
                Finding(
                    table.name, whole, Part(FRESH, None, ""), "breach", age / HOUR, said, 0, table.fresh_hours
                )
            ],
            field=f"{table.name}.ts",
            limit=f"{table.fresh_hours} hours",
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
    if column.max_bytes is not None:
        must(f"has at most {column.max_bytes} bytes of UTF-8", bits(value) > 8 * column.max_bytes)
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


def shortened(row: dict[str, object]) -> str:
    """A row as text: what is in it, each value cut at 80 characters."""
    return (
        "{" + ", ".join(f"{name}: {_text(value)}" for name, value in row.items() if value is not None) + "}"
    )


def _text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)[:80]
