"""An analysis as one HTML page that opens without a network, for whoever has to decide.

This module turns numbers into places on a page; the templates beside it turn those into HTML and SVG, and escape all text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

import segue
from segue.experiments.analysis import Analysis
from segue.experiments.outcome import Comparison, Course, Day, Interval, Result, Segmented, stretched

__all__ = ["render"]

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Axis:
    """From `low` to `high` with zero among them; ticks as (percent of the width, label)."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]

    @classmethod
    def over(cls, values: Iterable[float], percent: bool, parts: int = 6) -> Axis:
        """Room for all values and for zero, with at most about `parts` steps between ticks."""
        found = [0.0, *values]
        low, high = min(found), max(found)
        if high == low:
            high = low + 1.0
        edge = 0.04 * (high - low)
        low, high = low - edge, high + edge
        step = _step((high - low) / parts)
        ticks = [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
        placed = tuple((100 * (tick - low) / (high - low), _label(tick, percent)) for tick in ticks)
        return cls(low, high, placed)

    def at(self, value: float) -> float:
        """Percent of the width."""
        return round(100 * (min(max(value, self.low), self.high) - self.low) / (self.high - self.low), 2)


@dataclass(frozen=True)
class Mark:
    """A dot with its interval, in percent of the axis, and the same as text."""

    name: str
    note: str
    x: float
    lo: float
    hi: float
    text: str
    interval: str
    tone: str


@dataclass(frozen=True)
class Chart:
    """Marks on an axis; `margin` is the place of what a guardrail may lose."""

    axis: Axis
    zero: float
    marks: tuple[Mark, ...]
    margin: float | None


@dataclass(frozen=True)
class Lines:
    """The course of an effect as points in a box of 100 by 100: bands of both intervals, the line, each day's own effect."""

    title: str
    said: str
    first: str
    last: str
    zero: float
    always: str
    fixed: str
    line: str
    alone: tuple[tuple[float, float], ...]
    top: str
    bottom: str


@dataclass(frozen=True)
class MetricPage:
    """Everything the page shows of one metric."""

    result: Result
    percent: bool
    chart: Chart | None
    segments: tuple[tuple[Segmented, Chart], ...]
    courses: tuple[Lines, ...]


def render(found: Analysis, title: str) -> str:
    """The analysis as one HTML document, called after what was analysed. It names no outside address and holds no script."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("segue.experiments"), PackageLoader("segue")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"signed": _signed, "signed_percent": _signed_percent, "number": _number, "p": _p}
    return environment.get_template("experiment.html").render(
        found=found,
        title=title,
        total=sum(found.units.values()),
        pages=[_page(result, found.running, found.alpha) for result in found.metrics.values()],
        code=segue.__version__,
    )


def _page(result: Result, running: bool, alpha: float) -> MetricPage:
    compared = [one for one in result.comparisons if one.effect is not None and one.ci95 is not None]
    percent = bool(compared) and all(one.relative_ci95 is not None for one in compared)
    chart = None
    if compared:
        rows = [
            (one.variant, "", *_shown(one, percent, running), _tone(result, one, running, alpha))
            for one in compared
        ]
        margin = None
        if result.metric.margin is not None and percent:
            margin = -result.metric.margin * result.metric.better
        chart = _chart(rows, percent, margin)
    segments = tuple((part, _segments(part)) for part in result.segments)
    courses = tuple(_lines(course) for course in result.courses if len(course.days) > 1)
    return MetricPage(result, percent, chart, segments, courses)


def _shown(one: Comparison, percent: bool, running: bool) -> tuple[float, Interval]:
    """The effect and the interval that may be read now."""
    interval = one.relative_interval(running)
    if percent and one.relative is not None and interval is not None:
        return one.relative, interval
    assert one.effect is not None
    assert one.ci95 is not None
    return one.effect, one.always_valid.ci95 if running and one.always_valid is not None else one.ci95


def _tone(result: Result, one: Comparison, running: bool, alpha: float) -> str:
    """good, bad or unsure, as the decision sees it."""
    p = one.p_adjusted if one.p_adjusted is not None else one.p
    if running and one.always_valid is not None and one.p_adjusted is None:
        p = one.always_valid.p
    if one.effect is None or p is None or p >= alpha:
        guard = one.not_worse
        held = guard is not None and (guard.always_valid_p if running else guard.p) < alpha
        return "good" if held else "unsure"
    return "good" if one.effect * result.metric.better > 0 else "bad"


def _chart(
    rows: Sequence[tuple[str, str, float, Interval, str]], percent: bool, margin: float | None = None
) -> Chart:
    places = [place for _, _, value, interval, _ in rows for place in (value, *interval)]
    axis = Axis.over([*places, *([] if margin is None else [margin])], percent)
    say = _signed_percent if percent else _signed
    marks = tuple(
        Mark(
            name,
            note,
            axis.at(value),
            axis.at(low),
            axis.at(high),
            say(value),
            f"{say(low)} to {say(high)}",
            tone,
        )
        for name, note, value, (low, high), tone in rows
    )
    return Chart(axis, axis.at(0.0), marks, None if margin is None else axis.at(margin))


def _segments(part: Segmented) -> Chart:
    return _chart(
        [
            (one.segment, f"{one.units:,} units", one.shrunk, one.shrunk_ci95, "unsure")
            for one in part.segments
        ],
        percent=False,
    )


def _lines(course: Course) -> Lines:
    # Why: the first days' intervals are so wide that they would squeeze the rest; what runs off is cut.
    known = [one for one in course.days if one.relative is not None and one.relative_ci95 is not None]
    percent = len(known) > 1
    days = known if percent else course.days
    seen = [_of_day(one, percent) for one in days]
    reach = [place for value, _, always, _ in seen[len(days) // 3 :] for place in (*always, value)]
    low, high = min(0.0, *reach), max(0.0, *reach)
    if high == low:
        high = low + 1.0

    def at(n: int, value: float) -> tuple[float, float]:
        y = 100 - 100 * (min(max(value, low), high) - low) / (high - low)
        return round(100 * n / (len(days) - 1), 2), round(y, 2)

    def band(edges: Sequence[Interval]) -> str:
        upper = [at(n, edge[1]) for n, edge in enumerate(edges)]
        lower = [at(n, edge[0]) for n, edge in enumerate(edges)]
        return " ".join(f"{x},{y}" for x, y in [*upper, *reversed(lower)])

    say = _signed_percent if percent else _signed
    return Lines(
        course.variant,
        course.said,
        days[0].day,
        days[-1].day,
        at(0, 0.0)[1],
        band([always for _, _, always, _ in seen]),
        band([once for _, once, _, _ in seen]),
        " ".join("{},{}".format(*at(n, value)) for n, (value, _, _, _) in enumerate(seen)),
        tuple(at(n, one) for n, (_, _, _, one) in enumerate(seen) if one is not None and low <= one <= high),
        say(high),
        say(low),
    )


def _of_day(one: Day, percent: bool) -> tuple[float, Interval, Interval, float | None]:
    """The effect, its interval for one look and for every look, and the effect of the day alone."""
    if not percent or one.relative is None or one.relative_ci95 is None:
        return one.effect, one.ci95, one.always_valid, one.alone
    always = stretched(one.relative, one.relative_ci95, one.ci95, one.always_valid)
    return one.relative, one.relative_ci95, always, one.alone_relative


def _step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least that."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * n for n in (1, 2, 5, 10) if power * n >= least * (1 - 1e-9))


def _label(value: float, percent: bool) -> str:
    return (f"{100 * value:.4g}%" if percent else f"{value:.4g}").replace("-", MINUS)


def _signed(value: float) -> str:
    return f"{value:+.4g}".replace("-", MINUS)


def _signed_percent(value: float) -> str:
    return f"{100 * value:+.2f}%".replace("-", MINUS)


def _number(value: float) -> str:
    return f"{value:,.5g}".replace("-", MINUS)


def _p(value: float | None) -> str:
    if value is None:
        return "\N{EN DASH}"
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"
