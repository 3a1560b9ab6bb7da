"""What came after a bundle's indexes were made, for those who read them: small, looked through whole, beside the indexes.

One thread writes, any number read: each is replaced, or grown at its end, in one step.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]
NONE: Ids = np.empty(0, np.int32)


class Later:
    """Tracks whose place in an index has changed, or that have none.

    uploads int32[u]: those whose time of upload was stated, and those of the newest whose content vector was made anew;
    `names` of tracks whose title or artist is not what the index of titles has: both, lower-cased, a line each.
    """

    def __init__(self) -> None:
        self.uploads = NONE
        self.names: dict[int, str] = {}
        self._by_artist: dict[int, Ids] = {}

    @property
    def of_any_artist(self) -> bool:
        """Whether something was said of any artist's tracks."""
        return bool(self._by_artist)

    def of_artist(self, artist: int) -> Ids | None:
        """Tracks that were said to be of an artist, the latest first, int32[m]; None if nothing was said of any of theirs."""
        return self._by_artist.get(artist)

    def matching(self, text: str) -> Ids:
        """Tracks whose name contains the lower-case text. int32[m]."""
        return np.array([track for track, name in list(self.names.items()) if text in name], np.int32)

    def renamed(self, tracks: Ids) -> npt.NDArray[np.bool_]:
        """Which tracks the index of titles knows by another name. bool[n]."""
        return np.array([track in self.names for track in tracks.tolist()], np.bool_)

    def uploaded(self, track: int) -> None:
        """The time of a track's upload was stated, or what the indexes hold of a new one is no longer so."""
        if track not in self.uploads:
            self.uploads = np.append(self.uploads, np.int32(track))

    def moved(self, track: int, before: int, artist: int) -> None:
        """A track was said to be of an artist, and no longer of the one before, where there was one (-1: none)."""
        if before >= 0:
            self._by_artist.setdefault(before, NONE)
        theirs = self._by_artist.get(artist, NONE)
        self._by_artist[artist] = np.insert(theirs[theirs != track], 0, np.int32(track))
