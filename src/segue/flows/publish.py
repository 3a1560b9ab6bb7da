"""Train a challenger, judge it against the champion, publish it or say why not, and bring listener state up to date.

Three steps that hand each other nothing but bundles and tables, so that each may run in a process of its own: the challenger
is the newest bundle, which carries the cases it was judged on; what the gate said is a row of `verdicts`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

import msgspec
import numpy as np

import segue
from segue.bundle import Bundle, BundleStore, BundleWriter, Manifest
from segue.contracts.errors import BundleCorrupt, InvalidData, NotFound
from segue.contracts.ports import Days, Engine
from segue.contracts.tables import EVENTS, LISTENERS
from segue.contracts.vocabulary import DAY
from segue.evaluation.backtest import Report, backtest, load_split, measure, sampled
from segue.evaluation.protocols import Split
from segue.features.relations import MARKS_AGE
from segue.flows.gate import (
    GATED,
    NO_CHAMPION,
    Cases,
    cases_of,
    identities,
    judge,
    same_cases,
    save_cases,
    saved_cases,
    with_rungs,
)
from segue.flows.task import Stores, Task
from segue.flows.verdicts import Verdict, enter
from segue.listener.fold import Profiles, fold_table
from segue.listener.states import ListenerStates
from segue.recommend.artifacts import Artifacts
from segue.settings.tree import Settings
from segue.training.build import train, write

Progress = Callable[[str], None]
STATE_EVENTS_DAYS = MARKS_AGE // DAY
"""Older days of events do not enter listener state."""
EVALUATION = "evaluation"
"""Where a bundle keeps the report of how it was judged."""


def train_challenger(task: Task) -> Manifest:
    """Train and judge without the last days, fit on everything, and write a bundle, which is not published yet."""
    engine, settings, say = task.engine, task.settings, task.say
    if engine.days(EVENTS) is None:
        raise InvalidData("there are no events to train on: build the table `events` first", field="events")
    until = _end(task.days.last)
    split = _split(engine, settings, until)
    say("backtest")
    tested = backtest(
        engine,
        settings,
        split,
        say,
        tasks=tuple(GATED),
        with_baselines=settings.gate.baselines,
        factorizer=task.stores.factorizer,
    )
    mine = {name: models["segue"] for name, models in tested.evaluations.items()}
    # The rankers that were judged are the ones that are served; what they rank is fitted anew, on everything.
    say("fitting on everything")
    trained = train(engine, settings, until, say, tested.rankers, task.stores.factorizer)
    metrics = {
        name: {metric: float(values.mean()) for metric, values in found.per_case.items()}
        for name, found in mine.items()
    }

    def extra(writer: BundleWriter) -> None:
        save_cases(writer, cases_of(split, mine), split.protocol.split)
        writer.json(EVALUATION, tested.report())

    manifest = write(trained, task.stores.bundles, settings, metrics, extra)
    say(f"{manifest.version} of {manifest.tracks:,} tracks")
    return manifest


def publish_challenger(task: Task) -> int:
    """Judge the newest bundle against the champion; publish it, or leave it unpublished and say why.

    Returns how many verdicts were entered: none where the newest bundle is the champion. Raises NotFound without a bundle.
    """
    store = task.stores.bundles
    newest = next(iter(store.versions()), None)
    if newest is None:
        raise NotFound(f"{store.root}: there is no bundle; run the step `train` first", field="bundle")
    challenger = store.open(newest.version)
    champion = _champion(store, task.say)
    if champion is not None and champion.version == challenger.version:
        task.say(f"{challenger.version} is the champion already")
        return 0
    verdict = _judged(task, challenger, champion)
    if verdict.passed and champion is not None and task.settings.gate.rungs:
        said = task.stores.evidence(challenger.version, task.settings.gate.rungs, task.say)
        verdict = with_rungs(verdict, said, task.settings.gate)
    enter(task.engine, challenger.version, champion.version if champion else None, verdict)
    if verdict.passed:
        store.publish(challenger.version)
        store.prune(task.settings.bundles.keep)
    return 1


def evaluation(bundle: Bundle) -> Report | None:
    """How a bundle was judged before it was published; None where another version of Segue wrote it."""
    try:
        return msgspec.convert(bundle.json(EVALUATION), Report)
    except (BundleCorrupt, msgspec.ValidationError):
        return None


def fill_state(engine: Engine, settings: Settings, states: ListenerStates, last: date) -> int:
    """Merge what the warehouse knows of every listener at the end of a day into their states. Returns how many were written.

    Merged, not stored over: what came in by HTTP since the last landing stays.
    """
    names = ["user_id", "ts", "type", "track_id", "artist_id", "ms_played", "listened", "skipped"]
    recent = engine.read(EVENTS, Days(last - timedelta(days=STATE_EVENTS_DAYS), last)).select(*names)
    batches = engine.stream(recent.order_by(["user_id", "ts"]))
    profiles = Profiles(engine.collect(engine.read(LISTENERS)))
    return states.fill(fold_table(batches, settings.state, profiles=profiles))


def no_challenger(stores: Stores) -> str | None:
    """Why there is no bundle that could be published by this version of Segue, or None."""
    try:
        newest = next(iter(stores.bundles.versions()), None)
        if newest is None:
            return "there is no bundle"
        stores.bundles.open(newest.version)
    except (BundleCorrupt, NotFound) as error:
        return f"the newest bundle does not open: {error.message}"
    made_by = newest.code
    return None if made_by == segue.__version__ else f"the newest bundle was made by Segue {made_by}"


def no_champion(stores: Stores) -> str | None:
    """Why requests cannot be answered from the champion, or None."""
    try:
        stores.bundles.open()
    except (BundleCorrupt, NotFound) as error:
        return error.message
    return None


def no_state(stores: Stores) -> str | None:
    """That listener state is empty, or None."""
    return None if stores.state.sample(1) else "listener state is empty"


def _split(engine: Engine, settings: Settings, until: int) -> Split:
    """The requests a challenger is judged on, that knows what happened before `until` (microseconds)."""
    split = load_split(engine, None, listens_only=True, last_days=settings.gate.days, before=until)
    return sampled(split, settings.gate.max_requests)


def _champion(store: BundleStore, say: Progress) -> Bundle | None:
    """The champion; None where there is none, or where it is damaged and needs a successor whatever that is like."""
    try:
        return store.open() if store.current() is not None else None
    except (BundleCorrupt, NotFound) as error:
        say(f"the champion does not open, so its successor is not compared with it: {error.message}")
        return None


def _judged(task: Task, challenger: Bundle, champion: Bundle | None) -> Verdict:
    if champion is not None and challenger.manifest.data_through < champion.manifest.data_through:
        # Why: a backfill of training makes the newest bundle of the oldest data.
        ends = (
            f"{challenger.manifest.data_through}, those of the champion on {champion.manifest.data_through}"
        )
        return Verdict(False, f"its events end on {ends}; `segue bundle publish` does it all the same", ())
    mine = saved_cases(challenger)
    theirs, alone = _results(task, challenger, champion, mine)
    return judge(mine, theirs, task.settings.gate, alone)


def _results(
    task: Task, challenger: Bundle, champion: Bundle | None, mine: dict[str, Cases]
) -> tuple[dict[str, Cases], str]:
    """The champion's results, on the challenger's cases if that can be, or why there are none.

    As it was judged, if on the same cases; else measured as it stands, which is only fair if it has not seen them. A champion
    that has seen them, as when new data comes every day, stands by how it was judged on the days before.
    """
    if champion is None:
        return {}, NO_CHAMPION
    theirs = saved_cases(champion)
    if mine and same_cases(mine, theirs):
        return theirs, ""
    name = f"the champion, {champion.version},"
    if not mine:
        return {}, f"{challenger.version} does not say what it was judged on"
    if _end(date.fromisoformat(champion.manifest.data_through)) > challenger.json("gate/split"):
        return theirs, f"{name} does not say how it was judged"
    until = _end(date.fromisoformat(challenger.manifest.data_through))
    split = _split(task.engine, task.settings, until)
    if any(not np.array_equal(found.case, identities(split, name)) for name, found in mine.items()):
        return {}, "the events changed since the challenger was judged: not compared"
    task.say(f"champion {champion.version} on the same requests")
    try:
        artifacts = Artifacts.load(champion)
    except (BundleCorrupt, InvalidData, NotFound) as error:  # written by another version
        return {}, f"{name} is not compared with: {error.message}"
    found = measure(task.engine, task.settings, artifacts, split, task.say, tasks=tuple(GATED))
    return cases_of(split, found), ""


def _end(day: date) -> int:
    """The moment a day is over, UTC microseconds."""
    return int(np.datetime64(day, "us").astype(np.int64)) + DAY
