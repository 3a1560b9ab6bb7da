"""The linear graph filter over the whole history."""

from __future__ import annotations

import numpy as np

from segue.models.sequence_rules import score_lists
from segue.recommend.artifacts import Artifacts
from segue.recommend.query import Floats, Ids, Query

_NONE = np.empty(0, np.int32)


def graph(query: Query, artifacts: Artifacts, limit: int) -> tuple[Ids, Floats]:
    """Tracks that the listeners of the history's tracks play, hubs damped."""
    lists, history = artifacts.retrieval.graph, query.taste
    found: tuple[Ids, Floats] = score_lists(
        lists.ids, lists.weights, history.tracks, history.weights.astype(np.float64), _NONE, 1.0, limit
    )
    return found
