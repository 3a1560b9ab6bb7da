"""The selector: a page of k slots from scored candidates, diverse, spaced, with a known share of exploration."""

from __future__ import annotations

import numpy as np

from segue.models.diversity import Selection, SelectionConfig, select
from segue.recommend.artifacts import Artifacts
from segue.recommend.candidates import Candidates
from segue.recommend.query import Floats, Query


def choose(
    query: Query, artifacts: Artifacts, candidates: Candidates, final: Floats, rng: np.random.Generator
) -> Selection:
    """Fill the request's slots by the recipe."""
    recipe, k = query.recipe.selector, query.request.k
    config = SelectionConfig(
        strength=recipe.diversity, artist_spacing=recipe.artist_spacing, explore=recipe.explore
    )
    vectors = artifacts.retrieval.ials.item_factors if recipe.diversity > 0 else None
    pool = uniforms = None
    if recipe.explore > 0:
        place = np.empty(len(final), np.intp)
        place[np.argsort(-final, kind="stable")] = np.arange(len(final))
        unplayed = artifacts.plays[candidates.tracks] == 0  # by its score alone it would never be
        pool = (place >= k) & ((place < k + recipe.explore_pool) | unplayed)
        uniforms = rng.random((k, 2))
    artists = artifacts.catalogue.artist[candidates.tracks].astype(np.int64) + 1
    return select(
        final,
        k,
        config,
        artists=artists,
        vectors=vectors,
        rows=candidates.tracks,
        pool=pool,
        uniforms=uniforms,
    )
