"""The reference page of features, `docs/reference/features.md`, written from the definitions themselves."""

from __future__ import annotations

from math import isnan

from segue.contracts.vocabulary import DAY, HOUR, MINUTE
from segue.features.definition import FEATURES, Feature
from segue.features.expression import SYMBOLS, Aggregate, Attribute, Column, Combined, Span, Value
from segue.features.relations import ENTITIES, Entity, facts, relations

_HEAD = """# Features

How to read and add them: [concepts/features](../concepts/features.md).

{count} features. "Missing" is what a value becomes where there is nothing to compute it from (NaN is left to the model).
All values are float32. "As of" means strictly before.
"""


def features_page() -> str:
    """The page as Markdown."""
    parts = [_HEAD.format(count=len(FEATURES))]
    parts += [_section(entity) for entity in ENTITIES]
    return "\n".join(parts)


def _section(entity: Entity) -> str:
    features = [f for f in FEATURES.values() if f.entity is entity]
    lines = [f"## {entity.name}: {entity.doc}", ""]
    for name, columns in (relations(entity) | facts(entity)).items():
        shown = "; ".join(f"`{column}` {doc}" for column, doc in columns.items())
        lines.append(f"- reads `{name}`" + (f": {shown}" if shown else ""))
    lines += ["", "| feature | what it is | how | window | missing | owner |", "|---|---|---|---|---|---|"]
    lines += [_row(f) for f in features]
    return "\n".join(lines) + "\n"


def _row(f: Feature) -> str:
    how = "computed by the request pipeline" if f.value is None else f"`{_value(f.value, f.window)}`"
    window = "" if f.window is None else _span(f.window)
    missing = "NaN" if isnan(f.default) else f"{f.default:g}"
    return f"| `{f.name}` | {' '.join(f.doc.split())} | {how} | {window} | {missing} | {f.owner} |"


def _value(value: Value | float, window: Span | None) -> str:
    if isinstance(value, Combined):
        left, right = (
            f"({_value(arg, window)})" if isinstance(arg, Combined) else _value(arg, window)
            for arg in value.args
        )
        return f"{left} {SYMBOLS[value.op]} {right}"
    if isinstance(value, Aggregate):
        return _aggregate(value, window)
    if isinstance(value, Attribute):
        return f"{value.relation}.{value.name}"
    return f"{value:g}"


def _aggregate(leaf: Aggregate, window: Span | None) -> str:
    what = leaf.relation if leaf.column is None else _column(leaf.column)
    hints = [] if leaf.where is None else [f"where {_column(leaf.where)}"]
    if leaf.within is not None and leaf.within != window:
        hints.append(f"within {_span(leaf.within)}")
    if leaf.half_life is not None:
        hints.append(f"half-life {_span(leaf.half_life)}")
    return f"{leaf.op}({', '.join([what, *hints])})"


def _column(column: Column) -> str:
    if column.op == "column":
        return f"{column.relation}.{column.args[0]}"
    args = [
        _column(arg) if isinstance(arg, Column) else f"{arg:g}"
        for arg in column.args
        if not isinstance(arg, str)
    ]
    return f"not {args[0]}" if column.op == "not" else f" {SYMBOLS[column.op]} ".join(args)


def _span(span: Span) -> str:
    for unit, name in ((DAY, "days"), (HOUR, "hours"), (MINUTE, "minutes")):
        if span % unit == 0:
            n = span // unit
            return f"{n} {name if n > 1 else name[:-1]}"
    return f"{span} microseconds"
