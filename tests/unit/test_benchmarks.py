"""The benchmarks' book-keeping on made-up rows: what is recorded, and how the page reads."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # the benchmarks are not installed

from benchmarks.harness import (
    Row,
    Section,
    at_least,
    at_most,
    interleaved,
    less_is_better,
    main,
    more_is_better,
    record,
    render,
)


def section(*rows: Row) -> Section:
    return Section("2026-01-01T00:00+00:00", "a machine", {"numpy": "2.0"}, 1.0, list(rows))


def saved(results: Path) -> dict[str, Section]:
    return msgspec.json.decode(results.read_bytes(), type=dict[str, Section])


def test_a_ratio_above_one_means_ours_is_better_either_way() -> None:
    assert less_is_better("time", 2.0, 6.0, "s", "").ratio == 3.0
    assert more_is_better("rate", 2.0, 6.0, "1/s", "").ratio == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (at_least(8.0, 8.0, "x"), True),
        (at_least(7.99, 8.0, "x"), False),
        (at_most(5.0, 5.0, "ms"), True),
        (at_most(5.01, 5.0, "ms"), False),
    ],
)
def test_a_goal_is_met_up_to_its_limit(goal: object, met: bool) -> None:
    assert getattr(goal, "met") is met  # noqa: B009 - the type is a parameter


def test_the_page_shows_missed_goals_as_plainly_as_met_ones() -> None:
    page = render(
        {
            "b": section(Row("slow", 9.0, None, None, "ms", "as measured", at_most(9.0, 5.0, "ms"))),
            "a": section(less_is_better("fast", 1.0, 4.0, "s", "ours|theirs", at_least(4.0, 3.0, "x"))),
        }
    )
    assert "1 of 2 goals are met. Missed: slow (at most 5 ms)." in page
    assert "| slow | 9 ms |  |  | at most 5 ms: **missed** | as measured |" in page
    assert "| fast | 1 s | 4 s | 4.0 x | at least 3 x: met |" in page
    assert page.index("## a") < page.index("## b")
    rows = [line for line in page.splitlines() if line.startswith(("| fast", "| slow"))]
    assert [line.replace(r"\|", "").count("|") for line in rows] == [7, 7], "no cell breaks the table"


def test_a_loss_is_a_ratio_below_one_with_its_digits() -> None:
    assert "| 0.05 x |" in render({"a": section(more_is_better("rate", 1.0, 20.0, "1/s", ""))})


def test_recording_one_benchmark_leaves_the_others_alone(tmp_path: Path) -> None:
    results, page = tmp_path / "results.json", tmp_path / "docs" / "page.md"
    record("one", [Row("first", 1.0, None, None, "s", "")], 1.0, results, page)
    record("two", [Row("second", 2.0, None, None, "s", "")], 1.0, results, page)
    before = saved(results)
    record("two", [Row("again", 1_234_567.0, None, None, "events/s", "")], 3.0, results, page)
    after = saved(results)
    assert after["one"] == before["one"]
    assert [row.name for row in after["two"].rows] == ["again"]
    assert page.read_text() == render(after)
    assert "1,234,567 events/s" in page.read_text()


def test_an_unknown_name_stops_before_anything_runs() -> None:
    def never() -> list[Row]:
        raise AssertionError("must not run")

    with pytest.raises(SystemExit, match="no benchmark tree; there are trees"):
        main({"trees": never}, ["tree"])


def test_sides_take_turns_and_the_first_round_is_not_counted() -> None:
    calls: list[str] = []
    seconds = interleaved([lambda: calls.append("ours"), lambda: calls.append("peer")], repeats=2)
    assert calls == ["ours", "peer"] * 3
    assert len(seconds) == 2
