"""What could happen to a service, played through on simulated listeners: each scenario measures something and has a verdict.

They live on in the home they are asked for, unless they train: those make a small service of their own in a directory that is
removed afterwards (segue.wiring.rounds).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from segue.contracts.experiments import CONTROL
from segue.contracts.vocabulary import LISTEN_MS
from segue.experiments.analysis import analyze
from segue.experiments.metric import Metric
from segue.listener.state import MARK, PLAY, ListenerState
from segue.simulation.effects import composed
from segue.simulation.environment import LivedDay
from segue.simulation.session import PLAY as PLAYED
from segue.simulation.tally import unit_table
from segue.wiring.closed_loop import Arm, Plan, World, live_many, run_ab
from segue.wiring.debuts import debut_scenario
from segue.wiring.home import Home
from segue.wiring.rounds import bot_attack, feedback_loop

__all__ = ["SCENARIOS", "Asked", "Played", "Scenario"]

GOAL: Final = "listens_per_listener"
HOME: Final = ("home",)
TREATMENT: Final = "treatment"


@dataclass(frozen=True)
class Asked:
    """Where and how a scenario is to be played; None leaves a size to it. `say` is told what is at hand."""

    home: Home
    listeners: int | None
    days: int | None
    seed: int
    say: Callable[[str], None] = lambda what: None


class Played(msgspec.Struct, frozen=True):
    """What was measured, and the verdict."""

    scenario: str
    measured: dict[str, float]
    verdict: str
    seconds: float


@dataclass(frozen=True)
class Scenario:
    """A scenario: its name, what it does, and how. `own_home`: it needs no service in the home it is asked for."""

    name: str
    words: str
    play: Callable[[Asked], tuple[dict[str, float], str]]
    own_home: bool = False

    def run(self, asked: Asked) -> Played:
        """Play it."""
        started = time.perf_counter()
        measured, verdict = self.play(asked)
        return Played(self.name, measured, verdict, time.perf_counter() - started)


def a_a(asked: Asked) -> tuple[dict[str, float], str]:
    """One life, divided at random again and again: how often an analysis finds what is not there."""
    plan = Plan(HOME, asked.days or 7, asked.seed, asked.listeners)
    world = World(asked.home)
    rng = np.random.default_rng(asked.seed)
    n = world.config.listeners
    (life,) = live_many(asked.home, [([Arm(CONTROL)], np.zeros(n, np.int16), plan)], workers=1)
    runs, p = 400, []
    for run in range(runs):
        if run % 50 == 0:
            asked.say(f"{run} of {runs} experiments analysed")
        arm = rng.integers(0, 2, n).astype(np.int16)
        told = composed([life.told, replace(life.told, shown=np.repeat(life.told.shown, 2, axis=0))], arm)
        analysis = analyze(unit_table(told, [CONTROL, TREATMENT]), [Metric(GOAL)], control=CONTROL)
        p.append(analysis.metrics[GOAL].comparisons[0].p or 0.0)
    rate = float((np.array(p) < 0.05).mean())
    error = 2 * np.sqrt(0.05 * 0.95 / runs)
    sound = abs(rate - 0.05) <= error
    verdict = (
        f"{'sound' if sound else 'NOT sound'}: {rate:.1%} of experiments without effect found one at p < 5% "
        f"(5% \N{PLUS-MINUS SIGN} {error:.1%})"
    )
    return {"experiments": runs, "false positives": rate, "listeners": len(life.told.user)}, verdict


def broken_model(asked: Asked) -> tuple[dict[str, float], str]:
    """The home's ranker turned upside down for half of the listeners: how soon an experiment says so."""
    weights = asked.home.settings.surfaces["home"].scorer.weights
    upside_down = {"surfaces.home.scorer.weights": {name: -weight for name, weight in weights.items()}}
    plan = Plan(HOME, asked.days or 7, asked.seed, asked.listeners)
    n = World(asked.home).config.listeners
    arm = np.random.default_rng(asked.seed).integers(0, 2, n).astype(np.int16)
    ab = run_ab(asked.home, [Arm(CONTROL), Arm(TREATMENT, upside_down)], arm, plan, mixed=False)
    skips = Metric("skip_rate", kind="ratio", direction="down")
    found = analyze(ab.units, [Metric(GOAL), skips], control=CONTROL, days=ab.days)
    goal = found.metrics[GOAL]
    noticed = [
        next(
            (n for n, day in enumerate(course.days, 1) if day.always_valid[0] > 0 or day.always_valid[1] < 0),
            0,
        )
        for result in found.metrics.values()
        for course in result.courses
    ]
    soonest = min((n for n in noticed if n), default=0)
    truth = ab.truth[TREATMENT]
    worse = goal.comparisons[0].effect is not None and goal.comparisons[0].effect < 0
    caught = soonest > 0 and worse and found.decision.verdict == "stop"
    when = f"after {soonest} days" if soonest else "never"
    verdict = (
        f"{'caught' if caught else 'NOT caught'}: looking daily, the harm is certain {when}; "
        f"at the end: {found.decision.said}"
    )
    if goal.comparisons[0].relative is None:
        verdict = f"cannot tell: nothing can be estimated; {MORE}"
    return (
        {
            f"{GOAL}, true relative effect": truth[GOAL].relative,
            f"{GOAL}, estimated": goal.comparisons[0].relative or float("nan"),
            "skip_rate, true relative effect": truth["skip_rate"].relative,
            "days_active, true relative effect": truth["days_active"].relative,
            "days until daily looks are sure": soonest,
        },
        verdict,
    )


