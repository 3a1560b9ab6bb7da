"""The rows of the home page: the main selection first, then what single sources have to say, no track twice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
    for source, title in ROWS:
        if source not in candidates.sources:
            continue
        proposed = ~np.isnan(candidates.scores[:, candidates.sources.index(source)])
        chosen = np.flatnonzero(proposed & free)
        chosen = chosen[np.argsort(-final[chosen], kind="stable")][:SHELF_LENGTH]
        if len(chosen) >= SHORTEST:
            free[chosen] = False
            found.append(Row(source, _titled(title, source, query, artifacts), chosen.astype(np.int32)))
    return found


def _titled(title: str, source: str, query: Query, artifacts: Artifacts) -> str:
    if source == "trending" and query.country >= 0:
        return f"Trending in {artifacts.catalogue.countries[query.country]}"
    if source == "co_listened" and len(query.at_hand[0]):
        last = artifacts.catalogue.titles[int(query.at_hand[0][0])]
        return f"Because you played {last}" if last else title
    return title
