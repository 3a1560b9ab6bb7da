"""How a table is described: columns with type, range and prose. Importers, warehouse, API and docs read this one form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from segue.contracts.measures import Measure


@dataclass(frozen=True)
class Column:
    """One column. `ge`/`le` bound numbers, `max_bytes` bounds text (bytes of UTF-8, not characters), `one_of` closes a set,
    `pattern` is what the API asks of text besides; None means unbounded. `references` names the table whose key it is.
    """

    name: str
    type: pa.DataType
    doc: str
    nullable: bool = False
    ge: int | float | None = None
    le: int | float | None = None
    max_bytes: int | None = None
    one_of: tuple[str, ...] | None = None
    pattern: str | None = None
    references: str | None = None


@dataclass(frozen=True)
class Table:
    """One table. `key` is unique; a daily table has a `day` date column and is partitioned by it.

    What is watched, where a table is daily: its rows a day, and with `measures` what they say, also for each value of the
    column `client` by itself. `fresh_hours`: how long before the end of the day that a run is for its newest `ts` may lie.
    """

    name: str
    doc: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    daily: bool = True
    sort: tuple[str, ...] = ()
    derived: bool = True
    fresh_hours: int | None = None
    measures: tuple[Measure, ...] = ()
    client: str | None = None

    @cached_property
    def arrow(self) -> pa.Schema:
        """The Arrow schema, in column order, `day` first for a daily table."""
        return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in self.columns])

    def column(self, name: str) -> Column:
        """The column of that name. Raises KeyError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"{self.name} has no column {name!r}; it has {', '.join(self.names)}")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(c.name for c in self.columns)
