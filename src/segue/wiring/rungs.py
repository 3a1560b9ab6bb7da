"""The rungs of the ladder over a home: what each expects of a challenger of one surface.

Rungs that judge by the past (offline, off-policy) use models that have not seen it: settings are judged with models trained as of
the first day judged, a bundle as it is, by days behind its own. Rungs that simulate use the bundles as they are served.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from functools import cached_property
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from segue.contracts.errors import InvalidData, InvalidInput, SegueError
from segue.contracts.experiments import CONTROL
from segue.evaluation.backtest import load_split, sampled
from segue.evaluation.bootstrap import interval as bootstrapped
from segue.evaluation.protocols import Evaluation, Split, evaluate
from segue.evaluation.served import Served
from segue.experiments.ladder import (
    GOAL,
    INTERLEAVING,
    OFF_POLICY,
    OFFLINE,
    SIMULATION,
    Prediction,
    Silent,
)
from segue.experiments.offpolicy.challenger import SURFACES as REPLAYED
from segue.experiments.offpolicy.challenger import (
    Shown,
    Usual,
    load_past,
    load_shown,
    moment,
    pages_of,
    replay,
    supported,
    usual_chances,
    window,
)
from segue.experiments.offpolicy.slates import PageTerms
from segue.flows.gate import GATED
from segue.listener.state import ListenerState
from segue.recommend.api import Request
from segue.recommend.artifacts import Artifacts
from segue.recommend.pipeline import Recommender
from segue.recommend.ranker import Ranker
from segue.settings import Settings
from segue.settings.load import change_settings
from segue.simulation.effects import Effect, true_effects
from segue.simulation.environment import Reactions
from segue.simulation.session import SURFACES
from segue.simulation.tally import Told
from segue.training.build import Trained, train
from segue.training.replay import Replay
from segue.wiring.challenger import loggers
from segue.wiring.closed_loop import Arm, Lived, Plan, World, live_many
from segue.wiring.duel import duel
from segue.wiring.home import Home

__all__ = ["CHAMPION", "Challenger", "Ladder", "Size"]

CHAMPION: Final = Arm(CONTROL)
ESTIMATOR: Final = "iips-dr"
BESIDE: Final = ("listens_per_exposure", "skip_rate", "days_active")
_LIVED: Final = tuple(str(surface) for surface in SURFACES)
_DICE: Final = 0x9E3779B97F4A7C15

Say = Callable[[str], None]


class Challenger(msgspec.Struct, frozen=True):
    """What is to be judged on one surface: other settings of it, or another bundle."""

    name: str
    surface: str
    set: dict[str, Any] = {}
    bundle: str | None = None

    @property
    def arm(self) -> Arm:
        """The same to the closed loop."""
        return Arm("treatment", self.set, self.bundle)


class Size(msgspec.Struct, frozen=True):
    """How much each rung looks at: past days, requests replayed offline, pages and their first slots off-policy; simulated
    listeners and days, and days of interleaving; seed and reactions of the listeners."""

    past: int = 7
    requests: int = 1_000
    pages: int = 1_000
    slots: int = 10
    listeners: int = 1_500
    days: int = 7
    duel_days: int = 3
    seed: int = 1
    reactions: Reactions = Reactions()


class Ladder:
    """The rungs over a home. What the champion does is found out once, for all challengers."""

    def __init__(
        self,
        home: Home,
        size: Size,
        say: Say = lambda what: None,
        *,
        past: str | None = None,
        logged: Settings | None = None,
        workers: int | None = None,
    ) -> None:
        """`past` is a bundle trained as of the first day judged, where there is one; otherwise it is trained on first use.
        `logged` are the settings that answered the log, by default the home's."""
        self.home, self.size, self.say = home, size, say
        self._trained, self._workers = past, workers
        self._loggers = loggers(home, logged or home.settings)
        self._told: dict[str, Told] = {}
        self._offline: dict[str, Evaluation] = {}
        self._terms: dict[str, dict[str, PageTerms]] = {}
        self._pages: dict[str, tuple[Shown, Replay, Usual]] = {}

    def ask(self, rung: str, challenger: Challenger) -> Prediction | Silent:
        """What a rung says; silent, with the reason, where it cannot."""
        asked = {
            OFFLINE: self.offline,
            OFF_POLICY: self.off_policy,
            SIMULATION: self.simulation,
            INTERLEAVING: self.interleaving,
        }
        self.say(f"{rung}: {challenger.name}")
        try:
            return asked[rung](challenger)
        except SegueError as error:
            return Silent(rung, error.message)

    def offline(self, challenger: Challenger) -> Prediction:
        """Pages as they would have been served at the split, held against what was listened to after it; paired."""
        started = time.perf_counter()
        surface = challenger.surface
        metric = GATED.get(surface)
        if metric is None:
            raise InvalidInput(
                f"there is no offline test of {surface}; of {' and '.join(GATED)} there is", field="surface"
            )
        mine = self._measured(challenger)
        if surface not in self._offline:
            self._offline[surface] = self._measured(Challenger("champion", surface))
        return _paired(
            OFFLINE,
            f"{metric} of the page",
            self._offline[surface].per_case[metric],
            mine.per_case[metric],
            mine.user,
            f"{len(mine.user):,} requests of {len(np.unique(mine.user)):,} listeners from {self._first} on",
            started,
        )

    def off_policy(self, challenger: Challenger) -> Prediction:
        """What the first slots of logged pages would have earned under either, by the same estimator; paired."""
        started = time.perf_counter()
        surface = challenger.surface
        if surface not in REPLAYED:
            raise InvalidInput(
                f"requests of {surface} cannot be replayed from the log; those of {' and '.join(REPLAYED)} can",
                field="surface",
            )
        mine, users = self._judged(challenger)
        if surface not in self._terms:
            self._terms[surface] = self._judged(Challenger("champion", surface))[0]
        theirs = self._terms[surface]
        found = _paired(
            OFF_POLICY,
            f"listens on the first {self.size.slots} slots of a page, {ESTIMATOR}",
            theirs[ESTIMATOR].influence,
            mine[ESTIMATOR].influence,
            users,
            f"{len(users):,} logged pages of {len(np.unique(users)):,} listeners, {mine[ESTIMATOR].ess:,.0f} of them effective",
            started,
        )
        others = {
            name: _paired(OFF_POLICY, name, theirs[name].influence, mine[name].influence, users, "", started)
            for name in mine
            if name != ESTIMATOR and name in theirs
        }
        beside = {name: (one.relative, *one.ci95) for name, one in others.items()}
        return msgspec.structs.replace(found, beside=beside)

    def simulation(self, challenger: Challenger) -> Prediction:
        """Everybody lives under either; the mean difference of a listener's two lives."""
        started = time.perf_counter()
        return _simulated(true_effects(*self.lives(challenger)), self.size.days, started)

    def lives(self, challenger: Challenger) -> tuple[Told, Told]:
        """Everybody under the champion, and everybody under the challenger."""
        surface, n = challenger.surface, self._world.config.listeners
        wanted: list[Lived] = [
            ([arm], np.zeros(n, np.int16), self._plan(challenger))
            for arm in (*(() if surface in self._told else (CHAMPION,)), challenger.arm)
        ]
        lived = live_many(self.home, wanted, workers=self._workers)
        self._told.setdefault(surface, lived[0].told)
        return self._told[surface], lived[-1].told

    def interleaving(self, challenger: Challenger) -> Prediction:
        """Every page shared by both: whose slots simulated listeners listen to."""
        started = time.perf_counter()
        plan = msgspec.structs.replace(self._plan(challenger), days=self.size.duel_days)
        found = duel(self._world, CHAMPION, challenger.arm, plan)
        # A page of one side alone has twice its share of the slots on which they differ.
        control = 2.0 * found.control + found.neither
        treatment = 2.0 * found.treatment + found.neither
        if not control.any() or not (found.control.any() or found.treatment.any()):
            raise InvalidData("the two never differed on a slot that was listened to", field="challenger")
        return _paired(
            INTERLEAVING,
            f"listens on a page of {challenger.surface}",
            control,
            treatment,
            found.user,
            f"{len(found.user):,} simulated listeners over {plan.days} days",
            started,
        )

    @cached_property
    def _world(self) -> World:
        return World(self.home)

    @cached_property
    def days(self) -> tuple[date, date]:
        """First and last day of the past that is judged by."""
        return window(self.home.engine, "home", self.size.past, None)

    @property
    def _first(self) -> date:
        return self.days[0]

    @cached_property
    def _past(self) -> Artifacts:
        """Models that have not seen the days judged."""
        if self._trained is not None:
            return Artifacts.load(self.home.bundles.open(self._trained))
        return self.train(moment(self._first)).artifacts("as of then")

    def train(self, until: int, rankers: dict[str, Ranker] | None = None) -> Trained:
        """Train on what happened before a moment, with rankers of its own unless some are given."""
        home = self.home
        return train(home.trusted, home.settings, until, lambda what: self.say(f"trains {what}"), rankers)

    @cached_property
    def _split(self) -> Split:
        history_days = self.home.settings.training.history_days
        split = load_split(self.home.trusted, moment(self._first), history_days, listens_only=True)
        return sampled(split, self.size.requests)

    def _plan(self, challenger: Challenger) -> Plan:
        if challenger.surface not in _LIVED:
            raise InvalidInput(f"simulated listeners do not ask for {challenger.surface}", field="surface")
        size = self.size
        return Plan((challenger.surface,), size.days, size.seed, size.listeners, size.reactions)

    def _artifacts(self, challenger: Challenger) -> Artifacts:
        """What it answers from when it is judged by the past. Raises InvalidData for a bundle that has seen it."""
        if challenger.bundle is None:
            return self._past
        bundle = self.home.bundles.open(challenger.bundle)
        seen = bundle.manifest.data_through
        if seen >= self._first.isoformat():
            raise InvalidData(
                f"the bundle has seen the events of {seen}, and is to be judged by what came from {self._first} on; wait for "
                "days behind it, or judge by more past days (--past)",
                field="challenger",
            )
        return Artifacts.load(bundle)

    def _settings(self, challenger: Challenger) -> Settings:
        return change_settings(self.home.settings, challenger.set, challenger.name)

    def _measured(self, challenger: Challenger) -> Evaluation:
        home, split = self.home, self._split
        cases = split.tasks[challenger.surface]
        at, settings = split.protocol.split, self._settings(challenger)
        past = Replay.load(home.trusted, np.unique(cases.user), at, settings.state)
        states = {int(user): past.state(int(user), at) for user in np.unique(cases.user)}
        artifacts = self._artifacts(challenger)
        served = _Paged(artifacts, settings.surfaces, lambda _: None, 1_000, clock=lambda: 0.0)
        return evaluate(cases, Served(served, split, states.__getitem__), batch=256)

    def _judged(self, challenger: Challenger) -> tuple[dict[str, PageTerms], npt.NDArray[np.int64]]:
        """The estimates of a challenger by name, and the listener of each page. Raises InvalidData without support."""
        shown, past, usual = self._logged(challenger.surface)
        settings = self._settings(challenger)
        recommender = Recommender(
            self._artifacts(challenger), settings.surfaces, lambda _: None, settings.serving.max_k
        )
        past = replace(past, limits=settings.state)
        replayed = replay(recommender, past, challenger.surface, shown)
        pages = pages_of(shown, replayed, usual)
        _, refused, terms = supported(pages)
        if ESTIMATOR not in terms:
            raise InvalidData(refused["iips"], field="support")
        return terms, pages.units

    def _logged(self, surface: str) -> tuple[Shown, Replay, Usual]:
        """The pages of the log, what their listeners had done, and the log's own chances."""
        if surface not in self._pages:
            first, last = self.days
            shown = load_shown(self.home.engine, surface, first, last, self.size.pages, self.size.slots)
            past = load_past(self.home.engine, shown, self.home.settings.state)
            self._pages[surface] = shown, past, usual_chances(self._loggers, past, surface, shown)
        return self._pages[surface]