def cold_start(asked: Asked) -> tuple[dict[str, float], str]:
    """A third of the listeners come as strangers: how good their first pages are beside those they get when known."""
    world, plan = World(asked.home), Plan(HOME, asked.days or 7, asked.seed, asked.listeners)
    n = world.config.listeners
    new = np.random.default_rng(asked.seed).random(n) < 1 / 3
    arm = np.where(new, np.int16(0), np.int16(-1))

    def stranger(user_id: int) -> ListenerState | None:
        state = asked.home.state.read(user_id)
        return None if state is None else replace(state, plays=np.empty(0, PLAY), marks=np.empty(0, MARK))

    rates = []
    for states in (world.states(new), world.states(new, stranger)):
        pages = _Pages(n)
        world.live([Arm(CONTROL)], arm, plan, states=states, look=pages.look)
        rates.append(pages.rates(((1, 1), (2, 3), (4, 8), (9, 10**6))))
    known, unknown = rates
    names = ("page 1", "pages 2 to 3", "pages 4 to 8", "later pages")
    share = {
        f"{name}: listens per slot, strangers over known": cold / warm if warm else float("nan")
        for name, cold, warm in zip(names, unknown, known, strict=True)
    }
    first, *_, last = share.values()
    if np.isnan([first, last]).any():
        return share, f"cannot tell: some pages nobody saw or listened from; {MORE}"
    return (
        share,
        f"a stranger's first page is worth {first:.0%} of a known listener's, pages from the ninth on {last:.0%}",
    )


MORE: Final = "take more listeners or more days"

Shown = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]
"""Listeners, and the scenes of the slots they were shown."""


class _Pages:
    """Listens per slot that a page got, by the number of the page among its listener's."""

    def __init__(self, listeners: int) -> None:
        self._seen = np.zeros(listeners, np.int64)
        self._slots: dict[int, int] = {}
        self._listens: dict[int, int] = {}

    def look(self, day: LivedDay) -> None:
        shown, events = day.exposures, day.events
        given = np.flatnonzero(shown.by >= 0)
        key = shown.request[given].copy().view("V16").ravel()
        order = np.lexsort((shown.ts[given], shown.user[given]))
        pages, first, slots = np.unique(key[order], return_index=True, return_counts=True)
        user = shown.user[given][order][first]
        turn = np.empty(len(pages), np.int64)
        for at in np.argsort(first, kind="stable").tolist():
            self._seen[user[at]] += 1
            turn[at] = self._seen[user[at]]
        played = events.asked & (events.type == PLAYED) & (events.ms >= LISTEN_MS)
        asked = events.request[played].copy().view("V16").ravel()
        place = np.searchsorted(pages, asked)
        hit = place < len(pages)
        hit[hit] = pages[place[hit]] == asked[hit]
        listens = np.bincount(place[hit], minlength=len(pages))
        for number, some, heard in zip(turn.tolist(), slots.tolist(), listens.tolist(), strict=True):
            self._slots[number] = self._slots.get(number, 0) + some
            self._listens[number] = self._listens.get(number, 0) + heard

    def rates(self, groups: tuple[tuple[int, int], ...]) -> list[float]:
        """Of the pages numbered from the first to the second of each group."""
        return [
            sum(n for page, n in self._listens.items() if low <= page <= high)
            / max(sum(n for page, n in self._slots.items() if low <= page <= high), 1)
            for low, high in groups
        ]


