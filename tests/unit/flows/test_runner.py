"""The runner builds what is stale and nothing else, and the tables do not depend on how it got there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import made_flow
import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from made_flow import D, commits, contents, home_with, raw_events, run, work

from segue.contracts.errors import Conflict, ContractBroken, InvalidInput
from segue.contracts.ports import Days
from segue.contracts.schema import Column, Table
from segue.contracts.tables import DAILY_TRACKS, EVENTS, LISTENS, RAW_EVENTS, RUNS, SESSIONS, TABLES, TRACKS
from segue.flows.ledger import Ledger
from segue.flows.registry import Read, step
from segue.flows.steps import BUILD
from segue.flows.task import Task
from segue.settings.tree import Training
from segue.warehouse import incidents
from segue.warehouse.findings import ROWS, Breach, Finding, Part

DAILY = ("daily-tracks", "daily-artists", "daily-listeners")


HISTORY = raw_events(range(7))
LATE = raw_events([3], seed=9, per_day=5)


@pytest.fixture(scope="module")
def built_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with HISTORY, built once."""
    home = tmp_path_factory.mktemp("built")
    engine = home_with(home, HISTORY)
    progress = run(engine, home)
    assert work(progress)["events"] == [Days(D[0], D[6])]
    assert all(item.state in ("running", "done") for item in progress)
    assert (
        sum(item.written_rows for item in progress if item.step == "events" and item.state == "done") == 420
    )
    engine.close()
    return home


@pytest.fixture
def built(built_home: Path, tmp_path: Path) -> made_flow.DuckDBDelta:
    """An engine over a copy of the built home, which is `tmp_path`."""
    shutil.copytree(built_home, tmp_path, dirs_exist_ok=True)
    return made_flow.DuckDBDelta(tmp_path / "tables", made_flow.settings().warehouse)


@pytest.fixture(scope="module")
def contents_with_late_events(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, object]]]:
    """What the tables hold if LATE was not late."""
    home = tmp_path_factory.mktemp("afresh")
    engine = home_with(home, HISTORY)
    engine.append(RAW_EVENTS, LATE)
    run(engine, home)
    return contents(engine)


def test_a_second_run_finds_everything_up_to_date_and_commits_nothing(
    built: made_flow.DuckDBDelta, tmp_path: Path
) -> None:
    before = commits(tmp_path)
    again = run(built, tmp_path)
    assert [(item.step, item.state) for item in again] == [(s.name, "up-to-date") for s in BUILD]
    assert commits(tmp_path) == before


def test_chunks_of_any_size_give_the_same_tables(tmp_path: Path) -> None:
    raw = raw_events([0, 1, 3], seed=1)
    found = []
    for chunk_rows in (1, 150, 5_000_000):
        home = tmp_path / str(chunk_rows)
        engine = home_with(home, raw)
        progress = run(engine, home, chunk_rows=chunk_rows)
        found.append(contents(engine))
        assert len(work(progress)["events"]) == {1: 3, 150: 2, 5_000_000: 1}[chunk_rows]
    assert found[0] == found[1] == found[2]
    assert all(rows for rows in found[0].values()), "every table holds something to compare"


Landing = Callable[[made_flow.DuckDBDelta, pa.Table], None]


def _recorded(engine: made_flow.DuckDBDelta, late: pa.Table) -> None:
    engine.append(RAW_EVENTS, late)
    Ledger(engine).record_landing(RAW_EVENTS, {D[3]: late.num_rows})


def _died_before_recording(engine: made_flow.DuckDBDelta, late: pa.Table) -> None:
    engine.append(RAW_EVENTS, late)


