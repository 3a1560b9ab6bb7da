"""Pages of two rankings: by hand, their guarantees, and that who does not look prefers neither."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.contracts.errors import InvalidInput
from segue.models.interleaving import CONTROL, NEITHER, TREATMENT, competing_pairs, team_draft

rankings = st.lists(st.integers(0, 20), unique=True, max_size=12).map(lambda r: np.array(r, np.int64))
BOTH = pytest.mark.parametrize("interleave", [team_draft, competing_pairs])


def test_team_draft_by_hand() -> None:
    control, treatment = np.array([1, 2, 3, 4]), np.array([2, 1, 5, 6])
    found = team_draft(control, treatment, 6, np.array([False, True, False, True, True, True]))
    # 1 by control, 2 by treatment; 5 by treatment, 3 by control; 4 by control, 6 by treatment.
    assert found.tracks.tolist() == [1, 2, 5, 3, 4, 6]
    assert found.team.tolist() == [CONTROL, TREATMENT, TREATMENT, CONTROL, CONTROL, TREATMENT]


def test_competing_pairs_by_hand() -> None:
    control, treatment = np.array([9, 1, 2, 3]), np.array([9, 2, 1, 5])
    found = competing_pairs(control, treatment, 5, np.array([True, False, True, True, True]))
    # 9 by both; 2 by treatment, 1 by control; 3 by control, 5 by treatment.
    assert found.tracks.tolist() == [9, 2, 1, 3, 5]
    assert found.team.tolist() == [NEITHER, TREATMENT, CONTROL, CONTROL, TREATMENT]
    cut = competing_pairs(control, treatment, 4, np.array([True, False, True, True]))
    assert cut.team.tolist() == [NEITHER, TREATMENT, CONTROL, NEITHER], "its partner has no slot"


@BOTH
@given(rankings, rankings, st.integers(0, 15), st.integers(0, 2**32 - 1))
def test_a_page_is_made_of_both_from_the_top(interleave, control, treatment, k, seed) -> None:  # type: ignore[no-untyped-def]
    coins = np.random.default_rng(seed).random(k) < 0.5
    found = interleave(control, treatment, k, coins)
    shown = found.tracks.tolist()
    assert len(set(shown)) == len(shown)
    assert len(shown) == min(k, len(set(control.tolist()) | set(treatment.tolist())))
    for ranking, side in ((control.tolist(), CONTROL), (treatment.tolist(), TREATMENT)):
        assert set(np.array(shown)[found.team == side].tolist()) <= set(ranking)
        for slot, track in enumerate(shown):
            if found.team[slot] == side:  # everything its side likes better is on the page already
                assert set(ranking[: ranking.index(track)]) <= set(shown[:slot])
    sides = [int((found.team == side).sum()) for side in (CONTROL, TREATMENT)]
    assert abs(sides[0] - sides[1]) <= (0 if interleave is competing_pairs else 1) or len(shown) < k


@BOTH
@given(rankings, rankings, st.integers(0, 2**32 - 1))
def test_turning_the_coins_and_the_sides_round_turns_the_credit_round(
    interleave, control, treatment, seed
) -> None:  # type: ignore[no-untyped-def]
    coins = np.random.default_rng(seed).random(10) < 0.5
    one, other = interleave(control, treatment, 10, coins), interleave(treatment, control, 10, ~coins)
    assert one.tracks.tolist() == other.tracks.tolist()
    swapped = np.where(other.team == NEITHER, NEITHER, 1 - other.team)
    assert one.team.tolist() == swapped.tolist()


def test_equal_rankings_credit_nobody_in_pairs() -> None:
    same = np.arange(8)
    assert (competing_pairs(same, same, 8, np.zeros(8, np.bool_)).team == NEITHER).all()
    assert competing_pairs(same, same, 8, np.zeros(8, np.bool_)).tracks.tolist() == same.tolist()


@BOTH
def test_who_looks_at_places_only_prefers_neither(interleave) -> None:  # type: ignore[no-untyped-def]
    """Credit by place, averaged over all coins, is the same for both sides, whatever the rankings are."""
    rng = np.random.default_rng(0)
    for _ in range(10):
        control, treatment = rng.permutation(8), rng.permutation(8)
        total = np.zeros(6)
        for coins in range(64):
            page = interleave(control, treatment, 6, np.array([bool(coins >> i & 1) for i in range(6)]))
            total += np.where(page.team == NEITHER, 0, 2 * page.team - 1)
        assert total == pytest.approx(np.zeros(6))


@BOTH
def test_what_does_not_fit_is_refused(interleave) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInput, match="coins: 2 for 3 slots"):
        interleave(np.arange(3), np.arange(3), 3, np.zeros(2, np.bool_))
    with pytest.raises(InvalidInput, match="treatment: a ranking must not name a track twice"):
        interleave(np.arange(3), np.array([1, 1]), 3, np.zeros(3, np.bool_))
