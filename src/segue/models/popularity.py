"""Popularity: what is played most, and what is played most lately, by country and genre.

A play at time t counts weight * 0.5 ** ((now - t) / half_life): exponential decay, so that "trending" needs
no window whose edge would make tracks jump. Counts are kept as ranked lists for everyone ("global"), for each
country, for each genre and for each (country, genre); a cell with too few plays to rank by backs off to a
wider one at reading time.

People are counted rather than plays (`latest_days`): whoever plays a track around the clock moves it no further than by
hearing it on a few days.

Codes of countries and genres are small non-negative integers; a negative code means unknown and counts only
in the wider lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import msgspec
import numpy as np
import numpy.typing as npt

from segue.contracts.errors import InvalidData, InvalidSettings
from segue.models.interactions import Interactions

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int32]

ANY = -1
"""The code that stands for every country or every genre."""
DAY_US = 86_400_000_000
DAYS_OF_TRACK = 3
"""Of a listener's days with a track, how many count: the latest."""


class PopularityConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of the popularity lists."""

    half_life_days: float = 14.0
    top: int = 500
    """Items kept in each list."""
    min_weight: float = 20.0
    """A cell with less decayed weight than this in all is not kept: its ranking would be noise."""

    def __post_init__(self) -> None:
        if not self.half_life_days > 0:
            raise InvalidSettings(
                "popularity.half_life_days must be above 0", field="popularity.half_life_days", limit="> 0"
            )
        if self.top < 1:
            raise InvalidSettings("popularity.top must be at least 1", field="popularity.top", limit=">= 1")


@dataclass(frozen=True)
class Popularity:
    """Ranked lists by cell, one after another.

    countries, genres: int32[n_cells], the cell's codes (ANY where it spans all), ascending by (country,
    genre); indptr: int64[n_cells + 1]; items: int32[nnz], scores: float32[nnz], best first in each cell.
    """

    countries: Ids
    genres: Ids
    indptr: npt.NDArray[np.int64]
    items: Ids
    scores: Floats

    @classmethod
    def fit(
        cls,
        tracks: npt.NDArray[np.integer],
        ts: npt.NDArray[np.int64],
        countries: npt.NDArray[np.integer],
        genres: npt.NDArray[np.integer],
        weights: npt.NDArray[np.floating],
        now: int,
        config: PopularityConfig,
    ) -> Self:
        """Lists as of `now` from parallel arrays of plays (microseconds); later plays are refused."""
        if not len(tracks) == len(ts) == len(countries) == len(genres) == len(weights):
            raise InvalidData("arrays of plays must be equally long", field="plays")
        if len(ts) and int(ts.max()) > now:
            raise InvalidData(
                "a play is later than `now`; filter before fitting", field="ts", limit="ts <= now"
            )
        decayed = weights * 0.5 ** ((now - ts) / (config.half_life_days * DAY_US))
        # The narrowest sums first: the wider lists are sums of these few rows, not of all plays again.
        country, genre, track, weight = _cells(
            np.maximum(countries, ANY), np.maximum(genres, ANY), tracks, decayed
        )
        everywhere = np.full(len(track), ANY)
        has_country, has_genre = country != ANY, genre != ANY
        both = has_country & has_genre
        cells = [
            _cells(everywhere, everywhere, track, weight),
            _cells(country[has_country], everywhere[has_country], track[has_country], weight[has_country]),
            _cells(everywhere[has_genre], genre[has_genre], track[has_genre], weight[has_genre]),
            (country[both], genre[both], track[both], weight[both]),
        ]
        country, genre, track = (np.concatenate([cell[n] for cell in cells]) for n in range(3))
        return cls._ranked(country, genre, track, np.concatenate([cell[3] for cell in cells]), config)

    @classmethod
    def _ranked(
        cls,
        country: npt.NDArray[np.int64],
        genre: npt.NDArray[np.int64],
        track: npt.NDArray[np.int64],
        score: npt.NDArray[np.float64],
        config: PopularityConfig,
    ) -> Self:
        order = np.lexsort((track, -score, genre, country))
        country, genre, track, score = country[order], genre[order], track[order], score[order]
        starts, sizes = _runs(country, genre)
        cell_weight = np.add.reduceat(score, starts) if len(starts) else score
        rank = np.arange(len(score)) - np.repeat(starts, sizes)
        is_global = (country[starts] == ANY) & (genre[starts] == ANY)
        kept_cell = (cell_weight >= config.min_weight) | is_global
        kept = (rank < config.top) & np.repeat(kept_cell, sizes)
        indptr = np.concatenate([[0], np.cumsum(np.minimum(sizes[kept_cell], config.top))]).astype(np.int64)
        return cls(
            country[starts][kept_cell].astype(np.int32),
            genre[starts][kept_cell].astype(np.int32),
            indptr,
            track[kept].astype(np.int32),
            score[kept].astype(np.float32),
        )

    @classmethod
    def from_arrays(cls, arrays: dict[str, npt.NDArray[np.generic]]) -> Self:
        """The lists saved as `arrays()`; memory-mapped arrays stay so."""
        return cls(**arrays)  # type: ignore[arg-type]

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """All there is to save."""
        return {name: getattr(self, name) for name in ("countries", "genres", "indptr", "items", "scores")}

    def ranked(self, country: int = ANY, genre: int = ANY) -> tuple[Ids, Floats]:
        """(items, decayed plays) of the narrowest kept cell: (country, genre), genre, country, then everyone.

        A genre is asked for by a shelf or a seed, a country only describes the listener: so the genre is kept
        longer.
        """
        for cell in ((country, genre), (ANY, genre), (country, ANY), (ANY, ANY)):
            position = self._find(*cell)
            if position >= 0:
                start, stop = self.indptr[position], self.indptr[position + 1]
                return self.items[start:stop], self.scores[start:stop]
        return self.items[:0], self.scores[:0]

    def _find(self, country: int, genre: int) -> int:
        key = _key(country, genre)
        position = int(self._keys.searchsorted(key))
        return position if position < len(self._keys) and self._keys[position] == key else -1

    @cached_property
    def _keys(self) -> npt.NDArray[np.int64]:
        """Country and genre of each cell as one number, ascending."""
        keys: npt.NDArray[np.int64] = _key(self.countries.astype(np.int64), self.genres)
        return keys


@dataclass(frozen=True, slots=True)
class Popular:
    """The baseline of every evaluation: everyone gets the items with the most listeners.

    counts: float32[n_items].
    """

    counts: Floats

    @classmethod
    def fit(cls, interactions: Interactions) -> Self:
        """Count each item's listeners."""
        return cls(interactions.item_counts().astype(np.float32))

    @classmethod
    def from_arrays(cls, arrays: dict[str, npt.NDArray[np.generic]]) -> Self:
        """The model saved as `arrays()`."""
        return cls(arrays["counts"])  # type: ignore[arg-type]

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """All there is to save."""
        return {"counts": self.counts}

    def scores(self, histories: Interactions) -> Floats:
        """float32[n, n_items], read-only: the same row for everyone."""
        return np.broadcast_to(self.counts, (histories.n_users, len(self.counts)))


