"""Interleaving in the closed loop: two recommenders share every page, and simulated listeners choose between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segue.contracts.vocabulary import END_MS, LISTEN_MS
from segue.models.interleaving import NEITHER, competing_pairs
from segue.recommend.api import Item, Request
from segue.recommend.pipeline import Recommender
from segue.settings.load import change_settings
from segue.simulation.answering import Answering, States, route_by_listener
from segue.simulation.environment import Environment, LivedDay
from segue.simulation.policy import LoggingPolicy
from segue.simulation.session import PLAY
from segue.simulation.world import USER_BASE
from segue.wiring.closed_loop import Arm, Plan, World

__all__ = ["Credits", "duel"]


@dataclass(frozen=True)
class Credits:
    """Listens of each listener who was shown interleaved pages: user int64[n]; control, treatment and neither int64[n], on slots
    that are credited to either side or to none."""

    user: npt.NDArray[np.int64]
    control: npt.NDArray[np.int64]
    treatment: npt.NDArray[np.int64]
    neither: npt.NDArray[np.int64]


def duel(world: World, control: Arm, treatment: Arm, plan: Plan) -> Credits:
    """Live the days of the plan with every page of its surfaces interleaved from both arms."""
    pages = _Pages([_recommender(world, arm) for arm in (control, treatment)], plan.seed)
    service = world.service()
    everybody = np.zeros(world.config.listeners, np.int16)
    states = world.states(everybody >= 0)
    music = world.catalogue.music
    environment = Environment(
        world.config,
        world.catalogue,
        service,
        Answering(
            [lambda request: pages.answer(request, states)],
            route_by_listener(everybody, plan.surfaces),
            LoggingPolicy(music, world.catalogue.people, service.memory),
        ),
        seed=plan.seed,
        reactions=plan.reactions,
        observer=states,
        present=world.present(plan.listeners),
    )
    duration = np.ascontiguousarray(music.track["duration"])
    for day in environment.live(plan.days):
        pages.credit(day, duration)
    return pages.credits()


class _Pages:
    """Interleaved pages, whom their slots are credited to, and what listeners did with them."""

    def __init__(self, sides: Sequence[Recommender], seed: int) -> None:
        self._sides, self._rng = sides, np.random.default_rng([seed, 13])
        self._teams: dict[tuple[int, int], npt.NDArray[np.int8]] = {}
        self._pages: dict[bytes, tuple[int, int]] = {}
        self._listens: dict[int, npt.NDArray[np.int64]] = {}

    def answer(self, request: Request, states: States) -> list[Item]:
        assert request.user_id is not None
        assert request.now is not None
        state = states.read(request.user_id)
        one, other = (side.answer(request, read_state=lambda _: state).response.items for side in self._sides)
        coins = self._rng.random(request.k) < 0.5
        page = competing_pairs(_ids(one), _ids(other), request.k, coins)
        self._teams[request.user_id - USER_BASE, request.now] = page.team
        items = {item.track_id: item for item in (*other, *one)}
        return [items[track] for track in page.tracks.tolist()]

    def credit(self, day: LivedDay, duration: npt.NDArray[np.int32]) -> None:
        """Credit the listens of a day. A page of the evening before may be listened to after midnight."""
        shown = day.exposures
        given = np.flatnonzero(shown.by >= 0)
        for user, ts, request in zip(
            shown.user[given].tolist(),
            shown.ts[given].tolist(),
            map(bytes, shown.request[given]),
            strict=True,
        ):
            self._listens.setdefault(user, np.zeros(3, np.int64))
            self._pages[request] = (user, ts)
        events = day.events
        full = (events.ms >= LISTEN_MS) | (events.ms >= duration[events.track] - END_MS)
        for row in np.flatnonzero(events.asked & (events.type == PLAY) & full).tolist():
            page = self._pages.get(bytes(events.request[row]))
            if page is not None:
                team = self._teams[page][events.position[row]]
                self._listens[page[0]][team if team != NEITHER else 2] += 1

    def credits(self) -> Credits:
        users = sorted(self._listens)
        counts = np.array([self._listens[user] for user in users], np.int64).reshape(-1, 3)
        return Credits(np.array(users, np.int64), *counts.T)


def _ids(items: Sequence[Item]) -> npt.NDArray[np.int64]:
    return np.array([item.track_id for item in items], np.int64)


def _recommender(world: World, arm: Arm) -> Recommender:
    settings = change_settings(world.home.settings, arm.set, f"variant {arm.name}")
    return Recommender(
        world.artifacts(arm.bundle),
        settings.surfaces,
        lambda _: None,
        settings.serving.max_k,
        clock=lambda: 0.0,
    )
