"""Rows that broke the contract: kept with their reason, once, however often the same file is imported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from segue.contracts.ports import Engine
from segue.contracts.tables import REJECTS
from segue.contracts.vocabulary import DAY

MAX_CONTENT: Final = 2_000
"""Characters kept of a row."""


@dataclass(frozen=True)
class Rejects:
    """Columns of equal length: number in the origin, reason, field, and the row as text."""

    rows: list[int]
    reasons: list[str]
    fields: list[str | None]
    contents: list[str | None]

    @staticmethod
    def none() -> Rejects:
        """No rejects."""
        return Rejects([], [], [], [])

    @staticmethod
    def join(parts: Sequence[Rejects]) -> Rejects:
        """All of them, in order."""
        return Rejects(
            [x for p in parts for x in p.rows],
            [x for p in parts for x in p.reasons],
            [x for p in parts for x in p.fields],
            [x for p in parts for x in p.contents],
        )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def by_reason(self) -> Counter[str]:
        """How many there are of each reason."""
        return Counter(self.reasons)


def reject_rows(origin: str, now: int, rejects: Rejects) -> pa.Table:
    """The rejects as rows of the rejects table. `now` is UTC microseconds."""
    n = len(rejects)
    return pa.table(
        [
            pa.array([now // DAY] * n, pa.int32()).cast(pa.date32()),
            pa.array([now] * n, pa.int64()),
            pa.array([origin] * n, pa.string()),
            pa.array(rejects.rows, pa.int64()),
            pa.array(rejects.reasons, pa.string()),
            pa.array(rejects.fields, pa.string()),
            pa.array(rejects.contents, pa.string()),
        ],
        schema=REJECTS.arrow,
    )


def keep_rejects(engine: Engine, origin: str, now: int, rejects: Rejects) -> None:
    """Append the rejects that the table does not hold yet. `now` is UTC microseconds."""
    keep_reject_rows(engine, reject_rows(origin, now, rejects))


def keep_reject_rows(engine: Engine, rows: pa.Table) -> int:
    """Append those rows of the rejects table that it does not hold yet; returns how many.

    Same origin, row, reason and content is the same reject. By content rather than by a marker, so that a file that was cut
    short, grew, or is read in batches of another size does not double what it shares with the earlier one.
    """
    if rows.num_rows == 0:
        return 0
    held = engine.read(REJECTS)
    numbers = pc.min_max(rows["row"])
    near = held.filter(
        held.origin.isin(pc.unique(rows["origin"]).to_pylist()),
        held.row.between(numbers["min"].as_py(), numbers["max"].as_py()),
    )
    known = {tuple(row.values()) for row in engine.collect(near.select(*_SAME)).to_pylist()}
    fresh = [at for at, row in enumerate(rows.select(_SAME).to_pylist()) if tuple(row.values()) not in known]
    if fresh:
        engine.append(REJECTS, rows.take(pa.array(fresh, pa.int64())))
    return len(fresh)


_SAME: Final = ("origin", "row", "reason", "content")
