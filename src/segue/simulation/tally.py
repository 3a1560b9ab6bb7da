"""What listeners did in a life of a service, counted by listener and day from the first answer of an arm on.

Before that answer nothing can differ between two arms, so it is not counted: it could only blur the comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segue.contracts.vocabulary import DAY, END_MS, LISTEN_MS
from segue.simulation.columns import EventColumns
from segue.simulation.environment import LivedDay
from segue.simulation.session import HIDE, LIKE, PLAY, SKIP, SURFACES
from segue.simulation.world import ARTIST_BASE, F64, FLAGS, I16, I32, I64, USER_BASE

__all__ = ["COUNTS", "METRICS", "Measure", "Tally", "Told", "day_table", "unit_table"]

COUNTS: Final = (
    "starts",
    "listens",
    "minutes",
    "skips",
    "active",
    "discovered",
    "shown",
    "listened",
    "liked",
    "hidden",
)
STARTS, LISTENS, MINUTES, SKIPS, ACTIVE, DISCOVERED, SHOWN, LISTENED, LIKED, HIDDEN = range(len(COUNTS))
_NEVER: Final = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Measure:
    """A metric over the counts of a listener: a sum, or the ratio of two."""

    name: str
    top: str
    bottom: str | None = None
    better: int = 1


METRICS: Final = {
    m.name: m
    for m in (
        Measure("listens_per_listener", "listens"),
        Measure("minutes_per_listener", "minutes"),
        Measure("days_active", "active"),
        Measure("discovery", "discovered"),
        Measure("skip_rate", "skips", "starts", better=-1),
        Measure("listens_per_exposure", "listened", "shown"),
        Measure("likes_per_exposure", "liked", "shown"),
        Measure("hides_per_exposure", "hidden", "shown", better=-1),
    )
}
"""The metrics of experiments that a simulation has, by the names and meanings of docs/reference/metrics.md."""


@dataclass(frozen=True, slots=True)
class Told:
    """The listeners an arm answered, as they lived: user int32[n], arm int16[n], first int64[n] (µs of the first answer),
    daily float64[n, days, COUNTS]; shown int64[arms, tracks], slots an arm gave each track; broken, slots
    of an arm that the listener may not be given."""

    user: I32
    arm: I16
    first: I64
    daily: F64
    shown: I64
    broken: int

    def sums(self, count: str) -> F64:
        """Of each listener, over all days. float64[n]."""
        total: F64 = self.daily[:, :, COUNTS.index(count)].sum(axis=1)
        return total


class Tally:
    """Adds up days. `surfaces` are those that arms answer; `known` gives ids of the artists that a listener had played before."""

    def __init__(
        self,
        arms: int,
        days: int,
        duration: I32,
        artist: I32,
        listeners: int,
        surfaces: Sequence[str],
        known: Callable[[int], npt.NDArray[np.int64]],
    ) -> None:
        self._duration, self._artist, self._known = duration, artist, known
        self._tested = np.array([*(name in surfaces for name in SURFACES), False])  # the last is no surface
        self._daily = np.zeros((listeners, days, len(COUNTS)))
        self._first = np.full(listeners, _NEVER)
        self._arm = np.full(listeners, -1, np.int16)
        self._shown = np.zeros((arms, len(duration)), np.int64)
        self._met: list[I64] = []
        self._number = 0
        self.broken = 0

    def add(self, day: LivedDay, forbidden: FLAGS | None = None) -> None:
        """Count the next day. `forbidden` marks its exposed slots that break a guarantee."""
        shown, number = day.exposures, self._number
        given = np.flatnonzero(shown.by >= 0)
        user, by = shown.user[given], shown.by[given]
        np.minimum.at(self._first, user, shown.ts[given])
        self._arm[user] = by
        np.add.at(self._shown, (by, shown.track[given]), 1)
        self._daily[:, number, SHOWN] = np.bincount(user, minlength=len(self._first))
        if forbidden is not None:
            self.broken += int(forbidden[given].sum())
        self._count(day.events, number)
        self._number += 1

    def told(self) -> Told:
        """All that was counted, of the listeners whom an arm answered."""
        user = np.flatnonzero(self._arm >= 0).astype(np.int32)
        daily = self._daily[user]
        self._discover(user, daily)
        return Told(
            user=user,
            arm=self._arm[user],
            first=self._first[user],
            daily=daily,
            shown=self._shown,
            broken=self.broken,
        )

    def _count(self, events: EventColumns, number: int) -> None:
        after = events.ts >= self._first[events.user]
        started = after & ((events.type == PLAY) | (events.type == SKIP))
        listened = (events.type == PLAY) & (
            (events.ms >= LISTEN_MS) | (events.ms >= self._duration[events.track] - END_MS)
        )
        given = after & events.asked & self._tested[events.surface]
        n, day = len(self._first), self._daily[:, number]

        def times(what: FLAGS) -> F64:
            return np.bincount(events.user[what], minlength=n).astype(np.float64)

        day[:, STARTS] = times(started)
        day[:, LISTENS] = times(after & listened)
        day[:, MINUTES] = np.bincount(events.user[started], events.ms[started] / 60_000, minlength=n)
        day[:, SKIPS] = day[:, STARTS] - day[:, LISTENS]
        day[:, ACTIVE] = day[:, LISTENS] > 0
        day[:, LISTENED] = times(given & listened)
        day[:, LIKED] = times(given & (events.type == LIKE))
        day[:, HIDDEN] = times(given & (events.type == HIDE))
        pairs = events.user[started].astype(np.int64) << 32 | self._artist[events.track[started]]
        self._met.append(np.unique(pairs))

    def _discover(self, users: I32, daily: F64) -> None:
        """Count each artist on the day of their first play, unless they had been played before."""
        number = np.repeat(np.arange(len(self._met)), [len(met) for met in self._met])
        pairs, earliest = np.unique(np.concatenate([*self._met, np.empty(0, np.int64)]), return_index=True)
        owner, artist, day = pairs >> 32, (pairs & 0xFFFFFFFF) + ARTIST_BASE, number[earliest]
        begin, end = np.searchsorted(owner, users), np.searchsorted(owner, users, side="right")
        for row, user in enumerate(users.tolist()):
            mine = slice(begin[row], end[row])
            new = ~np.isin(artist[mine], self._known(user + USER_BASE))
            daily[row, :, DISCOVERED] = np.bincount(day[mine][new], minlength=daily.shape[1])


def unit_table(told: Told, arms: Sequence[str], before: pa.Table | None = None) -> pa.Table:
    """A row per listener: `unit`, `variant`, and the columns of METRICS; a ratio has `.numerator` and `.denominator`.

    `before` has the columns `unit` and, of some metrics, those of the pre-period.
    """
    columns = _named(told.user, told.arm, arms) | _measured(told.sums)
    table = pa.table(columns)
    return table if before is None else table.join(before, "unit", join_type="left outer").sort_by("unit")


def day_table(told: Told, arms: Sequence[str], first: int) -> pa.Table:
    """The same by `unit` and `day` (date), from each unit's first answer on. `first`: start of day one, µs."""
    n, days, _ = told.daily.shape
    number = np.tile(np.arange(days), n)
    rows = np.flatnonzero(number >= np.repeat((told.first - first) // DAY, days))
    flat = told.daily.reshape(n * days, len(COUNTS))[rows]
    columns = _named(np.repeat(told.user, days)[rows], np.repeat(told.arm, days)[rows], arms)
    columns["day"] = pa.array((first // DAY + number[rows]).astype(np.int32)).cast(pa.date32())
    return pa.table(columns | _measured(lambda count: flat[:, COUNTS.index(count)]))


def _named(user: I32, arm: I16, arms: Sequence[str]) -> dict[str, pa.Array]:
    return {
        "unit": pa.array(user.astype(np.int64) + USER_BASE),
        "variant": pa.array(arms, pa.string()).take(pa.array(arm)),
    }


def _measured(count: Callable[[str], F64]) -> dict[str, pa.Array]:
    columns: dict[str, pa.Array] = {}
    for metric in METRICS.values():
        if metric.bottom is None:
            columns[metric.name] = pa.array(count(metric.top))
        else:
            columns[f"{metric.name}.numerator"] = pa.array(count(metric.top))
            columns[f"{metric.name}.denominator"] = pa.array(count(metric.bottom))
    return columns
