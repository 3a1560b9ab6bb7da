"""An experiment's table becomes numbers: the ratio of units first, then each metric of each variant against the control.

`segue.experiments.decision` says what follows from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segue.contracts.errors import InvalidInput
from segue.experiments.comparing import compared, heavy_tailed, level, robust
from segue.experiments.course import courses, told
from segue.experiments.decision import Decision, decide
from segue.experiments.metric import Metric
from segue.experiments.outcome import Comparison, Result
from segue.experiments.segments import REST, labels, segmented
from segue.experiments.statistics.multiple import benjamini_hochberg, holm
from segue.experiments.statistics.ratio_check import SampleRatio, sample_ratio
from segue.experiments.statistics.tails import winsorized
from segue.experiments.units import Measured, Units, measured, units_of

__all__ = ["PLANNED", "Analysis", "analyze"]

PLANNED = 10_000
"""Units that always-valid intervals are tightest for, where nobody says how many are planned."""
SMALLEST_STRATUM = 20
"""Units a stratum needs in each variant; smaller ones are put together."""


class Analysis(msgspec.Struct, frozen=True):
    """What an experiment's table says. `running`: its planned end was not reached (more is to come, or it
    was stopped), so the decision goes by always-valid numbers."""

    units: dict[str, int]
    srm: SampleRatio
    metrics: dict[str, Result]
    decision: Decision
    control: str
    alpha: float
    running: bool
    planned: int | None
    """Units there will be; where nobody said, always-valid intervals are tightest for PLANNED."""
    twice: int
    """Units in more than one variant: left out."""
    warnings: list[str]


def analyze(
    units: pa.Table,
    metrics: Sequence[Metric],
    *,
    control: str | None = None,
    shares: Mapping[str, float] | None = None,
    unit: str = "unit",
    variant: str = "variant",
    days: pa.Table | None = None,
    day: str = "day",
    segments: Sequence[str] = (),
    stratify: str | None = None,
    alpha: float = 0.05,
    running: bool = False,
    planned: int | None = None,
    until: date | None = None,
) -> Analysis:
    """Analyse a table of units with the columns that each `Metric` names.

    `days` has the metrics' columns by (unit, day), for the course of the effect; `segments` are text columns, `stratify` one
    that means and proportions are post-stratified by. `planned` is how many units the experiment will have: always-valid
    intervals are tightest there, and it must not be chosen from the results. `until` is the day on which it ends. Intervals are
    of 95% whatever `alpha`, which the decision goes by.

    Raises `InvalidInput` and `InvalidData`, with the column and what to do.
    """
    if not metrics:
        raise InvalidInput("there is no metric: name at least one column", field="metric", limit="1 or more")
    if not 0 < alpha < 0.5:
        raise InvalidInput(
            f"alpha {alpha} must be above 0 and below 0.5", field="alpha", limit="0 < alpha < 0.5"
        )
    if planned is not None and planned < 2:
        raise InvalidInput(f"planned {planned} must be 2 units or more", field="planned", limit=">= 2")
    found, expected = units_of(units, unit, variant, control, shares)
    aim = planned or PLANNED
    ratio = sample_ratio(found.counts, expected, aim if running else None)
    results = {}
    for metric in metrics:
        values = _capped(metric, measured(found, metric))
        result = _result(found, metric, values, stratify, aim)
        results[metric.name] = msgspec.structs.replace(
            result,
            segments=[part for name in segments for part in segmented(found, metric, values, name)],
            courses=[] if days is None else courses(found, metric, values, days, unit, day, aim),
        )
    results = told(_corrected(results, running))
    return Analysis(
        found.counts,
        ratio,
        results,
        decide(results, ratio, found.twice / (found.twice + len(found.of_unit)), alpha, running, until),
        found.variants[0],
        alpha,
        running,
        planned,
        found.twice,
        list(found.warnings),
    )


def _capped(metric: Metric, values: Measured) -> Measured:
    """Winsorized where the metric asks for it: a ratio's numerator and denominator each at their own quantile."""
    if metric.winsorize is None:
        return values
    wide = 2 if metric.kind == "ratio" else 1
    capped = [winsorized(column, metric.winsorize)[0] for column in values.columns[:wide]]
    return replace(values, columns=(*capped, *values.columns[wide:]))


def _result(units: Units, metric: Metric, values: Measured, stratify: str | None, planned: int) -> Result:
    warnings = list(values.warnings)
    strata = None
    if stratify is not None:
        strata, said = _strata(units, metric, values, stratify)
        warnings += said
    if heavy := heavy_tailed(metric, values, units.variants):
        warnings.append(heavy)
    comparisons = []
    for n in range(1, len(units.variants)):
        found, warning = compared(metric, values, units.variants, n, planned, strata)
        if warning:
            warnings.append(warning)
        comparisons.append(
            msgspec.structs.replace(found, winsorized=robust(metric, values, n)) if heavy else found
        )
    levels = {name: level(metric, values, n) for n, name in enumerate(units.variants)}
    above = f" above 0 in {metric.values[1]}" if metric.kind == "ratio" else ""
    warnings += [
        f"{metric.name}: no unit of {name} has a value{above}"
        for name, found in levels.items()
        if found is None
    ]
    return Result(
        metric,
        {name: found for name, found in levels.items() if found is not None},
        comparisons,
        warnings,
        torn=values.torn,
    )


def _strata(
    units: Units, metric: Metric, values: Measured, column: str
) -> tuple[npt.NDArray[np.int64] | None, list[str]]:
    """The stratum of each row of the values, from 0; small ones together."""
    if values.ratio or metric.kind == "quantile":
        return None, [
            f"{metric.name} is not post-stratified: only means and proportions of one row a unit are"
        ]
    names, every = labels(units, column)
    codes = every[values.rows]
    least = np.min(
        [np.bincount(codes[values.variant == n], minlength=len(names)) for n in range(len(units.variants))],
        axis=0,
    )
    small = least < SMALLEST_STRATUM
    place = np.cumsum(~small) - 1
    place[small] = (~small).sum()
    said = []
    if small.any():
        said.append(
            f"{metric.name}: {int(small.sum())} strata of {column} with few units are taken as one, {REST}"
        )
    if values.adjusted:
        said.append(
            f"{metric.name} is post-stratified by {column}, and not adjusted by its pre-period as well"
        )
    strata = place[codes]
    fewest = min(
        int(((strata == strata.max()) & (values.variant == n)).sum()) for n in range(len(units.variants))
    )
    if fewest < 2:
        return None, [f"{metric.name} is not post-stratified: the strata of {column} are too small"]
    return strata, said


def _corrected(results: Mapping[str, Result], running: bool) -> dict[str, Result]:
    """Adjusted p-values: of goals by Holm, of what is for information by Benjamini and Hochberg."""
    out = dict(results)
    for role, correct in (("goal", holm), ("info", benjamini_hochberg)):
        every = [
            (name, n, p)
            for name, result in results.items()
            if result.metric.role == role
            for n, one in enumerate(result.comparisons)
            if (p := _p(one, running)) is not None
        ]
        for (name, n, _), p in zip(every, correct([p for _, _, p in every]), strict=True):
            comparisons = list(out[name].comparisons)
            comparisons[n] = msgspec.structs.replace(comparisons[n], p_adjusted=p)
            out[name] = msgspec.structs.replace(out[name], comparisons=comparisons)
    return out


def _p(one: Comparison, running: bool) -> float | None:
    if not running:
        return one.p
    return None if one.always_valid is None else one.always_valid.p
