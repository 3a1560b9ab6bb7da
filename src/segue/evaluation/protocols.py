"""The global temporal split: fit on what came before a moment, be judged on what came after it.

One moment T divides all listeners at once, as in service: no model sees a play of T or later (random or
per-user splits let tomorrow's hits into training; Ji et al. 2023, "A critical study on data leakage in
recommender system offline evaluation"). Rules:

* the catalogue is what was played before T; a target outside it is a miss that stays in the denominator of
  next-up, and is no target of the home tasks (nothing fit before T could name it);
* a test session starts in [T, until); a session that straddles T or ``until`` loses its later plays;
* repeats are allowed: a track played before may be the right answer, except in ``home-new``.

Tasks:

* ``next-up``: at every play of a test session but the first, rank the catalogue given the session so far;
* ``home``: once per test listener with a history, at T, rank for the set of tracks played in the window;
* ``home-new``: the same, targets and lists without the tracks the listener played before T.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import numpy.typing as npt
from numba import njit

from segue.contracts.errors import InvalidData
from segue.evaluation.bootstrap import interval
from segue.evaluation.metrics import rank_metrics, top_k_metrics
from segue.models.sessions import DAY_US, Sessions

__all__ = [
    "HEADLINE",
    "HOME",
    "HOME_NEW",
    "MOST_DAYS",
    "NEXT_UP",
    "Evaluation",
    "Lists",
    "Measured",
    "Plays",
    "Protocol",
    "Scorer",
    "Split",
    "Task",
    "default_window",
    "evaluate",
    "temporal_split",
    "without_known",
]

HOME, HOME_NEW, NEXT_UP = "home", "home-new", "next-up"
METRICS: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    HOME: (("recall", "ndcg", "mrr", "hr"), (10, 20, 50)),
    HOME_NEW: (("recall", "ndcg", "mrr", "hr"), (10, 20, 50)),
    NEXT_UP: (("hr", "mrr", "ndcg"), (5, 10, 20)),
}
"""Metrics of each task and their cuts. A case of next-up has one target, so its recall is its hit rate."""
HEADLINE: dict[str, tuple[str, ...]] = {
    HOME: ("recall@50", "ndcg@50"),
    HOME_NEW: ("recall@50", "ndcg@50"),
    NEXT_UP: ("hr@20", "mrr@20", "ndcg@20"),
}
"""The few metrics to show where there is little room; models are ordered and compared by the last."""

MOST_DAYS = 28
"""Days that are judged at most where no split is given."""

Ids = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Ragged = tuple[Longs, Ids, Longs]


@dataclass(frozen=True, slots=True)
class Plays:
    """Plays as parallel columns in any order: user, track, ts (UTC microseconds) and session, each int64[n].

    A session id need only be unique within its listener.
    """

    user: Longs
    track: Longs
    ts: Longs
    session: Longs


class Protocol(msgspec.Struct, frozen=True):
    """What was done, to be printed beside the numbers. Moments are UTC microseconds."""

    split: int
    until: int
    chosen_by: str
    train_plays: int
    train_listeners: int
    train_tracks: int
    train_sessions: int
    test_plays: int
    test_sessions: int
    test_listeners: int
    cases: dict[str, int]
    targets: dict[str, int]
    outside_catalogue: int


@dataclass(frozen=True, slots=True)
class Task:
    """Cases to rank the catalogue for.

    user: int64[n], the listener's own id and the group of the bootstrap; listener: int32[n], row in
    `Split.listeners`, -1 for one without a history; moment: int64[n], when the request comes, targets are
    later; begin, end: int64[n], the session so far as a slice of ``plays`` and ``plays_ts`` (oldest first, -1
    is outside the catalogue), so that the prefixes of a long session share memory;
    target_indptr, targets: ragged int32, distinct, -1 is outside the catalogue;
    known_indptr, known: ragged int32, ascending: tracks no list may hold (empty unless the task is
    ``home-new``).
    """

    name: str
    user: Longs
    listener: Ids
    moment: Longs
    plays: Ids
    plays_ts: Longs
    begin: Longs
    end: Longs
    target_indptr: Longs
    targets: Ids
    known_indptr: Longs
    known: Ids

    @property
    def n_cases(self) -> int:
        """Number of cases."""
        return len(self.user)

    @property
    def cut(self) -> int:
        """Length a list needs to have for every metric of the task."""
        return max(METRICS[self.name][1])

    def prefixes(self, rows: slice, longest: int = 50) -> Ragged:
        """The last ``longest`` plays of the sessions so far: (indptr int64, items int32, ts int64)."""
        begin = np.maximum(self.begin[rows], self.end[rows] - longest)
        indptr, source = _gather(begin, self.end[rows])
        return indptr, self.plays[source], self.plays_ts[source]

    def select(self, cases: npt.NDArray[np.integer]) -> Task:
        """Only those cases (int[m], ascending)."""
        target_indptr, targets = _gather(self.target_indptr[:-1][cases], self.target_indptr[1:][cases])
        known_indptr, known = _gather(self.known_indptr[:-1][cases], self.known_indptr[1:][cases])
        return replace(
            self,
            user=self.user[cases],
            listener=self.listener[cases],
            moment=self.moment[cases],
            begin=self.begin[cases],
            end=self.end[cases],
            target_indptr=target_indptr,
            targets=self.targets[targets],
            known_indptr=known_indptr,
            known=self.known[known],
        )

    def known_of(self, rows: slice) -> tuple[Longs, Ids]:
        """The tracks no list of these cases may hold: ragged (indptr int64, items int32 ascending)."""
        first, last = self.known_indptr[:-1][rows], self.known_indptr[1:][rows]
        indptr, source = _gather(first, last)
        return indptr, self.known[source]


@dataclass(frozen=True, slots=True)
class Split:
    """Training data and tasks. Item i is the track ``tracks[i]``, listener row u is the user
    ``listeners[u]``.

    train: plays before the split, by session; history: the same by listener, one row of ``listeners`` each.
    """

    protocol: Protocol
    tracks: Longs
    listeners: Longs
    train: Sessions
    history: Sessions
    tasks: dict[str, Task]

    def histories(self, listener: Ids) -> Ragged:
        """All plays before the split of these listeners (-1: none), oldest first: (indptr, items, ts)."""
        known = np.maximum(listener, 0)
        begin = np.where(listener >= 0, self.history.indptr[known], 0)
        end = np.where(listener >= 0, self.history.indptr[known + 1], 0)
        indptr, source = _gather(begin, end)
        return indptr, self.history.items[source], self.history.ts[source]


class Measured(msgspec.Struct, frozen=True):
    """A mean over cases and its 95% interval over resampled listeners."""

    value: float
    ci95: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Lists:
    """Top lists kept of an evaluation: cases int64[m], ascending, and top int32[m, cut], -1 for an empty
    place.
    """

    cases: Longs
    top: Ids


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One scorer on one task: every metric of every case (float64[n]), and the listener of each case
    (int64[n]); the lists kept, or None where none were asked for or the scorer gave ranks.
    """

    task: str
    user: Longs
    per_case: dict[str, npt.NDArray[np.float64]]
    lists: Lists | None = None

    def metrics(
        self, where: npt.NDArray[np.bool_] | None = None, *, seed: int = 0, draws: int = 1000
    ) -> dict[str, Measured]:
        """Means with intervals over the cases, or over a segment of them (``where``: bool[n]).

        Raises InvalidData for a segment without cases.
        """
        chosen = np.ones(len(self.user), dtype=np.bool_) if where is None else where
        if not chosen.any():
            raise InvalidData(
                f"no case of {self.task} to average over", field="where", limit="at least one case"
            )
        group = self.user[chosen]
        out: dict[str, Measured] = {}
        for name, values in self.per_case.items():
            mine = values[chosen]
            out[name] = Measured(float(mine.mean()), interval(mine, group, seed=seed, draws=draws))
        return out


