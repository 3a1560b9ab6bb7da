"""The HTML report: complete, well formed, without a network, and safe with any text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pytest
from made_split import HOSTILE, made_split
from typer.testing import CliRunner

from segue.cli.main import app
from segue.evaluation.backtest import SEGUE, Backtest, Fitted, Report
from segue.evaluation.protocols import HEADLINE, HOME, HOME_NEW, NEXT_UP, Measured, Task, evaluate
from segue.evaluation.report import About, Axis, Mark, render
from segue.evaluation.segments import OUTSIDE
from segue.recommend.ranker import RankerSpec
from segue.settings import Settings

EVIL = "<img src=x onerror='alert(1)'>"
VOID = {"meta", "circle", "line", "polygon", "polyline"}


def backtested(*, with_others: bool = True) -> Backtest:
    split, items, countries = made_split()
    n_items = len(split.tracks)

    def scorer(shift: int):  # type: ignore[no-untyped-def]
        def of(task: Task, rows: slice) -> np.ndarray:
            cases = np.arange(rows.start, rows.stop)[:, None]
            out = np.full((len(cases), task.cut), -1, np.int32)
            out[:, :20] = (cases * shift + np.arange(20)) % n_items
            return out

        return of

    names = {SEGUE: 0, "popular": 1, EVIL: 3} if with_others else {SEGUE: 0}
    evaluations = {
        task: {name: evaluate(split.tasks[task], scorer(shift), keep=1_000) for name, shift in names.items()}
        for task in (HOME, HOME_NEW, NEXT_UP)
    }
    return Backtest(
        split=split,
        evaluations=evaluations,
        items=items,
        countries=countries,
        fitted=Fitted(60, 9, 4, 1.0, 2.0),
        rankers={},
    )


@pytest.fixture(scope="module")
def report() -> Report:
    return backtested().report()


def about(settings: Settings | None = None) -> About:
    fitted = Fitted(60, 9, 4, 1.0, 2.0)
    rankers = {"home": RankerSpec(features=("a", "b"), objectives=("play", "like"), requests=12)}
    return About(1_795_000_000_000_000, "0.1", settings or Settings(), fitted, rankers, EVIL)


class Reader(HTMLParser):
    """Checks that tags nest, and keeps attributes and text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def test_it_holds_every_number_of_every_model(report: Report) -> None:
    reader = read(render(report, about()))
    text = " ".join(reader.words)
    lines = {tuple(line.split("\t")) for word in reader.words for line in word.splitlines()}
    for name, task in report.tasks.items():
        for model, metrics in task.models.items():
            for metric, found in metrics.items():
                row = (name, "all", model, metric, *(f"{v:.6f}" for v in (found.value, *found.ci95)))
                assert row in lines
                assert f"{found.value:.4f}" in text
        for partition, segments in task.segments.items():
            for part, segment in segments.items():
                assert segment.meaning in text or part == OUTSIDE
                for model, metrics in segment.models.items():
                    for metric, found in metrics.items():
                        numbers = (f"{v:.6f}" for v in (found.value, *found.ci95))
                        assert (name, f"{partition}: {part}", model, metric, *numbers) in lines
        for model, found in task.beyond.items():
            assert model in text
            assert f"{found.gini:.3f}" in text
            assert f"{found.novelty.value:.3f}" in text
            assert f"{100 * found.coverage:.1f}%" in text


def test_dots_and_intervals_stand_where_the_numbers_say(report: Report) -> None:
    html = render(report, about())
    task = report.tasks[HOME]
    metric = HEADLINE[HOME][-1]
    top = max(m[metric].ci95[1] for m in task.models.values())
    ours = task.models[SEGUE][metric]
    chart = html.split('class="dot-row ours"')[1].split("</svg>")[0]
    assert f'cx="{round(100 * ours.value / top, 2)}%"' in chart
    assert f'x1="{round(100 * ours.ci95[0] / top, 2)}%"' in chart


def test_hostile_text_is_escaped_everywhere(report: Report) -> None:
    html = render(report, about())
    reader = read(html)
    assert not {tag for tag, _ in reader.tags} & {"script", "img", "iframe", "object", "link"}
    assert not [a for _, attributes in reader.tags for a in attributes if a.startswith("on")]
    text = " ".join(reader.words)
    assert HOSTILE in text  # the title, as a reader of the page sees it
    assert EVIL in text
    assert "listeners in <b>" in text or "<b>" not in report.tasks[HOME].segments["country"]


def test_it_needs_no_network(report: Report) -> None:
    html = render(report, about())
    reader = read(html)
    for _, attributes in reader.tags:
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    assert "url(" not in html
    assert "@import" not in html
    assert not re.search(r"https?://", html)


def test_every_link_leads_to_a_place_and_ids_are_unique(report: Report) -> None:
    reader = read(render(report, about()))
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in reader.tags:
        for name in ("href", "aria-labelledby"):
            if name in attributes:
                assert (attributes[name] or "").lstrip("#") in ids


def test_without_baselines_it_still_stands() -> None:
    report = backtested(with_others=False).report()
    assert report.tasks[HOME].lead == {}
    html = render(report, about())
    read(html)
    assert "Ahead of" not in html


def test_changed_settings_stand_apart_from_those_as_shipped(report: Report) -> None:
    changed = msgspec.structs.replace(
        Settings(), training=msgspec.structs.replace(Settings().training, factors=77)
    )
    html = render(report, about(changed))
    row = re.search(r"<tr><td><code>training.factors</code>.*?</tr>", html)
    assert row is not None
    assert "77" in row.group()
    assert str(Settings().training.factors) in row.group()
    assert "All as shipped" in render(report, about())


def test_the_json_keeps_its_shape(report: Report) -> None:
    built = msgspec.json.decode(msgspec.json.encode(report))
    for name, task in built["tasks"].items():
        assert {"protocol", "models", "beyond", "segments", "lead"} <= set(task)
        for metrics in task["models"].values():
            assert set(HEADLINE[name]) <= set(metrics)
            assert all(set(found) == {"value", "ci95"} for found in metrics.values())
    lead = report.tasks[NEXT_UP].lead["popular"]
    mine, theirs = (report.tasks[NEXT_UP].models[m][lead.metric].value for m in (SEGUE, "popular"))
    assert lead.difference == pytest.approx(mine - theirs)


@pytest.mark.parametrize("scale", [1e-4, 0.013, 0.31, 1.0])
def test_the_axis_holds_all_values_and_is_not_squeezed_by_a_useless_interval(scale: float) -> None:
    some = [Measured(scale, (0.8 * scale, 1.2 * scale)), Measured(scale / 2, (0.0, 1.0))]
    axis = Axis.over(some, 4)
    assert axis.top == pytest.approx(1.2 * scale)
    assert 3 <= len(axis.ticks) <= 5
    assert axis.at(0.0) == 0.0
    assert axis.at(5.0) == 100.0
    assert [Mark.of("m", measured, axis).beyond for measured in some] == [False, scale < 0.8]
    assert Axis.over([Measured(0.0, (0.0, 0.0))], 4).top == 1.0


def test_a_file_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    for where in (tmp_path / "absent" / "report.html", tmp_path):
        result = CliRunner().invoke(app, ["evaluate", "--home", str(tmp_path / "home"), "--html", str(where)])
        assert result.exit_code == 2
        assert "--html" in result.stderr
