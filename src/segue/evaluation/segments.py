"""Accuracy by segment: for whom, and on which tracks, a model is good.

A partition gives every *target* of a task one segment, so that nothing is counted twice or forgotten:

* by listener (length of history, country) all targets of a case share a segment, and the segment is simply
  some of the cases;
* by track (popularity, age) a case of several targets may lie in several segments. Each segment then asks for
  its own targets only: recall of the tail is the share of the *tail* targets that were found.

Segments can be small, so their intervals are wider than the plain percentile bootstrap, which covers too
little with few listeners: see `cautious_interval`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, stdtrit

from segue.contracts.vocabulary import DAY
from segue.evaluation.beyond import Items
from segue.evaluation.bootstrap import interval
from segue.evaluation.metrics import top_k_metrics
from segue.evaluation.protocols import HEADLINE, Evaluation, Measured, Split, Task

__all__ = [
    "OUTSIDE",
    "Countries",
    "Partition",
    "Segment",
    "cautious_interval",
    "measure_segments",
    "partitions",
]

Longs = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

NEW_DAYS = 28
"""A track is new for this many days after its upload or its first play."""
TOP_COUNTRIES = 5
SHORT, LONG = 10, 100
"""Fewer plays than the first are a short history, as many as the second a long one."""
OUTSIDE = "outside"
"""The segment of targets first played after the split."""
FEWEST = 5
"""With fewer listeners than this a segment's interval is the whole range of the metric."""


_OUTSIDE = (OUTSIDE, "tracks first played after the split: a miss for every model")


@dataclass(frozen=True, slots=True)
class Countries:
    """Countries of listeners: user int64[n], ascending; code int32[n], position in `names`, -1 unknown."""

    user: Longs
    code: npt.NDArray[np.int32]
    names: tuple[str, ...]

    def of(self, users: Longs) -> npt.NDArray[np.int32]:
        """The code of each listener. int32[m]."""
        if len(self.user) == 0:
            return np.full(len(users), -1, dtype=np.int32)
        at = np.minimum(np.searchsorted(self.user, users), len(self.user) - 1)
        return np.where(self.user[at] == users, self.code[at], -1).astype(np.int32)


@dataclass(frozen=True, slots=True)
class Partition:
    """One way to divide a task: code int64[n_targets], positions in `segments`, pairs of (name, meaning)."""

    segments: tuple[tuple[str, str], ...]
    code: Longs


class Segment(msgspec.Struct, frozen=True):
    """Part of a task, and every model's headline metrics on it."""

    meaning: str
    cases: int
    listeners: int
    models: dict[str, dict[str, Measured]]


def partitions(split: Split, task: Task, items: Items, countries: Countries) -> dict[str, Partition]:
    """Every way to divide a task that leaves at least two segments with targets."""
    found = {
        "listener history": _history(split, task),
        "target popularity": _popularity(task, items),
        "target age": _age(split, task, items),
        "country": _country(task, countries),
    }
    return {name: part for name, part in found.items() if len(np.unique(part.code)) > 1}


def measure_segments(
    task: Task, evaluations: Mapping[str, Evaluation], partition: Partition
) -> dict[str, Segment]:
    """Headline metrics of each model in each segment that has targets, in the partition's order.

    A segment that cuts cases apart is measured on the lists that were kept; a model without lists is left out of it.
    """
    found = {}
    for code, (name, meaning) in enumerate(partition.segments):
        cut = _Cut.of(task, partition.code == code)
        if not cut.inside.any():
            continue
        results = {model: cut.values(task, evaluation) for model, evaluation in evaluations.items()}
        models = {
            model: {
                metric: Measured(float(mine.mean()), cautious_interval(mine, group))
                for metric, mine in values.items()
            }
            for model, (group, values) in results.items()
            if len(group)
        }
        if models:
            group = next(group for group, _ in results.values() if len(group))
            found[name] = Segment(meaning, len(group), len(np.unique(group)), models)
    return found


def cautious_interval(
    values: npt.NDArray[np.float64], groups: Longs, *, seed: int = 0
) -> tuple[float, float]:
    """A 95% interval of the mean of values in 0..1 that stays honest with few groups.

    The percentile bootstrap is widened as Student's t widens the normal (Hesterberg 2015, "What Teachers Should Know
    About the Bootstrap", the expanded percentile interval). Values that are all 0 (or all 1) have no spread to
    resample: each listener is then read as one draw, and the bound is the exact binomial one, 1 - .025^(1/n) for n
    listeners. Fewer than `FEWEST` say nothing: (0, 1).
    """
    n = len(np.unique(groups))
    if n < FEWEST:
        return 0.0, 1.0
    bound = float(1.0 - 0.025 ** (1.0 / n))
    if not values.any():
        return 0.0, bound
    if np.all(values == 1.0):
        return 1.0 - bound, 1.0
    tail = float(ndtr(np.sqrt(n / (n - 1)) * stdtrit(n - 1, 0.025)))
    return interval(values, groups, seed=seed, level=1.0 - 2.0 * tail)


