"""The page about an experiment: complete, well formed, without a network, and safe with any text."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from made_experiment import daily, table, with_column

from segue.experiments.analysis import analyze
from segue.experiments.metric import Metric
from segue.experiments.report import Axis, render

EVIL = "<img src=x onerror='alert(1)'>"
VOID = {"meta", "circle", "line", "polygon", "polyline"}


class Page(HTMLParser):
    """Tags that are opened and closed, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_has_the_decision_the_ratio_every_metric_and_the_course() -> None:
    units, days = daily(1000, lifts=(0.3,) * 8)
    found = analyze(
        units, [Metric("plays"), Metric("unit", role="info")], days=days.append_column("unit.x", days["unit"])
    )
    html = render(found, "plays.csv")
    page = Page(html)
    assert "Ship treatment" in page.text
    assert "is the ratio of units right?" in page.text
    for name in ("plays", "unit", "Over days", "How to read this"):
        assert name in page.text
    assert "always" in html
    assert "script" not in page.tags
    assert not re.search(r"(src|href)\s*=|url\(|@import", html)


def test_the_colour_is_the_decisions() -> None:
    """An effect with a p between .01 and .05 is good news at an alpha of .05 and none at .01."""
    units = table(2000, lift=0.08, seed=6)
    strict, usual = (analyze(units, [Metric("minutes")], alpha=alpha) for alpha in (0.01, 0.05))
    p = usual.metrics["minutes"].comparisons[0].p_adjusted
    assert p is not None
    assert 0.01 < p < 0.05
    assert (usual.decision.verdict, strict.decision.verdict) == ("ship", "stop")
    drawn = [re.findall(r'class="dot-row (\w+)"', render(one, "x")) for one in (usual, strict)]
    assert [one[0] for one in drawn] == ["good", "unsure"]


def test_a_mismatch_is_loud() -> None:
    units = table(2000)
    leaking = units.filter([v == "control" or n % 5 > 0 for n, v in enumerate(units["variant"].to_pylist())])
    page = Page(render(analyze(leaking, [Metric("minutes")]), "x"))
    assert "Stop: do not read" in page.text
    assert "do not read the rest" in page.text


def test_any_name_is_only_text() -> None:
    units = table(600)
    units = with_column(
        units, "variant", [EVIL if v == "treatment" else v for v in units["variant"].to_pylist()]
    )
    units = with_column(units, "country", [EVIL if n % 2 else "x" for n in range(600)])
    units = units.rename_columns([EVIL if name == "minutes" else name for name in units.column_names])
    html = render(analyze(units, [Metric(EVIL)], segments=["country"]), EVIL)
    assert "<img" not in html
    Page(html)


def test_what_cannot_be_compared_has_no_chart() -> None:
    units = with_column(table(300), "minutes", [1.0] * 300).drop_columns(["minutes.pre"])
    page = Page(render(analyze(units, [Metric("minutes")]), "x"))
    assert "no variance" in page.text


@pytest.mark.parametrize("values", [[0.0], [0.5, 0.6], [-3e-6, 2e-6], [-1e9, 4.0]])
def test_an_axis_has_room_for_all_and_for_zero(values: list[float]) -> None:
    axis = Axis.over(values, percent=True)
    for value in (0.0, *values):
        assert 0 < axis.at(value) < 100 or value == axis.low
    assert 2 <= len(axis.ticks) <= 9
    assert axis.at(axis.low - 1) == 0
    assert axis.at(axis.high + 1) == 100
