"""Presentation: what is shown of each chosen candidate, read column by column.

A page is some fifty to a hundred tracks, each with a dozen facts. One gather per fact and one pass over plain lists
cost a third of asking the arrays for one number at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, compress, repeat

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
    proposed = (~np.isnan(candidates.scores[rows])).tolist()
    genres = catalogue.genres
    return tuple(
        Item(
            track_id=track_id,
            position=position,
            score=score,
            sources=tuple(compress(candidates.sources, by)),
            propensity=chance,
            title=title,
            artist_id=artist_id,
            artist=artist,
            genre=genres[code] if code >= 0 else None,
            duration_ms=length if length >= 0 else None,
            why=why,
        )
        for position, (
            track_id,
            score,
            by,
            chance,
            title,
            artist_id,
            artist,
            code,
            length,
            why,
        ) in enumerate(
            zip(
                catalogue.track_id[tracks].tolist(),
                np.round(scored.final[rows].astype(np.float64), 5).tolist(),
                proposed,
                chain(np.round(propensity, 6).tolist(), repeat(1.0, len(rows) - len(propensity))),
                catalogue.titles.take(tracks),
                *_artists(catalogue, catalogue.artist[tracks]),
                catalogue.genre[tracks].tolist(),
                catalogue.duration_ms[tracks].tolist(),
                chain(reasons, repeat(None, len(rows) - len(reasons))),
                strict=True,
            )
        )
    )


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
