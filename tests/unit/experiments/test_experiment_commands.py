"""`segue experiment`, as somebody with a table types it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
from made_experiment import daily, table
from typer.testing import CliRunner, Result

from segue.cli.main import app


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["experiment", *(str(word) for word in words)])


@pytest.fixture(scope="module")
def ab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table from outside, with names of its own, as CSV."""
    made = table(3000, lift=0.15)
    names = {
        "unit": "user",
        "variant": "group",
        "minutes.pre": "minutes_before",
        "skip_rate.numerator": "skips",
        "skip_rate.denominator": "plays",
    }
    path = tmp_path_factory.mktemp("ab") / "ab.csv"
    csv.write_csv(made.rename_columns([names.get(name, name) for name in made.column_names]), path)
    return path


def test_the_keys_that_programs_read(ab: Path) -> None:
    words = [
        "analyze",
        "--csv",
        ab,
        "--unit",
        "user",
        "--variant",
        "group",
        "--metric",
        "minutes",
        "--pre",
        "minutes_before",
    ]
    done = run(*words, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["units"] == {"control": 1500, "treatment": 1500}
    assert found["srm"]["p"] == 1.0
    assert found["srm"]["mismatch"] is False
    minutes = found["metrics"]["minutes"]
    assert minutes["variants"]["control"]["n"] == 1500
    assert isinstance(minutes["variants"]["control"]["mean"], float)
    (change,) = minutes["comparisons"]
    assert (change["variant"], change["control"]) == ("treatment", "control")
    assert change["ci95"][0] < change["effect"] < change["ci95"][1]
    assert change["relative"] == pytest.approx(change["effect"] / minutes["variants"]["control"]["mean"])
    assert change["p"] < 0.05
    assert change["method"] == "welch+cuped"
    assert found["decision"]["verdict"] == "ship"


def test_csv_and_parquet_say_the_same_whatever_the_name(ab: Path, tmp_path: Path) -> None:
    pq.write_table(csv.read_csv(ab), tmp_path / "ab.csv")
    told = [
        run("analyze", "--csv", path, "--unit", "user", "--variant", "group", "--metric", "stayed", "--json")
        for path in (ab, tmp_path / "ab.csv")
    ]
    assert told[0].exit_code == 0
    assert told[0].stdout == told[1].stdout
    # Booleans are proportions without being told.
    assert json.loads(told[0].stdout)["metrics"]["stayed"]["metric"]["kind"] == "proportion"


def test_a_page_and_a_table_for_people(ab: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = run(
        "analyze", "--csv", ab, "--unit", "user", "--variant", "group", "--metric", "minutes,mde=0.05", "--metric",
        "skip_rate,numerator=skips,denominator=plays,direction=down,margin=0.05", "--segment", "country", "--report", page,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    for said in ("as it should be", "minutes", "skip_rate", "ship treatment", "not worse by 5.0%"):
        assert said in done.output
    assert "Ship treatment" in page.read_text(encoding="utf-8")


def test_days_beside(tmp_path: Path) -> None:
    units, days = daily(1000, lifts=(0.3,) * 8)
    csv.write_csv(units, tmp_path / "units.csv")
    csv.write_csv(days, tmp_path / "days.csv")
    done = run(
        "analyze",
        "--csv",
        tmp_path / "units.csv",
        "--metric",
        "plays",
        "--days",
        tmp_path / "days.csv",
        "--json",
    )
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout)["metrics"]["plays"]["courses"][0]["days"]) == 8


def test_ids_keep_their_zeros(tmp_path: Path) -> None:
    rows = pa.table(
        {"unit": ["01", "1", "001", "2"], "variant": ["a", "b", "a", "b"], "x": [1.0, 2.0, 3.0, 5.0]}
    )
    csv.write_csv(rows, tmp_path / "ids.csv")
    found = json.loads(run("analyze", "--csv", tmp_path / "ids.csv", "--metric", "x", "--json").stdout)
    assert found["units"] == {"a": 2, "b": 2}
    assert found["twice"] == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "which table"),
        (["--csv", "absent.csv", "--metric", "x"], "no such file"),
        (["--csv", ".", "--metric", "x"], "is a folder; name the file in it"),
        (["--csv", "AB", "--metric", "nosuch"], "no column 'nosuch'"),
        (["--csv", "AB"], "there is no metric"),
        (["--csv", "AB", "--metric", "minutes,colour=red"], "'colour=red' is none of"),
        (["--csv", "AB", "--metric", "minutes,direction=left"], "direction: 'left' is none of up, down"),
        (["--csv", "AB", "--metric", "r,numerator=skips"], "needs both numerator= and denominator="),
        (["--csv", "AB", "--metric", "minutes", "--metric", "minutes"], "given twice"),
        (
            ["--csv", "AB", "--metric", "minutes", "--pre", "plays", "--pre", "skips"],
            "--pre is given 2 times",
        ),
        (["--csv", "AB", "--metric", "minutes", "--shares", "control"], "not NAME=NUMBER"),
        (["--csv", "AB", "--metric", "minutes", "--shares", "control=1,treatment=-1"], "above 0"),
        (["--csv", "AB", "--metric", "minutes", "--shares", "control=1e308,treatment=1e308"], "to a million"),
        (["--csv", "AB", "--metric", "minutes", "--shares", "control=1,control=2"], "named twice"),
        (["--csv", "AB", "--metric", "user"], "says who and which, and is no metric"),
        (
            ["--csv", "AB", "--metric", "minutes,pre=plays", "--segment", "minutes.pre"],
            "there is no column 'minutes.pre'",
        ),
        (["--csv", "AB", "--metric", "minutes", "--report", "no/such/folder/x.html"], "existing directory"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(ab: Path, words: list[str], says: str) -> None:
    done = run(
        "analyze",
        "--unit",
        "user",
        "--variant",
        "group",
        *(str(ab) if word == "AB" else word for word in words),
    )
    assert done.exit_code == 2
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.output


def test_a_file_that_is_no_table(tmp_path: Path) -> None:
    broken = tmp_path / "broken.csv"
    broken.write_bytes(b"PAR1 is what it begins with, and no more")
    done = run("analyze", "--csv", broken, "--metric", "x")
    assert done.exit_code == 2
    assert "cannot be read" in " ".join(done.stderr.split())
    empty = tmp_path / "empty.csv"
    empty.write_text("")
    assert run("analyze", "--csv", empty, "--metric", "x").exit_code == 2
    ragged = tmp_path / "ragged.csv"
    ragged.write_text("unit,variant,x\n1,a,2\n2,b\n")
    assert run("analyze", "--csv", ragged, "--metric", "x").exit_code == 2


ROWS = [("1", "a", "1", "2"), ("2", "b", "3", "1"), ("3", "a", "2", "4"), ("4", "b", "2", "2")]


@pytest.mark.parametrize(
    ("header", "rows", "asked", "says"),
    [
        ("unit,variant,x,x", ROWS, ["x"], "2 columns are called 'x'"),
        ("unit,variant,x,x.pre", ROWS, ["x", "x.pre"], "column 'x.pre' would be its pre-period"),
        (
            "unit,variant,r.numerator,y",
            ROWS,
            ["r,numerator=y,denominator=y", "r.numerator"],
            "its 'r.numerator' would be column 'r.numerator', and is 'y' elsewhere",
        ),
        ("unit,variant,x,y", [*ROWS, ("5", "a", "1e200", "1")], ["x"], "whose powers no number holds"),
        ("unit,variant,x,y", [(*row[:2], "1e-200", "1") for row in ROWS], ["x"], "no number holds"),
    ],
)
def test_columns_that_would_be_read_as_something_else(
    tmp_path: Path, header: str, rows: list[tuple[str, ...]], asked: list[str], says: str
) -> None:
    file = tmp_path / "table.csv"
    file.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    done = run("analyze", "--csv", file, *(word for one in asked for word in ("--metric", one)))
    assert done.exit_code == 2, done.output
    assert says in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("unit;variant;x\n1;a;1\n2;b;1\n", "separate columns by commas"),
        ("unit,variant,x\n1,a,1\n2,b,n/a?\n", "Failed to parse string: 'n/a?'"),
    ],
)
def test_a_table_that_is_not_as_it_should_be(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "table.csv"
    file.write_text(content)
    done = run("analyze", "--csv", file, "--metric", "x")
    assert done.exit_code == 2
    assert says in " ".join(done.stderr.split())


def test_a_header_that_is_not_utf8(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_bytes("unit,variant,x,größe\n1,a,1,2\n2,b,1,3\n".encode("latin-1"))
    done = run("analyze", "--csv", file, "--metric", "x")
    assert done.exit_code == 2
    assert "cannot be read" in " ".join(done.stderr.split())


@pytest.mark.parametrize("unit", [[[1], [2], [3]], [{"a": 1}, {"a": 2}, {"a": 3}], [b"\xff", b"\xfe", b"1"]])
def test_units_that_are_no_text(tmp_path: Path, unit: list[object]) -> None:
    file = tmp_path / "table.parquet"
    pq.write_table(pa.table({"unit": unit, "variant": ["a", "b", "a"], "x": [1.0, 2.0, 3.0]}), file)
    done = run("analyze", "--csv", file, "--metric", "x")
    assert done.exit_code == 2
    assert "not text" in " ".join(done.stderr.split())


LARGE = [2**53, 2**53 + 1, 2**63 - 2, 2**63 - 1]
"""Ids that float64 makes alike, two and two."""


@pytest.mark.parametrize("write", [csv.write_csv, pq.write_table])
def test_large_ids_are_not_merged(tmp_path: Path, write: object) -> None:
    file, days = tmp_path / "table", tmp_path / "days"
    rows = pa.table({"unit": LARGE, "variant": [*"abab"], "x": [1.0, 2.0, 3.0, 5.0]})
    write(rows, file)  # type: ignore[operator]
    write(rows.append_column("day", [[1, 1, 2, 2]]), days)  # type: ignore[operator]
    words = ["analyze", "--csv", file, "--metric", "x", "--days", days, "--json"]
    found = json.loads(run(*words).stdout)
    assert (found["units"], found["twice"]) == ({"a": 2, "b": 2}, 0)
    assert [day["units"] for day in found["metrics"]["x"]["courses"][0]["days"]] == [4]
    write(rows.rename_columns(["x", "variant", "unit"]), file)  # type: ignore[operator]
    done = run("analyze", "--csv", file, "--metric", "x")
    assert done.exit_code == 2
    assert "whole numbers above 9,007,199,254,740,992" in " ".join(done.stderr.split())


def test_ids_that_were_made_fractional(tmp_path: Path) -> None:
    """As a missing id makes the others: whole again where nothing was lost, refused where ids were."""
    file, days = tmp_path / "table.parquet", tmp_path / "days.csv"
    rows = {"unit": [1.0, 2.0, 3.0, 4.0, None], "variant": [*"abab", None], "x": [1.0, 2.0, 3.0, 5.0, 1.0]}
    pq.write_table(pa.table(rows), file)
    days.write_text("unit,day,x\n1,1,1\n2,1,2\n3,1,3\n4,1,5\n")
    found = json.loads(run("analyze", "--csv", file, "--metric", "x", "--days", days, "--json").stdout)
    assert [day["units"] for day in found["metrics"]["x"]["courses"][0]["days"]] == [4]
    pq.write_table(pa.table(rows | {"unit": [float(one) for one in LARGE] + [None]}), file)
    done = run("analyze", "--csv", file, "--metric", "x")
    assert done.exit_code == 2
    assert "several ids become one number" in " ".join(done.stderr.split())


def test_a_number_that_is_none_is_no_unit(tmp_path: Path) -> None:
    file = tmp_path / "table.parquet"
    none = float("nan")
    rows = {"unit": [1.0, 2.0, 3.0, none, none], "variant": ["a", "b", "b", "a", "a"], "x": [1.0, 2, 3, 4, 5]}
    pq.write_table(pa.table(rows), file)
    found = json.loads(run("analyze", "--csv", file, "--metric", "x", "--json").stdout)
    assert found["units"] == {"a": 1, "b": 2}
    assert found["warnings"] == ["2 rows without a unit or a variant are left out"]


def test_aa_prints_what_it_must(tmp_path: Path) -> None:
    done = run("aa", "--runs", 20, "--units", 300, "--days", 5, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["runs"] == 20
    assert {"fixed", "always_valid_daily_peeking"} <= found["false_positive_rate"].keys()
    assert {"p_uniform_ks", "cuped_width_ratio", "cuped_width_ratio_theory", "srm"} <= found.keys()
    assert "never do this" in run("aa", "--runs", 10, "--units", 300, "--days", 3).output


def test_power_from_numbers_and_what_it_needs(tmp_path: Path) -> None:
    done = run("power", "--mean", 50, "--sd", 100, "--traffic", 3000, "--mde", 0.02, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["units"] == pytest.approx(314_000, rel=0.01)
    said = run("power", "--mean", 50, "--sd", 100, "--traffic", 3000, "--mde", 0.02).output
    assert "needs 313,956 units, 105 days" in said
    for words in (["--mean", 50], ["--traffic", 3, "--home", tmp_path], ["--home", tmp_path]):
        assert run("power", *words).exit_code == 2
