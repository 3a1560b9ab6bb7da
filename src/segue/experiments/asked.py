"""Metrics as they are asked for on a command line: `listens`, or `skip_rate,numerator=skips,denominator=plays,direction=down`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from segue.contracts.errors import InvalidInput
from segue.contracts.experiments import Experiment
from segue.experiments.metric import Metric
from segue.experiments.metrics import METRICS
from segue.settings.faults import fault_of

__all__ = ["Asked", "asked", "named", "of_file"]

OF_METRIC = tuple(name for name in Metric.__struct_fields__ if name != "name")
OF_COLUMNS = ("numerator", "denominator", "pre", "pre_numerator", "pre_denominator")


class Asked(msgspec.Struct, frozen=True):
    """A metric's name, what is said of it, and the columns it is made of by what they will be called."""

    name: str
    said: dict[str, str]
    columns: dict[str, str]

    def by_day(self) -> Asked:
        """Without its pre-period, which has no days."""
        return Asked(
            self.name,
            self.said,
            {new: old for new, old in self.columns.items() if not new.startswith(f"{self.name}.pre")},
        )


def asked(text: str, pre: str | None = None) -> Asked:
    """Read `NAME[,key=value ...]`. `pre` names its pre-period's column. Raises `InvalidInput` for a key that there is not."""
    name, *rest = (part.strip() for part in text.split(","))
    said = {}
    for part in rest:
        key, equals, value = part.partition("=")
        if not equals or key not in (*OF_METRIC, *OF_COLUMNS):
            raise InvalidInput(
                f"--metric {text}: {part!r} is none of {', '.join(f'{k}=' for k in (*OF_METRIC, *OF_COLUMNS))}",
                field="metric",
            )
        said[key] = value
    if pre is not None:
        said["pre"] = pre
    columns = {key: said.pop(key) for key in OF_COLUMNS if key in said}
    if ("numerator" in columns) != ("denominator" in columns):
        raise InvalidInput(f"--metric {text}: a ratio needs both numerator= and denominator=", field="metric")
    if "numerator" in columns:
        said["kind"] = "ratio"
        named = {f"{name}.{key}": columns[key] for key in ("numerator", "denominator")}
        if "pre_numerator" in columns and "pre_denominator" in columns:
            named |= {f"{name}.pre.{key}": columns[f"pre_{key}"] for key in ("numerator", "denominator")}
        elif columns.keys() & {"pre", "pre_numerator", "pre_denominator"}:
            raise InvalidInput(
                f"--metric {text}: a ratio's pre-period needs pre_numerator= and pre_denominator=",
                field="pre",
            )
    else:
        named = {name: name} | ({f"{name}.pre": columns["pre"]} if "pre" in columns else {})
    if "quantile" in said:
        said.setdefault("kind", "quantile")
    if "margin" in said:
        said.setdefault("role", "guardrail")
    return Asked(name, said, named)


def named(table: pa.Table, keep: Sequence[str], wanted: Sequence[Asked]) -> tuple[pa.Table, list[Metric]]:
    """The table with the metrics' columns called as `Metric` wants them. A column of 0 and 1 is a proportion, others are
    means.
    """
    columns = {name: table[name] for name in keep}
    metrics = []
    taken = {name: name for name in keep}
    for one in wanted:
        for new, old in one.columns.items():
            if old in keep[:2]:
                raise InvalidInput(
                    f"--metric {one.name}: {old!r} says who and which, and is no metric", field="metric"
                )
            if taken.setdefault(new, old) != old:
                raise InvalidInput(
                    f"--metric {one.name}: its {new!r} would be column {old!r}, and is {taken[new]!r} elsewhere: call "
                    "the metric, or the column, otherwise",
                    field="metric",
                )
        columns |= {new: table[old] for new, old in one.columns.items()}
        said = dict(one.said)
        if "kind" not in said:
            said["kind"] = "proportion" if _is_binary(table[one.name]) else "mean"
        try:
            metrics.append(msgspec.convert({"name": one.name, **said}, Metric, strict=False))
        except msgspec.ValidationError as error:
            key, wrong = fault_of(Metric, error)
            raise InvalidInput(f"--metric {one.name}: {key}: {wrong}", field="metric") from error
    for metric in metrics:
        own = {name for one in wanted if one.name == metric.name for name in one.columns}
        if mixed := [name for name in metric.before if name in columns and name not in own]:
            raise InvalidInput(
                f"--metric {metric.name}: column {mixed[0]!r} would be its pre-period: say so by --pre {mixed[0]}, or rename it",
                field="metric",
            )
    if len({metric.name for metric in metrics}) < len(metrics):
        raise InvalidInput("--metric: the same name is given twice", field="metric")
    return pa.table(columns), metrics


def of_file(experiment: Experiment, metrics: Sequence[Metric]) -> list[Metric]:
    """The metrics with what the experiment's file says of those it names: the guardrail's margin, the goal's `mde`, and which way
    is good.
    """
    found = []
    for metric in metrics:
        known = METRICS.get(metric.name)
        said: dict[str, Any] = {} if known is None else {"direction": known.direction}
        if metric.name in experiment.metrics.guardrails:
            said |= {"role": "guardrail", "margin": experiment.metrics.guardrails[metric.name]}
        elif metric.name in experiment.metrics.goals:
            said |= {"role": "goal", "mde": metric.mde or experiment.power.mde}
        else:
            said |= {"role": "info"}
        found.append(msgspec.structs.replace(metric, **said))
    return found


def _is_binary(column: pa.ChunkedArray) -> bool:
    if pa.types.is_boolean(column.type):
        return True
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return False
    values = pc.unique(column.slice(0, 100_000)).drop_null()
    if not np.isin(values.to_numpy(zero_copy_only=False), (0, 1)).all():
        return False
    return bool(np.isin(pc.unique(column).drop_null().to_numpy(zero_copy_only=False), (0, 1)).all())
