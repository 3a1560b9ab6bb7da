"""An evaluation as one HTML file that opens without a network: charts, tables, and every number as text.

This module turns numbers into places on a page; the templates beside it turn those into HTML and SVG, and escape
all text. Charts are rows of HTML with an SVG strip whose places are percentages, so that they fit any width while
their text keeps its size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from segue.evaluation.backtest import SEGUE, Fitted, Lead, Report, TaskReport
from segue.evaluation.beyond import Beyond, Curve, Shown
from segue.evaluation.protocols import HEADLINE, HOME, HOME_NEW, NEXT_UP, Measured, Protocol
from segue.evaluation.segments import OUTSIDE, Segment
from segue.recommend.ranker import RankerSpec
from segue.settings import Settings

__all__ = ["About", "render"]

PLACES = {
    HOME: (
        "Home",
        "One request for each listener with a history, at the moment of the split: rank the whole catalogue for "
        "the set of tracks they went on to play. Tracks they had played before may be right answers.",
    ),
    HOME_NEW: (
        "Home, new to the listener",
        "As home, but only for tracks the listener had never played: neither the targets nor the lists hold any "
        "other. What is left is discovery.",
    ),
    NEXT_UP: (
        "Next up",
        "One request at every play of a session but the first: given the session so far, rank the whole catalogue "
        "for the very next track. Models stay as they were at the split.",
    ),
}
"""Title and description of each task."""
METRIC_NAMES = {"recall": "Recall", "ndcg": "NDCG", "mrr": "MRR", "hr": "Hit"}


class About(msgspec.Struct, frozen=True):
    """What else the report tells: created_at in microseconds, Segue's version, the settings, what was fitted, the rankers
    by surface, and the version of the bundle that is being served, if any.
    """

    created_at: int
    code: str
    settings: Settings
    fitted: Fitted
    rankers: dict[str, RankerSpec]
    serving: str | None = None


@dataclass(frozen=True)
class Axis:
    """From 0 to `top`; ticks as (percent of the width, label)."""

    top: float
    ticks: tuple[tuple[float, str], ...]

    @classmethod
    def over(cls, measured: Iterable[Measured], parts: int) -> Axis:
        """Room for all values, and for all intervals but those so wide that they would squeeze the rest.

        There are at most `parts` steps between ticks.
        """
        found = list(measured)
        most = max((m.value for m in found), default=0.0)
        fitting = [m.ci95[1] for m in found if m.ci95 != (0.0, 1.0) and m.ci95[1] <= 2 * most]
        top = max([most, *fitting]) or 1.0
        step = _step(top / parts)
        return cls(top, tuple((100 * n * step / top, f"{n * step:g}") for n in range(int(top / step) + 1)))

    def at(self, value: float) -> float:
        """Percent of the width."""
        return round(100 * min(max(value / self.top, 0.0), 1.0), 2)


@dataclass(frozen=True)
class Mark:
    """A model on an axis: its dot and its interval in percent; `beyond` where the interval runs off the axis."""

    name: str
    ours: bool
    measured: Measured
    x: float
    lo: float
    hi: float
    beyond: bool

    @classmethod
    def of(cls, name: str, measured: Measured, axis: Axis) -> Mark:
        """Place a mean and its interval."""
        lo, hi = measured.ci95
        return cls(
            name, name == SEGUE, measured, axis.at(measured.value), axis.at(lo), axis.at(hi), hi > axis.top
        )


@dataclass(frozen=True)
class Panel:
    """A segment as a small chart."""

    name: str
    segment: Segment
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Multiples:
    """A partition: panels on one axis."""

    name: str
    axis: Axis
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class CurvePanel:
    """One model's exposure: points of its line in a square of 100, and the share of places of the top 1% of tracks."""

    name: str
    ours: bool
    points: str
    gini: float
    top_percent: float


@dataclass(frozen=True)
class TaskPage:
    """Everything the page shows of one task."""

    name: str
    title: str
    words: str
    protocol: Protocol
    cases: int
    listeners: int
    headline: str
    axis: Axis
    marks: tuple[Mark, ...]
    rival: str | None
    lead: Lead | None
    metrics: tuple[str, ...]
    models: tuple[tuple[str, dict[str, Measured]], ...]
    best: Mapping[str, str]
    beyond: tuple[tuple[str, Beyond], ...]
    curves: tuple[CurvePanel, ...]
    plays: str
    shown: tuple[Shown, ...]
    segments: tuple[Multiples, ...]
    text: str


