"""Train as of a moment and be judged on what came after: what would have been served, beside the baselines."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from segue.contracts.ports import Engine, Factorizer
from segue.contracts.tables import EVENTS, LISTENERS
from segue.contracts.vocabulary import DAY, EventType
from segue.evaluation.baselines import baselines
from segue.evaluation.beyond import Beyond, Curve, Items, beyond, concentration
from segue.evaluation.bootstrap import paired
from segue.evaluation.protocols import (
    HEADLINE,
    HOME,
    HOME_NEW,
    NEXT_UP,
    Evaluation,
    Measured,
    Plays,
    Protocol,
    Split,
    default_window,
    evaluate,
    temporal_split,
)
from segue.evaluation.segments import Countries, Segment, measure_segments, partitions
from segue.evaluation.served import Served
from segue.recommend.artifacts import Artifacts
from segue.recommend.pipeline import Recommender
from segue.recommend.ranker import Ranker
from segue.settings.tree import Settings
from segue.training.build import train
from segue.training.replay import Replay

Progress = Callable[[str], None]
TASKS = (HOME, HOME_NEW, NEXT_UP)
SEGUE = "segue"
MAX_K = 1_000
KEPT_LISTS = 20_000
"""Lists of each model and task that are kept for what lies beyond accuracy: 4 MB where they are 50 long."""


class Lead(msgspec.Struct, frozen=True):
    """What would be served minus another model, on the same cases (paired), by the task's last headline metric."""

    metric: str
    difference: float
    ci95: tuple[float, float]
    p: float


class TaskReport(msgspec.Struct, frozen=True):
    """One task: what was done, and every model's metrics.

    cases, listeners: how many were judged (fewer than the protocol's where cases were drawn); lead: over each baseline;
    beyond: by model; plays: the concentration of the plays before the split, to hold the models' exposure against;
    segments: by partition and segment.
    """

    protocol: Protocol
    cases: int
    listeners: int
    models: dict[str, dict[str, Measured]]
    lead: dict[str, Lead]
    beyond: dict[str, Beyond]
    plays: Curve
    segments: dict[str, dict[str, Segment]]


class Report(msgspec.Struct, frozen=True):
    """All tasks of an evaluation."""

    tasks: dict[str, TaskReport]


class Fitted(msgspec.Struct, frozen=True):
    """What the evaluated models were made of, and seconds to train and to judge."""

    tracks: int
    artists: int
    factors: int
    train_seconds: float
    judge_seconds: float


@dataclass(frozen=True)
class Backtest:
    """Per-case results of every model on every task; `evaluations[task][model]`."""

    split: Split
    evaluations: dict[str, dict[str, Evaluation]]
    items: Items
    countries: Countries
    fitted: Fitted
    rankers: dict[str, Ranker]

    def report(self) -> Report:
        """Means and intervals, leads, what lies beyond accuracy, and segments."""
        return Report({task: self._task(task, models) for task, models in self.evaluations.items()})

    def _task(self, task: str, models: dict[str, Evaluation]) -> TaskReport:
        cases = self.split.tasks[task]
        divided = partitions(self.split, cases, self.items, self.countries)
        return TaskReport(
            protocol=self.split.protocol,
            cases=cases.n_cases,
            listeners=len(np.unique(cases.user)),
            models={name: found.metrics() for name, found in models.items()},
            lead=_leads(HEADLINE[task][-1], models),
            beyond={
                name: measured
                for name, found in models.items()
                if found.lists is not None
                and (measured := beyond(found.lists, found.user, self.split, self.items)) is not None
            },
            plays=concentration(self.items.plays),
            segments={name: measure_segments(cases, models, part) for name, part in divided.items()},
        )


def load_split(
    engine: Engine,
    at: int | None,
    *,
    listens_only: bool = False,
    last_days: int | None = None,
    before: int | None = None,
) -> Split:
    """The temporal split of the warehouse's plays at a moment, or where none is given at one that leaves recent days to
    judge by: `last_days` at most. `listens_only` leaves out plays given up before 30 s; `before` hides what came later.
    """
    events = engine.read(EVENTS)
    chosen = events.filter((events.type == EventType.PLAY.value) & events.track_id.notnull())
    if listens_only:
        chosen = chosen.filter(chosen.listened)
    if before is not None:
        chosen = chosen.filter(chosen.ts < before)
    rows = engine.collect(
        chosen.select("user_id", "track_id", "ts", "session_start").order_by(["user_id", "ts", "track_id"])
    )
    plays = Plays(*(rows[name].to_numpy() for name in ("user_id", "track_id", "ts", "session_start")))
    if at is None and last_days is not None:
        start, until = default_window(plays.ts)
        return temporal_split(plays, max(start, until - last_days * DAY), until)
    return temporal_split(plays, at)


