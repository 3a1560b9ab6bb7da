"""What an interleaving says: by hand, how often it is wrong, how few listeners it needs, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from interleaved_trial import AB, METHODS, trial
from segue.contracts.errors import InvalidData
from segue.experiments.interleaving import prefer


def test_a_preference_by_hand() -> None:
    """Listener 1 gives the treatment 2 and the control 0; 2 one each; 3 the control 1; 4 nothing to either."""
    found = prefer(
        listener=np.array([1, 1, 1, 2, 2, 3, 3, 4, 4, 1]),
        team=np.array([1, 0, 1, 0, 1, 1, 0, 0, 1, -1]),
        position=np.array([0, 1, 2, 0, 1, 0, 1, 0, 1, 3]),
        reward=np.array([1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 9.0]),
    )
    assert (found.slots, found.credited, found.listeners) == (10, 9, 4)
    assert (found.wins, found.losses, found.ties) == (1, 1, 2)
    assert found.credit == {"control": 2.0, "treatment": 3.0}
    assert found.preference == 0.5
    assert found.preference_p == 1.0
    assert found.lead == pytest.approx(1 / 5)
    pull = np.array([2 - 0.4, 0 - 0.4, -1 - 0.2, 0.0]) * 4 / 5
    error = pull.std(ddof=1) / 2
    assert found.lead_ci95[1] - found.lead == pytest.approx(min(3.182446 * error, 0.8), rel=1e-5)
    assert found.verdict == "open"


def test_equal_rankings_are_seldom_told_apart() -> None:
    wrong = dict.fromkeys(METHODS, 0)
    for seed in range(120):
        for name, found in trial(seed, 100, (0.6, 0.6)).interleaved.items():
            wrong[name] += found.verdict != "open"
            assert found.fair
    assert all(count <= 14 for count in wrong.values()), wrong  # 6 expected; 14 is one in a thousand


def test_fewer_listeners_are_needed_than_for_an_ab_test() -> None:
    """The z of a test grows with the root of its listeners."""
    found = [trial(1_000 + seed, 100, (0.9, 0.4), pages=4) for seed in range(40)]
    mean = {name: np.mean([each.z[name] for each in found]) for name in (AB, *METHODS)}
    assert mean["team draft"] > 2 * max(mean[AB], 0.3), mean
    assert mean["competing pairs"] > 1.05 * mean["team draft"], mean
    assert all(read.verdict != "control" for each in found for read in each.interleaved.values())


def test_a_side_that_always_goes_first_is_found_out() -> None:
    users = np.repeat(np.arange(200), 4)
    team = np.tile([1, 0, 1, 0], 200)
    position = np.tile(np.arange(4), 200)
    rng = np.random.default_rng(0)
    found = prefer(users, team, position, (rng.random(800) < 0.8 - 0.2 * position).astype(float))
    assert found.lead_p < 0.01
    assert not found.fair
    assert found.fair_p["places"] < 1e-6
    assert found.verdict == "open"


def test_a_side_with_more_slots_is_found_out() -> None:
    users = np.repeat(np.arange(200), 3)
    team = np.where(np.random.default_rng(1).random(600) < 0.7, 1, 0)
    found = prefer(users, team, np.tile(np.arange(3), 200), np.ones(600))
    assert found.fair_p["slots"] < 1e-6
    assert found.verdict == "open"


@pytest.mark.parametrize(("side", "lead", "verdict"), [(1, 1.0, "treatment"), (0, -1.0, "control")])
def test_credit_that_is_all_on_one_side_is_a_preference(side: int, lead: float, verdict: str) -> None:
    """Its pulls do not scatter at all, which is no reason to know nothing of it."""
    users, team = np.repeat(np.arange(200), 2), np.tile([0, 1, 1, 0], 100)
    found = prefer(users, team, np.tile([0, 1], 200), (team == side).astype(float))
    assert (found.lead, found.verdict, found.fair) == (lead, verdict, True)
    assert found.lead_p < 1e-6
    assert found.always_valid.p < 0.05
    low, high = sorted(abs(limit) for limit in found.lead_ci95)
    assert (round(low, 2), high) == (0.86, 1.0)


def test_one_credit_says_nothing() -> None:
    users, team = np.repeat(np.arange(100), 2), np.tile([0, 1, 1, 0], 50)
    found = prefer(users, team, np.tile([0, 1], 100), (np.arange(200) == 1).astype(float))
    assert (found.lead, found.verdict) == (1.0, "open")
    assert found.lead_p == pytest.approx(0.3197, abs=1e-3)  # Student's, of 1 with 99 degrees of freedom


@pytest.mark.parametrize("listeners", [2, 3, 5, 10])
def test_few_listeners_are_seldom_called_unfair(listeners: int) -> None:
    """However their pages fell: with so few the sides cannot be told to have had other chances."""
    users, team = np.repeat(np.arange(listeners), 2), np.tile([0, 1], listeners)
    found = prefer(users, team, np.tile([0, 1], listeners), np.ones(2 * listeners))
    assert found.fair


def test_listeners_who_do_nothing_leave_it_open() -> None:
    found = prefer(np.array([1, 1, 2, 2]), np.array([0, 1, 1, 0]), np.array([0, 1, 0, 1]), np.zeros(4))
    assert (found.lead, found.lead_p, found.preference, found.ties) == (0.0, 1.0, 0.5, 2)
    assert found.verdict == "open"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"reward": np.array([1.0, np.nan])}, "reward: 1 of 2 slots have none or one below 0"),
        ({"reward": np.array([1.0, -1.0])}, "reward: 1 of 2 slots"),
        ({"team": np.array([0, 7])}, "team: 1 slots are credited to 7"),
        ({"position": np.array([0])}, "position: has 1 rows, team 2"),
        ({"team": np.array([-1, -1])}, "listener: 0 had a slot that is credited"),
        ({"listener": np.array([1, 1])}, "listener: 1 had a slot"),
    ],
)
def test_what_cannot_be_read_is_refused(change: dict, said: str) -> None:
    columns = {
        "listener": np.array([1, 2]),
        "team": np.array([0, 1]),
        "position": np.array([0, 1]),
        "reward": np.array([1.0, 0.0]),
    }
    with pytest.raises(InvalidData, match=said):
        prefer(**{**columns, **change})
