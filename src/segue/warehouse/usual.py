"""What is usual for a day, from the days before it; and what is not.

Each count is looked at as a logarithm. It is usual that it lies where the median of the seven days before lies (so growth is
no surprise), moved by what is usual for its weekday (the median of the last eight such days against their own weeks). How far
days stray from that, in the median of eight weeks, is the measure of what is far.

Two questions are asked of each part of a measure: whether it holds fewer rows than usual, and whether it is a smaller share of
the day. It has lost something only if both are so. Then neither a quiet day nor a flood of rows from somebody else, which
makes every share small, looks like a loss; and somebody who can only add rows can never cause one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from segue.contracts.measures import LOST
from segue.warehouse.findings import ROWS, Part, Severity

WEEK: Final = 7
HISTORY: Final = timedelta(days=9 * WEEK)
"""How far back it is looked: eight weeks, and the week before the first of them."""
MIN_DAYS: Final = 14
"""Days with rows that there must have been before anything is called unusual."""
MIN_ROWS: Final = 300
"""Rows a day, in the median, below which a table is left alone."""
MIN_PART: Final = 50
"""Rows that a part must have come to before it is called new."""
HEARD: Final = 10
"""Rows a day from which on a part tells how rows come together."""
REGULAR: Final = 28
"""Days of which a part may have missed one: what is not there every other Sunday is not missed on the next."""
SAME_WEEKDAY: Final = 3
"""From so many on, a Sunday is compared with Sundays."""
FAR: Final = 5.0
"""Deviations that are too many."""
EVEN: Final = 0.03
"""A history that strayed less than this may have been so even by chance."""
FEWER: Final = 0.8
MORE: Final = 1.3
"""What is told: a part below the one, or above the other, of what is usual."""
ABSENCE: Final = frozenset({"null", "unknown", "differs", "repeated", "broken"})
"""Parts that nobody misses: that there are fewer of these is good news."""

Counts = Mapping[date, Mapping[Part, int]]
"""Rows of each part, a day. A day that was counted has ROWS at least."""
Floats = npt.NDArray[np.float64]


class Band(NamedTuple):
    """A part of a day and what is usual of it, in rows; `far` in usual deviations, negative below."""

    part: Part
    seen: int
    usual: float
    low: float
    high: float
    far: float
    severity: Severity | None


def past_days(counts: Counts, day: date) -> list[date]:
    """The days that a day is held against, in order; none where too little is known."""
    past = sorted(d for d in counts if day - HISTORY <= d < day and counts[d][ROWS])
    enough = len(past) >= MIN_DAYS and np.median([counts[d][ROWS] for d in past]) >= MIN_ROWS
    return past if enough else []


def bands(counts: Counts, day: date, lost: Mapping[str, float]) -> list[Band]:
    """Every part of the day against the days before it; none where too little is known.

    `lost` says by measure below which share of the usual a part has lost what real listeners sent.
    """
    past = past_days(counts, day)
    if not past:
        return []
    days = [*past, day]
    parts = sorted({part for d in days for part in counts[d]}, key=str)
    rows = np.array([[counts[d].get(part, 0) for d in days] for part in parts], np.float64)
    totals = _totals(parts, rows)
    weekdays = np.array([d.weekday() for d in days])
    in_rows = _deviation(np.log(rows + 0.5), weekdays)
    in_share = _deviation(np.log((rows + 0.5) / (totals + 1.0)), weekdays)
    usual = np.exp(in_rows.expected)
    whole = np.array([part == ROWS for part in parts])
    # What the share of this day lets expect; all rows are no share of anything.
    due = np.where(whole, usual, np.exp(in_share.expected) * (totals[:, -1] + 1.0))
    in_share = _Deviation(
        *(np.where(whole, one, other) for one, other in zip(in_rows, in_share, strict=True))
    )
    clump = _clumps(parts, usual, in_share.strays)
    seen = rows[:, -1]
    regular = (rows[:, -1 - REGULAR : -1] == 0).sum(axis=1) <= 1
    few = np.maximum(_far(seen, usual, in_rows, clump), _far(seen, due, in_share, clump))
    fewer = (seen + 0.5) / np.minimum(usual, due)
    # Why at least: a part that was hardly there before is new, not many times itself.
    least, least_due = np.maximum(usual, MIN_PART), np.maximum(due, MIN_PART)
    many = np.minimum(_far(seen, least, in_rows, clump), _far(seen, least_due, in_share, clump))
    more = seen / np.maximum(least, least_due)
    found = []
    for n, part in enumerate(parts):
        stray = max(in_rows.strays[n], math.sqrt(clump[n] / max(usual[n], 1.0)), EVEN)
        missed = few[n] < -FAR and regular[n] and part.part not in ABSENCE
        gone = missed and fewer[n] < lost.get(part.measure, LOST)
        odd = (missed and fewer[n] < FEWER) or (many[n] > FAR and more[n] > MORE)
        found.append(
            Band(
                part,
                int(seen[n]),
                float(usual[n]),
                float(usual[n] * min(math.exp(-FAR * stray), FEWER)),
                float(least[n] * max(math.exp(FAR * stray), MORE)),
                float(few[n] if few[n] < 0 else max(many[n], 0.0)),
                "breach" if gone else "warn" if odd else None,
            )
        )
    return found


def _far(seen: Floats, usual: Floats, days: _Deviation, clump: Floats) -> Floats:
    """How far `seen` lies from the usual, negative below: in deviations of the days before, or of chance, whichever says less.

    Chance is that of a Poisson count of clumps: what few events do by themselves is no news, whatever the days before did. And
    what one day in twenty did before is none either.
    """
    ratio = np.log((seen + 0.5) / (usual + 0.5))
    surprise = 2 * (seen * np.log(np.maximum(seen, 1e-9) / np.maximum(usual, 1e-9)) - seen + usual) / clump
    by_chance = np.sqrt(np.maximum(surprise, 0.0))
    far = np.sign(ratio) * np.minimum(np.abs(ratio) / np.maximum(days.strays, EVEN), by_chance)
    stray = days.today - days.expected
    unheard: Floats = np.where((stray < days.lowest) | (stray > days.highest), far, 0.0)
    return unheard


def _clumps(parts: Sequence[Part], usual: Floats, strays: Floats) -> Floats:
    """How many rows come together, of each part: events come in sessions, so a thousand of them are few dozen chances.

    The days before tell: it is what makes the parts of a measure stray as they do, in their median.
    """
    by_measure: dict[str, list[int]] = {}
    for n, part in enumerate(parts):
        by_measure.setdefault(part.measure, []).append(n)
    clump = np.ones(len(parts))
    for rows in by_measure.values():
        enough = [n for n in rows if usual[n] >= HEARD]
        if enough:
            clump[rows] = max(1.0, float(np.median(strays[enough] ** 2 * usual[enough])))
    return clump


class _Deviation(NamedTuple):
    """Of each part: the logarithm today, what would be usual, how far days stray from it, and what one in twenty exceeds."""

    today: Floats
    expected: Floats
    strays: Floats
    lowest: Floats
    highest: Floats


def _deviation(values: Floats, weekdays: npt.NDArray[np.int64]) -> _Deviation:
    """`values` float64[parts, days], the last of which is judged; there are MIN_DAYS more at least."""
    levels = np.median(np.lib.stride_tricks.sliding_window_view(values[:, :-1], WEEK, axis=1), axis=2)
    against = values[:, WEEK:-1] - levels[:, :-1]
    kind = weekdays[WEEK:-1]
    factor = np.empty((len(values), WEEK))
    fitted = len(kind)
    for weekday in range(WEEK):
        same = kind == weekday
        alike = int(same.sum()) >= SAME_WEEKDAY
        factor[:, weekday] = np.median(against[:, same if alike else slice(None)], axis=1)
        fitted = min(fitted, int(same.sum())) if alike else fitted
    residual = np.sort(against - factor[:, kind], axis=1)
    strays = np.median(np.abs(residual), axis=1)
    # 1.48 makes a deviation of a median one; the rest is for what was fitted to these same days: of three, one is their median.
    strays *= 1.48 * 1.25 * (1 + 6 / fitted**2)
    rare = len(kind) // 20
    return _Deviation(
        values[:, -1],
        levels[:, -1] + factor[:, weekdays[-1]],
        strays,
        residual[:, rare],
        residual[:, -1 - rare],
    )


def _totals(parts: Sequence[Part], rows: Floats) -> Floats:
    """float64[parts, days]: the rows of all parts of the same measure and client."""
    groups: dict[tuple[str, str | None], int] = {}
    index = np.array([groups.setdefault((p.measure, p.client), len(groups)) for p in parts])
    sums = np.zeros((len(groups), rows.shape[1]))
    np.add.at(sums, index, rows)
    totals: Floats = sums[index]
    return totals
