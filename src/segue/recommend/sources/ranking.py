"""Helpers the sources share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

NOTHING: tuple[Ids, Floats] = (np.empty(0, np.int32), np.empty(0, np.float32))


def best(tracks: Ids, scores: Floats, limit: int) -> tuple[Ids, Floats]:
    """The `limit` best of some scored tracks, best first, equal scores by position."""
    if len(tracks) > limit:
        chosen = np.argpartition(-scores, limit - 1)[:limit] if limit else np.empty(0, np.intp)
        tracks, scores = tracks[chosen], scores[chosen]
    order = np.lexsort((tracks, -scores))
    return tracks[order].astype(np.int32), scores[order].astype(np.float32)
