"""Pages of two recommenders: whose slot is whose, what is shown below, and that nothing a person relies on is lost by it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from segue.contracts.vocabulary import Removed, Team
from segue.recommend.api import Request
from segue.recommend.artifacts import Artifacts
from segue.recommend.interleave import KERNELS, interleaved
from segue.recommend.pipeline import Answer, Recommender
from segue.recommend.shelves import shortest
from segue.settings.load import change_settings
from segue.wiring.home import Home

NOW = 1_795_305_600_000_000
K = 12
WORSE = {"surfaces.home.scorer.weights": {"play": -1.0, "like": -0.5, "skip": 0.3}}


@pytest.fixture(scope="module")
def sides(service: Home) -> tuple[Recommender, Recommender]:
    artifacts = Artifacts.load(service.bundles.open())
    changed = change_settings(service.settings, WORSE, "test")
    return tuple(
        Recommender(artifacts, settings.surfaces, service.state.read, 200)
        for settings in (service.settings, changed)
    )


def answers(sides: tuple[Recommender, Recommender], user: int, **known: object) -> tuple[Answer, Answer]:
    asked = msgspec.structs.replace(Request("home", user, K, now=NOW, seed=user), **known)
    one, other = (side.answer(asked) for side in sides)
    return one, other


@pytest.mark.parametrize("by", list(KERNELS))
def test_a_page_is_of_both_and_names_nothing_twice(sides: tuple[Recommender, Recommender], by: str) -> None:
    teams = Counter[Team | None]()
    for user in range(30):
        one, other = answers(sides, user)
        page = interleaved(one, other, by).response
        shown = [item for shelf in page.shelves for item in shelf.items]
        assert page.items == page.shelves[0].items
        assert [item.position for item in shown] == list(range(len(shown)))
        assert len({item.track_id for item in shown}) == len(shown)
        assert {item.propensity for item in shown} == {None}
        assert len(page.items) == K
        of = {Team.CONTROL: one.response.items, Team.TREATMENT: other.response.items}
        for item in page.items:
            teams[item.team] += 1
            for team, items in of.items():
                if item.team is team:
                    assert (item.track_id, item.score) in {(i.track_id, i.score) for i in items}
        for shelf, theirs in zip(page.shelves[1:], _named(page.shelves[1:], one), strict=True):
            assert {item.team for item in shelf.items} == {Team.NEITHER}
            assert [i.track_id for i in shelf.items] == [t for t in theirs if t in _ids(shelf.items)]
            assert len(shelf.items) >= shortest(shelf.name)
    assert abs(teams[Team.CONTROL] - teams[Team.TREATMENT]) < 5 * np.sqrt(sum(teams.values()))
    assert teams[Team.TREATMENT] > 100
    if by == "competing-pairs":
        assert teams[Team.CONTROL] == teams[Team.TREATMENT]


def _named(shelves: tuple, answer: Answer) -> list[list[int]]:
    theirs = {shelf.name: [item.track_id for item in shelf.items] for shelf in answer.response.shelves}
    return [theirs[shelf.name] for shelf in shelves]


def _ids(items: tuple) -> set[int]:
    return {item.track_id for item in items}


def test_two_of_the_same_are_the_page_of_one_credited_to_neither(
    sides: tuple[Recommender, Recommender],
) -> None:
    one, _ = answers(sides, 4)
    page = interleaved(one, one, "competing-pairs").response
    assert [item.track_id for item in page.items] == [item.track_id for item in one.response.items]
    assert {item.team for item in page.items} == {Team.NEITHER}
    assert page.shelves[1:] != ()


def test_coins_are_the_requests_own(sides: tuple[Recommender, Recommender]) -> None:
    """The same request is the same page; who goes first is drawn for each, apart from what exploration draws."""
    one, other = answers(sides, 3)
    assert (
        interleaved(one, other, "team-draft").response.items
        == interleaved(one, other, "team-draft").response.items
    )
    first = Counter[Team | None]()
    for user in range(60):
        page = interleaved(*answers(sides, user), "team-draft").response
        first[page.items[0].team] += 1
    assert min(first[Team.CONTROL], first[Team.TREATMENT]) > 12  # 30 expected each; less is one in a million


def test_time_and_trouble_of_both_are_told(sides: tuple[Recommender, Recommender]) -> None:
    one, other = answers(sides, 5)
    told = replace(
        other,
        response=msgspec.structs.replace(
            other.response, trace=msgspec.structs.replace(other.response.trace, degraded=("graph: late",))
        ),
    )
    trace = interleaved(one, told, "team-draft").response.trace
    assert trace.degraded == ("graph: late",)
    assert len(trace.stages) == len(one.response.trace.stages) + len(other.response.trace.stages)


def test_what_one_side_removed_and_the_other_shows_is_not_logged_as_removed(service: Home) -> None:
    """A recipe's filter is a side's own; guarantees are the same on both."""
    artifacts = Artifacts.load(service.bundles.open())
    strict = change_settings(service.settings, {"surfaces.home.no_repeat_hours": 8_000.0}, "test")
    control, treatment = (
        Recommender(artifacts, settings.surfaces, service.state.read, 200)
        for settings in (strict, service.settings)
    )
    met = 0
    for user in range(60):
        one, other = answers((control, treatment), user)
        page = interleaved(one, other, "team-draft")
        shown = artifacts.catalogue.positions([item.track_id for item in page.response.items])
        removed = {
            reason: set(tracks.tolist()) & set(shown.tolist())
            for reason, tracks in one.removals.by_reason().items()
        }
        met += len(removed.get(Removed.RECENTLY_PLAYED, ()))
        assert not set(page.removals.tracks.tolist()) & set(shown.tolist())
        assert all(not tracks for reason, tracks in removed.items() if reason != Removed.RECENTLY_PLAYED)
    assert met > 0
