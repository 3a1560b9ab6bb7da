"""The gate: a challenger that ranks worse than the champion, beyond the interval, is not published."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segue.bundle import Bundle, BundleWriter
from segue.evaluation.bootstrap import paired, unpaired
from segue.evaluation.protocols import Evaluation, Split
from segue.flows.verdicts import Comparison, Verdict
from segue.settings.tree import Gate

GATED = {"home": "ndcg@50", "next-up": "ndcg@20"}
"""Task and metric that a challenger is judged by."""
NO_CHAMPION = "no champion to compare with"
OTHER_REQUESTS = "each on the requests of its own days"


@dataclass(frozen=True)
class Cases:
    """How one task was judged. case uint64[n]: what each request was and what was the right answer to it; user int64[n]: its
    listener; value float64[n]: the gated metric."""

    case: npt.NDArray[np.uint64]
    user: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]


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
    gate: Gate,
    alone: str = NO_CHAMPION,
) -> Verdict:
    """Compare case by case where both were judged on the same, else mean against mean. `alone` is said without a champion.

    Means over different days move with the days as well as with the models, so they are given more room: `gate.drift`.
    """
    comparisons, worse = [], []
    for task, mine in challenger.items():
        theirs = champion.get(task)
        if theirs is None:
            comparisons.append(Comparison(task, GATED[task], float(mine.value.mean()), note=alone))
            continue
        compared, room = _compare(task, mine, theirs, gate)
        comparisons.append(compared)
        if compared.ci95 is not None and compared.ci95[1] < -room * (compared.champion or 0.0):
            worse.append(compared)
    if worse:
        reason = f"{_said(worse[0])}: worse than the champion beyond the interval"
        return Verdict(False, reason, tuple(comparisons))
    known = [c for c in comparisons if c.ci95 is not None]
    return Verdict(True, "; ".join(map(_said, known)) or alone, tuple(comparisons))


def with_rungs(verdict: Verdict, said: Sequence[Comparison], gate: Gate) -> Verdict:
    """The verdict with what further rungs of evidence say: one that expects harm beyond its interval refuses, a silent one does
    not."""
    every = (*verdict.comparisons, *said)
    for one in said:
        if one.ci95 is not None and one.ci95[1] < -gate.tolerance * abs(one.champion or 0.0):
            return Verdict(False, f"{_said(one)}: {one.task} expects harm beyond the interval", every)
    known = [_said(one) if one.ci95 is not None else f"{one.task}: silent" for one in said]
    return Verdict(verdict.passed, "; ".join((verdict.reason, *known)), every)


def _compare(task: str, mine: Cases, theirs: Cases, gate: Gate) -> tuple[Comparison, float]:
    """The comparison on one task, and the share of the champion's metric by which the challenger may be worse."""
    ours, before = float(mine.value.mean()), float(theirs.value.mean())
    if np.array_equal(mine.case, theirs.case):
        found = paired(mine.value, theirs.value, mine.user)
        return Comparison(
            task, GATED[task], ours, before, ours - before, (found.lo, found.hi)
        ), gate.tolerance
    gap = unpaired(mine.value, theirs.value, mine.user, theirs.user)
    return Comparison(task, GATED[task], ours, before, ours - before, gap, OTHER_REQUESTS), gate.drift


def _said(c: Comparison) -> str:
    low, high = c.ci95 or (0.0, 0.0)
    note = f" ({c.note})" if c.note else ""
    return f"{c.task} {c.metric} {c.difference or 0.0:+.4f} [{low:+.4f}, {high:+.4f}]{note}"
