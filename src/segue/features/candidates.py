"""Features of how a candidate came up. The request pipeline computes them; here they get their names, defaults and prose.

For every source: the score it gave, the candidate's rank in its list (0 is the first). A candidate the source did not
propose keeps the defaults, NaN, which trees tell apart from any score.
"""

from __future__ import annotations

from math import nan
from typing import Final

from segue.features.definition import candidate

SOURCES: Final = {
    "fold_in": "iALS with the listener's latest plays folded in",
    "graph": "the linear graph filter",
    "own_plays": "the listener's own plays",
    "own_next": "the listener's own transitions",
    "co_listened": "tracks co-listened with the listener's latest plays",
    "rules": "sequence rules from the session so far",
    "session_knn": "sessions like this one",
    "followed": "artists the listener follows",
    "trending": "what is trending",
    "fresh": "new uploads",
    "similar": "tracks like the seed",
    "same_artist": "the seed's artist",
}
"""Sources of candidates a model may learn from."""

for _name, _doc in SOURCES.items():
    candidate(f"source_{_name}_score", nan, f"Score by source: {_doc}.")
    candidate(f"source_{_name}_rank", nan, f"Rank by source, 0 first: {_doc}.")
    candidate(f"source_{_name}_share", nan, f"Score as a share of the source's best: {_doc}.")
candidate("sources", 0.0, "How many sources proposed the candidate.")
candidate("agreement", 0.0, "Reciprocal rank fusion over the sources.")
candidate("blend", 0.0, "The recipe's blend of the sources' scores.")
candidate("best_rank", nan, "Best rank by any source.")
candidate(
    "similarity_recent_max", nan, "Largest cosine of the candidate's factors and those of a recent play."
)
candidate(
    "similarity_recent_mean", nan, "Mean cosine of the candidate's factors and those of the recent plays."
)
candidate("similarity_last", nan, "Cosine of the candidate's factors and those of the last play.")
