"""Training, judging, publishing and filling state are steps like any other: one lock, one ledger, nothing passed in memory."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import numpy as np
import pytest

from segue.contracts.errors import Conflict, NotFound
from segue.contracts.ports import Days
from segue.contracts.tables import EVENTS, LISTENERS, RAW_EVENTS, VERDICTS
from segue.contracts.vocabulary import DAY
from segue.flows.gate import OTHER_REQUESTS
from segue.flows.lock import exclusive
from segue.flows.publish import evaluation
from segue.flows.runner import State
from segue.flows.steps import PUBLISH
from segue.flows.verdicts import verdicts
from segue.recommend.artifacts import Artifacts
from segue.settings.tree import KeepDays
from segue.warehouse import incidents
from segue.wiring.flow import runner_of
from segue.wiring.home import Home

NAMES = [step.name for step in PUBLISH]


@pytest.fixture
def home(service: Home, tmp_path: Path) -> Home:
    """A copy of the published service."""
    shutil.copytree(service.root, tmp_path / "home")
    return Home(tmp_path / "home", service.settings)


def with_(home: Home, **changes: object) -> Home:
    """The same home under changed settings of training or the gate."""
    settings = home.settings
    for name, value in changes.items():
        section, _, key = name.partition("_")
        part = msgspec.structs.replace(getattr(settings, section), **{key: value})
        settings = msgspec.structs.replace(settings, **{section: part})
    return Home(home.root, settings)


def ran(home: Home, *steps: str, **how: object) -> dict[str, State]:
    """The last state of each step, and in what order they came."""
    return {p.step: p.state for p in runner_of(home).run(steps or None, **how)}  # type: ignore[arg-type]


def done(home: Home, *steps: str, **how: object) -> list[str]:
    """The steps that had something to do."""
    return [step for step, state in ran(home, *steps, **how).items() if state == "done"]


def elsewhere(root: Path, settings: bytes, step: str, told: Connection) -> None:
    """One step in a process of its own, as a scheduler runs it."""
    home = Home(root, msgspec.json.decode(settings, type=type(Home.open(root, environ={}).settings)))
    told.send(done(home, step))


def in_its_own_process(home: Home, step: str) -> list[str]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    settings = msgspec.json.encode(home.settings)
    process = context.Process(target=elsewhere, args=(home.root, settings, step, theirs))
    process.start()
    theirs.close()
    found: list[str] = ours.recv()
    process.join()
    return found


def test_what_is_up_to_date_is_not_trained_again(home: Home) -> None:
    assert done(home) == []
    assert set(ran(home).values()) == {"up-to-date"}


def test_each_step_runs_in_a_process_of_its_own(home: Home) -> None:
    changed = with_(home, training_seed=7, gate_tolerance=1.0)
    before = home.bundles.current()
    assert in_its_own_process(changed, "train") == ["train"]
    assert changed.bundles.current() == before
    challenger = changed.bundles.versions()[0].version
    assert challenger != before
    assert in_its_own_process(changed, "publish") == ["publish"]
    assert changed.bundles.current() == challenger
    version, verdict = list(verdicts(changed.engine).items())[-1]
    assert (version, verdict.passed) == (challenger, True)
    assert all(c.ci95 is not None for c in verdict.comparisons), "judged on the same requests"
    assert done(changed) == []


def test_rungs_of_evidence_are_asked_before_publishing(home: Home) -> None:
    asking = with_(home, training_seed=9, gate_tolerance=1.0, gate_rungs=("off-policy", "interleaving"))
    assert done(asking, "train", "publish") == ["train", "publish"]
    version, verdict = list(verdicts(asking.engine).items())[-1]
    assert asking.bundles.current() == version
    silent, said = verdict.comparisons[-2:]
    assert (silent.task, silent.ci95) == ("off-policy", None)
    assert "has seen the events" in (silent.note or "")
    assert (said.task, said.ci95 is not None) == ("interleaving", True)
    assert "off-policy: silent" in verdict.reason


def test_a_run_that_died_behind_training_only_publishes(home: Home) -> None:
    changed = with_(home, training_seed=8)
    assert done(changed, "train") == ["train"]
    assert done(changed) == ["publish"]


def test_a_verdict_is_not_given_twice(home: Home) -> None:
    assert done(home, "publish", force=True) == ["publish"]
    assert sum(home.engine.row_counts(VERDICTS).values()) == 1


def lose_bundles(home: Home) -> None:
    shutil.rmtree(home.bundles.root)


def flip_a_byte(home: Home) -> None:
    path = max(home.bundles.open().folder.rglob("*.npy"), key=lambda p: p.stat().st_size)
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def forget_the_champion(home: Home) -> None:
    (home.bundles.root / "CURRENT").unlink()


def lose_state(home: Home) -> None:
    shutil.rmtree(home.root / "state")


@pytest.mark.parametrize(
    ("lose", "again"),
    [
        (lose_bundles, ["train", "publish"]),
        (flip_a_byte, ["train", "publish"]),
        (forget_the_champion, ["publish"]),
        (lose_state, ["state"]),
    ],
)
def test_what_is_gone_is_made_again(home: Home, lose: Callable[[Home], None], again: list[str]) -> None:
    lose(home)
    said: list[str] = []
    assert done(home, say=lambda step, what: said.append(f"{step}: {what}")) == again
    assert said[0].startswith(again[0])
    assert home.bundles.open().version == home.bundles.versions()[0].version
    assert home.state.sample(1)


def test_a_day_that_is_set_aside_is_in_no_model_until_it_is_accepted(home: Home) -> None:
    """Also the gate judges without it, and the same day comes back when it is taken in again."""
    last = home.engine.days(EVENTS)
    assert last is not None
    before = _popular(home)
    incidents.set_aside(home.engine, last.last, "bots")
    assert done(home) == ["train", "publish", "state"]
    aside = _popular(home)
    assert aside.sum() < before.sum()
    assert home.bundles.versions()[0].version == home.bundles.current()
    plays = home.engine.read(EVENTS, Days(last.last, last.last))
    gone = home.engine.collect(plays.filter(plays.listened).track_id.nunique().as_table())[0][0].as_py()
    assert 0 < np.count_nonzero(aside != before) <= gone
    assert done(home) == []
    incidents.accept(home.engine, f"aside-{last.last}", "they were few")
    assert done(home)[:1] == ["train"]
    np.testing.assert_array_equal(_popular(home), before)


def test_training_goes_on_after_days_were_dropped(home: Home) -> None:
    short = with_(
        home,
        training_history_days=10,
        serving_max_event_age_days=2,
        warehouse_keep_days=KeepDays(raw=5, derived=10),
        gate_tolerance=1.0,
    )
    assert "train" in done(short)
    before, there = _popular(short), {t.name: short.engine.days(t) for t in (RAW_EVENTS, EVENTS)}
    assert done(short, "maintain") == ["maintain"]
    for name, keep in ((RAW_EVENTS, 5), (EVENTS, 10)):
        kept = short.engine.days(name)
        assert kept is not None
        assert (len(kept), kept.last) == (keep, there[name.name].last)  # type: ignore[union-attr]
    assert done(short) == [], "what is gone on purpose makes nothing stale"
    changed = with_(short, training_seed=21)
    assert done(changed, "train", "publish") == ["train", "publish"]
    np.testing.assert_array_equal(_popular(changed), before)
    assert changed.bundles.current() == changed.bundles.versions()[0].version


def _popular(home: Home) -> np.ndarray:
    """What the newest bundle counts of each track."""
    newest = home.bundles.versions()[0].version
    return np.array(Artifacts.load(home.bundles.open(newest)).plays)


def test_a_new_listener_reaches_state(home: Home) -> None:
    rows = home.engine.collect(home.engine.read(LISTENERS))
    newcomer = rows.slice(0, 1).set_column(0, "user_id", [[987_654_321]])
    home.engine.append(LISTENERS, newcomer)
    assert done(home, "state") == ["state"]
    assert home.state.read(987_654_321) is not None


def test_a_champion_that_knows_the_days_stands_by_how_it_was_judged(home: Home) -> None:
    fewer = with_(home, gate_days=2)
    assert done(fewer, "train", "publish") == ["train", "publish"]
    _, verdict = list(verdicts(fewer.engine).items())[-1]
    assert verdict.passed
    assert {c.note for c in verdict.comparisons} == {OTHER_REQUESTS}
    assert all(c.ci95 is not None and c.champion is not None for c in verdict.comparisons)


def test_a_champion_from_before_is_measured_on_the_same_requests(home: Home) -> None:
    last = home.engine.days(RAW_EVENTS)
    assert last is not None
    early = with_(home, training_seed=11)
    week_ago = last.last.fromordinal(last.last.toordinal() - 8)
    assert done(early, "train", "publish", as_of=week_ago) == ["train", "publish"]
    version, refused = list(verdicts(early.engine).items())[-1]
    assert not refused.passed
    assert f"its events end on {week_ago}" in refused.reason
    early.bundles.publish(version)
    assert early.bundles.open().manifest.data_through == str(week_ago)
    split_at = early.bundles.open().json("gate/split")
    assert split_at < (week_ago.toordinal() - 719_163 + 1) * DAY
    later = with_(home, training_seed=12, gate_tolerance=1.0)
    said: list[str] = []
    assert done(later, "train", "publish", say=lambda step, what: said.append(what)) == ["train", "publish"]
    assert any("on the same requests" in what for what in said)
    _, verdict = list(verdicts(later.engine).items())[-1]
    assert all(c.ci95 is not None for c in verdict.comparisons)


def test_a_bundle_says_how_it_was_judged(home: Home) -> None:
    report = evaluation(home.bundles.open())
    assert report is not None
    assert set(report.tasks) == {"home", "next-up"}
    assert all(list(task.models) == ["segue"] for task in report.tasks.values())


def test_without_a_bundle_there_is_nothing_to_publish(home: Home) -> None:
    lose_bundles(home)
    with pytest.raises(NotFound, match="run the step `train` first"):
        ran(home, "publish")


def test_training_holds_the_lock(home: Home) -> None:
    run = runner_of(home).run(["train"], force=True)
    next(run)
    with pytest.raises(Conflict, match=f"step train, process {os.getpid()} holds"):
        ran(home, "state")
    with pytest.raises(Conflict, match="step train"), exclusive(home.root, "segue import"):
        pass
    run.close()
    with exclusive(home.root, "segue import"), pytest.raises(Conflict, match="segue import, process"):
        ran(home, "state", wait=0.3)
