"""Sources of candidates. A source is one function in one file: query and artifacts in, tracks and scores out, best first.

SOURCES maps the names used in a surface's recipe to them; PHRASES says what each stands for to a listener.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from segue.recommend.artifacts import Artifacts
from segue.recommend.query import Query
from segue.recommend.sources.co_listened import co_listened
from segue.recommend.sources.debuts import debuts
from segue.recommend.sources.fold_in import fold_in
from segue.recommend.sources.followed import followed
from segue.recommend.sources.fresh import fresh
from segue.recommend.sources.graph import graph
from segue.recommend.sources.own_next import own_next
from segue.recommend.sources.own_plays import own_plays
from segue.recommend.sources.popular import popular
from segue.recommend.sources.rules import rules
from segue.recommend.sources.same_artist import same_artist
from segue.recommend.sources.session_knn import session_knn
from segue.recommend.sources.similar import similar
from segue.recommend.sources.trending import trending

Proposal = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]
Source = Callable[[Query, Artifacts, int], Proposal]

SOURCES: Final[dict[str, Source]] = {
    "fold_in": fold_in,
    "graph": graph,
    "own_plays": own_plays,
    "co_listened": co_listened,
    "followed": followed,
    "trending": trending,
    "popular": popular,
    "fresh": fresh,
    "rules": rules,
    "session_knn": session_knn,
    "own_next": own_next,
    "similar": similar,
    "same_artist": same_artist,
    "debuts": debuts,
}

PHRASES: Final[dict[str, str]] = {
    "fold_in": "fits your taste",
    "graph": "listeners like you play it",
    "own_plays": "you keep coming back to it",
    "co_listened": "often played together with what you play",
    "followed": "by an artist you follow",
    "trending": "trending now",
    "popular": "popular with everyone",
    "fresh": "a new upload close to your taste",
    "rules": "often comes next",
    "session_knn": "sessions like this one went there",
    "own_next": "you went there yourself after this",
    "similar": "sounds related",
    "same_artist": "by the same artist",
    "debuts": "new, and looking for its first listeners",
}
