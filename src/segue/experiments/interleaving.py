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

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, norm
from scipy.stats import t as student

from segue.contracts.errors import InvalidData
from segue.experiments.outcome import AlwaysValid
from segue.experiments.statistics.sequential import always_valid_p, boundary
from segue.models.interleaving import CONTROL, NEITHER, TREATMENT

Floats = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]

LEVEL: Final = 0.95
UNFAIR: Final = 0.001
"""Below this p the sides' slots differ by more than chance: the pages were not interleaved as they should be."""
LEAST: Final = 2
PLANNED: Final = 10_000
"""Listeners that always-valid numbers are sharpest for, where nobody says how many are planned."""


class Preference(msgspec.Struct, frozen=True):
    """What listeners preferred.

    slots: all, and credited (to either side); listeners: with a credited slot; wins, losses, ties: of the treatment;
    preference, lead: see above, each with its interval and p; always_valid: the lead's, which hold however often one looks;
    credit: of each side; fair_p: of the sides' shares of the credited slots and of their places; fair; verdict: treatment,
    control or open.
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
    always_valid: AlwaysValid
    credit: dict[str, float]
    fair_p: dict[str, float]
    fair: bool
    verdict: str


@dataclass(frozen=True)
class Sides:
    """What control and treatment (columns) had, of each listener with a credited slot: slots, the sum of their places, and what
    they earned. float64[n, 2] each; `uncredited` slots are of all listeners.
    """

    slots: Floats
    places: Floats
    earned: Floats
    uncredited: int


def prefer(
    listener: Longs, team: npt.NDArray[np.integer], position: Longs, reward: Floats, alpha: float = 0.05
) -> Preference:
    """Read an interleaving from its slots: who saw it, int64[n]; whom it is credited to, int[n]; its place, int64[n]; what it
    earned, float64[n], none below 0.

    Raises InvalidData for columns that do not fit, unknown teams, rewards that are missing or below 0; and as `preferred` does.
    """
    _check(listener, team, position, reward)
    credited = team != NEITHER
    who, place = np.unique(listener[credited], return_inverse=True)
    cell = 2 * place + (team[credited] == TREATMENT)

    def by_side(values: npt.NDArray[Any]) -> Floats:
        return np.bincount(cell, values, 2 * len(who)).astype(np.float64).reshape(-1, 2)

    sides = Sides(
        by_side(np.ones(len(cell))),
        by_side(position[credited]),
        by_side(reward[credited]),
        int((~credited).sum()),
    )
    return preferred(sides, alpha)


def preferred(
    sides: Sides, alpha: float = 0.05, *, running: bool = False, planned: int | None = None
) -> Preference:
    """What listeners preferred. The verdict is the lead's, and open where the pages were not fair; while it is `running`, by the
    always-valid p, which is sharpest at `planned` listeners.

    Raises InvalidData for fewer than two listeners with credited slots.
    """
    n = len(sides.slots)
    if n < LEAST:
        raise InvalidData(
            f"listener: {n} had a slot that is credited to a side; at least {LEAST} are needed. Where rankings always "
            "agree there is nothing to compare",
            field="listener",
            limit=f"at least {LEAST}",
        )
    slots, places, difference = (
        np.diff(of, axis=1)[:, 0] for of in (sides.slots, sides.places, sides.earned)
    )
    wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
    preference, preference_ci, preference_p = _preference(wins, losses)
    lead = _ratio(difference, sides.earned.sum(axis=1))
    valid = _always_valid(*lead, n, planned or PLANNED)
    fair = {"slots": _mean_p(slots), "places": _mean_p(places)}
    is_fair = min(fair.values()) >= UNFAIR
    verdict = "open"
    if is_fair and (valid.p if running else lead.p) < alpha:
        verdict = "treatment" if lead.value > 0 else "control"
    credited = int(sides.slots.sum())
    control, treatment = sides.earned.sum(axis=0).tolist()
    return Preference(
        slots=credited + sides.uncredited,
        credited=credited,
        listeners=n,
        wins=wins,
        losses=losses,
        ties=n - wins - losses,
        preference=preference,
        preference_ci95=preference_ci,
        preference_p=preference_p,
        lead=lead.value,
        lead_ci95=lead.ci95,
        lead_p=lead.p,
        always_valid=valid,
        credit={"control": control, "treatment": treatment},
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


class _Lead(NamedTuple):
    value: float
    error: float
    ci95: tuple[float, float]
    p: float


def _ratio(difference: Floats, total: Floats) -> _Lead:
    """A ratio of sums over listeners, its delta-method error and interval, and Student's p of 0."""
    n, whole = len(difference), float(total.sum())
    if whole <= 0.0:
        return _Lead(0.0, 0.0, (-1.0, 1.0), 1.0)
    ratio = float(difference.sum()) / whole
    pull = (difference - ratio * total) * n / whole
    error = float(pull.std(ddof=1)) / np.sqrt(n)
    if (
        error == 0.0
    ):  # every credit went to one side: what scatters is what it would have been without a preference
        error = float(np.sqrt(difference @ difference)) / whole or 1.0
    reach = float(student.ppf(0.5 + LEVEL / 2, n - 1)) * error
    p = 2.0 * float(student.sf(abs(ratio) / error, n - 1))
    return _Lead(ratio, error, _clipped(ratio, reach), p)


def _always_valid(
    value: float, error: float, ci95: tuple[float, float], p: float, n: int, planned: int
) -> AlwaysValid:
    """The lead as it may be read at every look."""
    if error == 0.0:  # nothing was earned
        return AlwaysValid(ci95, p)
    return AlwaysValid(
        _clipped(value, boundary(n, planned, freedom=n - 1) * error),
        always_valid_p(value / error, n, planned, freedom=n - 1),
    )


def _clipped(value: float, reach: float) -> tuple[float, float]:
    return max(value - reach, -1.0), min(value + reach, 1.0)


def _mean_p(values: Floats) -> float:
    """Two-sided p that a mean over listeners is 0, by the scatter it has if it is: of few listeners who happen to be alike the
    scatter around their own mean says nothing."""
    error = float(np.sqrt(values @ values))
    return 1.0 if error == 0.0 else 2.0 * float(norm.sf(abs(float(values.sum())) / error))
