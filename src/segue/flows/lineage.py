"""Where each column comes from, and what a change of it would touch: read off the definitions, never written down by hand.

A table of the flow and a feature are Ibis expressions over other tables. A column's value is computed from columns; other
columns decide which rows there are (filters, keys of joins and groups). Both are found by walking the expression.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from functools import cached_property
from types import SimpleNamespace
from typing import Final, cast

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir

from segue.contracts.errors import NotFound
from segue.contracts.ports import Days, Engine
from segue.features import FEATURES as DEFINED
from segue.features.definition import Feature
from segue.features.offline import training_join
from segue.features.relations import Candidate
from segue.flows.definitions import expressions, unbound
from segue.flows.registry import Step
from segue.flows.steps import FLOW
from segue.settings.tree import State
from segue.training.features import feature_tables

FEATURES: Final = "features"
"""Stands for a table in the name of a feature: `features.track_plays_7d`."""
_REQUEST: Final = "request"
"""Stands for the samples that features are joined to."""
_SOME_DAY: Final = Days(date(2026, 1, 5), date(2026, 1, 5))


@dataclass(frozen=True)
class Origin:
    """The columns, as TABLE.COLUMN, that a column's value is computed from, and those that decide which rows there are."""

    values: frozenset[str]
    rows: frozenset[str]


@dataclass(frozen=True)
class Touched:
    """What a change of a column would touch, directly or on the way: by its value, or because rows come and go with it.

    `features` are by name. `steps` read a touched table as a whole, so that any of their results may change: models, state.
    """

    values: tuple[str, ...]
    rows: tuple[str, ...]
    features: tuple[str, ...]
    steps: tuple[str, ...]


class Lineage:
    """Columns and features with their origins, of the flow's steps."""

    def __init__(self, steps: Sequence[Step] = FLOW) -> None:
        self._steps = steps
        self.origins: dict[str, Origin] = {}
        for step in steps:
            if step.partition == "day":
                for name, rows in expressions(step, _SOME_DAY, unbound).items():
                    self.origins |= {f"{name}.{column}": origin for column, origin in origins(rows).items()}
        self.origins |= _features()

    @cached_property
    def columns(self) -> dict[str, None]:
        """Every column and feature that is known, those from outside the flow too."""
        tables = {read.table.name: read.table for step in self._steps for read in step.reads}
        tables |= {table.name: table for step in self._steps for table in step.writes}
        known = [f"{table.name}.{column}" for table in tables.values() for column in table.names]
        return dict.fromkeys([*known, *self.origins])

    def of(self, column: str) -> Origin:
        """Where a column comes from; nothing for one from outside. Raises NotFound naming the nearest known column."""
        if column not in self.columns:
            near = get_close_matches(column, self.columns, 1)
            hint = f"did you mean {near[0]!r}?" if near else "`segue step list` shows the tables"
            raise NotFound(f"there is no column {column!r}; {hint}", field="column", limit="TABLE.COLUMN")
        return self.origins.get(column, Origin(frozenset(), frozenset()))

    def touched(self, column: str) -> Touched:
        """What a change of a column would touch. Raises NotFound."""
        self.of(column)
        values = self._behind(column, {name: origin.values for name, origin in self.origins.items()})
        either = {name: origin.values | origin.rows for name, origin in self.origins.items()}
        rows = [name for name in self._behind(column, either) if name not in values]
        columns = [name for name in [*values, *rows] if not name.startswith(f"{FEATURES}.")]
        tables = {name.partition(".")[0] for name in [column, *columns]}
        return Touched(
            tuple(name for name in values if name in columns),
            tuple(name for name in rows if name in columns),
            tuple(name.partition(".")[2] for name in [*values, *rows] if name not in columns),
            tuple(
                step.name
                for step in self._steps
                if step.partition == "whole" and tables & {read.table.name for read in step.reads}
            ),
        )

    def _behind(self, column: str, sources: Mapping[str, frozenset[str]]) -> list[str]:
        """Everything made from a column, directly or on the way, in the order of the definitions."""
        readers: dict[str, list[str]] = {}
        for name, read in sources.items():
            for one in read:
                readers.setdefault(one, []).append(name)
        found, waiting = set[str](), deque([column])
        while waiting:
            new = [name for name in readers.get(waiting.popleft(), ()) if name not in found]
            found.update(new)
            waiting.extend(new)
        return [name for name in self.origins if name in found]


