"""Presentation: what is shown of each chosen candidate, read column by column.

A page is some fifty to a hundred tracks, each with a dozen facts. One gather per fact and one pass over plain lists
cost a third of asking the arrays for one number at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, repeat

import numpy as np
import numpy.typing as npt

from segue.bundle.catalogue import Catalogue
from segue.recommend.api import Item, Reason
from segue.recommend.candidates import Candidates
from segue.recommend.scorers import Scored


def present(
    catalogue: Catalogue,
    candidates: Candidates,
    scored: Scored,
    rows: npt.NDArray[np.int32],
    propensity: npt.NDArray[np.float64],
    reasons: Sequence[Reason],
) -> tuple[Item, ...]:
    """The candidates `rows` int32[m] as items, slot by slot. Slots beyond the propensities were filled for certain."""
    tracks = candidates.tracks[rows]
    genres, lengths = [*catalogue.genres, None], catalogue.duration_ms[tracks].tolist()
    return tuple(
        map(
            Item,
            catalogue.track_id[tracks].tolist(),
            range(len(rows)),
            np.round(scored.final[rows].astype(np.float64), 5).tolist(),
            _sources(candidates, rows),
            chain(np.round(propensity, 6).tolist(), repeat(1.0)),
            catalogue.titles.take(tracks),
            *_artists(catalogue, catalogue.artist[tracks]),
            [genres[code] for code in catalogue.genre[tracks].tolist()],
            [length if length >= 0 else None for length in lengths],
            chain(reasons, repeat(None)),
        )
    )


def _sources(candidates: Candidates, rows: npt.NDArray[np.int32]) -> list[tuple[str, ...]]:
    """Who proposed the candidates at some rows. Most of them were proposed by the same few sources as others: a tuple each."""
    bits = 1 << np.arange(len(candidates.sources))
    proposed = ~np.isnan(candidates.scores.take(rows, axis=0))
    together = (proposed * bits).sum(axis=1).tolist()
    named = {
        code: tuple(name for n, name in enumerate(candidates.sources) if code >> n & 1)
        for code in set(together)
    }
    return [named[code] for code in together]


def _artists(
    catalogue: Catalogue, artist: npt.NDArray[np.int32]
) -> tuple[Sequence[int | None], Sequence[str | None]]:
    """Ids and names of artists at some positions; None for position -1."""
    known = artist >= 0
    if known.all():
        return catalogue.artist_id[artist].tolist(), catalogue.artist_names.take(artist)
    ids: list[int | None] = [None] * len(artist)
    names: list[str | None] = [None] * len(artist)
    for slot, (artist_id, name) in zip(
        np.flatnonzero(known).tolist(), zip(*_artists(catalogue, artist[known]), strict=True), strict=True
    ):
        ids[slot], names[slot] = artist_id, name
    return ids, names
