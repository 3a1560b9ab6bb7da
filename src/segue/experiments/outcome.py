"""What an analysis says of one metric: levels, comparisons, segments, the course over days."""

from __future__ import annotations

import msgspec

from segue.experiments.metric import Metric

__all__ = [
    "AlwaysValid",
    "Comparison",
    "Course",
    "Day",
    "Interval",
    "Level",
    "NotWorse",
    "Result",
    "Robust",
    "Segment",
    "Segmented",
    "stretched",
]

Interval = tuple[float, float]


class Level(msgspec.Struct, frozen=True):
    """A variant's mean, share, ratio or quantile as observed, its units, and the standard deviation of a unit's part in it."""

    mean: float
    n: int
    sd: float | None


class AlwaysValid(msgspec.Struct, frozen=True):
    """An interval and a p that hold however often one looks."""

    ci95: Interval
    p: float


class Robust(msgspec.Struct, frozen=True):
    """The comparison again with the values above `cap` (that quantile of all units) set to it."""

    quantile: float
    cap: float
    effect: float
    ci95: Interval
    p: float


class NotWorse(msgspec.Struct, frozen=True):
    """p of a guardrail being worse by its margin or more: once it is small, the guardrail holds."""

    margin: float
    p: float
    always_valid_p: float


class Comparison(msgspec.Struct, frozen=True):
    """A variant against the control. Nulls where there is nothing to measure an error by; the metric's warnings say why."""

    variant: str
    control: str
    effect: float | None
    """The difference of the levels, adjusted by the pre-period or the strata where there are such."""
    relative: float | None
    """The effect as a share of the control's observed level; null where that cannot be told from zero."""
    ci95: Interval | None
    p: float | None
    relative_ci95: Interval | None = None
    error: float | None = None
    method: str = ""
    variance_saved: float | None = None
    """Share of the variance that the pre-period took off."""
    detectable: float | None = None
    """The relative effect that so many units find with a power of 80%."""
    always_valid: AlwaysValid | None = None
    p_adjusted: float | None = None
    """For the other goals and variants (Holm), or the other metrics that are for information (Benjamini and Hochberg)."""
    winsorized: Robust | None = None
    not_worse: NotWorse | None = None

    def relative_interval(self, running: bool) -> Interval | None:
        """The relative interval that may be read now: while it is running, the always-valid one."""
        if not running or self.relative is None or self.relative_ci95 is None:
            return self.relative_ci95
        assert self.ci95 is not None
        assert self.always_valid is not None
        return stretched(self.relative, self.relative_ci95, self.ci95, self.always_valid.ci95)


def stretched(value: float, interval: Interval, ci95: Interval, always_valid: Interval) -> Interval:
    """A relative interval made always-valid: as much wider as the absolute one is."""
    times = (always_valid[1] - always_valid[0]) / (ci95[1] - ci95[0])
    return value + times * (interval[0] - value), value + times * (interval[1] - value)


class Segment(msgspec.Struct, frozen=True):
    """The effect in one segment, as observed and pulled towards that of all segments."""

    segment: str
    units: int
    effect: float
    ci95: Interval
    p_adjusted: float
    shrunk: float
    shrunk_ci95: Interval


class Segmented(msgspec.Struct, frozen=True):
    """The effect of a variant by the values of a column; p of the effect being the same in all."""

    column: str
    variant: str
    segments: list[Segment]
    same_p: float
    warning: str


class Day(msgspec.Struct, frozen=True):
    """The effect of all days up to this one, with both intervals, and of this day alone.

    What adds up over days grows with them, and so does its effect: as a share of the control's level it does not.
    """

    day: str
    units: int
    effect: float
    ci95: Interval
    always_valid: Interval
    relative: float | None
    relative_ci95: Interval | None
    alone: float | None
    alone_relative: float | None


class Course(msgspec.Struct, frozen=True):
    """The effect over days; of the listeners of the first half, the effect in the second half minus that in the first."""

    variant: str
    days: list[Day]
    later: float | None
    later_ci95: Interval | None
    later_p: float | None
    later_p_adjusted: float | None = None
    """For the other metrics and variants whose course was looked at (Holm)."""
    said: str = ""


class Result(msgspec.Struct, frozen=True):
    """A metric: its definition, the level of each variant, each variant against the control."""

    metric: Metric
    variants: dict[str, Level]
    comparisons: list[Comparison]
    warnings: list[str]
    segments: list[Segmented] = []
    courses: list[Course] = []
    torn: str | None = None
    """Why it cannot be compared: it is missing more often in one variant, so who is left was chosen by the treatment."""
