"""Helpers the sources share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from segue.models.order import best_first

Ids = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

NOTHING: tuple[Ids, Floats] = (np.empty(0, np.int32), np.empty(0, np.float32))


def best(tracks: Ids, scores: Floats, limit: int) -> tuple[Ids, Floats]:
    """The `limit` best of some scored tracks, best first, equal scores by position."""
    tracks, scores = tracks.astype(np.int32), scores.astype(np.float32)
    order = best_first(scores, tracks, limit)
    return tracks[order], scores[order]