@pytest.mark.parametrize("land", [_recorded, _died_before_recording])
def test_late_events_make_the_touched_days_stale_and_no_others(
    built: made_flow.DuckDBDelta,
    tmp_path: Path,
    land: Landing,
    contents_with_late_events: dict[str, list[dict[str, object]]],
) -> None:
    land(built, LATE)
    done = work(run(built, tmp_path))
    # Raw day 3 is read by the events of days 3 and 4, those by the sessions of 2 to 4 and the pairs of 3 to 5.
    expected = {"events": [Days(D[3], D[4])], "sessions": [Days(D[2], D[4])], "listens": [Days(D[3], D[4])]}
    expected |= {name: [Days(D[3], D[4])] for name in DAILY} | {"co-listens": [Days(D[3], D[5])]}
    # What was done with an exposure counts for its track until the track is two weeks old.
    expected |= {"outcomes": [Days(D[2], D[4])], "debuts": [Days(D[2], D[6])]}
    assert done == expected
    assert contents(built) == contents_with_late_events


def test_an_event_of_the_next_day_makes_the_session_before_midnight_stale(
    built: made_flow.DuckDBDelta, tmp_path: Path
) -> None:
    built.append(RAW_EVENTS, raw_events([7], seed=3))
    assert work(run(built, tmp_path, steps=["events", "sessions"]))["sessions"] == [Days(D[6], D[7])]


def test_events_that_landed_twice_are_counted_once(built: made_flow.DuckDBDelta, tmp_path: Path) -> None:
    once = contents(built)
    built.append(RAW_EVENTS, HISTORY)
    assert work(run(built, tmp_path))["events"] == [Days(D[0], D[6])]
    assert contents(built) == once


def test_a_day_whose_events_were_removed_becomes_empty(built: made_flow.DuckDBDelta, tmp_path: Path) -> None:
    built.overwrite(RAW_EVENTS, raw_events([]), Days(D[1], D[1]))
    run(built, tmp_path, steps=["events", "sessions"])
    assert D[1] not in built.row_counts(EVENTS)
    assert D[1] not in built.row_counts(SESSIONS)


def test_a_growing_catalogue_rebuilds_nothing(built: made_flow.DuckDBDelta, tmp_path: Path) -> None:
    built.overwrite(TRACKS, made_flow.tracks().slice(0, 5))
    assert work(run(built, tmp_path)) == {}


def test_steps_and_days_can_be_chosen_and_forced(tmp_path: Path) -> None:
    engine = home_with(tmp_path, raw_events(range(4)))
    assert work(run(engine, tmp_path, steps=["events"], days=Days(D[1], D[2]))) == {
        "events": [Days(D[1], D[2])]
    }
    assert sorted(engine.row_counts(EVENTS)) == [D[1], D[2]]
    assert work(run(engine, tmp_path, steps=["events"], as_of=D[2]))["events"] == [Days(D[0], D[0])]
    assert work(run(engine, tmp_path, steps=["events", "listens"]))["events"] == [Days(D[3], D[3])]
    forced = run(engine, tmp_path, steps=["listens"], days=Days(D[0], D[1]), force=True)
    assert work(forced) == {"listens": [Days(D[0], D[1])]}


def test_a_step_alone_finds_the_tables_it_reads_built(tmp_path: Path) -> None:
    engine = home_with(tmp_path, raw_events(range(2)))
    assert work(run(engine, tmp_path, steps=["co-listens"])) == {
        name: [Days(D[0], D[1])] for name in ("events", "listens", "co-listens")
    }
    again = run(engine, tmp_path, steps=["co-listens"])
    assert [(item.step, item.state) for item in again] == [("co-listens", "up-to-date")]
    forced = run(engine, tmp_path, steps=["co-listens"], force=True)
    assert list(work(forced)) == ["co-listens"], "what it reads is built where it is stale, not by force"


def test_steps_alone_in_order_are_the_flow(
    built: made_flow.DuckDBDelta,
    tmp_path: Path,
    contents_with_late_events: dict[str, list[dict[str, object]]],
) -> None:
    built.append(RAW_EVENTS, LATE)
    assert work(run(built, tmp_path, steps=["listens"], alone=True)) == {}, "it takes the events as they are"
    for made in BUILD:
        assert set(work(run(built, tmp_path, steps=[made.name], alone=True))) <= {made.name}
    assert contents(built) == contents_with_late_events