def filter_bubble(asked: Asked) -> tuple[dict[str, float], str]:
    """Four weeks in the loop: whether what a listener is shown grows narrower, beside the same weeks under the logging policy."""
    world, plan = World(asked.home), Plan(HOME, asked.days or 28, asked.seed, asked.listeners)
    scene, n = world.catalogue.music.track["scene"], world.config.listeners
    found: dict[str, float] = {}
    ratio = {}
    for name, arm in (("recommender", np.zeros(n, np.int16)), ("logging policy", np.full(n, -1, np.int16))):
        asked.say(f"{plan.days} days under the {name}")
        shown: list[Shown] = []

        def look(day: LivedDay, shown: list[Shown] = shown) -> None:
            home = day.exposures.surface == 0
            shown.append((day.exposures.user[home], scene[day.exposures.track[home]]))

        world.live([Arm(CONTROL)], arm, plan, look=look)
        quarter = max(plan.days // 4, 1)
        breadth = [_breadth(days) for days in (shown[:quarter], shown[-quarter:])]
        found[f"{name}: scenes on a listener's pages, first quarter"] = breadth[0]
        found[f"{name}: scenes on a listener's pages, last quarter"] = breadth[1]
        ratio[name] = breadth[1] / breadth[0] - 1
    further = ratio["recommender"] - ratio["logging policy"]
    if np.isnan(further):
        return (
            found,
            f"cannot tell: nobody saw 60 slots in a quarter of the days; {MORE}",
        )
    return found, (
        f"{'NARROWS' if further < -0.05 else 'does not narrow further'}: over {plan.days} days a listener's pages change "
        f"in breadth by {ratio['recommender']:+.0%}, under the logging policy by {ratio['logging policy']:+.0%}"
    )


def _breadth(parts: list[Shown]) -> float:
    """The mean over listeners of the effective number of scenes they were shown: exp of the entropy, over 60 slots each."""
    user = np.concatenate([u for u, _ in parts]).astype(np.int64)
    scene = np.concatenate([s for _, s in parts]).astype(np.int64)
    order = np.argsort(user, kind="stable")
    user, scene = user[order], scene[order]
    number = np.arange(len(user)) - np.searchsorted(user, user)
    # Why as many slots of each: who is shown more is shown more scenes.
    enough = np.bincount(user)[user] >= 60
    user, scene = user[enough & (number < 60)], scene[enough & (number < 60)]
    if len(user) == 0:
        return float("nan")
    pairs, counts = np.unique(user << 20 | scene, return_counts=True)
    share = counts / 60
    entropy = np.bincount(pairs >> 20, -share * np.log(share))
    return float(np.exp(entropy[np.unique(pairs >> 20)]).mean())


def _rounds(
    play: Callable[..., tuple[dict[str, float], str]],
) -> Callable[[Asked], tuple[dict[str, float], str]]:
    return lambda asked: play(asked.home.settings, asked.listeners, asked.days, asked.seed, asked.say)


SCENARIOS: Final = {
    one.name: one
    for one in (
        Scenario("a-a", "two variants that are the same: how often an analysis finds a difference", a_a),
        Scenario(
            "broken-model",
            "the ranker upside down for half of the listeners: how soon it shows",
            broken_model,
        ),
        Scenario(
            "cold-start",
            "a third of the listeners come as strangers: how good their first pages are",
            cold_start,
        ),
        Scenario("filter-bubble", "weeks in the loop: whether a listener is shown ever less", filter_bubble),
        Scenario(
            "feedback-loop",
            "train, serve, train on what was served: how unequal exposure becomes",
            _rounds(feedback_loop),
            own_home=True,
        ),
        Scenario(
            "bot-attack",
            "bots play one unknown artist for a week: what that buys them",
            _rounds(bot_attack),
            own_home=True,
        ),
        Scenario(
            "debuts",
            "four weeks with the new-artist programme and without: whom new uploads reach, and what it costs",
            _rounds(debut_scenario),
            own_home=True,
        ),
    )
}