def backtest(
    engine: Engine,
    settings: Settings,
    split: Split,
    progress: Progress,
    *,
    tasks: tuple[str, ...] = TASKS,
    with_baselines: bool = True,
    advance: Callable[[str, int, int], None] = lambda task, done, total: None,
    factorizer: Factorizer | None = None,
) -> Backtest:
    """Train on what lies before the split (iALS by the factorizer, if there is one) and evaluate on what lies behind it."""
    started = time.perf_counter()
    trained_on = train(engine, settings, split.protocol.split, progress, factorizer=factorizer)
    artifacts = trained_on.artifacts()
    trained = time.perf_counter()
    found = measure(
        engine, settings, artifacts, split, progress, tasks=tasks, advance=advance, keep=KEPT_LISTS
    )
    evaluations = {task: {SEGUE: result} for task, result in found.items()}
    if with_baselines:
        for name, scorers in baselines(split, settings.training, progress).items():
            for task in tasks:
                if task in scorers:
                    progress(f"{name} on {task}")
                    evaluations[task][name] = evaluate(split.tasks[task], scorers[task], keep=KEPT_LISTS)
    factors = artifacts.retrieval.ials.item_factors
    return Backtest(
        split,
        evaluations,
        Items.of(split, artifacts.catalogue, factors),
        _countries(engine),
        Fitted(
            tracks=len(artifacts.catalogue),
            artists=len(artifacts.catalogue.artist_id),
            factors=factors.shape[1],
            train_seconds=trained - started,
            judge_seconds=time.perf_counter() - trained,
        ),
        artifacts.rankers,
    )


def measure(
    engine: Engine,
    settings: Settings,
    artifacts: Artifacts,
    split: Split,
    progress: Progress,
    *,
    tasks: tuple[str, ...] = TASKS,
    advance: Callable[[str, int, int], None] = lambda task, done, total: None,
    keep: int = 0,
) -> dict[str, Evaluation]:
    """Evaluate what those artifacts would serve; at most `keep` lists of each task are kept."""
    at = split.protocol.split
    users = np.unique(np.concatenate([split.tasks[task].user for task in tasks]))
    replay = Replay.load(engine, users, at, settings.state)
    states = {int(user): replay.state(int(user), at) for user in users}
    recommender = Recommender(artifacts, settings.surfaces, lambda _: None, MAX_K)
    found = {}
    for task in tasks:
        cases = split.tasks[task]
        progress(f"segue on {task}: {cases.n_cases:,} requests")
        counted = _Counter(task, cases.n_cases, advance)
        served = Served(recommender, split, states.__getitem__, counted)
        found[task] = evaluate(cases, served, batch=256, keep=keep)
    return found


def sampled(split: Split, most: int, seed: int = 0) -> Split:
    """The split with at most `most` cases per task, drawn without replacement."""
    rng = np.random.default_rng(seed)
    tasks = {}
    for name, task in split.tasks.items():
        if task.n_cases > most:
            task = task.select(np.sort(rng.choice(task.n_cases, most, replace=False)))
        tasks[name] = task
    return replace(split, tasks=tasks)


def _leads(metric: str, models: dict[str, Evaluation]) -> dict[str, Lead]:
    if SEGUE not in models:
        return {}
    ours = models[SEGUE]
    found = {}
    for name, other in models.items():
        if name != SEGUE:
            result = paired(ours.per_case[metric], other.per_case[metric], ours.user)
            found[name] = Lead(metric, result.difference, (result.lo, result.hi), result.p)
    return found


def _countries(engine: Engine) -> Countries:
    rows = engine.collect(engine.read(LISTENERS).select("user_id", "country").order_by("user_id"))
    coded = rows["country"].combine_chunks().dictionary_encode()
    codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    return Countries(rows["user_id"].to_numpy(), codes, tuple(coded.dictionary.to_pylist()))


class _Counter:
    def __init__(self, task: str, total: int, advance: Callable[[str, int, int], None]) -> None:
        self._task, self._total, self._advance, self._done = task, total, advance, 0

    def __call__(self, cases: int) -> None:
        self._done += cases
        self._advance(self._task, self._done, self._total)
