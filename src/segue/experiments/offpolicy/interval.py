"""How far an estimate can be trusted: 95% intervals over the units that are independent of one another.

Two kinds, because a bootstrap cannot draw what the log has not seen. With few rewards of very unequal weight (38 clicks, one of
them worth twenty) it is too narrow above: the next click may be one of the heavy ones.

* `bca`: the bias-corrected and accelerated bootstrap (Efron, JASA 1987) of the units' sums of influence.
* `gamma`: for rare 0/1 rewards, each row its own unit. A weighted sum of clicks is what epidemiology calls a directly
  standardised rate: the interval of Fay & Feuer (Statistics in Medicine 16, 1997) treats clicks as Poisson, and counts one
  more heavy click in its upper limit: here of the weight that a tenth of the judged policy's choices exceed. What is not clicks
  (the model's part) is joined by the squares of the distances to the limits (MOVER, Zou & Donner 2008).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from scipy.stats import chi2, norm

from segue.experiments.offpolicy.estimators import Terms
from segue.experiments.offpolicy.logged import Floats, Longs

LEVEL: Final = 0.95
DRAWS: Final = 2_000
FEW: Final = 400.0
"""Up to so many effective rewards the gamma interval is taken, where it applies."""
RARE: Final = 0.1
HEAVY: Final = 0.9
"""Share of the judged policy's choices whose weight is at most that of the click that may come next."""

Interval = tuple[float, float]


def few_clicks(terms: Terms, reward: Floats, unit: Longs) -> bool:
    """Whether the gamma interval is the better one: 0/1 rewards, rare and few, each row its own unit."""
    weighted = terms.weight * reward
    squares = float(weighted @ weighted)
    few = squares == 0.0 or float(weighted.sum()) ** 2 / squares <= FEW
    binary = bool(np.isin(reward, (0.0, 1.0)).all())
    return few and binary and float(reward.mean()) <= RARE and len(np.unique(unit)) == len(unit)


def gamma(terms: Terms, reward: Floats) -> Interval:
    """The interval of few weighted clicks. reward float64[n] of 0 and 1."""
    n = len(reward)
    share = terms.weight / terms.divisor
    clicked = share * reward
    rate = float(clicked.sum())
    rising = np.sort(share)
    heavy = rising[int(np.searchsorted(np.cumsum(rising), HEAVY * rising.sum()))]
    low, high = rate_interval(rate, float(clicked @ clicked), float(heavy))
    spread = float(norm.ppf(0.5 + LEVEL / 2) * (terms.influence() - n * clicked).std() / np.sqrt(n))
    return terms.value - float(np.hypot(rate - low, spread)), terms.value + float(
        np.hypot(high - rate, spread)
    )


def rate_interval(rate: float, variance: float, heavy: float) -> Interval:
    """Fay & Feuer's interval of a weighted sum of Poisson counts, from its value, the sum of the squares of the weights of what
    was counted, and the weight of what might be counted next."""
    tail = (1.0 - LEVEL) / 2
    low = variance / (2 * rate) * chi2.ppf(tail, 2 * rate * rate / variance) if rate > 0 else 0.0
    more, wider = rate + heavy, variance + heavy * heavy
    high = wider / (2 * more) * chi2.ppf(1.0 - tail, 2 * more * more / wider)
    return float(low), float(high)


def bca(influences: Floats, unit: Longs, *, seed: int = 0, draws: int = DRAWS) -> list[Interval]:
    """An interval of each column's mean, units resampled whole. influences float64[n, e]; unit int64[n].

    With a single unit nothing can be said: the interval is the whole line.
    """
    _, place = np.unique(unit, return_inverse=True)
    units = int(place.max()) + 1
    if units < 2:
        return [(-np.inf, np.inf)] * influences.shape[1]
    size = np.bincount(place).astype(np.float64)
    centre = influences.mean(axis=0)
    # Deviations from the mean: a unit's weight in the mean is its size, and a resample has another number of rows.
    sums = np.column_stack([np.bincount(place, column) for column in (influences - centre).T]).astype(
        np.float64
    )
    out = np.empty((draws, sums.shape[1]))
    drawn = _resample(np.ascontiguousarray(sums), size, np.random.default_rng(seed), out)
    return [_limits(drawn[:, e], sums[:, e], float(centre[e])) for e in range(sums.shape[1])]


def _limits(drawn: Floats, sums: Floats, centre: float) -> Interval:
    """Limits of one column from its resampled deviations and the units' sums of deviations."""
    if np.abs(sums).max() <= 1e-12 * max(abs(centre), 1e-300):
        return centre, centre
    below = (np.sum(drawn < 0.0) + 0.5 * np.sum(drawn == 0.0)) / len(drawn)
    bias = norm.ppf(np.clip(below, 1e-3, 1 - 1e-3))
    skew = float((sums**3).sum() / (6.0 * (sums**2).sum() ** 1.5))
    z = norm.ppf([(1.0 - LEVEL) / 2, 0.5 + LEVEL / 2])
    at = norm.cdf(bias + (bias + z) / np.maximum(1.0 - skew * (bias + z), 0.1))
    low, high = np.quantile(drawn, at) + centre
    return float(low), float(high)


@njit(cache=True, nogil=True)
def _resample(sums: Floats, size: Floats, rng: np.random.Generator, out: Floats) -> Floats:
    """Mean deviations of resamples of the units. sums float64[u, e], size float64[u], out float64[draws, e]."""
    units, columns = sums.shape
    total = np.empty(columns)
    for draw in range(out.shape[0]):
        total[:] = 0.0
        rows = 0.0
        for _ in range(units):
            picked = min(int(rng.random() * units), units - 1)
            rows += size[picked]
            for e in range(columns):
                total[e] += sums[picked, e]
        for e in range(columns):
            out[draw, e] = total[e] / rows
    return out
