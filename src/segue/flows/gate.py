"""The gate: a challenger that ranks worse than the champion, beyond the interval, is not published."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from segue.bundle import Bundle, BundleWriter
from segue.evaluation.bootstrap import paired
from segue.evaluation.protocols import Evaluation

GATED = {"home": "ndcg@50", "next-up": "ndcg@20"}
"""Task and metric that a challenger is judged by."""


class Comparison(Struct, frozen=True):
    """Challenger minus champion on one task, with the 95% interval over listeners."""

    task: str
    metric: str
    challenger: float
    champion: float | None = None
    difference: float | None = None
    ci95: tuple[float, float] | None = None
    note: str | None = None


class Verdict(Struct, frozen=True):
    """Whether the challenger may be published, and why."""

    passed: bool
    reason: str
    comparisons: tuple[Comparison, ...]


def save_cases(writer: BundleWriter, evaluations: Mapping[str, Evaluation], split: int) -> None:
    """Keep a bundle's per-case results, so that a later challenger on the same split can be compared pair by pair."""
    for task, metric in GATED.items():
        if task in evaluations:
            found = evaluations[task]
            writer.arrays(f"gate/{task}", {"user": found.user, "value": found.per_case[metric]})
    writer.json("gate/split", split)


def saved_cases(champion: Bundle, split: int) -> dict[str, npt.NDArray[np.float64]]:
    """The champion's per-case results by task, if they were made on that split."""
    if not champion.has("gate/split.json") or champion.json("gate/split") != split:
        return {}
    return {task: champion.arrays(f"gate/{task}")["value"] for task in GATED if champion.has(f"gate/{task}")}


def judge(
    challenger: Mapping[str, Evaluation],
    champion: Mapping[str, npt.NDArray[np.float64]],
    tolerance: float,
) -> Verdict:
    """Compare case by case. `champion` holds float64[n] per task, parallel to the challenger's cases."""
    comparisons = []
    for task, metric in GATED.items():
        if task not in challenger:
            continue
        mine = challenger[task].per_case[metric]
        theirs = champion.get(task)
        if theirs is None or len(theirs) != len(mine):
            comparisons.append(
                Comparison(task, metric, float(mine.mean()), note="the champion has no result to compare")
            )
            continue
        result = paired(mine, theirs, challenger[task].user)
        comparisons.append(
            Comparison(
                task,
                metric,
                float(mine.mean()),
                float(theirs.mean()),
                float(mine.mean() - theirs.mean()),
                (result.lo, result.hi),
            )
        )
    worse = [c for c in comparisons if c.ci95 is not None and c.ci95[1] < -tolerance * (c.champion or 0.0)]
    if worse:
        first = worse[0]
        return Verdict(
            False, f"{_said(first)}: worse than the champion beyond the interval", tuple(comparisons)
        )
    compared = [c for c in comparisons if c.ci95 is not None]
    return Verdict(True, "; ".join(map(_said, compared)) or "no champion to compare with", tuple(comparisons))


def _said(c: Comparison) -> str:
    low, high = c.ci95 or (0.0, 0.0)
    return f"{c.task} {c.metric} {c.difference or 0.0:+.4f} [{low:+.4f}, {high:+.4f}]"