def render(report: Report, about: About) -> str:
    """The report as one HTML document. It names no outside address and holds no script."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("segue.evaluation"), PackageLoader("segue")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"moment": _moment, "metric": _metric, "value": _value, "signed": _signed}
    pages = [_page(name, task) for name, task in report.tasks.items()]
    changed, standard = _settings(about.settings)
    return environment.get_template("report.html").render(
        pages=pages,
        protocol=pages[0].protocol,
        about=about,
        ours=SEGUE,
        changed=changed,
        standard=standard,
        curve_ticks=[
            (_curve_x(share), f"{share:.1%}" if share < 0.01 else f"{share:.0%}")
            for share in (0.001, 0.01, 0.1, 1)
        ],
    )


def _page(name: str, task: TaskReport) -> TaskPage:
    headline = HEADLINE[name][-1]
    order = sorted(task.models, key=lambda model: -task.models[model][headline].value)
    metrics = (*HEADLINE[name], *(m for m in next(iter(task.models.values())) if m not in HEADLINE[name]))
    axis = Axis.over((task.models[model][headline] for model in order), 6)
    rival = next((model for model in order if model in task.lead), None)
    ours = task.beyond.get(SEGUE)
    title, words = PLACES[name]
    return TaskPage(
        name=name,
        title=title,
        words=words,
        protocol=task.protocol,
        cases=task.cases,
        listeners=task.listeners,
        headline=headline,
        axis=axis,
        marks=tuple(Mark.of(model, task.models[model][headline], axis) for model in order),
        rival=rival,
        lead=task.lead[rival] if rival is not None else None,
        metrics=metrics,
        models=tuple((model, task.models[model]) for model in order),
        best={
            metric: max(order, key=lambda model, metric=metric: task.models[model][metric].value)  # type: ignore[misc]
            for metric in metrics
        },
        beyond=tuple((model, task.beyond[model]) for model in order if model in task.beyond),
        curves=tuple(_curve(model, task.beyond[model]) for model in order if model in task.beyond),
        plays=_points(task.plays),
        shown=ours.most_shown if ours is not None else (),
        segments=tuple(_multiples(part, found, headline, order) for part, found in task.segments.items()),
        text=_text(name, task, order),
    )


def _multiples(name: str, segments: Mapping[str, Segment], metric: str, order: Sequence[str]) -> Multiples:
    # Targets that no model can name are misses by definition: a chart of them has nothing to say.
    found = {part: segment for part, segment in segments.items() if part != OUTSIDE}
    axis = Axis.over((models[metric] for segment in found.values() for models in segment.models.values()), 4)
    panels = []
    for part, segment in found.items():
        marks = (
            Mark.of(model, segment.models[model][metric], axis) for model in order if model in segment.models
        )
        panels.append(Panel(part, segment, tuple(marks)))
    return Multiples(name, axis, tuple(panels))


def _curve(name: str, found: Beyond) -> CurvePanel:
    return CurvePanel(name, name == SEGUE, _points(found.exposure), found.gini, dict(found.exposure)[0.01])


def _points(curve: Curve) -> str:
    """An SVG path's points: share of the catalogue on a log scale from 0.1%, share of exposure upwards."""
    return " ".join(f"{_curve_x(share):.2f},{100 - 100 * held:.2f}" for share, held in curve)


def _curve_x(share: float) -> float:
    return 100 * (math.log10(share) + 3) / 3


def _step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least that."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * n for n in (1, 2, 5, 10) if power * n >= least * (1 - 1e-9))


def _settings(settings: Settings) -> tuple[list[tuple[str, str, str]], list[tuple[str, str]]]:
    """Changed settings as (key, value, standard value), and the rest as (key, value)."""
    standard = dict(_leaves(msgspec.to_builtins(Settings())))
    chosen = dict(_leaves(msgspec.to_builtins(settings)))
    changed = [
        (key, value, standard.get(key, "")) for key, value in chosen.items() if standard.get(key) != value
    ]
    return changed, [(key, value) for key, value in chosen.items() if standard.get(key) == value]


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield above + key, msgspec.json.encode(value).decode()


def _text(name: str, task: TaskReport, order: Sequence[str]) -> str:
    """Every accuracy number of a task, tab-separated, for a spreadsheet."""
    lines = ["task\tsegment\tmodel\tmetric\tvalue\tlo\thi"]
    parts: list[tuple[str, dict[str, dict[str, Measured]]]] = [("all", task.models)]
    for partition, segments in task.segments.items():
        parts += [(f"{partition}: {part}", segment.models) for part, segment in segments.items()]
    for part, models in parts:
        for model in order:
            for metric, found in models.get(model, {}).items():
                lo, hi = found.ci95
                lines.append(f"{name}\t{part}\t{model}\t{metric}\t{found.value:.6f}\t{lo:.6f}\t{hi:.6f}")
    return "\n".join(lines)


def _moment(microseconds: int) -> str:
    at = datetime.fromtimestamp(microseconds / 1e6, UTC)
    return f"{at:%Y-%m-%d}" if at.time() == at.time().min else f"{at:%Y-%m-%d %H:%M}"


def _metric(name: str) -> str:
    kind, _, cut = name.partition("@")
    return f"{METRIC_NAMES[kind]}@{cut}"


def _value(number: float) -> str:
    return f"{number:.4f}"


def _signed(number: float) -> str:
    return f"{number:+.4f}".replace("-", "\N{MINUS SIGN}")
