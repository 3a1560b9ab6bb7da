"""Listeners of two rankings, simulated: the same ones in an A/B test and in interleavings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, ttest_ind

from segue.experiments.interleaving import Preference, prefer
from segue.models.interleaving import competing_pairs, team_draft

METHODS: Final = {"team draft": team_draft, "competing pairs": competing_pairs}
SLOTS, TRACKS = 8, 20


AB: Final = "A/B test"


@dataclass
class Trial:
    """What interleavings say, and how surely each test, the A/B test among them, says that the treatment is better: its z."""

    interleaved: dict[str, Preference]
    z: dict[str, float]


def trial(seed: int, listeners: int, noise: tuple[float, float], pages: int = 1) -> Trial:
    """Two rankings see each listener's liking of the tracks through some noise: control's is first, treatment's second.

    Each listener sees some pages, of other tracks each time. Listeners differ in how much they listen, and listen less down the
    page.
    """
    rng = np.random.default_rng(seed)
    n = listeners * pages
    who = np.repeat(np.arange(listeners), pages)
    liking, shared = rng.normal(size=(n, TRACKS)), 0.5 * rng.normal(size=(n, TRACKS))
    eager = rng.gamma(1.0, 0.3, (listeners, 1))[who]
    chance = np.clip(eager * np.exp(0.7 * liking), 0, 0.95) / (1.0 + 0.3 * np.arange(SLOTS))[:, None, None]
    orders = [np.argsort(-(liking + shared + by * rng.normal(size=liking.shape)), axis=1) for by in noise]
    dice = rng.random((n, SLOTS))
    rows, slots = np.arange(n)[:, None], np.arange(SLOTS)

    def listens(shown: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        return (dice < chance[slots, rows, shown]).astype(np.float64)

    arm = np.arange(listeners) % 2
    treated = arm[who] == 1
    of_page = np.where(treated, *(listens(order[:, :SLOTS]).sum(axis=1) for order in orders[::-1]))
    of_listener = np.bincount(who, of_page) / pages
    ab = ttest_ind(of_listener[arm == 1], of_listener[arm == 0])
    found = {}
    for name, interleave in METHODS.items():
        coins = rng.random((n, SLOTS)) < 0.5
        made = [interleave(orders[0][i], orders[1][i], SLOTS, coins[i]) for i in range(n)]
        found[name] = prefer(
            np.repeat(who, SLOTS),
            np.concatenate([page.team for page in made]),
            np.tile(slots, n),
            listens(np.stack([page.tracks for page in made])).ravel(),
        )
    z = {name: float(np.sign(read.lead) * norm.isf(read.lead_p / 2)) for name, read in found.items()}
    return Trial(found, {AB: float(ab.statistic), **z})
