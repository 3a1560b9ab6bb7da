"""The small language a feature is written in, and why it is small.

A feature's function runs once, when its module is imported, on stand-ins for its relations; what it returns is a tree of
the few operations below. `offline` turns the tree into Ibis columns for every engine, `online` into NumPy arrays for a
request, `page` into prose. So both sides run the same definition, and an operation that one of them lacks cannot be
written. Every value is a float64 until the end; a missing value (nothing to take a minimum of, a division by zero,
an unknown date) stays missing through arithmetic and comparison, and becomes the feature's default at the end.

Row level (`Column`): columns of a relation, arithmetic and comparison with constants and each other, `&`, `|`, `~`.
Group level (`Value`): `count`, `sum`, `mean`, `min`, `max`, `nunique` of columns, each with `where=` (a row condition),
`within=` (a window shorter than the feature's) and, for count, sum and mean, `half_life=` (a row's weight halves with
every half-life of its age); attributes; arithmetic, comparison with constants, `at_least`.
A sum or count of no rows is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from segue.contracts.errors import InvalidInput

Span = int
"""A length of time in microseconds."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Column:
    """One value per row of a relation: a named column (`op` is "column") or an operation on others."""

    relation: str
    op: str
    args: tuple[Column | float | str, ...]

    def __add__(self, other: Column | float) -> Column:
        return self._with("add", other)

    def __sub__(self, other: Column | float) -> Column:
        return self._with("sub", other)

    def __mul__(self, other: Column | float) -> Column:
        return self._with("mul", other)

    def __lt__(self, other: Column | float) -> Column:
        return self._with("lt", other)

    def __le__(self, other: Column | float) -> Column:
        return self._with("le", other)

    def __gt__(self, other: Column | float) -> Column:
        return self._with("gt", other)

    def __ge__(self, other: Column | float) -> Column:
        return self._with("ge", other)

    def __and__(self, other: Column) -> Column:
        return self._with("and", other)

    def __or__(self, other: Column) -> Column:
        return self._with("or", other)

    def __invert__(self) -> Column:
        return Column(self.relation, "not", (self,))

    def sum(
        self, where: Column | None = None, within: Span | None = None, half_life: Span | None = None
    ) -> Aggregate:
        """Sum over the group's rows; 0 of none."""
        return Aggregate("sum", self.relation, self, where, within, half_life)

    def mean(
        self, where: Column | None = None, within: Span | None = None, half_life: Span | None = None
    ) -> Combined:
        """Mean over the group's rows; missing of none."""
        rows = Aggregate("count", self.relation, None, where, within, half_life)
        return self.sum(where, within, half_life) / rows

    def min(self, where: Column | None = None, within: Span | None = None) -> Aggregate:
        """Smallest over the group's rows; missing of none."""
        return Aggregate("min", self.relation, self, where, within, None)

    def max(self, where: Column | None = None, within: Span | None = None) -> Aggregate:
        """Largest over the group's rows; missing of none."""
        return Aggregate("max", self.relation, self, where, within, None)

    def nunique(self, where: Column | None = None, within: Span | None = None) -> Aggregate:
        """How many different known values; only of a named column."""
        return Aggregate("nunique", self.relation, self, where, within, None)

    def _with(self, op: str, other: Column | float) -> Column:
        if isinstance(other, Column) and other.relation != self.relation:
            raise InvalidInput(
                f"{self.relation} and {other.relation} cannot meet row by row; aggregate each, then combine"
            )
        return Column(self.relation, op, (self, other))


class Value:
    """One value per group: the result of an aggregation, an attribute, or arithmetic on those."""

    __slots__ = ()

    def __add__(self, other: Value | float) -> Combined:
        return Combined("add", (self, other))

    def __sub__(self, other: Value | float) -> Combined:
        return Combined("sub", (self, other))

    def __rsub__(self, other: float) -> Combined:
        return Combined("sub", (other, self))

    def __mul__(self, other: Value | float) -> Combined:
        return Combined("mul", (self, other))

    def __truediv__(self, other: Value | float) -> Combined:
        return Combined("div", (self, other))

    def __le__(self, other: float) -> Combined:
        return Combined("le", (self, other))

    def __ge__(self, other: float) -> Combined:
        return Combined("ge", (self, other))

    def at_least(self, bound: float) -> Combined:
        """The value, or `bound` where it is smaller."""
        return Combined("at_least", (self, bound))


@dataclass(frozen=True, slots=True)
class Aggregate(Value):
    """An aggregation of a relation's rows. `within` None means the feature's window."""

    op: str
    relation: str
    column: Column | None
    where: Column | None
    within: Span | None
    half_life: Span | None


@dataclass(frozen=True, slots=True)
class Attribute(Value):
    """A known fact of the entity, such as a track's duration."""

    relation: str
    name: str


@dataclass(frozen=True, slots=True)
class Combined(Value):
    """Arithmetic or comparison of values."""

    op: str
    args: tuple[Value | float, ...]


class Rows:
    """Stand-in for a relation with many rows per entity: its columns are attributes."""

    def __init__(self, relation: str, columns: Mapping[str, str]) -> None:
        self._relation = relation
        self._columns = columns

    def __getattr__(self, name: str) -> Column:
        if name.startswith("_") or name not in self._columns:
            raise InvalidInput(
                f"{self._relation} has no column {name!r}; it has {', '.join(self._columns) or 'none'}",
                field=name,
            )
        return Column(self._relation, "column", (name,))

    def count(
        self, where: Column | None = None, within: Span | None = None, half_life: Span | None = None
    ) -> Aggregate:
        """How many rows the group has."""
        return Aggregate("count", self._relation, None, where, within, half_life)


class Facts:
    """Stand-in for the facts known of one entity: a track, an artist, a listener, a request."""

    def __init__(self, relation: str, names: Mapping[str, str]) -> None:
        self._relation = relation
        self._names = names

    def __getattr__(self, name: str) -> Attribute:
        if name.startswith("_") or name not in self._names:
            raise InvalidInput(
                f"{self._relation} has no fact {name!r}; it has {', '.join(self._names)}", field=name
            )
        return Attribute(self._relation, name)


def leaves(value: Value | float) -> Iterator[Aggregate | Attribute]:
    """The aggregations and attributes of a tree, from left to right, repeated where they are."""
    if isinstance(value, Combined):
        for arg in value.args:
            yield from leaves(arg)
    elif isinstance(value, Aggregate | Attribute):
        yield value


def bind(value: Value | float, window: Span | None) -> Value | float:
    """The tree with `window` in every aggregation that names none of its own."""
    if isinstance(value, Combined):
        return Combined(value.op, tuple(bind(arg, window) for arg in value.args))
    if isinstance(value, Aggregate) and value.within is None:
        return replace(value, within=window)
    return value


def evaluate(
    value: Value | float,
    leaf: Callable[[Aggregate | Attribute], T],
    constant: Callable[[float], T],
    operations: Mapping[str, Callable[[T, T], T]],
) -> T:
    """The tree's value, given what its leaves, constants and operations (of two operands) mean."""
    if isinstance(value, Combined):
        left, right = (evaluate(arg, leaf, constant, operations) for arg in value.args)
        return operations[value.op](left, right)
    if isinstance(value, Aggregate | Attribute):
        return leaf(value)
    assert not isinstance(value, Value)
    return constant(value)


SYMBOLS: Final = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "and": "and",
    "or": "or",
    "at_least": "at least",
}
"""How operations read in prose."""