def origins(rows: ir.Table) -> dict[str, Origin]:
    """The origin of each column of an expression over named tables."""
    walk = _Walk()
    deciding = walk.rows(rows.op())
    return {name: Origin(walk.column(rows.op(), name), deciding) for name in rows.columns}


class _Walk:
    """Follows columns through an expression. What was followed once is remembered: expressions share their parts."""

    def __init__(self) -> None:
        self._known: dict[tuple[ops.Node, str], frozenset[str]] = {}

    def column(self, relation: ops.Node, name: str) -> frozenset[str]:
        """The columns of named tables that a relation's column is computed from."""
        if (relation, name) not in self._known:
            self._known[relation, name] = self._column(relation, name)
        return self._known[relation, name]

    def rows(self, relation: ops.Node) -> frozenset[str]:
        """The columns of named tables that decide which rows there are, in any part of the expression."""
        deciding = [value for part in relation.find(ops.Relation) for value in _deciding(part)]
        return self._of(deciding)

    def _column(self, relation: ops.Node, name: str) -> frozenset[str]:
        if isinstance(relation, ops.UnboundTable):
            return frozenset([f"{relation.name}.{name}"])
        if isinstance(relation, ops.Set):
            return self.column(relation.left, name) | self.column(relation.right, name)
        if isinstance(relation, ops.SelfReference):
            return self.column(relation.parent, name)
        return self._of([relation.values[name]])

    def _of(self, values: Iterable[ops.Node]) -> frozenset[str]:
        found: set[str] = set()
        for value in values:
            for part in value.find((ops.Field, ops.Subquery), filter=ops.Value):
                if isinstance(part, ops.Field):
                    found |= self.column(part.rel, part.name)
                else:
                    found.update(*(self.column(part.rel, name) for name in part.rel.schema.names))
        return frozenset(found)


def _deciding(relation: ops.Node) -> Iterable[ops.Node]:
    """The values by which a relation lets rows in, keeps them apart or brings them together."""
    if isinstance(relation, ops.Filter):
        return list(relation.predicates)
    if isinstance(relation, ops.JoinChain):
        return [predicate for link in relation.rest for predicate in link.predicates]
    if isinstance(relation, ops.Aggregate):
        return list(relation.groups.values())
    return list(relation.fields.values()) if isinstance(relation, ops.Distinct) else []


def _features() -> dict[str, Origin]:
    """Features that are made from tables. An expression for each entity and relation: so what decides about rows is theirs."""
    groups: dict[tuple[str, str], list[Feature]] = {}
    for feature in DEFINED.values():
        if feature.entity is not Candidate:
            groups.setdefault((feature.entity.name, feature.relation), []).append(feature)
    samples = ibis.table(
        {"request_id": "int64", "user_id": "int64", "ts": "int64", "track_id": "int64", "surface": "string"},
        name=_REQUEST,
    )
    # Why no days: that a partition is left out decides nothing about the rows that are wanted.
    whole = cast(Engine, SimpleNamespace(read=lambda table, days=None: unbound(table)))
    tables = feature_tables(whole, (), 0, 0)
    found: dict[str, Origin] = {}
    for features in groups.values():
        names = [feature.name for feature in features]
        rows = origins(training_join(samples, tables, State(), names))
        found |= {f"{FEATURES}.{name}": _of_tables(rows[name]) for name in names}
    return {name: found[name] for feature in DEFINED if (name := f"{FEATURES}.{feature}") in found}


def _of_tables(origin: Origin) -> Origin:
    values, rows = (
        frozenset(name for name in names if not name.startswith(f"{_REQUEST}."))
        for names in (origin.values, origin.rows)
    )
    return Origin(values, rows)
