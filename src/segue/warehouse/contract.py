"""The contract of a table, checked on the rows themselves before anybody can read them.

`check`: every rule of `contracts.tables` that can be asked of a row (not null, range, closed set, text length, a number that
is one) and the uniqueness of the key within a day, in one aggregation: one pass of the engine, one row back.

`check_volume`, `check_references`, `check_fresh`: what is expected of the table as a whole. They are there to notice that
half of the input is missing, not to model it: the bounds are wide, and a home that is new or small is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import median

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from segue.contracts.errors import ContractBroken
from segue.contracts.ports import Days, Engine
from segue.contracts.schema import Column, Table
from segue.contracts.tables import TABLES
from segue.contracts.vocabulary import DAY, HOUR

EXAMPLES = 3
"""Rows shown of each breach."""
HISTORY = timedelta(days=56)
"""How far back it is looked for what is usual."""
MIN_DAYS = 14
"""Days with rows that there must have been before anything is called unusual."""
MIN_ROWS = 1_000
"""Rows a day, in the median, below which chance alone makes days differ."""
RECENT = timedelta(days=7)
"""Only the last days are held against the ones before: history that is loaded once is as it is."""
SAME_WEEKDAY = 3
"""From so many days on, a Sunday is compared with Sundays."""
_ACCEPT = (
    "see whether part of the input is missing; if all is right, accept it with `--set warehouse.expect=false`"
)
_UNIQUE = "unique"


@ibis.udf.scalar.builtin(name="bit_length")  # type: ignore[untyped-decorator]
def _bits(text: str) -> int:  # type: ignore[empty-body]
    """Bits of the text in UTF-8. DuckDB and Spark know it by that name."""


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


def check_volume(
    table: Table,
    before: Mapping[date, int],
    written: Mapping[date, int],
    newest: date,
    whole: date | None = None,
) -> list[str]:
    """Raise ContractBroken if one of the table's last days would hold far fewer rows than is usual; say which hold far more.

    `before` and `written` are rows per day, as the table stands and as it would be. Usual is the median of the same weekday in
    the eight weeks before, or of all their days. The `newest` day that there is may still be filling up, so it cannot hold too
    few, unless the caller says by `whole` that all days up to there are over. Too many are no breach: whoever may send events
    could stop the flow with them.
    """
    if table.volume is None:
        return []
    rows = {**before, **written}
    remarks = []
    for day in sorted(day for day in written if day > newest - RECENT):
        usual = _usual(rows, day)
        if usual is None:
            continue
        if rows[day] > usual * table.volume:
            remarks.append(f"{day} holds {rows[day]:,} rows, where {usual:,.0f} are usual")
        over = day < newest or (whole is not None and day <= whole)
        if not over or rows[day] >= usual / table.volume:
            continue
        raise ContractBroken(
            f"{table.name}: {day} would hold {rows[day]:,} rows, where {usual:,.0f} are usual (the median of such days in the "
            f"eight weeks before); from {usual / table.volume:,.0f} on they are taken. Nothing was written; {_ACCEPT}",
            field=f"{table.name}.day",
            limit=f"1/{table.volume:g} of the usual rows",
        )
    return remarks


def check_references(
    engine: Engine, table: Table, rows: ir.Table, newest: date, whole: date | None = None
) -> None:
    """Raise ContractBroken if one of the last days lost the rows that name a known listener, track or artist to unknown ones.

    That is what ids look like that were shifted on their way here: about as many rows as ever, of which most name what their
    own table does not have, and far fewer than usual what it has. A flood of unknown ids alone says nothing: strangers can
    send as many such events as they like, but they cannot take any away. `newest` and `whole` are as in `check_volume`, and so
    is what counts as usual; a table of which nothing is kept here is not asked.
    """
    for column in table.columns if table.known is not None else ():
        target = TABLES.get(column.references or "")
        if target is None or not engine.row_counts(target):
            continue
        key, share = column.name, table.known or 0.0
        there = engine.read(target).select(**{key: target.key[0]})
        named = rows.filter(rows[key].notnull()).group_by("day", key).aggregate(n=ibis._.count())
        lost = _by_day(engine, named.anti_join(there, key))
        recent = {day for day in lost if day > newest - RECENT and (day < newest or (whole and day <= whole))}
        known = dict.fromkeys(recent, 0) | _by_day(engine, named.semi_join(there, key))
        suspect = sorted(day for day in recent if known[day] < share * (known[day] + lost[day]))
        if not suspect:
            continue
        past = engine.read(table, Days(suspect[0] - HISTORY, suspect[-1]))
        past = past.select("day", key).semi_join(there, key).group_by("day").aggregate(n=ibis._.count())
        before = _by_day(engine, past)
        for day in suspect:
            usual = _usual({**before, **known}, day)
            if usual is None or not known[day] < share * usual <= known[day] + lost[day]:
                continue
            of_day = named.filter(named.day == day).anti_join(there, key)
            most = engine.collect(of_day.order_by(of_day.n.desc(), key).limit(EXAMPLES))
            shown = ", ".join(f"{row[key]} ({row['n']:,} rows)" for row in most.to_pylist())
            raise ContractBroken(
                f"{table.name}: on {day} {known[day]:,} rows name a {key} that table {target.name} has, where {usual:,.0f} are "
                f"usual; {lost[day]:,} name ones it does not have, such as {shown}. Nothing was written; see whether ids are "
                f"still those of {target.name}; {_ACCEPT}",
                field=f"{table.name}.{key}",
                limit=f"at least {share:.0%} of the usual rows known to {target.name}",
            )


def _by_day(engine: Engine, counted: ir.Table) -> dict[date, int]:
    totals = engine.collect(counted.group_by("day").aggregate(n=counted.n.sum())).to_pylist()
    return {row["day"]: int(row["n"]) for row in totals}


def check_fresh(engine: Engine, table: Table, whole: date) -> None:
    """Raise ContractBroken if the newest row is too old for a run that takes all days up to `whole` to be over."""
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
        raise ContractBroken(
            f"{table.name}: its newest row is {age / HOUR:.0f} hours older than the end of {whole}; at most {table.fresh_hours} "
            f"are taken. What reads it does not run; {_ACCEPT}",
            field=f"{table.name}.ts",
            limit=f"{table.fresh_hours} hours",
        )


def _usual(rows: Mapping[date, int], day: date) -> float | None:
    """The rows that such a day holds in the median, or None where too little is known."""
    past = [d for d, n in rows.items() if n and day - HISTORY <= d < day]
    alike = [d for d in past if d.weekday() == day.weekday()]
    if len(past) < MIN_DAYS:
        return None
    usual = median(rows[d] for d in (alike if len(alike) >= SAME_WEEKDAY else past))
    return usual if usual >= MIN_ROWS else None


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
        must(f"has at most {column.max_bytes} bytes of UTF-8", _bits(value) > 8 * column.max_bytes)
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
