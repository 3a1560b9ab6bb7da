"""New uploads that the programme still owes listeners: what is needed, weighed by how well it fits this listener.

The scores are the weights that the selector draws one of them by (segue.models.bandit).
"""

from __future__ import annotations

import numpy as np

from segue.models.bandit import inverse_gap_weights, thompson_weights
from segue.models.nearest import products
from segue.models.order import among
from segue.recommend.artifacts import Artifacts
from segue.recommend.query import Floats, Ids, Query
from segue.recommend.sources.ranking import NOTHING, best
from segue.settings.surfaces import THOMPSON

AS_IT_IS = np.empty(0, np.float32)


def debuts(query: Query, artifacts: Artifacts, limit: int) -> tuple[Ids, Floats]:
    """Uploads of the last two weeks that are owed listeners, among them those like what this listener plays."""
    catalogue, programme = artifacts.catalogue, artifacts.debuts
    active = programme.active(artifacts.indexes.uploads(), catalogue.uploaded_at, query.now)
    tracks, weights = query.at_hand
    if len(active) == 0 or len(tracks) == 0:
        return NOTHING
    content = artifacts.retrieval.content
    fit = products(content.profile(tracks, weights), active, content.vectors, AS_IT_IS)
    wanted = (fit > 0) & ~among(active, query.played)
    active, fit = active[wanted], fit[wanted].astype(np.float64)
    need, reward = programme.wanted[active].astype(np.float64), fit * programme.rate[active]
    if query.recipe.selector.bandit == THOMPSON:
        weight = thompson_weights(need, reward, fit * programme.spread[active])
    else:
        weight = inverse_gap_weights(need, reward)
    return best(active, weight.astype(np.float32), limit)
