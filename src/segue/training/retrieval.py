"""Fit the retrieval models on plays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segue.bundle.catalogue import Catalogue
from segue.contracts.ports import Factorizer
from segue.contracts.vocabulary import DAY
from segue.models.co_listen import CoListenConfig, fit_co_listens
from segue.models.content import Content, ContentConfig
from segue.models.graph_filter import GraphFilter, GraphFilterConfig
from segue.models.ials import IALS, IALSConfig
from segue.models.interactions import Interactions
from segue.models.popularity import Popular, Popularity, PopularityConfig
from segue.models.sequence_rules import SequenceRules, SequenceRulesConfig
from segue.models.session_knn import SessionKNN, SessionKNNConfig
from segue.models.sessions import Sessions
from segue.models.tokens import WEIGHTS, tokens
from segue.models.transitions import TransitionsConfig
from segue.recommend.retrieval import Retrieval
from segue.settings.tree import Training
from segue.training.history import Plays

Progress = Callable[[str], None]


def fit_retrieval(
    plays: Plays,
    catalogue: Catalogue,
    tracks: pa.Table,
    country_of: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int32]],
    now: int,
    settings: Training,
    progress: Progress,
    factorizer: Factorizer | None = None,
) -> Retrieval:
    """Every retrieval model as of `now`; iALS by the factorizer, where there is one.

    `tracks` is the contract table in catalogue order; `country_of` maps user ids to positions of countries (-1 unknown).
    """
    heard = plays.where(plays.listened)
    n_items = len(catalogue)
    # Rows are sessions, not listeners: what is heard in one sitting belongs together more than what is heard in a year,
    # and a listener's whole history comes in at request time, faded by age.
    sitting = session_rows(heard)
    interactions = Interactions.from_pairs(
        sitting, heard.track, n_users=int(sitting.max()) + 1, n_items=n_items
    ).binary()
    _, all_user = np.unique(plays.user_id, return_inverse=True)
    sessions = Sessions.from_plays(all_user, plays.track, plays.ts, plays.session_start, n_items=n_items)
    age = np.exp2(-(now - heard.ts) / (settings.half_life_days * DAY))
    progress("popularity")
    popularity = Popularity.fit(
        heard.track,
        heard.ts,
        country_of(heard.user_id),
        catalogue.genre[heard.track].astype(np.int32),
        np.ones(len(heard), np.float32),
        now,
        PopularityConfig(half_life_days=settings.half_life_days),
    )
    progress("iALS")
    threads = settings.threads or 2
    config = IALSConfig(
        factors=settings.factors,
        epochs=settings.epochs,
        regularization=settings.regularization,
        unobserved_weight=settings.unobserved,
        seed=settings.seed,
        threads=threads,
    )
    ials = (
        IALS.fit(interactions, config)
        if factorizer is None
        else IALS.fit_by(factorizer, interactions, config)
    )
    progress("graph filter")
    graph = GraphFilter.fit(interactions, GraphFilterConfig()).neighbours(settings.neighbours)
    progress("co-listening")
    co_listens = fit_co_listens(sessions, CoListenConfig(neighbours=settings.neighbours), now=now)
    progress("sequence rules")
    rules = SequenceRules.fit(
        sessions,
        SequenceRulesConfig(neighbours=settings.neighbours),
        now=now,
    )
    progress("session kNN")
    session_knn = SessionKNN.fit(sessions, SessionKNNConfig())
    progress("content")
    return Retrieval(
        ials=ials,
        graph=graph,
        co_listens=co_listens,
        rules=rules,
        session_knn=session_knn,
        transitions=TransitionsConfig(),
        popularity=popularity,
        popular=Popular(np.bincount(heard.track, age, n_items).astype(np.float32)),
        content=Content.fit(*tokens(tracks), WEIGHTS, ContentConfig()),
    )


def session_rows(plays: Plays) -> npt.NDArray[np.int64]:
    """A number from 0 for each play's session. `plays` are sorted by listener and time. int64[n]."""
    keys = np.column_stack([plays.user_id, plays.session_start])
    _, rows = np.unique(keys, axis=0, return_inverse=True)
    found: npt.NDArray[np.int64] = rows.reshape(-1).astype(np.int64)
    return found