def test_an_unknown_step_is_refused_with_the_nearest(tmp_path: Path) -> None:
    engine = home_with(tmp_path, raw_events([0]))
    with pytest.raises(InvalidInput, match="did you mean 'sessions'"):
        run(engine, tmp_path, steps=["session"])


def _with_type(raw: pa.Table, row: int, kind: str) -> pa.Table:
    kinds = raw["type"].to_pylist()
    kinds[row] = kind
    return raw.set_column(raw.schema.get_field_index("type"), RAW_EVENTS.arrow.field("type"), [kinds])


def test_a_broken_contract_stops_what_is_downstream_and_changes_nothing(
    built: made_flow.DuckDBDelta, tmp_path: Path
) -> None:
    before, ledger = contents(built), built.collect(built.read(RUNS).filter(~RUNS_LANDED)).num_rows
    late = raw_events([5], seed=5, per_day=3)
    built.append(RAW_EVENTS, _with_type(late, 1, "dance"))
    progress = made_flow.runner(built, tmp_path).run()
    seen = [next(progress), next(progress)]
    with pytest.raises(ContractBroken, match=r"events: of \d+ rows 1 rows break `type is one of .*dance"):
        next(progress)
    assert [(item.step, item.state) for item in seen] == [("events", "running"), ("events", "failed")]
    assert contents(built) == before
    assert built.collect(built.read(RUNS).filter(~RUNS_LANDED)).num_rows == ledger
    mended = pa.concat_tables([HISTORY.filter(pc.equal(HISTORY["day"], D[5])), late])
    built.overwrite(RAW_EVENTS, mended, Days(D[5], D[5]))
    assert list(work(run(built, tmp_path, steps=["events", "sessions"]))) == ["events", "sessions"]


