"""Finding a track by its title or artist: every name, lower-cased, one after another, is looked through; there is no index.

A million titles are some 20 MB: reading them takes a few milliseconds, outside the interpreter lock.
"""

# mypy: disallow-untyped-decorators=False
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from segue.bundle.catalogue import PUBLIC, Catalogue, Texts

Ids = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]

_AT_ONCE = 64


@dataclass(frozen=True)
class Titles:
    """Search over public tracks by part of the title or of the artist's name. Both are lower-cased here."""

    titles: Texts
    artists: Texts

    @classmethod
    def of(cls, catalogue: Catalogue) -> Titles:
        """Lower-cased from the catalogue."""
        return cls(_lower(catalogue.titles), _lower(catalogue.artist_names))

    @classmethod
    def from_arrays(cls, arrays: dict[str, npt.NDArray[Any]]) -> Titles:
        """What was saved as `arrays()`; memory-mapped arrays stay so."""
        return cls(
            Texts(arrays["title_offsets"], arrays["title_data"]),
            Texts(arrays["artist_offsets"], arrays["artist_data"]),
        )

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All there is to save."""
        return {
            "title_offsets": self.titles.offsets,
            "title_data": self.titles.data,
            "artist_offsets": self.artists.offsets,
            "artist_data": self.artists.data,
        }

    def search(
        self,
        text: str,
        limit: int,
        *,
        flags: Bytes,
        plays: npt.NDArray[np.float32],
        artist_indptr: Offsets,
        artist_tracks: Ids,
    ) -> Ids:
        """Positions of public tracks whose title, or whose artist's name, contains the text; most played first.

        flags uint8[n] and plays float32[n] are those of the tracks; artist_indptr and artist_tracks are those of `Indexes`.
        """
        needle = np.frombuffer(text.lower().encode(), np.uint8)
        best = np.empty(limit if len(needle) else 0, np.int32)
        titles, artists = self.titles, self.artists
        found = _of_titles(needle, titles.data, titles.offsets, flags, plays, best)
        found = _of_artists(
            needle, artists.data, artists.offsets, flags, plays, artist_indptr, artist_tracks, best, found
        )
        return best[:found]


def _lower(texts: Texts) -> Texts:
    lowered = [(texts[i] or "").lower().encode() for i in range(len(texts.offsets) - 1)]
    offsets = np.cumsum([0, *map(len, lowered)], dtype=np.int64)
    return Texts(offsets, np.frombuffer(b"".join(lowered), np.uint8))


@njit(cache=True, nogil=True)
def _of_titles(
    needle: Bytes, data: Bytes, offsets: Offsets, flags: Bytes, plays: npt.NDArray[np.float32], best: Ids
) -> int:
    found, text = 0, 0
    while len(best):
        text = _containing(needle, data, offsets, text)
        if text < 0:
            break
        if flags[text] & PUBLIC:
            found, _ = _offer(best, found, text, plays)
        text += 1
    return found


@njit(cache=True, nogil=True)
def _of_artists(
    needle: Bytes,
    data: Bytes,
    offsets: Offsets,
    flags: Bytes,
    plays: npt.NDArray[np.float32],
    artist_indptr: Offsets,
    artist_tracks: Ids,
    best: Ids,
    found: int,
) -> int:
    artist = 0
    while len(best):
        artist = _containing(needle, data, offsets, artist)
        if artist < 0:
            break
        for at in range(artist_indptr[artist], artist_indptr[artist + 1]):
            if flags[artist_tracks[at]] & PUBLIC:
                found, kept = _offer(best, found, artist_tracks[at], plays)
                if not kept:  # those that follow are played less
                    break
        artist += 1
    return found


@njit(cache=True, nogil=True)
def _offer(best: Ids, found: int, track: int, plays: npt.NDArray[np.float32]) -> tuple[int, bool]:
    """Put a track among the best by falling plays, then by position, if it belongs there: how many there are, and if it does."""
    place = found
    while place > 0:
        above = best[place - 1]
        if above == track:
            return found, True
        if plays[above] > plays[track] or (plays[above] == plays[track] and above < track):
            break
        place -= 1
    if place == len(best):
        return found, False
    found = min(found + 1, len(best))
    for at in range(found - 1, place, -1):
        best[at] = best[at - 1]
    best[place] = track
    return found, True


@njit(cache=True, nogil=True)
def _containing(needle: Bytes, data: Bytes, offsets: Offsets, text: int) -> int:
    """The first text from `text` on that contains the needle, or -1."""
    at = offsets[text] if text < len(offsets) else len(data)
    while True:
        at = _find(needle, data, at)
        if at < 0:
            return -1
        text = np.searchsorted(offsets, at, "right") - 1
        if at + len(needle) <= offsets[text + 1]:
            return text
        at += 1  # it lies across the end of a text


@njit(cache=True, nogil=True)
def _find(needle: Bytes, data: Bytes, at: int) -> int:
    """Where the needle stands in data[at:], or -1. Blocks without its first and last byte are passed over as vectors."""
    first, ahead = needle[0], len(needle) - 1
    last, end = needle[ahead], len(data) - ahead
    while at < end:
        if at + _AT_ONCE <= end:
            hits = 0
            for i in range(at, at + _AT_ONCE):
                hits += (data[i] == first) & (data[i + ahead] == last)
            if hits == 0:
                at += _AT_ONCE
                continue
        stop = min(at + _AT_ONCE, end)
        while at < stop:
            if data[at] == first and data[at + ahead] == last:
                same = True
                for i in range(1, ahead):
                    same = same and data[at + i] == needle[i]
                if same:
                    return at
            at += 1
    return -1
