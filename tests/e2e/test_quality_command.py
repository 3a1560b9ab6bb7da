"""A day that is broken, on the command line: the flow stops and says where to read on; accepted, it goes on."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from command import Done, rows, segue

from segue.contracts.ports import Days
from segue.contracts.tables import EVENTS, LISTENS, RAW_EVENTS
from segue.contracts.vocabulary import DAY
from segue.wiring.home import Home

SIZE = (
    "--tracks",
    "600",
    "--artists",
    "100",
    "--listeners",
    "700",
    "--days",
    "24",
    "--seed",
    "6",
    "--end",
    "2026-11-21",
)
LAST = date(2026, 11, 21)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose tables stand as of the day before the last; of the last day the phones' events are gone."""
    home = tmp_path_factory.mktemp("quality") / "home"
    assert segue(home, "simulate", *SIZE).code == 0
    assert segue(home, "step", "run", "co-listens", "--date", "2026-11-20").code == 0
    opened = Home.open(home, environ={}, overrides=["warehouse.threads=1"])
    day = opened.engine.collect(opened.engine.read(RAW_EVENTS, Days(LAST, LAST)))
    left = day.filter(pc.not_equal(day["device"], "phone"))
    opened.engine.overwrite(RAW_EVENTS, left.cast(RAW_EVENTS.arrow), Days(LAST, LAST))
    opened.engine.close()
    return home


@pytest.fixture(scope="module")
def stopped(home: Path) -> Done:
    """The run that stops."""
    return segue(home, "step", "run", "co-listens", "--date", LAST.isoformat())


@pytest.fixture
def copy(home: Path, stopped: Done, tmp_path: Path) -> Path:
    """A home of a test's own."""
    return Path(shutil.copytree(home, tmp_path / "home"))


def test_the_run_says_what_is_lost_and_where_to_read_on(home: Path, stopped: Done) -> None:
    [file] = (home / "incidents").iterdir()
    assert f"{LAST} holds 0 rows with device phone, where " in stopped.error
    assert str(file) in stopped.error
    assert f"segue quality accept {file.stem}" in stopped.error
    assert LAST not in set(rows(home, EVENTS, "day")["day"].to_pylist())
    told = file.read_text(encoding="utf-8")
    assert "`listens`, " in told
    assert "holds 0 rows with device phone" in told


def test_the_state_is_shown_as_table_json_and_page(home: Path, stopped: Done, tmp_path: Path) -> None:
    shown = segue(home, "quality", more={"COLUMNS": "200"}).out
    assert "open events-2026-11-21-" in shown
    assert "listens, 2026" in shown
    assert any(bar in shown for bar in "▁▂▃▄▅▆▇█")
    found = segue(home, "quality", "--json").json
    assert found["day"] == "2026-11-20"
    assert [one["status"] for one in found["incidents"]] == ["open"]
    events = next(table for table in found["tables"] if table["table"] == "events")
    phone = next(line for line in events["lines"] if (line["measure"], line["part"]) == ("device", "phone"))
    assert phone["low"][-1] < phone["rows"][-1] < phone["high"][-1]
    assert phone["severity"] is None
    page = tmp_path / "quality.html"
    assert segue(home, "quality", "--html", str(page)).code == 0
    text = page.read_text(encoding="utf-8")
    assert "1 open incident" in text
    assert text.count("<polyline") > 50
    assert "http" not in text
    assert "<script" not in text


def test_what_is_accepted_goes_on_and_is_remembered(copy: Path) -> None:
    name = next((copy / "incidents").iterdir()).stem
    said = segue(copy, "quality", "accept", name, "--why", "the phones' client was withdrawn", "--json").json
    assert said["name"] == name
    assert segue(copy, "step", "run", "co-listens", "--date", LAST.isoformat()).code == 0
    assert LAST in set(rows(copy, LISTENS, "day")["day"].to_pylist())
    found = segue(copy, "quality", "--json").json
    assert {one["status"] for one in found["incidents"]} == {"accepted"}
    again = segue(copy, "step", "run", "events", "--date", LAST.isoformat(), "--force")
    assert again.code == 0, again.err


def test_the_next_good_day_goes_on_without_it(copy: Path) -> None:
    next_day = date(2026, 11, 22)
    opened = Home.open(copy, environ={}, overrides=["warehouse.threads=1"])
    before = Days(date(2026, 11, 20), date(2026, 11, 20))
    rows_of_next = opened.engine.collect(opened.engine.read(RAW_EVENTS, before).order_by("event_id"))
    for name in ("ts", "received_at"):
        later = pc.add(rows_of_next[name], 2 * DAY)
        rows_of_next = rows_of_next.set_column(rows_of_next.column_names.index(name), name, later)
    rows_of_next = rows_of_next.set_column(0, "day", pa.array([next_day] * rows_of_next.num_rows))
    opened.engine.append(RAW_EVENTS, rows_of_next.cast(RAW_EVENTS.arrow))
    opened.engine.close()
    done = segue(copy, "step", "run", "co-listens", "--date", next_day.isoformat())
    assert done.code == 0, done.err
    assert f"{LAST} left out as long as events-{LAST}-" in done.err
    days = set(rows(copy, LISTENS, "day")["day"].to_pylist())
    assert next_day in days
    assert LAST not in days
    assert f"left out of training and of what bundles count, until mended or accepted: {LAST}" in (
        segue(copy, "quality", more={"COLUMNS": "200"}).out
    )


def test_a_day_is_set_aside_by_hand_and_taken_back(copy: Path) -> None:
    said = segue(copy, "quality", "set-aside", "2026-11-19", "--why", "bots all day", "--json").json
    assert said["name"] == "aside-2026-11-19"
    told = segue(copy, "quality", more={"COLUMNS": "200"}).out
    assert "open aside-2026-11-19  bots all day" in told
    assert f"until mended or accepted: 2026-11-19, {LAST}" in told
    assert segue(copy, "quality", "accept", "aside-2026-11-19", "--why", "they were few").code == 0
    assert "accepted aside-2026-11-19" in segue(copy, "quality", more={"COLUMNS": "200"}).out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--inject", "dead-clients"), "did you mean 'dead-client'"),
        (("--table", "raw_events"), "not watched"),
        (("--date", "yesterday"), "no date"),
        (("set-aside", "yesterday", "--why", "x"), "day: 'yesterday' is no date"),
        (("accept", "events-2026"), "there is no incident 'events-2026'"),
    ],
)
def test_a_refusal_names_what_is_wrong(home: Path, arguments: tuple[str, ...], named: str) -> None:
    assert named in segue(home, "quality", *arguments).error
