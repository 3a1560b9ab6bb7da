"""All estimates of a policy's value from one log, each with its interval and its effective sample size."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from segue.experiments.offpolicy import interval
from segue.experiments.offpolicy.estimators import ESTIMATORS, Terms
from segue.experiments.offpolicy.interval import Interval
from segue.experiments.offpolicy.logged import Logged
from segue.experiments.offpolicy.tuning import blended

UNBIASED: Final = {"dm": "dr", "clipped-ips": "ips", "switch-dr": "dr", "dros": "dr"}
"""Whose interval an estimator has that trades bias for variance. Its own would say how far it scatters, not how far it is off:
in simulations the direct method's held the truth in a third of the cases."""


class Estimate(msgspec.Struct, frozen=True):
    """One estimator's answer.

    value: reward per row; ci95: its interval; ess: effective rows behind it; interval: how ci95 was made (gamma or bca; `of dr`:
    that of the estimator without bias, stretched to hold this value).
    """

    value: float
    ci95: tuple[float, float]
    ess: float
    interval: str


def estimate(log: Logged) -> dict[str, Estimate]:
    """Every estimator that the log allows, by name: those with a model of the reward only where the log has one."""
    found = {
        name: blended(estimator, log) if estimator.power else estimator.terms(log)
        for name, estimator in ESTIMATORS.items()
        if log.expected is not None or not estimator.modelled
    }
    limits = _intervals(log, {name: terms for name, terms in found.items() if name not in UNBIASED})
    answers = {}
    for name, terms in found.items():
        made, (low, high) = limits[UNBIASED.get(name, name)]
        if name in UNBIASED:
            made, low, high = f"of {UNBIASED[name]}", min(low, terms.value), max(high, terms.value)
        answers[name] = Estimate(terms.value, (low, high), terms.ess, made)
    return answers


def _intervals(log: Logged, found: dict[str, Terms]) -> dict[str, tuple[str, Interval]]:
    bootstrapped = {name: t for name, t in found.items() if not interval.few_clicks(t, log.reward, log.unit)}
    limits = {n: ("gamma", interval.gamma(t, log.reward)) for n, t in found.items() if n not in bootstrapped}
    if bootstrapped:
        influences = np.column_stack([terms.influence() for terms in bootstrapped.values()])
        drawn = interval.bca(influences, log.unit)
        limits |= {name: ("bca", ci95) for name, ci95 in zip(bootstrapped, drawn, strict=True)}
    return limits
