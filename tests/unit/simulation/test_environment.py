"""A service that lives on: the same life twice, the same chances under two policies, and consequences of what is given."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from segue.contracts.errors import InvalidData, NotFound
from segue.contracts.vocabulary import DAY
from segue.simulation import SimulationConfig, generate_catalogue, simulate_days
from segue.simulation.catalogue import Catalogue
from segue.simulation.environment import NONE, Environment, LivedDay, Reactions
from segue.simulation.history import Policy, begin
from segue.simulation.policy import LoggingPolicy
from segue.simulation.service import Service, read_config, read_service, write_service
from segue.simulation.session import PLAY, SKIP, SLATE_SIZES, Requests, Slates, empty_slates
from segue.simulation.tally import COUNTS, Told, day_table
from segue.simulation.world import Crowd, Memory

CONFIG = SimulationConfig(tracks=1_500, artists=200, listeners=600, days=4, seed=5)
DAYS = 10


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return generate_catalogue(CONFIG)


@pytest.fixture(scope="module")
def ended(catalogue: Catalogue) -> Service:
    """The service as of the end of its history."""
    service = begin(CONFIG, catalogue)
    for _ in simulate_days(CONFIG, catalogue, service):
        pass
    return service


class Disliked:
    """Gives each listener the tracks they like least of some that everybody may play."""

    def __init__(self, catalogue: Catalogue, memory: Memory) -> None:
        open_to_all = np.flatnonzero(catalogue.music.gate == 0)[:400].astype(np.int32)
        users = np.arange(CONFIG.listeners) + 1
        scores = catalogue.truth.scores(users, CONFIG.end_us)[:, open_to_all]
        self._worst = open_to_all[np.argsort(scores, axis=1)[:, : max(SLATE_SIZES)]]

    def answer(self, requests: Requests, crowd: Crowd) -> Slates:
        slates = empty_slates(len(requests.user))
        for surface, size in enumerate(SLATE_SIZES):
            rows = requests.surface == surface
            slates.track[rows, :size] = self._worst[requests.user[rows], :size]
        slates.propensity[slates.track >= 0] = 1.0
        return slates


def lives(
    catalogue: Catalogue,
    ended: Service,
    policy: type[LoggingPolicy] | type[Disliked] = LoggingPolicy,
    reactions: Reactions = Reactions(),  # noqa: B008 - frozen
    seed: int = 1,
    present: np.ndarray | None = None,  # type: ignore[type-arg]
) -> tuple[list[LivedDay], Service]:
    service = ended.copy()
    answers: Policy = (
        LoggingPolicy(catalogue.music, catalogue.people, service.memory)
        if policy is LoggingPolicy
        else Disliked(catalogue, service.memory)
    )
    environment = Environment(
        CONFIG, catalogue, service, answers, seed=seed, reactions=reactions, present=present
    )
    return list(environment.live(DAYS)), service


def started(days: list[LivedDay]) -> int:
    return sum(int(np.isin(day.events.type, (PLAY, SKIP)).sum()) for day in days)


def came(days: list[LivedDay]) -> set[tuple[int, int]]:
    """Listener and day of every first event of a session's day."""
    return {
        (user, ts // DAY)
        for day in days
        for user, ts in zip(day.events.user.tolist(), day.events.ts.tolist(), strict=True)
    }


def test_the_same_seed_gives_the_same_life_and_another_another(catalogue: Catalogue, ended: Service) -> None:
    one, two, other = (lives(catalogue, ended, seed=seed)[0] for seed in (1, 1, 2))
    for a, b in zip(one, two, strict=True):
        for x, y in zip((*a.events, *a.exposures), (*b.events, *b.exposures), strict=True):
            assert np.array_equal(x, y)
    assert started(one) != started(other)
    assert one[0].day == CONFIG.end.replace(day=CONFIG.end.day + 1)


def test_a_life_leaves_the_history_as_it_was(catalogue: Catalogue, ended: Service) -> None:
    before = ended.memory.copy()
    lives(catalogue, ended)
    assert np.array_equal(before, ended.memory)


def test_who_comes_when_depends_on_no_answer_unless_listeners_react(
    catalogue: Catalogue, ended: Service
) -> None:
    indifferent = [lives(catalogue, ended, policy, NONE)[0] for policy in (LoggingPolicy, Disliked)]
    only_one = came(indifferent[0]) ^ came(indifferent[1])
    # Those that pass midnight, or were pushed out of it by the session before.
    assert len(only_one) < 0.06 * len(came(indifferent[0]))


def test_listeners_who_are_given_what_they_dislike_leave_sooner_and_come_less(
    catalogue: Catalogue, ended: Service
) -> None:
    impatient = Reactions(boredom=0, returning=0)
    leaves = [started(lives(catalogue, ended, policy, impatient)[0]) for policy in (LoggingPolicy, Disliked)]
    leaves_alone = [started(lives(catalogue, ended, policy, NONE)[0]) for policy in (LoggingPolicy, Disliked)]
    assert leaves[1] / leaves[0] < leaves_alone[1] / leaves_alone[0]
    resentful = Reactions(boredom=0, patience=0, returning=3)
    stays = [len(came(lives(catalogue, ended, policy, resentful)[0])) for policy in (LoggingPolicy, Disliked)]
    assert stays[1] < 0.97 * stays[0]


def test_boredom_costs_recommendations_only(catalogue: Catalogue, ended: Service) -> None:
    def listens(reactions: Reactions) -> tuple[float, float]:
        """Share of started tracks that are listened to: of recommended ones, and of the listener's own."""
        days = lives(catalogue, ended, LoggingPolicy, reactions)[0]
        shares = []
        for asked in (True, False):
            plays = [
                (day.events.ms >= 30_000)[
                    np.isin(day.events.type, (PLAY, SKIP)) & (day.events.asked == asked)
                ]
                for day in days
            ]
            shares.append(float(np.concatenate(plays).mean()))
        return shares[0], shares[1]

    fresh = listens(NONE)
    bored = listens(Reactions(boredom=6, patience=0, returning=0))
    assert bored[0] < fresh[0] - 0.05
    assert abs(bored[1] - fresh[1]) < 0.03


def test_standard_reactions_keep_how_much_is_listened_to(catalogue: Catalogue, ended: Service) -> None:
    alone, reacting = (started(lives(catalogue, ended, LoggingPolicy, r)[0]) for r in (NONE, Reactions()))
    assert 0.9 < reacting / alone < 1.1


def test_who_is_not_present_does_nothing(catalogue: Catalogue, ended: Service) -> None:
    present = np.arange(CONFIG.listeners) % 3 == 0
    days, _ = lives(catalogue, ended, present=present)
    users = np.concatenate([day.events.user for day in days])
    assert len(users)
    assert present[users].all()


def test_guarantees_hold_in_the_life_after(catalogue: Catalogue, ended: Service) -> None:
    for day in lives(catalogue, ended)[0]:
        shown = day.exposures
        assert not (catalogue.music.gate[shown.track] & catalogue.people.refuses[shown.user]).any()


def test_a_service_is_read_as_it_was_written(tmp_path: Path, ended: Service) -> None:
    with pytest.raises(NotFound, match="segue simulate"):
        read_config(tmp_path)
    with pytest.raises(NotFound):
        read_service(tmp_path)
    write_service(tmp_path, CONFIG, ended)
    assert read_config(tmp_path) == CONFIG
    read = read_service(tmp_path)
    assert np.array_equal(read.memory, ended.memory)
    assert np.array_equal(read.talk, ended.talk)
    np.save(tmp_path / "memory.npy", np.zeros(3))
    with pytest.raises(InvalidData, match="another version"):
        read_service(tmp_path)


def test_reactions_are_checked() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"forgetting": 0.0}, Reactions)


def test_days_on_which_nobody_was_answered_are_an_empty_table() -> None:
    nobody = Told(
        np.empty(0, np.int32),
        np.empty(0, np.int16),
        np.empty(0, np.int64),
        np.empty((0, 1, len(COUNTS))),
        np.zeros((2, 5), np.int64),
        0,
    )
    assert day_table(nobody, ["control", "treatment"], 0).num_rows == 0
