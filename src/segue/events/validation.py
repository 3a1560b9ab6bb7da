"""Rows from outside held against a table's contract: good rows go on, each bad row gets one reason.

Reasons are short stable names that a dashboard can group by: `missing_<field>`, `wrong_type_<field>`, `not_utf8_<field>`,
`out_of_range_<field>`, `too_long_<field>`, `unknown_<field>`, `ts_too_old`, `ts_in_future`. A row with several faults is
rejected for the first of them, in column order, so that counts add up: read = good + rejected.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segue.contracts.errors import InvalidData
from segue.contracts.schema import Column, Table
from segue.contracts.tables import EARLIEST, MAX_TAGS, RAW_EVENTS
from segue.contracts.vocabulary import NEEDS_ARTIST, NEEDS_TRACK, EventType
from segue.events.columns import FAULT, GIVEN, Coerced, Mask, coerce, mask_of, single
from segue.events.rejects import MAX_CONTENT, Rejects

ROW: Final = "#row"
"""Column an importer adds: the row's number in its file, from 0."""
GIVEN_LATER: Final = ("day", "event_id", "received_at")
"""Columns of an event that the platform fills in when it lands."""


@dataclass(frozen=True)
class Checked:
    """`good` has the contract's columns in the contract's types, in its order, then any other column as it came."""

    good: pa.Table
    rejects: Rejects


def check(
    table: Table,
    rows: pa.Table,
    *,
    latest: int | pa.ChunkedArray,
    later: Collection[str] = (),
    optional: Collection[str] = (),
) -> Checked:
    """Split `rows` into those that keep the contract of `table` and rejects.

    `latest` is the last acceptable time of an event, UTC microseconds, one for all or one for each. Columns in `later` are not
    looked at: the platform fills them. Columns in `optional` may be absent although the contract requires a value. A nullable
    column that is absent becomes null. Row numbers come from the column `#row`, else they count from 0.

    Raises InvalidData if a required column is absent.
    """
    expected = [c for c in table.columns if c.name not in later]
    require_columns(
        table, rows.column_names, [c.name for c in expected if not c.nullable and c.name not in optional]
    )
    verdict = _Verdict(rows.num_rows)
    typed: dict[str, pa.Array] = {}
    for column in expected:
        if column.name in rows.column_names:
            _mark_faults(column.name, rows, verdict)
            typed[column.name] = _check_column(
                column, coerce(rows[column.name], column.type), verdict, latest
            )
        elif column.nullable:
            typed[column.name] = pa.nulls(rows.num_rows, column.type)
    if table is RAW_EVENTS:
        _check_event_rules(typed, verdict)
    extra = {
        name: rows[name]
        for name in rows.column_names
        if name not in typed and name not in later and not name.startswith((FAULT, GIVEN))
    }
    good = pa.Table.from_pydict({**typed, **extra})
    if verdict.any:
        good = good.filter(pa.array(verdict.codes < 0))
    return Checked(good, verdict.rejects(rows))


def require_columns(table: Table, present: Collection[str], required: Collection[str]) -> None:
    """Raise InvalidData naming the required columns that are not present, and what is there instead."""
    missing = [name for name in required if name not in present]
    if not missing:
        return
    near = {name: difflib.get_close_matches(name, present, 1) for name in missing}
    hints = ", ".join(f"{name} (there is {found[0]!r})" if found else name for name, found in near.items())
    raise InvalidData(
        f"missing column{'s' if len(missing) > 1 else ''} for {table.name}: {hints}; it has {', '.join(present) or 'none'}",
        field=missing[0],
        limit="required column",
    )


