"""Days that are kept no longer go, and nothing takes them for missing: not the flow, not training, not after a kill."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import msgspec
import pytest
from made_flow import D, DuckDBDelta, commits, contents, home_with, raw_events, runner, settings, work

from segue.contracts.errors import Conflict, InvalidSettings
from segue.contracts.ports import Days
from segue.contracts.schema import Table
from segue.contracts.tables import EVENTS, EXPOSURES, LISTENS, RAW_EVENTS, RUNS
from segue.flows import maintenance
from segue.flows.ledger import Ledger
from segue.flows.lock import exclusive
from segue.flows.runner import StepProgress
from segue.flows.steps import BUILD, UPKEEP
from segue.settings.tree import KeepDays, Serving, Settings, Training

KEEP_RAW = 4
"""Of the seven days, the last four: those from D[3] on."""
MAINTAIN = ["maintain"]


def kept(raw: int = 0, derived: int = 0) -> Settings:
    """Settings that keep so many days, with late events and training short enough for that."""
    given = settings()
    return msgspec.structs.replace(
        given,
        warehouse=msgspec.structs.replace(given.warehouse, keep_days=KeepDays(raw=raw, derived=derived)),
        serving=Serving(max_event_age_days=2),
        training=Training(history_days=2),
    )


def run(engine: DuckDBDelta, path: Path, given: Settings, **how: object) -> list[StepProgress]:
    return list(runner(engine, path, (*BUILD, *UPKEEP), given).run(**how))  # type: ignore[arg-type]


@pytest.fixture
def built(tmp_path: Path) -> DuckDBDelta:
    engine = home_with(tmp_path, raw_events(range(7)))
    run(engine, tmp_path, settings())
    return engine


def days_of(engine: DuckDBDelta, table: Table) -> list[date]:
    return list(engine.row_counts(table))


def test_by_default_no_day_goes_and_upkeep_runs_only_by_name(built: DuckDBDelta, tmp_path: Path) -> None:
    before = contents(built)
    assert work(run(built, tmp_path, settings())) == {}
    assert list(work(run(built, tmp_path, settings(), steps=MAINTAIN))) == MAINTAIN
    assert list(work(run(built, tmp_path, settings(), steps=MAINTAIN))) == MAINTAIN, (
        "whenever it is asked for"
    )
    assert contents(built) == before
    assert days_of(built, RAW_EVENTS) == D[:7]


def test_raw_days_go_and_what_was_made_from_them_stays_as_it_is(built: DuckDBDelta, tmp_path: Path) -> None:
    before, given = contents(built), kept(raw=KEEP_RAW)
    (*_, done) = run(built, tmp_path, given, steps=MAINTAIN)
    assert done.written_rows == sum(60 + 6 for _ in range(3)), "events and exposures"
    assert days_of(built, RAW_EVENTS) == days_of(built, EXPOSURES) == D[3:7]
    written = commits(tmp_path)
    assert work(run(built, tmp_path, given)) == {}
    assert commits(tmp_path) == written, "and nothing is entered either"
    assert contents(built) == before


def test_derived_days_go_and_are_not_built_again_unless_that_is_asked_for(
    built: DuckDBDelta, tmp_path: Path
) -> None:
    before, given = contents(built), kept(derived=2)
    run(built, tmp_path, given, steps=MAINTAIN)
    assert days_of(built, RAW_EVENTS) == D[:7]
    assert {day for step in BUILD for t in step.writes for day in days_of(built, t)} == set(D[5:7])
    assert work(run(built, tmp_path, given)) == {}
    # Whoever wants them back, keeps more and asks: all that they were made from is there.
    everything = run(built, tmp_path, settings(), force=True)
    assert work(everything)["events"] == [Days(D[0], D[6])]
    # `events` were there again as soon as they were built, and so were all that read them.
    assert contents(built) == before


def test_a_new_version_of_a_step_leaves_alone_what_it_could_make_only_in_part(
    built: DuckDBDelta, tmp_path: Path
) -> None:
    given = kept(raw=KEEP_RAW)
    run(built, tmp_path, given, steps=MAINTAIN)
    before = built.collect(built.read(EVENTS, Days(D[0], D[3])).order_by(EVENTS.names))
    for force in (False, True):
        newer = [replace(step, version=99) if step.name == "events" else step for step in BUILD]
        done = work(runner(built, tmp_path, newer, given).run(force=force))
        # Events of D[3] read raw events of D[2], which are gone.
        assert done["events"] == [Days(D[4], D[6])]
        assert built.collect(built.read(EVENTS, Days(D[0], D[3])).order_by(EVENTS.names)) == before


def test_what_lands_on_a_dropped_day_changes_nothing_and_goes_with_the_next(
    built: DuckDBDelta, tmp_path: Path
) -> None:
    before, given = contents(built), kept(raw=KEEP_RAW)
    run(built, tmp_path, given, steps=MAINTAIN)
    late = raw_events([1], seed=9, per_day=5)
    built.append(RAW_EVENTS, late)
    Ledger(built).record_landing(RAW_EVENTS, {D[1]: late.num_rows})
    assert work(run(built, tmp_path, given)) == {}
    assert contents(built) == before
    (*_, done) = run(built, tmp_path, given, steps=MAINTAIN)
    assert done.written_rows == 5
    assert days_of(built, RAW_EVENTS) == D[3:7]


def test_late_events_of_days_that_are_kept_are_built_as_ever(built: DuckDBDelta, tmp_path: Path) -> None:
    given = kept(raw=KEEP_RAW)
    run(built, tmp_path, given, steps=MAINTAIN)
    built.append(RAW_EVENTS, raw_events([5], seed=9, per_day=5))
    done = work(run(built, tmp_path, given))
    assert done["events"] == [Days(D[5], D[6])]
    assert built.row_counts(EVENTS)[D[5]] == 65


class Killed(Exception):
    """Stands for kill -9 behind a commit."""


@pytest.mark.parametrize("after", range(6))
def test_killed_behind_any_commit_it_ends_the_same(built: DuckDBDelta, tmp_path: Path, after: int) -> None:
    """Also with a run in between, which must not take half-dropped days for news."""
    before, given, left = contents(built), kept(raw=KEEP_RAW), after
    real = {name: getattr(built, name) for name in ("append", "overwrite", "vacuum")}

    def dying(name: str) -> Callable[..., object]:
        def call(table: Table, *args: object, **kwargs: object) -> object:
            nonlocal left
            if left == 0:
                raise Killed
            left -= name != "vacuum" or table is RAW_EVENTS
            return real[name](table, *args, **kwargs)

        return call

    for name in real:
        setattr(built, name, dying(name))
    with suppress(Killed):
        run(built, tmp_path, given, steps=MAINTAIN)
    for name, method in real.items():
        setattr(built, name, method)
    assert work(run(built, tmp_path, given)) == {}
    assert contents(built) == before
    run(built, tmp_path, given, steps=MAINTAIN)
    assert days_of(built, RAW_EVENTS) == days_of(built, EXPOSURES) == D[3:7]
    assert work(run(built, tmp_path, given)) == {}
    assert contents(built) == before


def test_it_takes_turns_with_a_run(built: DuckDBDelta, tmp_path: Path) -> None:
    with exclusive(tmp_path, "the flow"), pytest.raises(Conflict, match="the flow"):
        run(built, tmp_path, kept(raw=KEEP_RAW), steps=MAINTAIN)
    assert days_of(built, RAW_EVENTS) == D[:7]


def test_a_reader_that_is_at_work_keeps_its_rows_and_old_files_go_after_their_hours(
    built: DuckDBDelta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = built.read(RAW_EVENTS)
    run(built, tmp_path, kept(raw=KEEP_RAW), steps=MAINTAIN)
    assert built.collect(held.count().as_table())[0][0].as_py() == 420
    folder = tmp_path / "tables" / "raw_events" / f"day={D[0]}"
    assert list(folder.glob("*.parquet"))
    monkeypatch.setattr(
        maintenance, "timedelta", lambda **how: timedelta(0) if "hours" in how else timedelta(**how)
    )
    run(built, tmp_path, kept(raw=KEEP_RAW), steps=MAINTAIN)
    assert not list(folder.glob("*.parquet"))
    assert built.row_counts(RAW_EVENTS) == dict.fromkeys(D[3:7], 60)


def test_many_small_files_become_few(built: DuckDBDelta, tmp_path: Path) -> None:
    for _ in range(40):
        built.append(RUNS, built.collect(built.read(RUNS).limit(1)))
    run(built, tmp_path, settings(), steps=MAINTAIN)
    assert len(built._tables.files(RUNS)) <= 3


def test_days_are_counted_from_the_newest_events_but_not_from_the_future(tmp_path: Path) -> None:
    ahead = (date.today() - D[0]).days + 300
    engine = home_with(tmp_path, raw_events([0, 1, 2, ahead]))
    given = kept(raw=(date.today() - D[1]).days + 1)
    run(engine, tmp_path, settings())
    run(engine, tmp_path, given, steps=MAINTAIN)
    assert D[0] not in days_of(engine, RAW_EVENTS)
    assert {D[1], D[2]} < set(days_of(engine, RAW_EVENTS))


@pytest.mark.parametrize(
    ("given", "field", "limit"),
    [
        (kept(raw=3), "warehouse.keep_days.raw", ">= 4"),
        (kept(derived=1), "warehouse.keep_days.derived", ">= 2"),
    ],
)
def test_days_that_are_still_needed_are_not_dropped(
    built: DuckDBDelta, tmp_path: Path, given: Settings, field: str, limit: str
) -> None:
    with pytest.raises(InvalidSettings) as caught:
        run(built, tmp_path, given, steps=MAINTAIN)
    assert caught.value.field == field
    assert limit in (caught.value.limit or "")
    assert all(days_of(built, table) for table in (RAW_EVENTS, LISTENS))
