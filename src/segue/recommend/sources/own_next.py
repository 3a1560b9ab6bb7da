"""What this listener went to before, from the tracks they are playing now."""

from __future__ import annotations

import numpy as np

from segue.models.transitions import own_transitions
from segue.recommend.artifacts import Artifacts
from segue.recommend.query import Floats, Ids, Query


def own_next(query: Query, artifacts: Artifacts, limit: int) -> tuple[Ids, Floats]:
    """The listener's own transitions."""
    prefix = query.prefix
    past, past_ts = query.past
    now = np.full(len(prefix), query.now, np.int64)
    return own_transitions(past, past_ts, prefix, now, query.now, limit, artifacts.retrieval.transitions)
