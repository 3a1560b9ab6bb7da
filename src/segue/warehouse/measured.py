"""Counts the parts of a table's measures, day by day, and keeps the counts in the table `quality`.

A day is counted when it is written, so that what is usual is never computed again. Days that are in a table and were
not counted, since an older version wrote them, are counted once when they are first needed.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from functools import reduce
from operator import add
from typing import Final

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from segue.contracts.measures import Bins, Filled, Hours, Known, Letters, Measure, Single, Values
from segue.contracts.ports import Days, Engine
from segue.contracts.schema import Table
from segue.contracts.tables import QUALITY, TABLES
from segue.contracts.vocabulary import DAY, HOUR
from segue.warehouse.contract import bits
from segue.warehouse.findings import ROWS, Part
from segue.warehouse.usual import MIN_DAYS, Counts

VERSION: Final = 1
"""Raised when a change of code changes what is counted, or what a part is called."""
CLIENTS: Final = 12
VALUES: Final = 100
"""Clients and values that are counted by name, the most frequent ones; whoever sends events could make up any number."""
REST: Final = "other"
NULL: Final = "null"
TOGETHER: Final = 5_000
"""Combinations of parts by which rows are grouped at once: few beside the rows of a day that is worth the trouble."""
SAMPLE: Final = 8
"""Copies are looked for among the listeners of each eighth id."""
_MISREAD: Final = "[À-ô][\u0080-¿]|\ufffd"
"""UTF-8 read as if each byte was a letter, or the sign for what could not be read."""


def count(
    engine: Engine, table: Table, rows: ir.Table, days: Collection[date]
) -> dict[date, dict[Part, int]]:
    """Rows of each part on each of those days, in one query over rows that the engine holds; all are of these days."""
    named = {
        name: sorted({*_frequent(engine, rows, name, most), *_regular(engine, table, name, most)})
        for name, most in _open_columns(table).items()
    }
    client = _value(rows, table.client, named) if table.client is not None else None
    queries = [_grouped(rows, ROWS.measure, None, None)]
    for measure in table.measures:
        if not _of_a_row(measure):
            queries += _counted(engine, table, measure, rows, client, named)
    for measures in _batches(table, named):
        queries += _counted_together(table, measures, rows, client, named)
    found: dict[date, dict[Part, int]] = {day: {ROWS: 0} for day in days}
    called = {measure.name: measure for measure in table.measures}
    for row in engine.collect(reduce(lambda one, other: one.union(other), queries)).to_pylist():
        name = _label(called.get(row["measure"]), row["part"])
        found[row["day"]][Part(row["measure"], row["client"], name)] = int(row["rows"])
    return {day: _with_sums(parts) for day, parts in found.items()}


def keep(engine: Engine, table: Table, counts: Counts) -> None:
    """Put the counts into the table `quality`, where they take the place of older ones of the same days."""
    at, counted_as = time.time_ns() // 1000, _as(table)
    rows = [
        {"day": day, "table": table.name, "at": at, "counted_as": counted_as, "rows": rows, **part._asdict()}
        for day, parts in counts.items()
        for part, rows in _without_sums(parts).items()
    ]
    if rows:
        engine.append(QUALITY, pa.Table.from_pylist(rows, QUALITY.arrow))


def kept(engine: Engine, table: Table, days: Days) -> dict[date, dict[Part, int]]:
    """The latest counts of each of those days that was ever counted as it is now."""
    rows = engine.read(QUALITY)
    ours = (rows["table"] == table.name) & (rows.counted_as == _as(table))
    rows = rows.filter(ours & rows.day.between(days.first, days.last))
    latest = rows.group_by("day").mutate(latest=rows["at"].max())
    found: dict[date, dict[Part, int]] = {}
    for row in engine.collect(latest.filter(latest["at"] == latest.latest)).to_pylist():
        found.setdefault(row["day"], {ROWS: 0})[Part(row["measure"], row["client"], row["part"])] = row[
            "rows"
        ]
    return {day: _with_sums(parts) for day, parts in found.items()}


def history(engine: Engine, table: Table, days: Days) -> dict[date, dict[Part, int]]:
    """The counts of those days of the table as it stands; what was not counted before is counted now, and kept."""
    found = kept(engine, table, days)
    stands = {day for day in engine.row_counts(table) if days.first <= day <= days.last}
    missing = sorted(stands - set(found))
    if missing:
        rows = engine.read(table, Days(missing[0], missing[-1]))
        counted = count(engine, table, rows.filter(rows.day.isin(missing)), missing)
        keep(engine, table, counted)
        found |= counted
    return {day: found[day] for day in sorted(stands)}


def examples(
    engine: Engine, table: Table, rows: ir.Table, day: date, part: Part, limit: int
) -> list[dict[str, object]]:
    """Some rows of that part of the day; none of a measure that is not told by a row alone."""
    measure = next((m for m in table.measures if m.name == part.measure), None)
    rows = rows.filter(rows.day == day)
    if part.client is not None and table.client is not None:
        rows = rows.filter(rows[table.client].fill_null(NULL) == part.client)
    match measure:
        case Known(column):
            target = TABLES[table.column(column).references or ""]
            there = engine.read(target).select(**{column: target.key[0]})
            rows = rows.filter(rows[column].notnull()).anti_join(there, column)
        case None | Single():
            return []
        case _:
            value = part.part
            if isinstance(measure, Bins | Filled):
                numbers = range(len(measure.edges) + 1 if isinstance(measure, Bins) else 2)
                value = {_label(measure, str(n)): str(n) for n in numbers}.get(value, value)
            rows = rows.filter(_part(measure, rows, {}).cast("string").fill_null(NULL) == value)
    found: list[dict[str, object]] = engine.collect(rows.order_by(*table.names[:3]).limit(limit)).to_pylist()
    return found


def _as(table: Table) -> str:
    """A hash of what is counted. Why: after a change of edges, counts of old and new days cannot be compared."""
    return hashlib.blake2b(repr((VERSION, table.measures, table.client)).encode(), digest_size=6).hexdigest()


def _open_columns(table: Table) -> dict[str, int]:
    """Columns whose values anybody may make up, and how many of these are counted by name."""
    counted = {m.column: VALUES for m in table.measures if isinstance(m, Values)}
    if table.client is not None:
        counted[table.client] = CLIENTS
    return {
        name: most
        for name, most in counted.items()
        if pa.types.is_string(table.column(name).type) and table.column(name).one_of is None
    }


def _frequent(engine: Engine, rows: ir.Table, column: str, most: int) -> list[str]:
    counted = rows.filter(rows[column].notnull()).group_by(column).aggregate(n=ibis._.count())
    found: list[str] = engine.collect(counted.order_by(counted.n.desc(), column).limit(most))[
        column
    ].to_pylist()
    return found


def _regular(engine: Engine, table: Table, column: str, most: int) -> list[str]:
    """Values that were counted by name on many days. Why: somebody who makes up enough names must not crowd them out of a day."""
    rows = engine.read(QUALITY)
    rows = rows.filter(
        (rows["table"] == table.name)
        & (rows.measure == column)
        & rows.client.isnull()
        & ~rows.part.isin([NULL, REST])
    )
    counted = rows.group_by("part").aggregate(days=rows.day.nunique())
    often = counted.filter(counted.days >= MIN_DAYS).order_by(counted.days.desc(), "part").limit(most)
    found: list[str] = engine.collect(often)["part"].to_pylist()
    return found


def _value(rows: ir.Table, column: str, named: Mapping[str, list[str]]) -> ir.StringValue:
    value = rows[column].cast("string")
    if column in named:
        value = ibis.ifelse(value.isin(named[column]) | value.isnull(), value, ibis.literal(REST))
    return value.fill_null(NULL)


def _of_a_row(measure: Measure) -> bool:
    return isinstance(measure, Values | Hours | Bins | Filled)


def _batches(table: Table, named: Mapping[str, list[str]]) -> list[list[Measure]]:
    """The measures that a row alone tells, in as few batches as hold at most TOGETHER combinations of their parts each."""
    batches: list[tuple[int, list[Measure]]] = []
    for measure in filter(_of_a_row, table.measures):
        parts = _parts(table, measure, named)
        for n, (size, measures) in enumerate(batches):
            if size * parts <= TOGETHER:
                batches[n] = (size * parts, [*measures, measure])
                break
        else:
            batches.append((parts, [measure]))
    return [measures for _, measures in batches]


def _parts(table: Table, measure: Measure, named: Mapping[str, list[str]]) -> int:
    """How many parts a measure has at most, about."""
    match measure:
        case Hours():
            return 24
        case Bins(_, edges):
            return len(edges) + 2
        case Values(column) if column in named:
            return len(named[column]) + 2
        case Values(column):
            return len(table.column(column).one_of or (False, True)) + 1
        case _:
            return 2


def _counted_together(
    table: Table,
    measures: Sequence[Measure],
    rows: ir.Table,
    client: ir.StringValue | None,
    named: Mapping[str, list[str]],
) -> list[ir.Table]:
    """Queries as of `_counted`, over rows that are grouped once by the parts of all these measures."""
    by = {} if client is None else {"client": client}
    parts = {f"part_{n}": _part(measure, rows, named) for n, measure in enumerate(measures)}
    groups = rows.group_by(day=rows.day, **by, **parts).aggregate(n=rows.count())
    whose = None if client is None else groups.client
    return [
        _grouped(groups, m.name, None if m.name == table.client else whose, groups[part], groups.n.sum())
        for part, m in zip(parts, measures, strict=True)
    ]


def _counted(
    engine: Engine,
    table: Table,
    measure: Measure,
    rows: ir.Table,
    client: ir.StringValue | None,
    named: Mapping[str, list[str]],
) -> list[ir.Table]:
    """Queries of (day, measure, client, part, rows)."""
    match measure:
        case Known():
            return _named_there(engine, TABLES[table.column(measure.column).references or ""], measure, rows)
        case Single(columns, among):
            sample = rows.filter(rows[among] % SAMPLE == 0)
            by = {} if client is None else {"client": client}
            copies = sample.group_by("day", *columns, **by).aggregate(n=ibis._.count())
            part = ibis.ifelse(copies.n == 1, "single", "repeated")
            whose = None if client is None else copies.client
            return [_grouped(copies, measure.name, whose, part, copies.n.sum())]
        case Letters(column):
            kept = rows.filter(rows[column].notnull())
            return [_grouped(kept, measure.name, None, _part(measure, kept, named))]
        case _:
            raise TypeError(f"{measure} is told by a row alone, and counted with others")


def _part(measure: Measure, rows: ir.Table, named: Mapping[str, list[str]]) -> ir.Value:
    """What puts a row into its part: text, or a number where that is faster to group by."""
    match measure:
        case Values(column):
            return _value(rows, column, named)
        case Hours(column):
            return ((rows[column] % DAY) // HOUR).cast("int64")
        case Bins(column, edges, since):
            value = rows[column] if since is None else rows[column] - rows[since]
            return reduce(add, [(value >= edge).cast("int8") for edge in edges])
        case Filled(column):
            return rows[column].notnull().cast("int8")
        case Letters(column):
            text = rows[column]
            return ibis.cases(
                (text.re_search(_MISREAD), "broken"), (bits(text) > 8 * text.length(), "other"), else_="plain"
            )
        case _:
            raise TypeError(f"{measure} has no parts that a row alone tells")


def _label(measure: Measure | None, part: str) -> str:
    """What people call a part that was counted by number."""
    match measure:
        case Bins() if part != NULL:
            return measure.label(int(part))
        case Filled():
            return "filled" if int(part) else NULL
        case _:
            return part


def _named_there(engine: Engine, target: Table, measure: Known, rows: ir.Table) -> list[ir.Table]:
    """Whether what rows name is there, and says of itself what they say; nothing where no such table is kept here."""
    if not engine.row_counts(target):
        return []
    same = measure.same
    keys = [measure.column] if same is None else [measure.column, same]
    groups = rows.filter(rows[measure.column].notnull()).group_by("day", *keys).aggregate(n=ibis._.count())
    there = engine.read(target)
    there = there.select(
        named=there[target.key[0]],
        **({} if same is None else {"says": there[same]}),
        there=ibis.literal(True),
    )
    joined = groups.left_join(there, groups[measure.column] == there.named)
    known = ibis.ifelse(joined.there.isnull(), "unknown", "known")
    if same is None:
        return [_grouped(joined, measure.name, None, known, joined.n.sum())]
    agrees = joined.says == joined[same]
    both = joined.group_by("day", known=known, agrees=agrees).aggregate(n=joined.n.sum())
    told = both.filter(both.agrees.notnull())
    return [
        _grouped(both, measure.name, None, both.known, both.n.sum()),
        _grouped(
            told,
            f"{same} as in {target.name}",
            None,
            ibis.ifelse(told.agrees, "same", "differs"),
            told.n.sum(),
        ),
    ]


def _grouped(
    rows: ir.Table,
    measure: str,
    client: ir.StringValue | None,
    part: ir.Value | None,
    number: ir.IntegerScalar | None = None,
) -> ir.Table:
    keys = {"client": client, "part": part}
    groups = rows.group_by(
        day=rows.day, **{name: key for name, key in keys.items() if key is not None}
    ).aggregate(rows=rows.count() if number is None else number)
    return groups.select(
        "day",
        measure=ibis.literal(measure),
        client=ibis.null("string") if client is None else groups.client,
        part=ibis.literal("") if part is None else groups.part.cast("string").fill_null(NULL),
        rows=groups["rows"].cast("int64"),
    )


def _with_sums(parts: dict[Part, int]) -> dict[Part, int]:
    """The parts, and where they are one client's each also those of all clients."""
    sums: dict[Part, int] = {}
    for part, rows in parts.items():
        if part.client is not None:
            of_all = part._replace(client=None)
            sums[of_all] = sums.get(of_all, 0) + rows
    return parts | sums


def _without_sums(parts: Mapping[Part, int]) -> dict[Part, int]:
    split = {part.measure for part in parts if part.client is not None}
    return {
        part: rows for part, rows in parts.items() if part.client is not None or part.measure not in split
    }