@dataclass(frozen=True, slots=True)
class _Cut:
    """A segment of a task: wanted bool[n_targets]; inside bool[n_cases]: has such a target; whole: has no other."""

    wanted: Mask
    inside: Mask
    whole: bool

    @classmethod
    def of(cls, task: Task, wanted: Mask) -> _Cut:
        size = np.diff(task.target_indptr)
        count = np.add.reduceat(wanted.astype(np.int64), task.target_indptr[:-1])
        inside = count > 0
        return cls(wanted, inside, bool(np.array_equal(count[inside], size[inside])))

    def values(self, task: Task, evaluation: Evaluation) -> tuple[Longs, dict[str, npt.NDArray[np.float64]]]:
        """The listener of each case (int64[m]) and its headline metrics (float64[m] each)."""
        names = HEADLINE[task.name]
        if self.whole:
            return evaluation.user[self.inside], {
                name: evaluation.per_case[name][self.inside] for name in names
            }
        if evaluation.lists is None:
            return np.empty(0, dtype=np.int64), {}
        mine = self.inside[evaluation.lists.cases]
        cases = evaluation.lists.cases[mine]
        if len(cases) == 0:
            return np.empty(0, dtype=np.int64), {}
        chosen = task.select(cases)
        wanted = self.wanted[np.isin(_case_of_target(task), cases)]
        count = np.add.reduceat(wanted.astype(np.int64), chosen.target_indptr[:-1])
        found = top_k_metrics(
            evaluation.lists.top[mine],
            np.concatenate([[0], np.cumsum(count)]),
            chosen.targets[wanted],
            sorted({int(name.split("@")[1]) for name in names}),
        )
        return chosen.user, {name: found[name] for name in names}


def _case_of_target(task: Task) -> Longs:
    return np.repeat(np.arange(task.n_cases), np.diff(task.target_indptr))


def _by_case(task: Task, code: npt.NDArray[np.integer]) -> Longs:
    return np.repeat(code.astype(np.int64), np.diff(task.target_indptr))


def _history(split: Split, task: Task) -> Partition:
    known = np.maximum(task.listener, 0)
    plays = np.where(task.listener >= 0, np.diff(split.history.indptr)[known], 0)
    code = np.digitize(plays, [1, SHORT, LONG])
    return Partition(
        (
            ("new", "listeners without a play before the split"),
            ("short", f"listeners with 1 to {SHORT - 1} plays before the split"),
            ("medium", f"listeners with {SHORT} to {LONG - 1} plays before the split"),
            ("long", f"listeners with {LONG} plays or more before the split"),
        ),
        _by_case(task, code),
    )


def _country(task: Task, countries: Countries) -> Partition:
    of_case = countries.of(task.user)
    first = np.unique(task.user, return_index=True)[1]
    listeners = np.bincount(of_case[first][of_case[first] >= 0], minlength=len(countries.names))
    top = np.argsort(-listeners, kind="stable")[:TOP_COUNTRIES]
    # Codes 0..len(top)-1 are the top countries, then the rest, then unknown (-1 takes the last entry).
    new_code = np.full(len(countries.names) + 1, len(top))
    new_code[top] = np.arange(len(top))
    new_code[-1] = len(top) + 1
    names = [(countries.names[c], f"listeners in {countries.names[c]}") for c in top.tolist()]
    return Partition(
        (
            *names,
            ("other", "listeners in any other country"),
            ("unknown", "listeners whose country is not known"),
        ),
        _by_case(task, new_code[of_case]),
    )


def _popularity(task: Task, items: Items) -> Partition:
    ordered = np.sort(items.plays)[::-1]
    held = np.cumsum(ordered) / max(int(ordered.sum()), 1)
    # Thresholds are numbers of plays, so that tracks played equally often are never divided.
    head = int(ordered[np.searchsorted(held, 1 / 3)])
    mid = int(ordered[np.searchsorted(held, 2 / 3)])
    plays = items.plays[np.maximum(task.targets, 0)]
    code = np.select([task.targets < 0, plays >= head, plays >= mid], [3, 0, 1], default=2)
    n_head, n_mid = int((items.plays >= head).sum()), int(((items.plays < head) & (items.plays >= mid)).sum())
    n_tail = len(items.plays) - n_head - n_mid
    return Partition(
        (
            ("head", f"tracks with {head:,} plays or more: {n_head:,} tracks, a third of all plays"),
            ("mid", f"tracks with {mid:,} plays or more: {n_mid:,} tracks, the second third"),
            ("tail", f"tracks with fewer than {mid:,} plays: {n_tail:,} tracks, the last third"),
            _OUTSIDE,
        ),
        code.astype(np.int64),
    )


def _age(split: Split, task: Task, items: Items) -> Partition:
    since = split.protocol.split - NEW_DAYS * DAY
    fresh = (items.first_play >= since) | (items.uploaded_at >= since)
    code = np.select([task.targets < 0, fresh[np.maximum(task.targets, 0)]], [2, 0], default=1)
    return Partition(
        (
            (
                "new",
                f"tracks uploaded or first played in the {NEW_DAYS} days before the split: {int(fresh.sum()):,} tracks",
            ),
            ("older", f"all other tracks played before the split: {int((~fresh).sum()):,} tracks"),
            _OUTSIDE,
        ),
        code.astype(np.int64),
    )
