"""Whether the variants have the units they should have: before anything else, for without that no other number can be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
from scipy.special import chdtrc

from segue.experiments.statistics.sequential import always_valid_p

__all__ = ["MISMATCH", "SampleRatio", "sample_ratio"]

MISMATCH = 0.01
"""Below this p the ratio is a mismatch: one sound experiment in a hundred is stopped for nothing. Many take .001 or .0005,
which lets small leaks pass; an experiment is read seldom and a leak spoils every number of it.
"""


class SampleRatio(msgspec.Struct, frozen=True):
    """A chi-square test of the units against their shares: p, and who has how many more than expected."""

    p: float
    mismatch: bool
    threshold: float
    statistic: float
    expected: dict[str, float]
    most_off: str
    """The variant that is farthest from what it should have, in its own standard errors."""
    excess: float
    """How many units that variant has more than expected."""
    always_valid_p: float | None = None
    """While units are still to come, what a mismatch is told by: it holds however often one looks."""


def sample_ratio(
    units: Mapping[str, int], shares: Mapping[str, float], planned: float | None = None
) -> SampleRatio:
    """Units by variant against shares, which need not sum to 1 (Fabijan et al. 2019). Both have the same keys.

    With `planned` units more are to come, and it is looked at again and again: the variant that is farthest off is then held
    against the boundary of `sequential`, each of more than two at its part of the threshold.
    """
    total, whole = sum(units.values()), sum(shares.values())
    expected = {name: total * share / whole for name, share in shares.items()}
    statistic = sum((units[name] - expected[name]) ** 2 / expected[name] for name in expected)
    p = float(chdtrc(len(expected) - 1, statistic))
    far = {
        name: abs(units[name] - expected[name]) / math.sqrt(expected[name] * (1 - expected[name] / total))
        for name in expected
    }
    worst = max(far, key=far.__getitem__)
    # Two variants are equally far: the one that lacks units is where the leak is looked for first.
    worst = min(
        (name for name in far if math.isclose(far[name], far[worst])),
        key=lambda name: units[name] - expected[name],
    )
    excess = units[worst] - expected[worst]
    if planned is None:
        return SampleRatio(p, p < MISMATCH, MISMATCH, statistic, expected, worst, excess)
    tests = len(expected) if len(expected) > 2 else 1  # of two, one is as far off as the other
    valid = min(1.0, tests * always_valid_p(far[worst], max(total, 1), planned, MISMATCH / tests))
    return SampleRatio(p, valid < MISMATCH, MISMATCH, statistic, expected, worst, excess, valid)
