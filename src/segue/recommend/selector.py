"""The selector: a page of k slots from scored candidates, diverse, spaced, with a known share of exploration."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import numpy.typing as npt

from segue.models.bandit import inverse_gap_weights, share_of_draws, thompson_weights
from segue.models.diversity import Selection, SelectionConfig, select
from segue.recommend.artifacts import Artifacts
from segue.recommend.candidates import Candidates
from segue.recommend.query import Floats, Ids, Query
from segue.settings.surfaces import THOMPSON, UNIFORM

Weights = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

UNSURE = 0.3
"""Standard deviation of the relevance, 0 to 1, of a track that nobody listened to: as of any number between 0 and 1."""


class Inputs(TypedDict):
    """What `models.diversity` wants to know of the candidates besides their scores."""

    artists: npt.NDArray[np.int64]
    vectors: Floats | None
    rows: Ids
    pool: Weights | Mask | None
    once: Mask | None


def choose(
    query: Query, artifacts: Artifacts, candidates: Candidates, final: Floats, rng: np.random.Generator
) -> Selection:
    """Fill the request's slots by the recipe."""
    config, inputs = selection_inputs(query, artifacts, candidates, final)
    uniforms = rng.random((query.request.k, 2)) if config.explore > 0 else None
    return select(final, query.request.k, config, uniforms=uniforms, **inputs)


def selection_inputs(
    query: Query, artifacts: Artifacts, candidates: Candidates, final: Floats
) -> tuple[SelectionConfig, Inputs]:
    """The recipe of the request's page, and its candidates as the selection reads them."""
    recipe, k = query.recipe.selector, query.request.k
    pool: Weights | Mask | None = None
    once: Mask | None = None
    if recipe.explore > 0:
        place = np.empty(len(final), np.intp)
        place[np.argsort(-final, kind="stable")] = np.arange(len(final))
        plays = artifacts.plays[candidates.tracks]
        unplayed = plays == 0  # by its score alone it would never be
        # The page's own too: what a draw moves down would else have no chance in the slot it would have had.
        alike = (place < k + recipe.explore_pool) | unplayed
        pool = _weighed(recipe.bandit, alike, final, plays)
        if recipe.debuts > 0:
            pool, once = _with_debuts(query, artifacts, candidates, pool, place >= k)
    config = SelectionConfig(
        strength=recipe.diversity, artist_spacing=recipe.artist_spacing, explore=recipe.explore
    )
    return config, Inputs(
        artists=artifacts.catalogue.artist[candidates.tracks].astype(np.int64) + 1,
        vectors=artifacts.retrieval.ials.item_factors if recipe.diversity > 0 else None,
        rows=candidates.tracks,
        pool=pool,
        once=once,
    )


def _weighed(bandit: str, pool: Mask, final: Floats, plays: Floats) -> Weights | Mask:
    """The pool as weights: by the scores, rescaled to 0..1 over all candidates, and how often the tracks were listened to."""
    if bandit == UNIFORM:
        return pool
    weights, members = np.zeros(len(pool)), np.flatnonzero(pool)
    lowest, best = (final.min(), final.max()) if len(final) else (0.0, 0.0)
    reward = (final[members] - lowest).astype(np.float64) / ((best - lowest) or 1.0)
    alike = np.ones(len(members))
    if bandit == THOMPSON:
        weights[members] = thompson_weights(
            alike, reward, UNSURE / np.sqrt(1.0 + plays[members].astype(np.float64))
        )
    else:
        weights[members] = inverse_gap_weights(alike, reward)
    return weights


def _with_debuts(
    query: Query, artifacts: Artifacts, candidates: Candidates, pool: Weights | Mask, below: Mask
) -> tuple[Weights | Mask, Mask | None]:
    """The pool as weights, among them the debuts that are `below` the page; and which they are.

    As much of the exploration goes to them as gives all debuts what they want today, `selector.debuts` at most.
    """
    recipe = query.recipe.selector
    if "debuts" not in candidates.sources:
        return pool, None
    weight = candidates.scores[:, candidates.sources.index("debuts")].astype(np.float64)
    debut = below & (weight > 0)
    if not debut.any():
        return pool, None
    programme = artifacts.debuts
    active = programme.active(artifacts.indexes.uploads(), artifacts.catalogue.uploaded_at, query.now)
    share = min(share_of_draws(programme.chance(active), query.request.k, recipe.explore), recipe.debuts)
    weights = np.where(debut | (share >= 1.0), 0.0, pool)
    others = float(weights.sum())
    total = others * share / (1.0 - share) if others > 0.0 else 1.0
    weights[debut] = weight[debut] * (total / weight[debut].sum())
    return weights, debut
