"""The selector: a page of k slots from scored candidates, diverse, spaced, with a known share of exploration."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import numpy.typing as npt

from segue.models.diversity import Selection, SelectionConfig, select
from segue.recommend.artifacts import Artifacts
from segue.recommend.candidates import Candidates
from segue.recommend.query import Floats, Ids, Query


class Inputs(TypedDict):
    """What `models.diversity` wants to know of the candidates besides their scores."""

    artists: npt.NDArray[np.int64]
    vectors: Floats | None
    rows: Ids
    pool: npt.NDArray[np.bool_] | None


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
    pool = None
    if recipe.explore > 0:
        place = np.empty(len(final), np.intp)
        place[np.argsort(-final, kind="stable")] = np.arange(len(final))
        unplayed = artifacts.plays[candidates.tracks] == 0  # by its score alone it would never be
        # The page's own too: what a draw moves down would else have no chance in the slot it would have had.
        pool = (place < k + recipe.explore_pool) | unplayed
    config = SelectionConfig(
        strength=recipe.diversity, artist_spacing=recipe.artist_spacing, explore=recipe.explore
    )
    return config, Inputs(
        artists=artifacts.catalogue.artist[candidates.tracks].astype(np.int64) + 1,
        vectors=artifacts.retrieval.ials.item_factors if recipe.diversity > 0 else None,
        rows=candidates.tracks,
        pool=pool,
    )