class _Verdict:
    """The first fault of each row. `codes` is int32[n]: -1 good, else an index into `faults`."""

    def __init__(self, n: int) -> None:
        self.codes: npt.NDArray[np.int32] = np.full(n, -1, np.int32)
        self.faults: list[tuple[str, str]] = []

    @property
    def any(self) -> bool:
        return bool(self.faults)

    def mark(self, bad: Mask, reason: str, field: str) -> None:
        fresh = bad & (self.codes < 0)
        if fresh.any():
            self.codes[fresh] = len(self.faults)
            self.faults.append((reason, field))

    def rejects(self, rows: pa.Table) -> Rejects:
        at = np.flatnonzero(self.codes >= 0)
        if len(at) == 0:
            return Rejects.none()
        shown = rows.take(pa.array(at))
        numbers = (
            np.asarray(shown[ROW].to_numpy(), np.int64) if ROW in rows.column_names else at.astype(np.int64)
        )
        reasons = [self.faults[code] for code in self.codes[at]]
        content = [as_content(row) for row in shown.to_pylist()]
        return Rejects(numbers.tolist(), [r for r, _ in reasons], [*(f for _, f in reasons)], [*content])


def as_content(row: dict[str, object]) -> str:
    """A rejected row as JSON, with what stood there before conversion, cut at 2,000 characters."""
    plain = {name: value for name, value in row.items() if not name.startswith("#")}
    plain |= {n.removeprefix(GIVEN): v for n, v in row.items() if n.startswith(GIVEN) and v is not None}
    encoded = msgspec.json.encode(plain, enc_hook=repr)
    return encoded.decode("utf-8", "replace")[:MAX_CONTENT]


def _mark_faults(name: str, rows: pa.Table, verdict: _Verdict) -> None:
    """What an earlier conversion found wrong with the column (see `columns.loose`)."""
    if f"{FAULT}{name}" in rows.column_names:
        faults = single(rows[f"{FAULT}{name}"])
        for reason in pc.unique(faults).drop_null().to_pylist():
            verdict.mark(mask_of(pc.equal(faults, reason)), f"{reason}_{name}", name)


def _check_column(
    column: Column, found: Coerced, verdict: _Verdict, latest: int | pa.ChunkedArray
) -> pa.Array:
    name, values = column.name, found.values
    verdict.mark(found.wrong, f"wrong_type_{name}", name)
    verdict.mark(found.not_utf8, f"not_utf8_{name}", name)
    verdict.mark(found.beyond, f"out_of_range_{name}", name)
    if not column.nullable:
        verdict.mark(mask_of(pc.is_null(values)), f"missing_{name}", name)
    if name == "ts":
        verdict.mark(mask_of(pc.less(values, EARLIEST)), "ts_too_old", name)
        verdict.mark(mask_of(single(pc.greater(values, latest))), "ts_in_future", name)
    _mark_bound(column, values, column.ge, pc.less, verdict)
    _mark_bound(column, values, column.le, pc.greater, verdict)
    if column.max_bytes is not None:
        verdict.mark(
            mask_of(pc.greater(pc.binary_length(values), column.max_bytes)), f"too_long_{name}", name
        )
    if column.one_of is not None:
        known = pc.is_in(values, value_set=pa.array(column.one_of))
        verdict.mark(~mask_of(known) & ~mask_of(pc.is_null(values)), f"unknown_{name}", name)
    if name == "tags":
        verdict.mark(mask_of(pc.greater(pc.list_value_length(values), MAX_TAGS)), f"too_long_{name}", name)
    return values


def _mark_bound(
    column: Column,
    values: pa.Array,
    bound: float | None,
    beyond: Callable[[pa.Array, float], pa.Array],
    verdict: _Verdict,
) -> None:
    if bound is not None:
        verdict.mark(mask_of(beyond(values, bound)), f"out_of_range_{column.name}", column.name)


def _check_event_rules(typed: dict[str, pa.Array], verdict: _Verdict) -> None:
    """What a type of event needs besides the columns every event has."""
    needs = (("track_id", NEEDS_TRACK), ("artist_id", NEEDS_ARTIST), ("query", frozenset({EventType.SEARCH})))
    for field, types in needs:
        concerned = mask_of(pc.is_in(typed["type"], value_set=pa.array(sorted(types))))
        verdict.mark(concerned & mask_of(pc.is_null(single(typed[field]))), f"missing_{field}", field)
