"""Estimators of a policy's value from decisions of one choice each. All of them are one formula:

    value = mean(f) + sum(v * (r - m)) / D

r is the reward, w = target / propensity the importance weight, q what a model expects of what was chosen and V what it
expects of the judged policy's choice; n rows.

| name        | f | v                  | m | D      | source                                              |
|-------------|---|--------------------|---|--------|-----------------------------------------------------|
| dm          | V | 0                  |   |        | direct method (Beygelzimer & Langford, 2009)        |
| ips         | 0 | w                  | 0 | n      | Horvitz & Thompson, 1952                            |
| snips       | 0 | w                  | 0 | sum(w) | Swaminathan & Joachims, NIPS 2015                   |
| clipped-ips | 0 | min(w, t)          | 0 | n      | Ionides, 2008                                       |
| dr          | V | w                  | q | n      | Dudik, Langford & Li, ICML 2011                     |
| sndr        | V | w                  | q | sum(w) | Robins et al., 2007; Thomas & Brunskill, ICML 2016  |
| switch-dr   | V | w where w <= t     | q | n      | Wang, Agarwal & Dudik, ICML 2017                    |
| dros        | V | t w / (w^2 + t)    | q | n      | Su, Dimakopoulou, Krishnamurthy & Dudik, ICML 2020  |

ips and dr are without bias where every choice of the judged policy had a chance; dr's variance is that of what the model does
not explain. The others trade bias for variance; how much is for the data to say (`tuning`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from segue.contracts.errors import InvalidInput
from segue.experiments.offpolicy.logged import Floats, Logged

Weighing = Callable[[Floats, float], Floats]


@dataclass(frozen=True)
class Terms:
    """The parts of the formula above: fixed, weight, residual float64[n]; divisor as a number."""

    fixed: Floats
    weight: Floats
    residual: Floats
    divisor: float
    normalised: bool

    @property
    def value(self) -> float:
        """The estimate."""
        return float(self.fixed.mean() + (self.weight @ self.residual) / self.divisor)

    def influence(self) -> Floats:
        """Each row's pull on the value, with the value as their mean: what intervals are made from. float64[n]."""
        scale = len(self.fixed) / self.divisor
        pull: Floats = self.fixed + scale * self.weight * self.residual
        if self.normalised:
            part = (self.weight @ self.residual) / self.divisor
            pull = pull - part * (scale * self.weight - 1.0)
        return pull

    @property
    def ess(self) -> float:
        """Kish's effective sample size of the weights: so many rows of the judged policy's own would say as much."""
        squares = float(self.weight @ self.weight)
        return float(self.weight.sum()) ** 2 / squares if squares > 0 else float(len(self.fixed))


@dataclass(frozen=True)
class Estimator:
    """A row of the table: how it weighs, whether it uses a model of the reward and divides by sum(w); `power`: its t is a
    weight to this power, 0 where it has none.
    """

    weigh: Weighing
    modelled: bool = False
    normalised: bool = False
    power: int = 0

    def terms(self, log: Logged, t: float = np.inf) -> Terms:
        """Its parts on a log. Raises InvalidInput where it needs a model and the log has none."""
        weight = self.weigh(log.weight, t)
        fixed, residual = np.zeros(len(log)), log.reward
        if self.modelled:
            if log.modelled is None or log.expected is None:
                raise InvalidInput(
                    "this estimator needs a model of the reward: give `modelled` and `expected`",
                    field="modelled",
                )
            fixed, residual = log.expected, log.reward - log.modelled
        divisor = float(weight.sum()) if self.normalised else float(len(log))
        if divisor <= 0.0:
            raise InvalidInput(
                "target: the judged policy would have chosen nothing of what the log shows; there is nothing to normalise by",
                field="target",
            )
        return Terms(fixed, weight, residual, divisor, self.normalised)


def _none(w: Floats, t: float) -> Floats:
    return np.zeros_like(w)


def _plain(w: Floats, t: float) -> Floats:
    return w


def _clipped(w: Floats, t: float) -> Floats:
    return np.minimum(w, t)


def _switched(w: Floats, t: float) -> Floats:
    return np.where(w <= t, w, 0.0)


def _shrunk(w: Floats, t: float) -> Floats:
    return w if np.isinf(t) else t * w / (w * w + t) if t > 0 else np.zeros_like(w)


ESTIMATORS: Final[dict[str, Estimator]] = {
    "dm": Estimator(_none, modelled=True),
    "ips": Estimator(_plain),
    "snips": Estimator(_plain, normalised=True),
    "clipped-ips": Estimator(_clipped, power=1),
    "dr": Estimator(_plain, modelled=True),
    "sndr": Estimator(_plain, modelled=True, normalised=True),
    "switch-dr": Estimator(_switched, modelled=True, power=1),
    "dros": Estimator(_shrunk, modelled=True, power=2),
}
