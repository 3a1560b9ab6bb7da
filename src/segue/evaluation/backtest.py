"""Train as of a moment and be judged on what came after: what would have been served, beside the baselines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from segue.contracts.ports import Engine
from segue.contracts.tables import EVENTS
from segue.contracts.vocabulary import EventType
from segue.evaluation.baselines import baselines
from segue.evaluation.protocols import (
    HOME,
    HOME_NEW,
    NEXT_UP,
    Evaluation,
    Measured,
    Plays,
    Protocol,
    Split,
    evaluate,
    temporal_split,
)
from segue.evaluation.served import Served
from segue.recommend.artifacts import Artifacts
from segue.recommend.pipeline import Recommender
from segue.settings.tree import Settings
from segue.training.build import train
from segue.training.replay import Replay

Progress = Callable[[str], None]
TASKS = (HOME, HOME_NEW, NEXT_UP)
SEGUE = "segue"
MAX_K = 1_000


class TaskReport(msgspec.Struct, frozen=True):
    """One task: what was done, and every model's metrics."""

    protocol: Protocol
    models: dict[str, dict[str, Measured]]


class Report(msgspec.Struct, frozen=True):
    """All tasks of an evaluation."""

    tasks: dict[str, TaskReport]


@dataclass(frozen=True)
class Backtest:
    """Per-case results of every model on every task; `evaluations[task][model]`."""

    split: Split
    evaluations: dict[str, dict[str, Evaluation]]

    def report(self) -> Report:
        """Means and intervals."""
        return Report(
            {
                task: TaskReport(
                    self.split.protocol, {name: found.metrics() for name, found in models.items()}
                )
                for task, models in self.evaluations.items()
            }
        )


def load_split(engine: Engine, at: int | None, *, listens_only: bool = False) -> Split:
    """The temporal split of the warehouse's plays; `listens_only` leaves out those given up before 30 s."""
    events = engine.read(EVENTS)
    chosen = events.filter((events.type == EventType.PLAY.value) & events.track_id.notnull())
    if listens_only:
        chosen = chosen.filter(chosen.listened)
    rows = engine.collect(
        chosen.select("user_id", "track_id", "ts", "session_start").order_by(["user_id", "ts", "track_id"])
    )
    plays = Plays(*(rows[name].to_numpy() for name in ("user_id", "track_id", "ts", "session_start")))
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
) -> Backtest:
    """Train on what lies before the split and evaluate on what lies behind it."""
    at = split.protocol.split
    trained = train(engine, settings, at, progress)
    found = measure(engine, settings, trained.artifacts(), split, progress, tasks=tasks, advance=advance)
    evaluations = {task: {SEGUE: result} for task, result in found.items()}
    if with_baselines:
        for name, scorers in baselines(split, settings.training, progress).items():
            for task in tasks:
                if task in scorers:
                    progress(f"{name} on {task}")
                    evaluations[task][name] = evaluate(split.tasks[task], scorers[task])
    return Backtest(split, evaluations)


def measure(
    engine: Engine,
    settings: Settings,
    artifacts: Artifacts,
    split: Split,
    progress: Progress,
    *,
    tasks: tuple[str, ...] = TASKS,
    advance: Callable[[str, int, int], None] = lambda task, done, total: None,
) -> dict[str, Evaluation]:
    """Evaluate what those artifacts would serve."""
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
        found[task] = evaluate(cases, Served(recommender, split, states.__getitem__, counted), batch=256)
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


class _Counter:
    def __init__(self, task: str, total: int, advance: Callable[[str, int, int], None]) -> None:
        self._task, self._total, self._advance, self._done = task, total, advance, 0

    def __call__(self, cases: int) -> None:
        self._done += cases
        self._advance(self._task, self._done, self._total)
