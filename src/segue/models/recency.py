"""Recency: what a listener plays again.

People repeat themselves, the more so the more recent and the more frequent (Anderson, Kumar, Tomkins and
Vassilvitskii 2014, "The dynamics of repeat consumption"): a listener's tracks by their decayed plays.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from segue.models.sessions import DAY_US

__all__ = ["own_plays"]

Ids = npt.NDArray[np.int32]
Scores = npt.NDArray[np.float32]


def own_plays(items: Ids, ts: npt.NDArray[np.int64], k: int, half_life_days: float) -> tuple[Ids, Scores]:
    """A listener's tracks by decayed plays: (ids int32[m], scores float32[m]), best first, m <= k.

    ``items`` int32[n], ``ts`` int64[n] microseconds: the listener's plays, oldest first. A play halves in
    ``half_life_days``, counted from the last one: the order of tracks, and float32, survive any silence.
    """
    age = (ts.max(initial=0) - ts) / (half_life_days * DAY_US)
    tracks, place = np.unique(items, return_inverse=True)
    scores = np.bincount(place, np.exp2(-age), len(tracks)).astype(np.float32)
    order = np.argsort(-scores, kind="stable")[:k]
    return tracks[order], scores[order]
