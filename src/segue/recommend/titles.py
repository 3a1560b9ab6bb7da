"""Finding a track by its title or artist: one lower-cased byte string over the catalogue, no index, no object per track."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from segue.bundle.catalogue import PUBLIC, Catalogue, Texts

Ids = npt.NDArray[np.int32]
SCANNED = 2_000
"""Matches that are looked at before the most played of them are chosen."""


class Titles:
    """Search over public tracks by words of title or artist."""

    def __init__(self, catalogue: Catalogue, plays: npt.NDArray[np.float32]) -> None:
        self._catalogue = catalogue
        self._plays = plays
        self._titles = _lower(catalogue.titles)
        self._artists = _lower(catalogue.artist_names)

    def search(self, text: str, limit: int) -> Ids:
        """Positions of public tracks whose title, or whose artist's name, contains the text; most played first."""
        needle = re.escape(text.lower().encode())
        if not needle:
            return np.empty(0, np.int32)
        by_title = _matches(needle, *self._titles)
        artists = _matches(needle, *self._artists)
        by_artist = np.flatnonzero(np.isin(self._catalogue.artist, artists)) if len(artists) else by_title[:0]
        found = np.union1d(by_title, by_artist).astype(np.int32)
        found = found[(self._catalogue.flags[found] & PUBLIC) != 0]
        best: Ids = found[np.argsort(-self._plays[found], kind="stable")][:limit]
        return best


def _lower(texts: Texts) -> tuple[bytes, npt.NDArray[np.int64]]:
    """The texts in one lower-cased string, and where each begins in it."""
    lowered = [(texts[i] or "").lower().encode() for i in range(len(texts.offsets) - 1)]
    starts = np.cumsum([0, *(len(t) + 1 for t in lowered)]).astype(np.int64)
    return b"\n".join(lowered), starts


def _matches(needle: bytes, data: bytes, starts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    at = [match.start() for _, match in zip(range(SCANNED), re.finditer(needle, data), strict=False)]
    return np.unique(np.searchsorted(starts, np.array(at, np.int64), "right") - 1)