Scorer = Callable[[Task, slice], npt.NDArray[np.int32] | npt.NDArray[np.float64]]
"""For the cases ``rows`` of a task: top lists int32[b, K >= task.cut] (best first, -1 empty), or, where each
case has one target, its rank float64[b] among the whole catalogue (`metrics.rank_of_target`; inf for a
miss)."""


def default_window(ts: Longs) -> tuple[int, int]:
    """A sensible recent split (at, until) in microseconds: whole UTC days, the last fifth of them, at most
    MOST_DAYS.

    Raises InvalidData when the plays span fewer than two days: there is no before and after.
    """
    if len(ts) == 0:
        raise InvalidData("there are no plays to split", field="ts", limit="plays on at least two days")
    first, last = int(ts.min()) // DAY_US, int(ts.max()) // DAY_US
    if first == last:
        raise InvalidData(
            "all plays fall on one day; give more days, or a split moment inside it",
            field="ts",
            limit="plays on at least two days",
        )
    days = min(MOST_DAYS, max(1, round((last - first + 1) / 5)))
    return (last + 1 - days) * DAY_US, (last + 1) * DAY_US


def temporal_split(
    plays: Plays, at: int | None = None, until: int | None = None, history_days: int | None = None
) -> Split:
    """Divide plays at the moment ``at`` and test on [at, until), microseconds UTC.

    Without ``at``: `default_window`. Without ``until``: up to the last play. Plays that lie more than
    ``history_days`` before ``at`` are left out. Raises InvalidData when a side is empty.
    """
    chosen_by = "given" if at is not None else f"the last fifth of the days, at most {MOST_DAYS}"
    window = default_window(plays.ts) if at is None else (at, int(plays.ts.max(initial=at)) + 1)
    at, until = window[0], window[1] if until is None else until
    before = plays.ts < at
    if history_days is not None:
        before &= plays.ts >= at - history_days * DAY_US
    if not before.any():
        within = "" if history_days is None else f" by at most {history_days} days"
        raise InvalidData(f"no play is older than the split{within}: choose another moment", field="split")
    after = (plays.ts >= at) & (plays.ts < until) & (_session_start(plays) >= at)
    if not after.any():
        raise InvalidData("no session starts in the test window: choose another split", field="split")

    tracks, listeners = np.unique(plays.track[before]), np.unique(plays.user[before])
    item = _index_in(tracks, plays.track)
    row = _index_in(listeners, plays.user)
    train = Sessions.from_plays(
        row[before], item[before], plays.ts[before], plays.session[before], n_items=len(tracks)
    )
    history = train.by_listener()
    # Test sessions, where -1 (outside the catalogue) is a legal item: shifted by one while they are sorted.
    users, user = np.unique(plays.user[after], return_inverse=True)
    test = Sessions.from_plays(
        user, item[after] + 1, plays.ts[after], plays.session[after], n_items=len(tracks) + 1
    )
    test_items = test.items - np.int32(1)

    next_up = _next_up(test, test_items, users, listeners)
    home, home_new = _home(test, test_items, users, listeners, history, at)
    tasks = {HOME: home, HOME_NEW: home_new, NEXT_UP: next_up}
    protocol = Protocol(
        split=at,
        until=until,
        chosen_by=chosen_by,
        train_plays=train.n_plays,
        train_listeners=len(listeners),
        train_tracks=len(tracks),
        train_sessions=train.n_sessions,
        test_plays=test.n_plays,
        test_sessions=test.n_sessions,
        test_listeners=len(users),
        cases={name: task.n_cases for name, task in tasks.items()},
        targets={name: len(task.targets) for name, task in tasks.items()},
        outside_catalogue=int((next_up.targets < 0).sum()),
    )
    return Split(protocol, tracks, listeners, train, history, tasks)


