"""Two rankings in one page, so that one listener's reactions compare them: far fewer listeners are needed than for an A/B test.

* `team_draft` (Radlinski, Kurup & Joachims, CIKM 2008): like captains, the two rankings take turns to place their best track
  that is not yet there; who goes first in each round is drawn. What a listener does with a slot is credited to the team that
  placed it.
* `competing_pairs` (Zhang, Deng et al., Airbnb, KDD 2025): the same, but where both would place the same track next it is placed
  once and credited to neither. Team draft credits such a slot by the toss of a coin, which is noise, and most of the page where
  rankings are alike; so this is the more sensitive of the two. Credited slots come in pairs, one of each side, in drawn order.

In both, whatever a listener does who does not look at what is shown is expected to credit both alike: each credited slot belongs
to either side with equal chance. Neither keeps artist spacing across the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from segue.contracts.errors import InvalidInput

NEITHER: Final = -1
CONTROL: Final = 0
TREATMENT: Final = 1

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Interleaved:
    """A page of m <= k slots, shorter only where both rankings run out."""

    tracks: Ids
    """What each slot shows. int64[m]."""
    team: npt.NDArray[np.int8]
    """Whom what happens to the slot is credited to: CONTROL, TREATMENT or NEITHER. int8[m]."""


def team_draft(control: Ids, treatment: Ids, k: int, coins: npt.NDArray[np.bool_]) -> Interleaved:
    """Team draft of two rankings int64[n] and int64[m], best first, each without repetition.

    coins bool[>= k]: who goes first in each round, True for the treatment. Raises InvalidInput for what does not fit.
    """
    return _interleave(control, treatment, k, coins, pairs=False)


def competing_pairs(control: Ids, treatment: Ids, k: int, coins: npt.NDArray[np.bool_]) -> Interleaved:
    """Pairs of tracks on which two rankings differ, between those on which they agree; arguments as for `team_draft`."""
    return _interleave(control, treatment, k, coins, pairs=True)


def _interleave(
    control: Ids, treatment: Ids, k: int, coins: npt.NDArray[np.bool_], *, pairs: bool
) -> Interleaved:
    if k < 0 or len(coins) < k:
        raise InvalidInput(
            f"coins: {len(coins)} for {k} slots; give at least one for each", field="coins", limit=f">= {k}"
        )
    for name, ranking in (("control", control), ("treatment", treatment)):
        if len(np.unique(ranking)) != len(ranking):
            raise InvalidInput(f"{name}: a ranking must not name a track twice", field=name)
    tracks, team = np.empty(k, np.int64), np.empty(k, np.int8)
    filled = _fill(control.astype(np.int64), treatment.astype(np.int64), coins, pairs, tracks, team)
    return Interleaved(tracks[:filled], team[:filled])


@njit(cache=True, nogil=True)
def _fill(
    control: Ids,
    treatment: Ids,
    coins: npt.NDArray[np.bool_],
    pairs: bool,
    tracks: Ids,
    team: npt.NDArray[np.int8],
) -> int:
    k, filled, rounds = len(tracks), 0, 0
    at = np.zeros(2, np.int64)
    while filled < k:
        at[0] = _next(control, at[0], tracks[:filled])
        at[1] = _next(treatment, at[1], tracks[:filled])
        left0, left1 = at[0] < len(control), at[1] < len(treatment)
        if not left0 and not left1:
            break
        alone = not left0 or not left1  # nothing to compare with any more
        if alone or (pairs and control[at[0]] == treatment[at[1]]):
            tracks[filled] = control[at[0]] if left0 else treatment[at[1]]
            team[filled] = -1
            filled += 1
            continue
        first = 1 if coins[rounds] else 0
        rounds += 1
        for side in (first, 1 - first):
            if filled == k:
                break
            ranking = treatment if side == 1 else control
            at[side] = _next(ranking, at[side], tracks[:filled])
            if at[side] == len(ranking):
                break
            tracks[filled] = ranking[at[side]]
            team[filled] = side
            filled += 1
    if pairs:  # a slot without its partner would be compared with nothing
        credited, last = 0, -1
        for slot in range(filled):
            if team[slot] >= 0:
                credited, last = credited + 1, slot
        if credited % 2 == 1:
            team[last] = -1
    return filled


@njit(cache=True, nogil=True)
def _next(ranking: Ids, at: int, shown: Ids) -> int:
    """The first place from `at` on whose track is not shown yet."""
    while at < len(ranking):
        there = False
        for track in shown:
            if track == ranking[at]:
                there = True
                break
        if not there:
            return at
        at += 1
    return at
