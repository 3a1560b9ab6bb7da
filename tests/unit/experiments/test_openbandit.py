"""Two policies of one test, each judged from the other's log; and folders that are no such logs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from segue.cli.main import app
from segue.contracts.errors import InvalidData, NotFound
from segue.experiments.offpolicy.openbandit import COLUMNS, against, compare, read

ITEMS, POSITIONS, DAYS = 6, 2, 5


def table(seed: int, *, learns: bool, rows: int = 4_000) -> pa.Table:
    """A log of a uniform policy, or of one whose chances change from day to day."""
    world, rng = np.random.default_rng(7), np.random.default_rng(seed)
    clicks = world.uniform(0.01, 0.2, (POSITIONS, ITEMS))
    chances = np.full((DAYS, POSITIONS, ITEMS), 1 / ITEMS)
    if learns:
        chances = 0.9 * world.dirichlet(np.full(ITEMS, 0.5), (DAYS, POSITIONS)) + 0.1 / ITEMS
    day, position = rng.integers(0, DAYS, rows), rng.integers(0, POSITIONS, rows)
    item = (rng.random(rows)[:, None] > chances[day, position].cumsum(axis=1)).sum(axis=1).clip(0, ITEMS - 1)
    columns = [
        item + 100,
        position + 1,
        rng.random(rows) < clicks[position, item],
        chances[day, position, item],
    ]
    return pa.table(
        dict(zip(COLUMNS, [columns[0], columns[1], columns[2].astype(np.int64), columns[3]], strict=True))
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("logs")
    pq.write_table(table(1, learns=False), found / "random-all.parquet")
    pq.write_table(table(2, learns=True), found / "bts-all.parquet")
    return found


def test_each_policy_is_judged_from_the_other_log(folder: Path) -> None:
    report = compare(folder)
    assert set(report.policies) == {"random", "bts"}
    for name, policy in report.policies.items():
        assert policy.from_log != name
        assert policy.overlap.without_support == 0.0
        for estimator, found in policy.estimates.items():
            assert found.ci95[0] <= found.value <= found.ci95[1], estimator
        for estimator in ("ips", "snips", "dr", "sndr"):
            assert abs(policy.estimates[estimator].value / policy.truth - 1) < 0.25, (name, estimator)


def test_propensities_averaged_over_the_period_weigh_more_evenly(folder: Path) -> None:
    averaged, logged = (compare(folder, averaged=a).policies["random"] for a in (True, False))
    assert averaged.overlap.max_weight < logged.overlap.max_weight
    assert averaged.overlap.ess > 1.2 * logged.overlap.ess


def test_a_log_is_weighed_by_the_shares_that_it_shows(folder: Path) -> None:
    """Of a uniform policy too: with every item at every position the weights are 1 on average, and an item's clicks at a position
    count by its rate there, however often it was shown."""
    bts, random = read(folder)
    chances = bts.chances(POSITIONS, ITEMS)
    seen, _ = against(random, chances)
    assert seen.weight.mean() == pytest.approx(1.0)
    rates = np.array(
        [
            [random.click[(random.position == p) & (random.item == i)].mean() for i in range(ITEMS)]
            for p in range(POSITIONS)
        ]
    )
    at = np.bincount(random.position, minlength=POSITIONS) / len(random.click)
    ips = compare(folder).policies["bts"].estimates["ips"].value
    assert ips == pytest.approx(at @ (chances * rates).sum(axis=1))
    exact, _ = against(random, chances, averaged=False)
    assert exact.propensity == pytest.approx(1 / ITEMS)


def test_a_policy_is_described_by_how_often_it_showed_what(folder: Path) -> None:
    bts, random = read(folder)
    assert (bts.name, random.name) == ("bts", "random")
    assert np.array_equal(random.chances(POSITIONS, ITEMS), np.full((POSITIONS, ITEMS), 1 / ITEMS))
    chances = bts.chances(POSITIONS, ITEMS)
    assert chances.sum(axis=1) == pytest.approx(1.0)
    assert chances[1, 3] == np.mean(bts.item[bts.position == 1] == 3)


def test_an_item_that_the_log_never_shows_is_without_support(folder: Path) -> None:
    bts, random = read(folder)
    kept = bts.item != 2
    without = type(bts)("bts", bts.item[kept], bts.position[kept], bts.click[kept], bts.propensity[kept])
    seen, unseen = against(without, random.chances(POSITIONS, ITEMS))
    assert unseen == pytest.approx(1 / ITEMS)
    assert len(seen) == kept.sum()


def test_a_policy_that_the_log_cannot_speak_of_is_refused(folder: Path, tmp_path: Path) -> None:
    log = pq.read_table(folder / "bts-all.parquet")
    pq.write_table(log.filter(pa.compute.not_equal(log["item_id"], 102)), tmp_path / "bts-all.parquet")
    pq.write_table(pq.read_table(folder / "random-all.parquet"), tmp_path / "random-all.parquet")
    with pytest.raises(InvalidData, match=r"random: at least 1[67]% of what it would choose had no chance"):
        compare(tmp_path)


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("propensity_score", [0.0], "propensity: 1 of 4,000 rows are 0"),
        ("item_id", [np.inf], "item_id is missing or infinite in 1 of 4,000 rows"),
        ("propensity_score", [1.5], "propensity: 1 of 4,000 rows are above 1"),
        ("propensity_score", [float("nan")], "propensity: 1 of 4,000 rows are missing"),
        ("click", [2.0], "click must be 0 or 1"),
        ("item_id", [float("nan")], "item_id is missing or infinite in 1 of 4,000 rows"),
    ],
)
def test_bad_rows_are_refused_with_the_file(
    folder: Path, tmp_path: Path, column: str, values: list[float], said: str
) -> None:
    log = table(1, learns=False)
    broken = pa.array([*values, *log[column].to_pylist()[1:]], pa.float64())
    pq.write_table(log.set_column(log.schema.get_field_index(column), column, broken), tmp_path / "a.parquet")
    pq.write_table(table(2, learns=True), tmp_path / "b.parquet")
    with pytest.raises(InvalidData, match=rf"a\.parquet: .*{said}|a\.parquet: {said}"):
        read(tmp_path)


def test_files_that_are_no_log_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="is no folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(NotFound, match="has 0 Parquet files; two are needed"):
        read(tmp_path)
    log = table(1, learns=False)
    pq.write_table(log, tmp_path / "b.parquet")
    pq.write_table(log.drop_columns("propensity_score"), tmp_path / "a.parquet")
    with pytest.raises(
        InvalidData, match=r"a\.parquet: no column propensity_score: a log without propensities"
    ):
        read(tmp_path)
    pq.write_table(log.drop_columns("click"), tmp_path / "a.parquet")
    with pytest.raises(InvalidData, match=r"no column click; a log has item_id, position"):
        read(tmp_path)
    pq.write_table(log.slice(0, 0), tmp_path / "a.parquet")
    with pytest.raises(InvalidData, match="has no rows"):
        read(tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"not parquet")
    with pytest.raises(InvalidData, match="not a Parquet file"):
        read(tmp_path)
    names = log.set_column(0, "item_id", pa.array(["shirt"] * len(log)))
    pq.write_table(names, tmp_path / "a.parquet")
    with pytest.raises(InvalidData, match=r"item_id must be numbers .*, got string"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("names", "known"),
    [
        (("bts-all", "random-all"), {"bts", "random"}),
        (("all", "bts-all"), {"all", "bts-all"}),
        (("-all", "all"), {"-all", "all"}),
    ],
)
def test_policies_are_called_by_what_their_files_differ_in(
    tmp_path: Path, names: tuple[str, str], known: set[str]
) -> None:
    for seed, name in enumerate(names):
        pq.write_table(table(seed, learns=False), tmp_path / f"{name}.parquet")
    assert {log.name for log in read(tmp_path)} == known


def test_a_log_that_would_not_fit_is_refused(tmp_path: Path) -> None:
    """Items times positions rows of as many columns: tracks of a catalogue would take terabytes."""
    log = table(1, learns=False)
    many = log.set_column(0, "item_id", pa.array(np.arange(len(log))))
    for name in ("a", "b"):
        pq.write_table(many, tmp_path / f"{name}.parquet")
    with pytest.raises(InvalidData, match="item_id: 4,000 items at 2 positions are too many"):
        read(tmp_path)


def test_what_no_weight_can_hold_is_refused(tmp_path: Path) -> None:
    """A row whose propensity is next to nothing weighs more than all others: one effective row."""
    log = table(1, learns=True)
    tiny = log["propensity_score"].to_numpy().copy()
    pq.write_table(table(2, learns=True), tmp_path / "b.parquet")
    for chance, why in (
        (1e-90, "leave 1.0 effective rows of 4,000"),
        (1e-300, "a.parquet: propensity: 1 of 4,000 rows"),
    ):
        tiny[3] = chance
        pq.write_table(log.set_column(3, "propensity_score", pa.array(tiny)), tmp_path / "a.parquet")
        with pytest.raises(InvalidData, match=why):
            compare(tmp_path, averaged=False)


@pytest.mark.parametrize(("times", "said"), [(0.1, "too small"), (2.0, "too large")])
def test_propensities_that_cannot_be_true_are_refused(tmp_path: Path, times: float, said: str) -> None:
    """Weights average 1 whatever is judged, less what the log never shows."""
    log = table(1, learns=True)
    wrong = np.minimum(log["propensity_score"].to_numpy() * times, 1.0)
    pq.write_table(log.set_column(3, "propensity_score", pa.array(wrong)), tmp_path / "a.parquet")
    pq.write_table(table(2, learns=True), tmp_path / "b.parquet")
    with pytest.raises(InvalidData, match=said):
        compare(tmp_path, averaged=False)


def test_logs_that_show_positions_in_other_proportions_are_refused(tmp_path: Path) -> None:
    log = table(1, learns=True)
    last = log["position"].to_numpy() == log["position"].to_numpy().max()
    pq.write_table(table(2, learns=True), tmp_path / "b.parquet")
    for kept in (~last, ~last | (np.arange(len(last)) % 2 == 0)):
        pq.write_table(log.filter(pa.array(kept)), tmp_path / "a.parquet")
        with pytest.raises(InvalidData, match="position: the logs show positions in other proportions"):
            compare(tmp_path)


def test_a_column_twice_and_a_damaged_page_are_refused(folder: Path, tmp_path: Path) -> None:
    log = pq.read_table(folder / "bts-all.parquet")
    pq.write_table(log, tmp_path / "a.parquet")
    pq.write_table(log.append_column("click", log["click"]), tmp_path / "b.parquet")
    with pytest.raises(InvalidData, match="several columns are called click"):
        read(tmp_path)
    whole = bytearray((tmp_path / "a.parquet").read_bytes())
    whole[50:2_000] = b"\xff" * 1_950
    (tmp_path / "b.parquet").write_bytes(whole)
    with pytest.raises(InvalidData, match=r"b.parquet: not a Parquet file"):
        read(tmp_path)


def test_the_command_prints_one_document_or_tables(folder: Path) -> None:
    run = CliRunner()
    printed = run.invoke(app, ["ope", "--log", str(folder), "--json"])
    assert printed.exit_code == 0, printed.output
    found = json.loads(printed.stdout)["policies"]["bts"]
    assert {"truth", "estimates", "overlap", "clicks"} <= set(found)
    assert {"value", "ci95", "ess"} <= set(found["estimates"]["ips"])
    shown = run.invoke(app, ["ope", "--log", str(folder), "--logged"])
    assert shown.exit_code == 0
    assert "switch-dr" in shown.stdout
    refused = run.invoke(app, ["ope", "--log", str(folder / "nowhere")])
    assert refused.exit_code == 2
