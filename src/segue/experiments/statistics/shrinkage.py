"""Effects of many segments: each is pulled towards all of them, the more the less is known about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc, ndtri

from segue.experiments.statistics.moments import Floats

__all__ = ["Shrunk", "shrunk"]

SPREADS = 200
"""Values of how much effects truly spread that are tried."""


@dataclass(frozen=True, slots=True)
class Shrunk:
    """Effects float64[k] after shrinking, with intervals; p of all being the same (Cochran's Q); how much they truly spread."""

    effects: Floats
    low: Floats
    high: Floats
    same_p: float
    spread: float


def shrunk(effects: Floats, errors: Floats, level: float = 0.95) -> Shrunk:
    """The normal hierarchical model (Gelman et al. 2013, section 5.4): a flat prior on the mean and on the spread of true
    effects.

    Averaged over what the spread may be: taken from the data as one number (DerSimonian and Laird) it is often zero, and
    intervals would hold the truth in five of six cases only. effects and errors (standard errors, > 0) float64[k], k >= 2.
    """
    weights = 1.0 / errors**2
    mean = float(weights @ effects / weights.sum())
    q = float(weights @ (effects - mean) ** 2)
    top = 3.0 * max(float(effects.std()), float(np.median(errors)))
    spreads = np.linspace(0.0, top, SPREADS)[:, None]  # float64[spreads, 1]
    total = 1.0 / (errors**2 + spreads**2)  # float64[spreads, k]
    sums = total.sum(axis=1, keepdims=True)
    centre = (total * effects).sum(axis=1, keepdims=True) / sums
    fit = 0.5 * (
        np.log(total).sum(axis=1) - np.log(sums[:, 0]) - (total * (effects - centre) ** 2).sum(axis=1)
    )
    chance = np.exp(fit - fit.max())
    chance /= chance.sum()
    trust = spreads**2 * total
    at = centre + trust * (effects - centre)
    within = trust * errors**2 + (1.0 - trust) ** 2 / sums
    found = chance @ at
    error = np.sqrt(chance @ (within + (at - found) ** 2))
    reach = float(ndtri((1.0 + level) / 2.0)) * error
    same_p = float(chdtrc(len(effects) - 1, q))
    return Shrunk(found, found - reach, found + reach, same_p, float(chance @ spreads[:, 0]))
