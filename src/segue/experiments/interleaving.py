"""What an interleaving says: which of two rankings listeners prefer, how surely, and whether the pages were interleaved fairly.

Credit is added up by listener, since what one listener does is alike. Three readings of the same credits:

* **preference**: of the listeners who gave the sides different credit, the share who gave the treatment more; half is a tie
  (Chapelle, Joachims, Radlinski & Yue, TOIS 2012). Wilson's interval, and an exact binomial (sign) test.
* **lead**: (treatment's credit - control's) / both, a ratio of sums over listeners; delta-method interval, Student's test.
  It weighs heavy listeners more, and is the more sensitive where they matter.
* **fair**: the sides must have had equally many slots, at equally good places. A side that always goes first wins anything.

The lead is no effect on a metric: it says who wins, not by how much a page earns more.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, norm
from scipy.stats import t as student

from segue.contracts.errors import InvalidData
from segue.models.interleaving import CONTROL, NEITHER, TREATMENT

Floats = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]

LEVEL: Final = 0.95
UNFAIR: Final = 0.001
"""Below this p the sides' slots differ by more than chance: the pages were not interleaved as they should be."""
LEAST: Final = 2


class Preference(msgspec.Struct, frozen=True):
    """What listeners preferred.

    slots: all, and credited (to either side); listeners: with a credited slot; wins, losses, ties: of the treatment;
    preference, lead: see above, each with its interval and p; credit: of each side; fair_p: of the sides' shares of the credited
    slots and of their places; fair; verdict: treatment, control or open.
    """

    slots: int
    credited: int
    listeners: int
    wins: int
    losses: int
    ties: int
    preference: float
    preference_ci95: tuple[float, float]
    preference_p: float
    lead: float
    lead_ci95: tuple[float, float]
    lead_p: float
    credit: dict[str, float]
    fair_p: dict[str, float]
    fair: bool
    verdict: str


def prefer(
    listener: Longs, team: npt.NDArray[np.integer], position: Longs, reward: Floats, alpha: float = 0.05
) -> Preference:
    """Read an interleaving from its slots: who saw it, int64[n]; whom it is credited to, int[n]; its place, int64[n]; what it
    earned, float64[n], none below 0. The verdict is the lead's, and open where the pages were not fair.

    Raises InvalidData for columns that do not fit, unknown teams, rewards that are missing or below 0, and fewer than two
    listeners with credited slots.
    """
    _check(listener, team, position, reward)
    credited = team != NEITHER
    sides = np.where(team[credited] == TREATMENT, 1.0, -1.0)
    who, place = np.unique(listener[credited], return_inverse=True)
    if len(who) < LEAST:
        raise InvalidData(
            f"listener: {len(who)} had a slot that is credited to a side; at least {LEAST} are needed. Where rankings always "
            "agree there is nothing to compare",
            field="listener",
            limit=f"at least {LEAST}",
        )
    earned = reward[credited]

    def by_listener(values: Floats) -> Floats:
        return np.bincount(place, values).astype(np.float64)

    difference, total = by_listener(sides * earned), by_listener(earned)
    wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
    preference, preference_ci, preference_p = _preference(wins, losses)
    lead, lead_ci, lead_p = _ratio(difference, total)
    fair = {
        "slots": _mean_p(by_listener(sides)),
        "places": _mean_p(by_listener(sides * position[credited])),
    }
    is_fair = min(fair.values()) >= UNFAIR
    verdict = "open"
    if is_fair and lead_p < alpha:
        verdict = "treatment" if lead > 0 else "control"
    return Preference(
        slots=len(team),
        credited=int(credited.sum()),
        listeners=len(who),
        wins=wins,
        losses=losses,
        ties=len(who) - wins - losses,
        preference=preference,
        preference_ci95=preference_ci,
        preference_p=preference_p,
        lead=lead,
        lead_ci95=lead_ci,
        lead_p=lead_p,
        credit={
            "control": float(earned[sides < 0].sum()),
            "treatment": float(earned[sides > 0].sum()),
        },
        fair_p=fair,
        fair=is_fair,
        verdict=verdict,
    )


def _check(listener: Longs, team: npt.NDArray[np.integer], position: Longs, reward: Floats) -> None:
    n = len(team)
    for name, column in (("listener", listener), ("position", position), ("reward", reward)):
        if len(column) != n:
            raise InvalidData(
                f"{name}: has {len(column)} rows, team {n}: they must agree", field=name, limit=f"{n} rows"
            )
    unknown = ~np.isin(team, (NEITHER, CONTROL, TREATMENT))
    if unknown.any():
        raise InvalidData(
            f"team: {int(unknown.sum()):,} slots are credited to {team[unknown][0]}; it is {CONTROL} (control), {TREATMENT} "
            f"(treatment) or {NEITHER} (neither)",
            field="team",
        )
    wrong = ~np.isfinite(reward) | (reward < 0)
    if wrong.any():
        raise InvalidData(
            f"reward: {int(wrong.sum()):,} of {n:,} slots have none or one below 0; give every slot what it earned",
            field="reward",
            limit=">= 0",
        )


def _preference(wins: int, losses: int) -> tuple[float, tuple[float, float], float]:
    n = wins + losses
    if n == 0:
        return 0.5, (0.0, 1.0), 1.0
    found = binomtest(wins, n)
    limits = found.proportion_ci(LEVEL, method="wilson")
    return wins / n, (float(limits.low), float(limits.high)), float(found.pvalue)


def _ratio(difference: Floats, total: Floats) -> tuple[float, tuple[float, float], float]:
    """A ratio of sums over listeners, its delta-method interval and Student's p of 0."""
    n, whole = len(difference), float(total.sum())
    if whole <= 0.0:
        return 0.0, (-1.0, 1.0), 1.0
    ratio = float(difference.sum()) / whole
    pull = (difference - ratio * total) * n / whole
    error = float(pull.std(ddof=1)) / np.sqrt(n)
    if error == 0.0:
        return ratio, (ratio, ratio), 1.0
    reach = float(student.ppf(0.5 + LEVEL / 2, n - 1)) * error
    p = 2.0 * float(student.sf(abs(ratio) / error, n - 1))
    return ratio, (max(ratio - reach, -1.0), min(ratio + reach, 1.0)), p


def _mean_p(values: Floats) -> float:
    """Two-sided p that a mean over listeners is 0."""
    error = float(values.std(ddof=1)) / np.sqrt(len(values))
    if error == 0.0:
        return 1.0 if float(values.mean()) == 0.0 else 0.0
    return 2.0 * float(norm.sf(abs(float(values.mean())) / error))