def latest_days(
    listeners: npt.NDArray[np.integer], tracks: npt.NDArray[np.integer], ts: npt.NDArray[np.int64]
) -> Floats:
    """What each play counts for, float32[n]: 1 for the last of its day in the listener's latest `DAYS_OF_TRACK` days with that
    track, else 0.
    """
    order = np.lexsort((ts, tracks, listeners))[::-1]
    listener, track, day = listeners[order], tracks[order], ts[order] // DAY_US
    new_pair, new_day = np.ones((2, len(order)), np.bool_)
    new_pair[1:] = (listener[1:] != listener[:-1]) | (track[1:] != track[:-1])
    new_day[1:] = new_pair[1:] | (day[1:] != day[:-1])
    days = np.cumsum(new_day)
    before = np.maximum.accumulate(np.where(new_pair, days, 0))
    counted = np.empty(len(order), np.float32)
    counted[order] = new_day & (days - before < DAYS_OF_TRACK)
    return counted


def _runs(
    country: npt.NDArray[np.int64], genre: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(starts, sizes) of the runs of equal (country, genre)."""
    first = np.ones(len(country), np.bool_)
    first[1:] = (country[1:] != country[:-1]) | (genre[1:] != genre[:-1])
    starts = np.flatnonzero(first)
    return starts, np.diff(np.append(starts, len(country)))


def _key(country: Any, genre: Any) -> Any:
    return country << 32 | genre - ANY


def _cells(
    country: npt.NDArray[np.integer],
    genre: npt.NDArray[np.integer],
    track: npt.NDArray[np.integer],
    weight: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """(country, genre, track, weight added up), one row for each triple that occurs, ascending."""
    n_genres = int(genre.max(initial=ANY)) + 2
    n_tracks = int(track.max(initial=0)) + 1
    key = ((country.astype(np.int64) - ANY) * n_genres + (genre.astype(np.int64) - ANY)) * n_tracks + track
    triples, inverse = np.unique(key, return_inverse=True)
    cell, tracks = np.divmod(triples, n_tracks)
    countries, genres = np.divmod(cell, n_genres)
    sums = np.bincount(inverse, weight, len(triples)).astype(np.float64)
    return countries + ANY, genres + ANY, tracks, sums