def evaluate(task: Task, scorer: Scorer, *, batch: int = 2048, keep: int = 0) -> Evaluation:
    """Score all cases, ``batch`` at a time, so that scores never stand in memory for all cases at once.

    ``keep``: at most this many of the lists are kept (keep x cut x 4 bytes), of cases spread evenly over the
    task: the same ones for every scorer. Raises InvalidData for a task without cases, and for a scorer's
    answer that is neither lists nor ranks.
    """
    if task.n_cases == 0:
        raise InvalidData(
            f"the split leaves no case for {task.name}", field="task", limit="at least one case"
        )
    names, cuts = METRICS[task.name]
    wanted = [f"{name}@{cut}" for cut in cuts for name in names]
    per_case = {name: np.empty(task.n_cases) for name in wanted}
    size = min(keep, task.n_cases)
    kept = np.arange(size, dtype=np.int64) * task.n_cases // max(size, 1)
    lists = []
    for start in range(0, task.n_cases, batch):
        rows = slice(start, min(start + batch, task.n_cases))
        answer = scorer(task, rows)
        values = _measure(task, rows, answer, cuts)
        for name in wanted:
            per_case[name][rows] = values[name]
        if size and answer.ndim == 2:
            mine = kept[(kept >= rows.start) & (kept < rows.stop)] - start
            lists.append(answer[mine, : task.cut].astype(np.int32))
    return Evaluation(task.name, task.user, per_case, Lists(kept, np.concatenate(lists)) if lists else None)


def without_known(task: Task, rows: slice, top: Ids, k: int) -> Ids:
    """The lists int32[b, k] after the tracks the task forbids are taken out and the rest moved up, -1 at the
    end.
    """
    indptr, known = task.known_of(rows)
    out = np.full((len(top), k), -1, dtype=np.int32)
    _drop(np.ascontiguousarray(top), indptr, known, out)
    return out


def _measure(
    task: Task,
    rows: slice,
    answer: npt.NDArray[np.int32] | npt.NDArray[np.float64],
    cuts: tuple[int, ...],
) -> dict[str, npt.NDArray[np.float64]]:
    size = rows.stop - rows.start
    offset = task.target_indptr[rows.start]
    indptr = task.target_indptr[rows.start : rows.stop + 1] - offset
    if len(answer) != size:
        raise InvalidData(f"the scorer answered {len(answer)} of {size} cases", field="scorer")
    if answer.ndim == 2:
        targets = task.targets[offset : offset + indptr[-1]]
        return top_k_metrics(answer.astype(np.int32, copy=False), indptr, targets, cuts)
    if indptr[-1] != size:
        raise InvalidData(
            f"{task.name} has several targets per case: answer lists, not ranks", field="scorer"
        )
    return rank_metrics(answer.astype(np.float64, copy=False), cuts)


