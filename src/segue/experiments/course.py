"""The effect over days: as it stood at each look, of each day alone, and whether it fades or grows."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace

from segue.contracts.errors import InvalidData, InvalidInput
from segue.experiments.metric import Metric
from segue.experiments.outcome import Course, Day, Interval, Result
from segue.experiments.statistics.arms import Theta, arm, pair
from segue.experiments.statistics.compare import Difference, difference
from segue.experiments.statistics.moments import Floats, Moments, sums_by
from segue.experiments.statistics.multiple import holm
from segue.experiments.statistics.sequential import boundary
from segue.experiments.units import Ints, Mask, Measured, Units, numbers

__all__ = ["courses", "told"]

MOST = 1_000
"""Days of a course; each is compared anew."""
SHORTEST = 4
"""Days it takes to say whether an effect changes."""


class _Daily:
    """The metric's columns by unit and day; rows are sorted by day."""

    def __init__(self, units: Units, metric: Metric, values: Measured, days: pa.Table, unit: str, day: str):
        for name in (unit, day):
            if name not in days.column_names:
                known = ", ".join(days.column_names[:20])
                raise InvalidInput(f"the table by days has no column {name!r}; there are {known}", field=name)
        codes = _unit_codes(units, days[unit], unit)
        self.names, of_day = _ordered_days(days[day], day)
        here = np.flatnonzero((codes >= 0) & (of_day >= 0))
        if len(here) == 0:
            raise InvalidData("no unit of the table by days is in the table of units", field=unit)
        here = here[np.argsort(of_day[here], kind="stable")]
        self.day, self.unit = of_day[here], codes[here]
        self.columns = [np.nan_to_num(numbers(days, name, metric)[here]) for name in metric.values]
        self.edges = np.searchsorted(self.day, np.arange(len(self.names) + 1))
        self.variant = units.of_unit
        self.ratio = metric.kind == "ratio"
        self.binary = metric.kind == "proportion"
        self.before = _before(units, values)

    def sums(self, first: int, last: int) -> tuple[list[Floats], Mask]:
        """Sums by unit over a range of days, and who has a row in it."""
        here = slice(self.edges[first], self.edges[last])
        size = len(self.variant)
        seen: Mask = np.bincount(self.unit[here], minlength=size) > 0
        return [sums_by(self.unit[here], column[here], size) for column in self.columns], seen

    def difference(
        self, columns: list[Floats], among: Mask, treatment: int, adjusted: bool
    ) -> Difference | None:
        """Of a treatment against the control among some units."""
        every = [*columns, *(self.before if adjusted else [])]
        of = [
            Moments.of(*(column[among & (self.variant == variant)] for column in every))
            for variant in (0, treatment)
        ]
        if min(one.n for one in of) < 2 or (self.ratio and not all(one.means[1] for one in of)):
            return None
        found = pair(*of, ratio=self.ratio, adjusted=adjusted and bool(self.before), binary=self.binary)
        return difference(found.control, found.treatment)


def _unit_codes(units: Units, column: pa.ChunkedArray, name: str) -> Ints:
    """The place of each row's unit in `units`; -1 for those that do not count."""
    try:
        found = pc.index_in(column.cast(units.ids.type), value_set=units.ids)
    except pa.ArrowInvalid as error:
        raise InvalidData(
            f"the table by days calls units otherwise than the table of units, whose {name} is {units.ids.type}: {error}",
            field=name,
        ) from error
    return np.asarray(found.fill_null(-1).to_numpy(), np.int64)


