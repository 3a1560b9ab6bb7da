"""The gate: a challenger that ranks worse than the champion, beyond the interval, is not published."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from segue.bundle import Bundle, BundleWriter
from segue.evaluation.bootstrap import paired
from segue.evaluation.protocols import Evaluation, Split

GATED = {"home": "ndcg@50", "next-up": "ndcg@20"}
"""Task and metric that a challenger is judged by."""
NO_CHAMPION = "no champion to compare with"


@dataclass(frozen=True)
class Cases:
    """How one task was judged. case uint64[n]: what each request was and what was the right answer to it; user int64[n]: its
    listener; value float64[n]: the gated metric."""

    case: npt.NDArray[np.uint64]
    user: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]


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


def cases_of(split: Split, evaluations: Mapping[str, Evaluation]) -> dict[str, Cases]:
    """What the gate compares of an evaluation of the split."""
    return {
        task: Cases(identities(split, task), evaluations[task].user, evaluations[task].per_case[metric])
        for task, metric in GATED.items()
        if task in evaluations
    }


def identities(split: Split, task: str) -> npt.NDArray[np.uint64]:
    """A hash per case, uint64[n], of listener, moment, session so far and right answers: equal cases may be compared."""
    cases = split.tasks[task]
    track = np.append(split.tracks, np.int64(-1))  # positions of -1 are outside the catalogue
    found = np.empty(cases.n_cases, np.uint64)
    for n in range(cases.n_cases):
        targets = np.sort(track[cases.targets[cases.target_indptr[n] : cases.target_indptr[n + 1]]])
        digest = hashlib.blake2b(
            np.array([cases.user[n], cases.moment[n], len(targets)]).tobytes(), digest_size=8
        )
        digest.update(targets.tobytes())
        digest.update(track[cases.plays[cases.begin[n] : cases.end[n]]].tobytes())
        found[n] = np.frombuffer(digest.digest(), np.uint64)[0]
    return found


def save_cases(writer: BundleWriter, judged: Mapping[str, Cases], split: int) -> None:
    """Keep a bundle's per-case results, so that a later challenger on the same cases can be compared pair by pair.

    `split` is the moment that divides what it was fitted on from what it was judged on, UTC microseconds.
    """
    for task, found in judged.items():
        writer.arrays(f"gate/{task}", {"case": found.case, "user": found.user, "value": found.value})
    writer.json("gate/split", split)


def saved_cases(bundle: Bundle) -> dict[str, Cases]:
    """A bundle's per-case results by task; none where another version of Segue wrote them."""
    found = {}
    for task in GATED:
        arrays = bundle.arrays(f"gate/{task}") if bundle.has(f"gate/{task}") else {}
        if {"case", "user", "value"} <= set(arrays):
            found[task] = Cases(arrays["case"], arrays["user"], arrays["value"])
    return found


def same_cases(one: Mapping[str, Cases], other: Mapping[str, Cases]) -> bool:
    """Whether both were judged on the same cases of the same tasks, in the same order."""
    return one.keys() == other.keys() and all(np.array_equal(one[t].case, other[t].case) for t in one)


def judge(
    challenger: Mapping[str, Cases],
    champion: Mapping[str, Cases],
    tolerance: float,
    alone: str = NO_CHAMPION,
) -> Verdict:
    """Compare case by case, on the tasks where the cases are the same. `alone` is said where there is nothing to compare."""
    comparisons = []
    for task, mine in challenger.items():
        metric, mean = GATED[task], float(mine.value.mean())
        theirs = champion.get(task)
        if theirs is None or not np.array_equal(mine.case, theirs.case):
            comparisons.append(Comparison(task, metric, mean, note=alone))
            continue
        result = paired(mine.value, theirs.value, mine.user)
        before = float(theirs.value.mean())
        comparisons.append(Comparison(task, metric, mean, before, mean - before, (result.lo, result.hi)))
    worse = [c for c in comparisons if c.ci95 is not None and c.ci95[1] < -tolerance * (c.champion or 0.0)]
    if worse:
        reason = f"{_said(worse[0])}: worse than the champion beyond the interval"
        return Verdict(False, reason, tuple(comparisons))
    compared = [c for c in comparisons if c.ci95 is not None]
    return Verdict(True, "; ".join(map(_said, compared)) or alone, tuple(comparisons))


def _said(c: Comparison) -> str:
    low, high = c.ci95 or (0.0, 0.0)
    return f"{c.task} {c.metric} {c.difference or 0.0:+.4f} [{low:+.4f}, {high:+.4f}]"