def _next_up(test: Sessions, items: Ids, users: Longs, listeners: Longs) -> Task:
    session = test.session_of_play()
    # Cases are all plays but each session's first; the session so far is everything before the play.
    target = np.flatnonzero(np.arange(test.n_plays) > test.indptr[session])
    user = users[test.user[session[target]]]
    n = len(target)
    return Task(
        name=NEXT_UP,
        user=user,
        listener=_index_in(listeners, user),
        moment=test.ts[target - 1] if n else np.empty(0, dtype=np.int64),
        plays=items,
        plays_ts=test.ts,
        begin=test.indptr[session[target]],
        end=target.astype(np.int64),
        target_indptr=np.arange(n + 1, dtype=np.int64),
        targets=items[target],
        known_indptr=np.zeros(n + 1, dtype=np.int64),
        known=np.empty(0, dtype=np.int32),
    )


def _home(
    test: Sessions, items: Ids, users: Longs, listeners: Longs, history: Sessions, at: int
) -> tuple[Task, Task]:
    listener = _index_in(listeners, users)[test.play_user()]
    # One key per distinct (listener, track), both inside the catalogue.
    inside = (listener >= 0) & (items >= 0)
    played = np.unique(listener[inside].astype(np.int64) * test.n_items + items[inside])
    known = np.unique(history.play_user().astype(np.int64) * test.n_items + history.items)
    fresh = played[~np.isin(played, known, assume_unique=True)]
    nothing = np.empty(0, dtype=np.int64)
    return (
        _set_task(HOME, played, nothing, test.n_items, listeners, at),
        _set_task(HOME_NEW, fresh, known, test.n_items, listeners, at),
    )


def _set_task(name: str, pairs: Longs, known: Longs, n_items: int, listeners: Longs, at: int) -> Task:
    """A task of sets from ascending keys listener x n_items + track."""
    rows, counts = np.unique(pairs // n_items, return_counts=True)
    n = len(rows)
    known = known[np.isin(known // n_items, rows)]
    return Task(
        name=name,
        user=listeners[rows],
        listener=rows.astype(np.int32),
        moment=np.full(n, at, dtype=np.int64),
        plays=np.empty(0, dtype=np.int32),
        plays_ts=np.empty(0, dtype=np.int64),
        begin=np.zeros(n, dtype=np.int64),
        end=np.zeros(n, dtype=np.int64),
        target_indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        targets=(pairs % n_items).astype(np.int32),
        known_indptr=np.searchsorted(known // n_items, np.append(rows, len(listeners))).astype(np.int64),
        known=(known % n_items).astype(np.int32),
    )


def _session_start(plays: Plays) -> Longs:
    """int64[n]: the first moment of each play's session, over all plays, also those outside the window."""
    order = np.lexsort((plays.ts, plays.session, plays.user))
    user, session = plays.user[order], plays.session[order]
    first = np.ones(len(order), dtype=np.bool_)
    first[1:] = (user[1:] != user[:-1]) | (session[1:] != session[:-1])
    out = np.empty(len(order), dtype=np.int64)
    out[order] = plays.ts[order][np.flatnonzero(first)][np.cumsum(first) - 1]
    return out


def _index_in(ids: Longs, values: Longs) -> Ids:
    """Position of each value in the ascending ``ids``, -1 for one that is not there."""
    if len(ids) == 0:
        return np.full(len(values), -1, dtype=np.int32)
    place = np.minimum(np.searchsorted(ids, values), len(ids) - 1)
    return np.where(ids[place] == values, place, -1).astype(np.int32)


def _gather(begin: Longs, end: Longs) -> tuple[Longs, Longs]:
    """Slices begin:end one after another: (indptr int64[n + 1], source positions int64)."""
    lengths = end - begin
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return indptr, np.repeat(begin - indptr[:-1], lengths) + np.arange(indptr[-1])


@njit(cache=True, nogil=True)
def _drop(top: Ids, indptr: Longs, known: Ids, out: Ids) -> None:
    for row in range(len(top)):
        forbidden = known[indptr[row] : indptr[row + 1]]
        filled = 0
        for item in top[row]:
            if filled == out.shape[1]:
                break
            place = np.searchsorted(forbidden, item)
            if item >= 0 and not (place < len(forbidden) and forbidden[place] == item):
                out[row, filled] = item
                filled += 1