def _ordered_days(column: pa.ChunkedArray, name: str) -> tuple[list[str], Ints]:
    """The days in their order, and the place of each row's among them; -1 for none. Text is read as whole numbers or ISO dates:
    by its letters, day 10 would come before day 9.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = _read(column, name)
    encoded = column.combine_chunks().dictionary_encode()
    if len(encoded.dictionary) > MOST:
        raise InvalidInput(
            f"column {name!r} has {len(encoded.dictionary):,} different days; is it the day, not a moment?",
            field=name,
            limit=f"{MOST:,} days",
        )
    order = pc.array_sort_indices(encoded.dictionary).to_numpy()
    place = np.append(np.argsort(order), -1)
    return [str(encoded.dictionary[int(n)].as_py()) for n in order], place[
        np.asarray(encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)
    ]


def _read(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    for kind in (pa.int64(), pa.date32()):
        with suppress(pa.ArrowInvalid):
            return column.cast(kind)
    raise InvalidData(
        f"column {name!r} has text that is neither a whole number nor a date, so that days have no order: write them as 9, or as "
        "2026-11-09",
        field=name,
        limit="whole numbers, or dates as YYYY-MM-DD",
    )


def _before(units: Units, values: Measured) -> list[Floats]:
    """The pre-period by unit, where each unit has one row."""
    if not values.adjusted or units.many:
        return []
    wide = len(values.columns) // 2
    out = []
    for column in values.columns[wide:]:
        by_unit = np.full(len(units.of_unit), column.mean())
        by_unit[values.unit] = column
        out.append(by_unit)
    return out


def courses(
    units: Units, metric: Metric, values: Measured, days: pa.Table, unit: str, day: str, planned: int
) -> list[Course]:
    """The course of each variant's effect. A unit counts from its first row on; a proportion is of those who ever had it.

    Memory: a few numbers a unit and a row. Quantiles have no course.
    """
    if metric.kind == "quantile":
        return []
    daily = _Daily(units, metric, values, days, unit, day)
    return [_course(daily, units, n, planned) for n in range(1, len(units.variants))]


def _course(daily: _Daily, units: Units, treatment: int, planned: int) -> Course:
    size = len(daily.variant)
    total = [np.zeros(size) for _ in daily.columns]
    seen = np.zeros(size, bool)
    points = []
    for n, name in enumerate(daily.names):
        sums, here = daily.sums(n, n + 1)
        seen |= here
        total = [np.maximum(a, b) if daily.binary else a + b for a, b in zip(total, sums, strict=True)]
        gap = daily.difference(total, seen, treatment, adjusted=True)
        if gap is None:
            continue
        alone = daily.difference(sums, here, treatment, adjusted=False)
        looked = int(seen[(daily.variant == 0) | (daily.variant == treatment)].sum())
        reach = boundary(looked, planned, freedom=gap.freedom) * gap.error
        points.append(
            Day(
                name,
                looked,
                gap.value,
                gap.interval,
                (gap.value - reach, gap.value + reach),
                None if gap.relative is None else gap.relative.value,
                None if gap.relative is None else gap.relative.interval,
                None if alone is None else alone.value,
                None if alone is None or alone.relative is None else alone.relative.value,
            )
        )
    later, interval, p = _later(daily, treatment)
    return Course(units.variants[treatment], points, later, interval, p)


def _later(daily: _Daily, treatment: int) -> tuple[float | None, Interval | None, float | None]:
    """The effect a day in the second half minus that in the first, of units that were there in the first.

    Each unit is compared with itself, so that its days need not be independent: late minus early is what CUPED would take
    off with a theta of 1.
    """
    count = len(daily.names)
    if count < SHORTEST:
        return None, None, None
    half = count // 2
    early, there = daily.sums(0, half)
    late, _ = daily.sums(half, count)
    if not daily.ratio:
        first = np.full(len(daily.variant), half)
        np.minimum.at(first, daily.unit, daily.day)
        early = [early[0] / np.maximum(half - first, 1)]
        late = [late[0] / (count - half)]
    whole = Theta(1.0, 0.0, 0.0)
    of = [
        Moments.of(*(column[there & (daily.variant == variant)] for column in (*late, *early)))
        for variant in (0, treatment)
    ]
    if min(one.n for one in of) < 2 or (daily.ratio and not all(one.means[1] and one.means[3] for one in of)):
        return None, None, None
    control, other = (arm(one, ratio=daily.ratio, adjust=whole) for one in of)
    gap = difference(control, other)
    return (None, None, None) if gap is None else (gap.value, gap.interval, gap.p)


def told(results: Mapping[str, Result]) -> dict[str, Result]:
    """The courses with what they say: whether effects change, corrected (Holm) for all metrics and variants looked at."""
    ps = [
        course.later_p
        for result in results.values()
        for course in result.courses
        if course.later_p is not None
    ]
    adjusted = iter(holm(ps))

    def of(course: Course) -> Course:
        p = None if course.later_p is None else next(adjusted)
        return replace(course, later_p_adjusted=p, said=_said(course.days, course.later, p, len(ps)))

    return {
        name: replace(result, courses=[of(course) for course in result.courses])
        for name, result in results.items()
    }


def _said(points: list[Day], later: float | None, p: float | None, looks: int) -> str:
    corrected = "" if looks == 1 else f", corrected for {looks} such looks"
    if later is None or p is None or not points:
        return f"whether the effect changes cannot be said: it takes {SHORTEST} days, and values that differ between them"
    if p >= 0.05:
        return f"nothing shows that the effect changes over days (p {p:.2g}{corrected})"
    if later * points[-1].effect > 0:
        way, why = "grows", "listeners may still be learning (primacy)"
    else:
        way, why = "fades", "part of it may be novelty"
    return f"the effect {way} (p {p:.2g}{corrected}): {why}; the end is nearer to what will stay"
