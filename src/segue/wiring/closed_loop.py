"""The closed loop over a home: its simulated listeners live on, and the home's own recommenders answer them.

`live_many` lives several lives side by side, a process each: everybody in control, everybody treated, an experiment between the
two. `run_ab` does all that for one comparison.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from threadpoolctl import threadpool_limits

from segue.contracts.errors import InvalidInput
from segue.contracts.experiments import CONTROL, Interleave
from segue.listener.state import ListenerState
from segue.recommend.api import Item, Request
from segue.recommend.artifacts import Artifacts
from segue.recommend.interleave import interleaved
from segue.recommend.pipeline import ReadState, Recommender
from segue.settings import Settings
from segue.settings.load import change_settings
from segue.simulation.answering import Answer, Answering, States, route_by_listener, source_names
from segue.simulation.catalogue import Catalogue, generate_catalogue
from segue.simulation.columns import Answerer, Writer
from segue.simulation.effects import Effect, composed, true_effects
from segue.simulation.environment import Environment, LivedDay, Reactions
from segue.simulation.history import DayOfEvents
from segue.simulation.policy import LoggingPolicy
from segue.simulation.service import Service, read_config, read_service
from segue.simulation.tally import Tally, Told, day_table, unit_table
from segue.simulation.world import FLAGS, I16
from segue.wiring.home import Home

__all__ = ["AB", "Arm", "Life", "Plan", "World", "live_many", "run_ab"]


class Arm(msgspec.Struct, frozen=True):
    """What answers: the home's recommender with other settings of surfaces (`set`, dotted keys), or another bundle; or, with
    `interleave`, pages that this shares with the home's recommender."""

    name: str
    set: dict[str, Any] = {}
    bundle: str | None = None
    interleave: Interleave | None = None


class Plan(msgspec.Struct, frozen=True):
    """How a life is lived. Only `surfaces` are answered by arms; `listeners` of them take part, all by default."""

    surfaces: tuple[str, ...]
    days: int
    seed: int = 1
    listeners: int | None = None
    reactions: Reactions = Reactions()
    experiment: str | None = None
    """The name under which variants are logged."""
    logs: bool = False
    """Whether events and exposures are kept."""


@dataclass(frozen=True)
class Life:
    """What was counted, and, where they are kept, the rows of RAW_EVENTS and EXPOSURES by day."""

    told: Told
    logs: list[DayOfEvents] = field(default_factory=list)


@dataclass(frozen=True)
class AB:
    """An experiment in a simulated service: the analysis' table of units and of (unit, day), the logs by day (empty unless
    it was lived for itself, with logs), and by arm and metric the true effect."""

    units: pa.Table
    days: pa.Table
    logs: list[DayOfEvents]
    truth: dict[str, dict[str, Effect]]
    shown: dict[str, npt.NDArray[np.int64]]
    broken: int
    """Slots that broke a guarantee."""


class World:
    """A home's simulated service, ready to live on from the end of its history as often as wanted."""

    def __init__(self, home: Home) -> None:
        """Raises NotFound where the home holds no simulated service or no bundle."""
        self.home = home
        self.config = read_config(home.truth)
        self.catalogue: Catalogue = generate_catalogue(self.config)
        self._service = read_service(home.truth)
        self._artifacts: dict[str, Artifacts] = {}
        self._adopted: Artifacts | None = None

    def service(self) -> Service:
        """The service as of the end of its history, to be changed at will."""
        return self._service.copy()

    def adopt(self, artifacts: Artifacts) -> None:
        """Answer with these where an arm names no bundle, instead of the home's champion."""
        self._adopted = artifacts

    def artifacts(self, version: str | None) -> Artifacts:
        """Of a bundle, the champion by default; opened once."""
        if version is None and self._adopted is not None:
            return self._adopted
        bundle = self.home.bundles.open(version)
        if bundle.version not in self._artifacts:
            self._artifacts[bundle.version] = Artifacts.load(bundle)
        return self._artifacts[bundle.version]

    def present(self, listeners: int | None) -> FLAGS | None:
        """bool[listeners]: which of them take part, spread evenly over all who ever joined; None: all."""
        every = self.config.listeners
        if listeners is None or listeners >= every:
            return None
        if listeners < 1:
            raise InvalidInput("listeners: 1 at least must take part", field="listeners", limit=">= 1")
        chosen = np.zeros(every, np.bool_)
        chosen[np.linspace(0, every - 1, listeners).astype(np.int64)] = True
        return chosen

    def states(self, wanted: FLAGS, base: ReadState | None = None) -> States:
        """Listener states of those `wanted`, bool[listeners], over `base`, by default the home's store."""
        return States(
            base or self.home.state.read,
            self.home.settings.state,
            self.artifacts(None).catalogue,
            self.catalogue,
            wanted,
        )

    def recommender(self, arm: Arm, states: States) -> Recommender:
        """What an arm's settings and bundle make, by itself. Its clock stands still: how busy the machine is decides nothing."""
        settings = change_settings(self.home.settings, arm.set, f"variant {arm.name}")
        return Recommender(
            self.artifacts(arm.bundle),
            settings.surfaces,
            states.read,
            settings.serving.max_k,
            clock=lambda: 0.0,
        )

    def live(
        self,
        arms: Sequence[Arm],
        arm: I16,
        plan: Plan,
        *,
        states: States | None = None,
        service: Service | None = None,
        first: date | None = None,
        look: Callable[[LivedDay], None] = lambda day: None,
    ) -> Life:
        """Live the days of the plan; listener u is answered by `arms[arm[u]]`, or by the logging policy where that is -1.

        `states` are the listeners' as serving knows them (by default those of the home's store), `service` what they remember
        themselves; both are changed. It begins on the day `first`, by default the one after the history. `look` sees every day.
        """
        service = service or self.service()
        states = states or self.states(arm >= 0)
        music, people = self.catalogue.music, self.catalogue.people
        answerers = [_answerer(self, one, states, plan) for one in arms]
        policy = Answering(
            [answer for answer, _ in answerers],
            route_by_listener(arm, plan.surfaces),
            LoggingPolicy(music, people, service.memory),
        )
        environment = Environment(
            self.config,
            self.catalogue,
            service,
            policy,
            seed=plan.seed,
            reactions=plan.reactions,
            observer=states,
            present=self.present(plan.listeners),
            first=first,
        )
        tally = Tally(
            len(arms),
            plan.days,
            np.ascontiguousarray(music.track["duration"]),
            np.ascontiguousarray(music.track["artist"]),
            self.config.listeners,
            plan.surfaces,
            lambda user_id: _played_artists(states.at_start(user_id)),
        )
        writer = (
            Writer(self.catalogue, [said for _, said in answerers], source_names()) if plan.logs else None
        )
        logs = []
        for day in environment.live(plan.days):
            tally.add(day, _forbidden(self.catalogue, day))
            look(day)
            if writer is not None:
                events, exposures = (
                    writer.events(day.events, day.day),
                    writer.exposures(day.exposures, day.day),
                )
                logs.append(DayOfEvents(day.day, events, exposures))
        return Life(tally.told(), logs)


