"""Why an item is there: its leading source, the listener's own plays behind that, the features that weighed most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segue.models.diversity import (
    DRAWN,
    MOVED_BY_DIVERSITY,
    MOVED_BY_EXPLORATION,
    MOVED_BY_SPACING,
    Selection,
)
from segue.recommend.api import Reason
from segue.recommend.artifacts import Artifacts
from segue.recommend.candidates import Candidates
from segue.recommend.query import Ids, Query
from segue.recommend.scorers import Scored
from segue.recommend.sources import PHRASES

BECAUSE = 3
"""Most plays named in a reason."""
PERSONAL = {"fold_in", "graph", "co_listened", "rules", "session_knn", "own_next", "similar", "fresh"}
MOVES = {
    DRAWN: "shown to explore",
    MOVED_BY_EXPLORATION: "lower because another track was shown to explore",
    MOVED_BY_SPACING: "lower to keep tracks of one artist apart",
    MOVED_BY_DIVERSITY: "lower for variety",
}


def explain(
    query: Query, artifacts: Artifacts, candidates: Candidates, scored: Scored, selection: Selection
) -> list[Reason]:
    """A reason for each selected candidate."""
    rows = selection.order
    ranker = artifacts.rankers.get(query.recipe.scorer.ranker)
    weighed: Sequence[dict[str, float]] = [{}] * len(rows)
    if scored.features is not None and ranker is not None and len(rows):
        weighed = ranker.contributions(scored.features[rows])
    reasons = []
    for slot, row in enumerate(rows):
        source = _leading_source(candidates, int(row))
        because = _because(query, artifacts, int(candidates.tracks[row])) if source in PERSONAL else ()
        reasons.append(
            Reason(_sentence(source, because), because, weighed[slot], _moved(int(selection.moved_by[slot])))
        )
    return reasons


def _leading_source(candidates: Candidates, row: int) -> str:
    ranks = np.nan_to_num(candidates.ranks[row], nan=np.inf)
    return candidates.sources[int(np.argmin(ranks))]


def _sentence(source: str, because: tuple[dict[str, int | str], ...]) -> str:
    phrase = PHRASES.get(source, source)
    if not because:
        return phrase
    first = because[0]
    return f"{phrase}: you played {str(first.get('title') or first['track_id'])!r} {first['plays']}x"


def _because(query: Query, artifacts: Artifacts, track: int) -> tuple[dict[str, int | str], ...]:
    """The listener's tracks nearest to this one among item factors."""
    tracks = query.taste.tracks
    if len(tracks) == 0:
        return ()
    near = artifacts.unit_factors(tracks) @ artifacts.unit_factors(np.array([track], np.int32))[0]
    near = near * np.where(tracks == track, 0, 1)
    order = [int(i) for i in np.argsort(-near, kind="stable")[:BECAUSE] if near[i] > 0]
    return tuple(_play(query, artifacts, tracks, i) for i in order)


def _play(query: Query, artifacts: Artifacts, tracks: Ids, index: int) -> dict[str, int | str]:
    position = int(tracks[index])
    plays = int(np.count_nonzero(query.played == position)) or 1
    found: dict[str, int | str] = {"track_id": int(artifacts.catalogue.track_id[position]), "plays": plays}
    title = artifacts.catalogue.titles[position]
    if title:
        found["title"] = title
    return found


def _moved(bits: int) -> str | None:
    return "; ".join(text for bit, text in MOVES.items() if bits & bit) or None
