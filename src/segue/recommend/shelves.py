"""The rows of the home page: the main selection first, then what single sources have to say, no track twice."""

# mypy: disallow-untyped-decorators=False
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from segue.contracts.vocabulary import DAY
from segue.listener.state import FOLLOW
from segue.models.order import among, best_first, rising
from segue.recommend.artifacts import Artifacts
from segue.recommend.candidates import Candidates, Floats, Ids
from segue.recommend.query import Query

SHELF_LENGTH = 12
SHORTEST = 4
"""A row with fewer tracks is not shown."""
ROWS = (
    ("own_plays", "On repeat"),
    ("co_listened", "More like what you played last"),
    ("followed", "From artists you follow"),
    ("fresh", "New uploads near your taste"),
    ("trending", "Trending"),
)
RELEASES = ("releases", "New from artists you know")
NEW_DAYS = 21
"""So long a track is a new release. One is enough for a row: few have played it, so no other row has room for it."""


@dataclass(frozen=True)
class Row:
    """A shelf before it has titles: rows int[m] of the candidates, best first."""

    name: str
    title: str
    rows: Ids


def rows(query: Query, artifacts: Artifacts, candidates: Candidates, final: Floats, shown: Ids) -> list[Row]:
    """The shelves behind the main one; `shown` int[m] are candidates already on it."""
    free = np.ones(len(candidates), np.bool_)
    free[shown] = False
    found = []
    releases = _releases(query, candidates, free)
    if len(releases):
        free[releases] = False
        found.append(Row(*RELEASES, releases))
    asked = [(source, title) for source, title in ROWS if source in candidates.sources]
    columns = np.array([candidates.sources.index(source) for source, _ in asked], np.int64)
    chosen, sizes = _shelves(candidates.scores, columns, final, free, SHELF_LENGTH, SHORTEST)
    for (source, title), best, size in zip(asked, chosen, sizes.tolist(), strict=True):
        if size:
            found.append(Row(source, _titled(title, source, query, artifacts), best[:size]))
    return found


@njit(cache=True, nogil=True)
def _shelves(
    scores: Floats,
    columns: npt.NDArray[np.int64],
    final: Floats,
    free: npt.NDArray[np.bool_],
    k: int,
    least: int,
) -> tuple[Ids, npt.NDArray[np.int64]]:
    """Of each source the `k` best free candidates, best first, which are then no longer free; none where they are fewer than
    `least`. int32[sources, k], and how many: int64[sources].
    """
    chosen, sizes = np.empty((len(columns), k), np.int32), np.zeros(len(columns), np.int64)
    rows, worth = np.empty(len(final), np.int32), np.empty(len(final), np.float32)
    for shelf in range(len(columns)):
        count = 0
        for row in range(len(final)):
            if free[row] and not np.isnan(scores[row, columns[shelf]]):
                rows[count], worth[count] = row, final[row]
                count += 1
        if count < least:
            continue
        best = rows[best_first(worth[:count], rows[:count], k)]
        chosen[shelf, : len(best)], sizes[shelf] = best, len(best)
        free[best] = False
    return chosen, sizes


def shortest(name: str) -> int:
    """Fewest tracks that a row is shown with."""
    return 1 if name == RELEASES[0] else SHORTEST


def _releases(query: Query, candidates: Candidates, free: npt.NDArray[np.bool_]) -> Ids:
    """What came out lately by artists the listener follows or plays, newest first."""
    _, uploaded_at, _, artist = query.catalogue.facts
    after = query.now - NEW_DAYS * DAY
    found: Ids = _new_by(
        query.marked(FOLLOW), query.history.tracks, candidates.tracks, free, after, uploaded_at, artist
    )
    return found[:SHELF_LENGTH]


@njit(cache=True, nogil=True)
def _new_by(
    followed: Ids,
    history: Ids,
    tracks: Ids,
    free: npt.NDArray[np.bool_],
    after: int,
    uploaded_at: npt.NDArray[np.int64],
    artist: Ids,
) -> Ids:
    """The free tracks, by their place, that were uploaded after a time by one of some artists or an artist of some history;
    newest first.
    """
    new, count = np.empty(len(tracks), np.int32), 0
    for row in range(len(tracks)):
        if free[row] and uploaded_at[tracks[row]] > after and artist[tracks[row]] >= 0:
            new[count] = row
            count += 1
    if count == 0:
        return new[:0].copy()
    known = np.concatenate((followed, np.empty(len(history), np.int32)))
    for i in range(len(history)):
        known[len(followed) + i] = artist[history[i]]
    theirs, age = np.empty(count, np.int32), np.empty(count, np.uint64)
    for i in range(count):
        theirs[i] = artist[tracks[new[i]]]
    wanted, count = among(theirs, known), 0
    for i in range(len(wanted)):
        if wanted[i]:
            new[count], age[count] = new[i], ~np.uint64(uploaded_at[tracks[new[i]]])
            count += 1
    found: Ids = new[rising(age[:count])]
    return found


def _titled(title: str, source: str, query: Query, artifacts: Artifacts) -> str:
    if source == "trending" and query.country >= 0:
        return f"Trending in {artifacts.catalogue.countries[query.country]}"
    if source == "co_listened" and len(query.at_hand[0]):
        last = artifacts.catalogue.titles[int(query.at_hand[0][0])]
        return f"Because you played {last}" if last else title
    return title