def _answerer(world: World, arm: Arm, states: States, plan: Plan) -> tuple[Answer, Answerer]:
    """An arm as a function, and what the log says of it."""
    treatment = world.recommender(arm, states)
    control = treatment if arm.interleave is None else world.recommender(Arm(CONTROL), states)
    configs: dict[str, str] = {}

    def answer(request: Request) -> Sequence[Item]:
        found = control.answer(request)
        if arm.interleave is not None:
            found = interleaved(found, treatment.answer(request), arm.interleave)
        configs[request.surface] = found.response.config
        return found.response.items

    named = {plan.experiment: arm.name} if plan.experiment is not None else None
    variants = msgspec.json.encode(named).decode() if named else None
    return answer, Answerer(control.artifacts.version, configs, variants)


def _played_artists(state: ListenerState | None) -> npt.NDArray[np.int64]:
    return np.empty(0, np.int64) if state is None else np.unique(state.plays["artist_id"])


def _forbidden(catalogue: Catalogue, day: LivedDay) -> FLAGS:
    """The exposed slots whose track the listener may not be given: country, explicit, private, not uploaded yet."""
    shown = day.exposures
    closed = (catalogue.music.gate[shown.track] & catalogue.people.refuses[shown.user]) != 0
    forbidden: FLAGS = closed | (catalogue.music.track["uploaded"][shown.track] > shown.ts)
    return forbidden


Lived = tuple[Sequence[Arm], I16, Plan]
"""A life to live: `World.live`'s arguments."""


@dataclass(frozen=True)
class Task:
    """A life to live in another process."""

    root: Path
    settings: Settings
    arms: Sequence[Arm]
    arm: I16
    plan: Plan


@cache
def _world(root: Path, settings: bytes) -> World:
    return World(Home(root, msgspec.json.decode(settings, type=Settings)))


def _live(task: Task) -> Life:
    threadpool_limits(limits=1)
    world = _world(task.root, msgspec.json.encode(task.settings))
    return world.live(task.arms, task.arm, task.plan)


def live_many(
    home: Home,
    lives: Sequence[Lived],
    *,
    workers: int | None = None,
    say: Callable[[int, int], None] = lambda done, of: None,
) -> list[Life]:
    """Several lives of a home's service, in order; `workers` processes (by default one a core) live them side by side."""
    count = min(workers or os.cpu_count() or 1, len(lives))
    found = []
    for life in _lived(home, lives, count):
        found.append(life)
        say(len(found), len(lives))
    return found


def _lived(home: Home, lives: Sequence[Lived], workers: int) -> Iterator[Life]:
    if workers == 1:
        world = World(home)
        yield from (world.live(*life) for life in lives)
        return
    tasks = [Task(home.root, home.settings, *life) for life in lives]
    # Why spawn: a forked process would inherit open stores and threads.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_live, tasks)


def run_ab(
    home: Home,
    arms: Sequence[Arm],
    arm: I16,
    plan: Plan,
    *,
    before: pa.Table | None = None,
    mixed: bool = True,
    workers: int | None = None,
    say: Callable[[int, int], None] = lambda done, of: None,
) -> AB:
    """An experiment and its truth. `arms[0]` is the control; `arm` int16[listeners] assigns them, -1: not in it.

    Everybody who is in it lives once under each arm, which gives the truth. The experiment is lived for itself (`mixed`), with
    what listeners share between them; otherwise it is put together from the lives under each arm, which costs nothing.
    `before` has the pre-period of units. Raises InvalidData where fewer than two listeners ask for anything.
    """
    quiet = msgspec.structs.replace(plan, logs=False)
    lives: list[Lived] = [(arms, arm, plan)] if mixed else []
    lives += [
        (arms, np.where(arm >= 0, np.int16(number), np.int16(-1)), quiet) for number in range(len(arms))
    ]
    lived = live_many(home, lives, workers=workers, say=say)
    worlds = [life.told for life in lived[mixed:]]
    told = lived[0].told if mixed else composed(worlds, arm)
    names = [one.name for one in arms]
    return AB(
        units=unit_table(told, names, before),
        days=day_table(told, names, read_config(home.truth).end_us),
        logs=lived[0].logs if mixed else [],
        truth={
            name: true_effects(worlds[0], world) for name, world in zip(names[1:], worlds[1:], strict=True)
        },
        shown=dict(zip(names, told.shown, strict=True)),
        broken=told.broken,
    )