@pytest.fixture(scope="module")
def outage_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of which hardly anything arrived on day 16, behind a run that stopped there."""
    home = tmp_path_factory.mktemp("outage")
    engine = home_with(home, raw_events(range(16), per_day=1_100))
    assert "outcomes" in work(run(engine, home))
    engine.append(RAW_EVENTS, raw_events([16], seed=2, per_day=40))
    with pytest.raises(
        ContractBroken, match=f"{OUTAGE} holds 40 rows, where 880 to 1,431 are usual.*sessions, listens"
    ):
        run(engine, home, as_of=OUTAGE)
    engine.close()
    return home


OUTAGE = D[0] + timedelta(days=16)


@pytest.fixture
def outage(outage_home: Path, tmp_path: Path) -> made_flow.DuckDBDelta:
    """An engine over a copy of that home, which is `tmp_path`."""
    shutil.copytree(outage_home, tmp_path, dirs_exist_ok=True)
    return made_flow.DuckDBDelta(tmp_path / "tables", made_flow.settings().warehouse)


def test_a_day_that_nearly_nothing_arrived_of_is_an_incident(
    outage: made_flow.DuckDBDelta, tmp_path: Path
) -> None:
    [found] = incidents.incidents(outage)
    assert (found.status, found.step, found.table, found.day) == ("open", "events", "events", OUTAGE)
    assert [(f.part, f.seen) for f in found.findings] == [(ROWS, 40)]
    told = (tmp_path / "incidents" / f"{found.name}.md").read_text(encoding="utf-8")
    assert found.findings[0].said in told
    assert f"segue quality accept {found.name}" in told
    assert OUTAGE not in outage.row_counts(EVENTS), "nothing was written"
    with pytest.raises(ContractBroken, match=found.name):
        run(outage, tmp_path, as_of=OUTAGE)
    assert len(incidents.incidents(outage)) == 1, "the same is found again, and kept once"


def test_what_is_accepted_passes_with_what_follows_from_it(
    outage: made_flow.DuckDBDelta, tmp_path: Path
) -> None:
    name = incidents.incidents(outage)[0].name
    with pytest.raises(InvalidInput, match=f"did you mean '{name}'"):
        incidents.accept(outage, name[:-1], "")
    incidents.accept(outage, name, "a holiday")
    done = work(run(outage, tmp_path, as_of=OUTAGE))
    assert set(done) == {step.name for step in BUILD}
    assert outage.row_counts(LISTENS)[OUTAGE] < 40
    assert [one.status for one in incidents.incidents(outage)] == ["accepted"]
    assert ("listens", OUTAGE, ROWS) in incidents.accepted(outage), "it follows from the events"


def test_what_is_mended_needs_nobodys_consent(outage: made_flow.DuckDBDelta, tmp_path: Path) -> None:
    outage.append(RAW_EVENTS, raw_events([16], seed=3, per_day=1_060))
    assert "outcomes" in work(run(outage, tmp_path, as_of=OUTAGE))
    assert [one.status for one in incidents.incidents(outage)] == ["mended"]


def test_good_days_go_on_without_the_day_that_stopped_the_flow(
    outage: made_flow.DuckDBDelta, tmp_path: Path
) -> None:
    good = OUTAGE + timedelta(days=1)
    outage.append(RAW_EVENTS, raw_events([17], seed=4, per_day=1_100))
    said: list[tuple[str, str]] = []
    with_popular = made_flow.runner(outage, tmp_path, (*BUILD, popular))
    done = work(with_popular.run(say=lambda step, what: said.append((step, what))))
    name = incidents.incidents(outage)[0].name
    assert ("events", f"{OUTAGE} left out as long as {name} is open") in said
    assert done["events"] == [Days(good, good)]
    assert {"listens", "daily-tracks", "popular"} < set(done)
    for table in (EVENTS, LISTENS, DAILY_TRACKS):
        counts = outage.row_counts(table)
        assert OUTAGE not in counts
        assert counts[good] > 15
    assert work(with_popular.run()) == {}
    with pytest.raises(ContractBroken, match=name):
        run(outage, tmp_path, as_of=OUTAGE)
    incidents.accept(outage, name, "a holiday")
    accepted = work(made_flow.runner(outage, tmp_path, (*BUILD, popular)).run())
    # The day after it reads it too.
    assert accepted["events"] == [Days(OUTAGE, OUTAGE)]
    assert accepted["co-listens"] == [Days(OUTAGE, good)]
    assert "popular" in accepted
    assert OUTAGE in outage.row_counts(LISTENS)


def test_a_day_that_was_stopped_is_tried_again_when_something_comes_and_then_waits_again(
    outage: made_flow.DuckDBDelta, tmp_path: Path
) -> None:
    outage.append(RAW_EVENTS, raw_events([17], seed=4, per_day=1_100))
    outage.append(RAW_EVENTS, raw_events([16], seed=5, per_day=1))
    with pytest.raises(ContractBroken, match=f"{OUTAGE} holds 41 rows"):
        run(outage, tmp_path)
    [found] = incidents.incidents(outage)
    assert (found.status, found.findings[0].seen) == ("open", 41)
    assert "listens" in work(run(outage, tmp_path))
    assert OUTAGE not in outage.row_counts(EVENTS)
    outage.append(RAW_EVENTS, raw_events([16], seed=3, per_day=1_060))
    assert work(run(outage, tmp_path))["events"]
    assert [one.status for one in incidents.incidents(outage)] == ["mended"]
    assert outage.row_counts(LISTENS)[OUTAGE] > 300


def test_what_a_later_step_stopped_is_neither_learned_from_nor_built_behind_it(
    built: made_flow.DuckDBDelta, tmp_path: Path
) -> None:
    """The events of the day were right by themselves, and are written; the incident is one of the sessions."""
    flow = made_flow.runner(built, tmp_path, (*BUILD, popular))
    list(flow.run())
    whole = _heard(built)
    found = Finding(SESSIONS.name, D[3], Part("plays", None, ">= 2"), "breach", 1, "few", 10, 20)
    lost = Breach("few", [found], field="sessions", limit="10")
    incidents.record(built, tmp_path, lost, "sessions", [])
    assert list(work(flow.run())) == ["popular"]
    of_day = built.row_counts(LISTENS)[D[3]]
    assert of_day > 0
    assert _heard(built) == whole - of_day
    assert work(flow.run()) == {}
    built.append(RAW_EVENTS, raw_events([3], seed=8, per_day=5))
    done = work(flow.run(steps=["events", "listens"]))
    assert done["events"] == [Days(D[3], D[4])]
    assert done["listens"] == [Days(D[4], D[4])], "behind the sessions: that day waits"


def test_a_day_that_is_set_aside_is_built_and_not_learned_from(
    built: made_flow.DuckDBDelta, tmp_path: Path
) -> None:
    flow = made_flow.runner(built, tmp_path, (*BUILD, popular))
    list(flow.run())
    whole, of_day = _heard(built), built.row_counts(LISTENS)[D[4]]
    incidents.set_aside(built, D[4], "bots")
    assert list(work(flow.run())) == ["popular"]
    assert _heard(built) == whole - of_day
    built.append(RAW_EVENTS, raw_events([4], seed=8, per_day=5))
    assert work(flow.run())["listens"] == [Days(D[4], D[5])]
    assert [one.status for one in incidents.incidents(built)] == ["open"], "writing the day mends nothing"
    assert _heard(built) <= whole - of_day
    incidents.accept(built, f"aside-{D[4]}", "only a few")
    list(flow.run())
    assert _heard(built) == sum(built.row_counts(LISTENS).values())


def _heard(engine: made_flow.DuckDBDelta) -> int:
    found: int = engine.collect(engine.read(POPULAR).n.sum().as_table())[0][0].as_py()
    return found


def test_expectations_can_be_left_out_for_a_run(outage: made_flow.DuckDBDelta, tmp_path: Path) -> None:
    accepting = made_flow.settings()
    accepting = msgspec.structs.replace(
        accepting, warehouse=msgspec.structs.replace(accepting.warehouse, expect=False)
    )
    assert "sessions" in work(made_flow.runner(outage, tmp_path, given=accepting).run(as_of=OUTAGE))


def test_rows_that_break_a_rule_cannot_be_accepted(built: made_flow.DuckDBDelta, tmp_path: Path) -> None:
    built.append(RAW_EVENTS, _with_type(raw_events([5], seed=5, per_day=3), 1, "dance"))
    with pytest.raises(ContractBroken, match=r"dance"):
        run(built, tmp_path)
    [found] = incidents.incidents(built)
    assert "dance" in (tmp_path / "incidents" / f"{found.name}.md").read_text(encoding="utf-8")
    with pytest.raises(InvalidInput, match="cannot be accepted"):
        incidents.accept(built, found.name, "")


def test_a_run_for_a_day_that_has_not_come_stops_at_the_events(tmp_path: Path) -> None:
    engine = home_with(tmp_path, raw_events(range(15), per_day=1_000))
    day = D[0] + timedelta(days=15)
    seen: list[made_flow.StepProgress] = []
    with pytest.raises(ContractBroken, match=f"hours older than the end of {day}"):
        seen.extend(made_flow.runner(engine, tmp_path).run(as_of=day))
    assert {item.step for item in seen} == {"events"}
    assert {item.step for item in run(engine, tmp_path)} > {"events", "sessions"}


def test_two_runs_cannot_interleave(tmp_path: Path) -> None:
    engine = home_with(tmp_path, raw_events([0]))
    first = made_flow.runner(engine, tmp_path).run()
    next(first)
    with pytest.raises(Conflict, match=f"process {os.getpid()} holds"):
        run(engine, tmp_path)
    first.close()
    assert work(run(engine, tmp_path, steps=["events"]))


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    engine = home_with(tmp_path, raw_events([0]))
    (tmp_path / "run.lock").write_text("999999999")
    assert work(run(engine, tmp_path, steps=["events"]))


RUNS_LANDED = made_flow.LANDED
POPULAR = Table(
    "popular", "", (Column("track_id", pa.int64(), ""), Column("n", pa.int64(), "")), ("track_id",), False
)
MODELS = Table("models", "An output that is no table.", (), key=(), daily=False)
SNAPSHOT = Table(
    "snapshot", "As of a day's start.", (Column("day", pa.date32(), ""), Column("n", pa.int64(), "")), ()
)


@step(reads=[Read(LISTENS)], writes=[POPULAR], partition="whole")
def popular(task: Task) -> None:
    """Listens of each track."""
    rows = task.read(LISTENS)
    task.write(POPULAR, rows.group_by("track_id").aggregate(n=rows.count()))


@step(reads=[Read(POPULAR)], writes=[MODELS], partition="whole", settings=["training.seed"])
def train(task: Task) -> None:
    """A model file."""
    root = task.stores.bundles.root
    root.mkdir(exist_ok=True)
    (root / "model.txt").write_text(str(task.settings.training.seed))
    task.wrote(MODELS, rows=1)


@step(reads=[Read(LISTENS, before=2, after=-1)], writes=[SNAPSHOT])
def snapshot(task: Task) -> None:
    """Listens of the two days before."""
    heard = task.read(LISTENS).select("day")
    later = [heard.mutate(day=(heard.day + made_flow.ibis.interval(days=n)).cast("date")) for n in (1, 2)]
    rows = made_flow.ibis.union(*later)
    task.write(SNAPSHOT, rows.group_by("day").aggregate(n=rows.count()))


MORE = (*BUILD, train, popular, snapshot)


def test_steps_over_whole_tables_and_files_take_part(tmp_path: Path) -> None:
    engine = home_with(tmp_path, raw_events(range(3)))

    def ran(settings: made_flow.Settings, **how: object) -> list[str]:
        return list(work(made_flow.runner(engine, tmp_path, MORE, settings).run(**how)))  # type: ignore[arg-type]

    plain = made_flow.settings()
    assert ran(plain)[-3:] == ["popular", "train", "snapshot"]
    assert ran(plain) == []
    seeded = msgspec.structs.replace(plain, training=Training(seed=7))
    assert ran(seeded) == ["train"]
    assert (tmp_path / "bundles" / "model.txt").read_text() == "7"
    whole = engine.collect(engine.read(POPULAR).n.sum().as_table()).to_pylist()
    assert ran(seeded, as_of=D[1]) == ["popular", "train"]
    assert engine.collect(engine.read(POPULAR).n.sum().as_table()).to_pylist() != whole
    engine.append(RAW_EVENTS, raw_events([2], seed=4))
    assert ran(seeded)[-3:] == ["popular", "train", "snapshot"]


def test_a_snapshot_stands_on_the_day_behind_its_last_input(tmp_path: Path) -> None:
    engine = home_with(tmp_path, raw_events([0, 1, 5]))
    list(made_flow.runner(engine, tmp_path, MORE).run())
    listens = engine.row_counts(LISTENS)
    rows = engine.collect(engine.read(SNAPSHOT)).to_pylist()
    assert {row["day"]: row["n"] for row in rows} == {
        D[1]: listens[D[0]],
        D[2]: listens[D[0]] + listens[D[1]],
        D[6]: listens[D[5]],
    }


def test_a_step_that_forgets_to_write_is_told_so(tmp_path: Path) -> None:
    @step(reads=[Read(LISTENS)], writes=[POPULAR], partition="whole")
    def forgetful(task: Task) -> None:
        """Nothing."""

    engine = home_with(tmp_path, raw_events([0]))
    with pytest.raises(ValueError, match="forgetful declares that it writes popular, and did not"):
        list(made_flow.runner(engine, tmp_path, (*BUILD, forgetful)).run())


def test_a_year_of_nearly_empty_days_is_one_commit_a_table(tmp_path: Path) -> None:
    engine = home_with(tmp_path, raw_events(range(365), per_day=3))
    progress = run(engine, tmp_path)
    assert work(progress)["events"] == [Days(D[0], D[0] + timedelta(days=364))]
    built = {name: count for name, count in commits(tmp_path).items() if TABLES[name].derived}
    assert set(built.values()) == {2}, "one commit creates the table, one fills it"
