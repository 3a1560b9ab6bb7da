"""Whether a log can say anything about a policy: the overlap of what the two would choose.

The mean of the weights is the key. Where every choice of the judged policy had a chance under the log's, it is 1 on average:
what it lacks is the share of the judged policy's choices that the log could never have shown. Nothing in the log tells what
those would have earned.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from segue.contracts.errors import InvalidData
from segue.experiments.offpolicy.logged import Floats, Longs

MISSING: Final = 0.05
"""Largest share of the judged policy's choices that may be without support."""
SURELY: Final = 3.0
"""Errors beyond which a mean weight is no accident."""
LEAST: Final = 30.0
"""Fewest effective rows an estimate is given from."""


class Overlap(msgspec.Struct, frozen=True):
    """How much of the judged policy is in the log.

    rows, units: of the log; ess: effective rows (Kish); mean_weight and its standard error: 1 where nothing lacks support;
    max_weight; heaviest: the share of all weight on the heaviest percent of the rows; without_support: the share of the judged
    policy's choices that the log could not have shown, at least: where the chances are known it is exact, else it is what
    the mean weight lacks of 1 beyond twice its error.
    """

    rows: int
    units: int
    ess: float
    mean_weight: float
    mean_weight_error: float
    max_weight: float
    heaviest: float
    without_support: float


def overlap(weight: Floats, unit: Longs, unseen: float | None = None) -> Overlap:
    """The overlap of a log with the judged policy, from the importance weights float64[n] of its rows and their units int64[n];
    `unseen` is the share without support where that is known exactly.
    """
    total, largest = float(weight.sum()), float(weight.max())
    scaled = weight / largest if largest > 0 else weight  # whose squares no number would hold otherwise
    squares = float(scaled @ scaled)
    _, place = np.unique(unit, return_inverse=True)
    by_unit = np.bincount(place, scaled - scaled.mean())
    error = largest * float(np.sqrt(by_unit @ by_unit)) / len(weight)
    top = np.sort(weight)[::-1][: max(1, len(weight) // 100)]
    mean = float(weight.mean())
    return Overlap(
        rows=len(weight),
        units=len(by_unit),
        ess=float(scaled.sum()) ** 2 / squares if squares > 0 else 0.0,
        mean_weight=mean,
        mean_weight_error=error,
        max_weight=largest,
        heaviest=float(top.sum()) / total if total > 0 else 0.0,
        without_support=max(0.0, 1.0 - mean - 2 * error) if unseen is None else unseen,
    )


def refuse_without(found: Overlap, policy: str) -> None:
    """Raises InvalidData where the log cannot answer for the policy, with the share that is missing and what to do."""
    said = lacking(found)
    if said is not None:
        raise InvalidData(f"{policy}: {said}", field="support")


def lacking(found: Overlap) -> str | None:
    """Why the log cannot answer, and what to do; None where it can."""
    if found.without_support > MISSING:
        return (
            f"at least {found.without_support:.0%} of what it would choose had no chance under the log's policy (mean weight "
            f"{found.mean_weight:.2f}, limit {MISSING:.0%}): the log cannot say what that would earn. Judge a policy nearer to "
            "the log's, log more exploration (surfaces.SURFACE.selector.explore and explore_pool), or run an interleaving or "
            "an A/B test"
        )
    if found.ess < LEAST:
        return (
            f"its weights leave {found.ess:.1f} effective rows of {found.rows:,} (largest weight {found.max_weight:,.0f}), "
            f"fewer than {LEAST:.0f}: too few to say anything. Use more days, log more exploration, or run an interleaving or "
            "an A/B test"
        )
    due = 1.0 - found.without_support
    if abs(found.mean_weight - due) > MISSING + SURELY * found.mean_weight_error:
        said = "small" if found.mean_weight > due else "large"
        return (
            f"its weights average {found.mean_weight:.3g} and would average {due:.3g}, were the logged propensities the chances "
            f"that what was shown had: they are too {said}. See what writes propensity; nothing that is divided by them is true"
        )
    return None