class _Paged(Recommender):
    """Ranks as a page is chosen: with diversity, spacing and exploration, whose draws are a request's own."""

    def rank(self, request: Request, state: ListenerState) -> npt.NDArray[np.int64]:
        """Ids of the tracks of the page. int64[m], m <= k."""
        seed = ((request.user_id or 0) * _DICE ^ (request.now or 0)) & (2**63 - 1)
        asked = msgspec.structs.replace(request, seed=seed)
        page = self.answer(asked, read_state=lambda _: state).response.items
        return np.array([item.track_id for item in page], np.int64)


def _simulated(effects: dict[str, Effect], days: int, started: float) -> Prediction:
    """The effects of a simulation as what it predicts."""
    goal = effects[GOAL]
    return Prediction(
        SIMULATION,
        GOAL,
        goal.control,
        goal.treatment,
        goal.relative,
        _relative(goal)[1:],
        f"{goal.units:,} simulated listeners, each living {days} days twice",
        time.perf_counter() - started,
        {name: _relative(effects[name]) for name in BESIDE},
    )


def _relative(effect: Effect) -> tuple[float, float, float]:
    error = 1.96 * effect.standard_error / abs(effect.control) if effect.control else float("nan")
    return effect.relative, effect.relative - error, effect.relative + error


def _paired(
    rung: str,
    metric: str,
    champion: npt.NDArray[np.floating[Any]],
    challenger: npt.NDArray[np.floating[Any]],
    users: npt.NDArray[np.int64],
    basis: str,
    started: float,
) -> Prediction:
    """Of values on the same cases or listeners; the interval resamples listeners."""
    before, after = float(champion.mean()), float(challenger.mean())
    if before == 0.0:
        raise InvalidData(
            f"{metric}: the champion has 0, so nothing can be said relative to it", field="metric"
        )
    low, high = bootstrapped(challenger - champion, users)
    return Prediction(
        rung,
        metric,
        before,
        after,
        (after - before) / abs(before),
        (low / abs(before), high / abs(before)),
        basis,
        time.perf_counter() - started,
    )
