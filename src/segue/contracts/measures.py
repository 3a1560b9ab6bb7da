"""What is counted of each day of a table, so that a day can be held against the days before it.

Every measure puts rows into parts and counts them: nothing but whole numbers, so all engines agree to the last row.
`segue.warehouse.measured` counts, `segue.warehouse.usual` says which counts are unusual.
"""

from __future__ import annotations

from dataclasses import dataclass

LOST = 0.5
"""A part that holds less than this of what is usual has lost what real listeners sent."""


@dataclass(frozen=True)
class Values:
    """Rows with each value of a column."""

    column: str
    lost: float = LOST

    @property
    def name(self) -> str:
        """As people are shown it."""
        return self.column


@dataclass(frozen=True)
class Hours:
    """Rows of each hour of the UTC day.

    `lost` is low: twice a year a country's days shift by an hour, and its evening is another hour's.
    """

    column: str
    lost: float = 0.2

    @property
    def name(self) -> str:
        """As people are shown it."""
        return f"hour of {self.column}"


@dataclass(frozen=True)
class Bins:
    """Rows with a number from one edge up to the next, of a column or of what it exceeds the column `since` by.

    Edges are shown in `unit`s of `scale` each.
    """

    column: str
    edges: tuple[float, ...]
    since: str | None = None
    unit: str = ""
    scale: int = 1
    lost: float = LOST

    @property
    def name(self) -> str:
        """As people are shown it."""
        return self.column if self.since is None else f"{self.column} after {self.since}"

    def label(self, place: int) -> str:
        """The numbers from the edge before a place up to that at it, as people read them."""
        shown = [f"{edge / self.scale:,.12g} {self.unit}".strip() for edge in self.edges]
        if place == 0:
            return f"< {shown[0]}"
        if place == len(shown):
            return f">= {shown[-1]}"
        return f"{shown[place - 1]} ..< {shown[place]}"


@dataclass(frozen=True)
class Filled:
    """Rows in which a column is filled, and in which it is null."""

    column: str
    lost: float = LOST

    @property
    def name(self) -> str:
        """As people are shown it."""
        return f"{self.column} filled"


@dataclass(frozen=True)
class Letters:
    """Rows whose text is plain ASCII, has other letters too, or has what other letters look like in a wrong encoding."""

    column: str
    lost: float = LOST

    @property
    def name(self) -> str:
        """As people are shown it."""
        return f"letters of {self.column}"


@dataclass(frozen=True)
class Known:
    """Rows that name what the table has that the column references; with `same`, also whether that column says there what it
    says here: ids that are shifted by one still name something.
    """

    column: str
    same: str | None = None
    lost: float = LOST

    @property
    def name(self) -> str:
        """As people are shown it."""
        return f"{self.column} known"


@dataclass(frozen=True)
class Single:
    """Rows that no other row of the day equals in those columns, whatever its id; of each eighth `among`."""

    columns: tuple[str, ...]
    among: str
    lost: float = LOST

    @property
    def name(self) -> str:
        """As people are shown it."""
        return "copies"


Measure = Values | Hours | Bins | Filled | Letters | Known | Single
