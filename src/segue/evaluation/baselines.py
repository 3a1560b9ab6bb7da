"""Honest baselines: simple models, fitted on the same training plays and scored on the same cases as what would be served."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from segue.contracts.vocabulary import DAY
from segue.evaluation.protocols import HOME, HOME_NEW, NEXT_UP, Scorer, Split, Task, without_known
from segue.models.ease import EASE, EASEConfig
from segue.models.graph_filter import GraphFilter, GraphFilterConfig
from segue.models.ials import IALS, IALSConfig
from segue.models.interactions import Interactions, top_k
from segue.models.item_knn import ItemKNNConfig, fit_item_knn
from segue.models.recency import own_plays
from segue.models.sequence_rules import SequenceRules, SequenceRulesConfig
from segue.models.session_knn import SessionKNN, SessionKNNConfig
from segue.models.sparse_sum import padded
from segue.settings.tree import Training

Ids = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Progress = Callable[[str], None]

SPARE = 200
"""Places beyond the cut that are kept where known tracks are taken out afterwards."""
PREFIX = 50
"""Latest tracks of a session that a baseline sees."""
OWN_HALF_LIFE_DAYS = 180.0
"""In which a play of the listener's own counts half."""


def baselines(split: Split, settings: Training, progress: Progress) -> dict[str, dict[str, Scorer]]:
    """Scorers by model and task."""
    train, now = split.train, split.protocol.split
    progress("fitting the baselines")
    pairs = Interactions.from_pairs(
        train.play_user(), train.items, n_users=len(split.listeners), n_items=train.n_items
    ).binary()
    age = np.exp2(-(now - train.ts) / (settings.half_life_days * DAY))
    popular = np.bincount(train.items, minlength=train.n_items).astype(np.float32)
    recent = np.bincount(train.items, age, train.n_items).astype(np.float32)
    knn = fit_item_knn(pairs, ItemKNNConfig(neighbours=settings.neighbours))
    ials = IALS.fit(
        pairs,
        IALSConfig(
            factors=settings.factors,
            epochs=settings.epochs,
            regularization=settings.regularization,
            unobserved_weight=settings.unobserved,
            seed=settings.seed,
            threads=settings.threads or 2,
        ),
    )
    graph = GraphFilter.fit(pairs, GraphFilterConfig())
    markov = SequenceRules.fit(
        train, SequenceRulesConfig(window=1, prefix_window=1, source_damping=0.0), now=now
    )
    rules = SequenceRules.fit(train, SequenceRulesConfig(), now=now)
    session_knn = SessionKNN.fit(train, SessionKNNConfig())

    def histories(task: Task, rows: slice) -> Interactions:
        indptr, items, _ = split.histories(task.listener[rows])
        row = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        return Interactions.from_pairs(row, items, n_users=len(indptr) - 1, n_items=train.n_items).binary()

    def prefixes(task: Task, rows: slice) -> Interactions:
        indptr, items, _ = task.prefixes(rows, PREFIX)
        row = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        inside = items >= 0
        return Interactions.from_pairs(
            row[inside], items[inside], n_users=len(indptr) - 1, n_items=train.n_items
        ).binary()

    def constant(scores: Floats) -> dict[str, Scorer]:
        order = np.argsort(-scores, kind="stable").astype(np.int32)

        def scorer(task: Task, rows: slice) -> Ids:
            return _cut(task, rows, np.tile(order[: task.cut + SPARE], (rows.stop - rows.start, 1)))

        return dict.fromkeys((HOME, HOME_NEW, NEXT_UP), scorer)

    def dense(score: Callable[[Interactions], Floats]) -> dict[str, Scorer]:
        def of(whom: Callable[[Task, slice], Interactions]) -> Scorer:
            def scorer(task: Task, rows: slice) -> Ids:
                return _cut(task, rows, top_k(score(whom(task, rows)), task.cut + SPARE)[0])

            return scorer

        return {HOME: of(histories), HOME_NEW: of(histories), NEXT_UP: of(prefixes)}

    def own(task: Task, rows: slice) -> Ids:
        indptr, items, ts = split.histories(task.listener[rows])
        spans = [slice(start, stop) for start, stop in pairwise(indptr.tolist())]
        most = task.cut + SPARE
        lists = (own_plays(items[span], ts[span], most, OWN_HALF_LIFE_DAYS) for span in spans)
        return _cut(task, rows, padded(lists, len(spans), most)[0])

    def sequence(model: SequenceRules) -> Scorer:
        def scorer(task: Task, rows: slice) -> Ids:
            indptr, items, _ = task.prefixes(rows, PREFIX)
            return model.score_batch(indptr, items, task.cut)[0]

        return scorer

    def neighbours(task: Task, rows: slice) -> Ids:
        indptr, items, _ = task.prefixes(rows, PREFIX)
        return session_knn.score_batch(indptr, items, task.moment[rows], task.cut)[0]

    scorers: dict[str, dict[str, Scorer]] = {
        "popular": constant(popular),
        "popular-decayed": constant(recent),
        "own-plays": {HOME: own, HOME_NEW: own},
        "item-knn": dense(knn.scores),
        "ials": dense(ials.scores),
        "graph-filter": dense(graph.scores),
        "markov": {NEXT_UP: sequence(markov)},
        "sequence-rules": {NEXT_UP: sequence(rules)},
        "session-knn": {NEXT_UP: neighbours},
    }
    if train.n_items <= settings.ease_tracks:
        progress("fitting EASE")
        ease = EASE.fit(pairs, EASEConfig(max_items=settings.ease_tracks))
        scorers["ease"] = dense(ease.scores)
    return scorers


def _cut(task: Task, rows: slice, top: Ids) -> Ids:
    return without_known(task, rows, top, task.cut) if task.name == HOME_NEW else top[:, : task.cut]
