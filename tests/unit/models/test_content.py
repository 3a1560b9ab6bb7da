"""Content vectors: what is alike is near, and a track that comes later gets the vector it would have had."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from segue.contracts.tables import TRACKS
from segue.models.content import Content, ContentConfig
from segue.models.tokens import WEIGHTS, tokens, tokens_of

TRACK: dict[str, Any] = {
    "artist_id": 7,
    "genre": "deep house",
    "tags": ["night", "bus"],
    "title": "Night Bus",
}


def table(rows: list[dict[str, Any]]) -> pa.Table:
    whole = [{"track_id": n, "explicit": False, "public": True} | row for n, row in enumerate(rows)]
    return pa.Table.from_pylist(whole, TRACKS.arrow)


def fitted(rows: list[dict[str, Any]]) -> Content:
    return Content.fit(*tokens(table(rows)), WEIGHTS, ContentConfig(dims=512))


def test_what_is_alike_is_near() -> None:
    other = {"artist_id": 8, "genre": "folk", "tags": ["morning"], "title": "Paper Rivers"}
    vectors = fitted([TRACK, TRACK | {"title": "NIGHT bus (live)"}, other, {}]).vectors
    assert vectors[0] @ vectors[1] > 0.8
    assert abs(float(vectors[0] @ vectors[2])) < 0.2
    np.testing.assert_allclose(np.linalg.norm(vectors[:3], axis=1), 1, rtol=1e-5)
    assert not vectors[3].any()


# Arrow and Python may know different versions of Unicode; of what both know they must say the same.
letters = st.characters(exclude_categories=["Cn", "Cs"])
texts = st.none() | st.text(letters, max_size=30)
tracks = st.fixed_dictionaries(
    {},
    optional={
        "artist_id": st.none() | st.integers(0, 2**63 - 1),
        "genre": texts,
        "tags": st.none() | st.lists(st.text(max_size=5), max_size=4),
        "title": texts,
        "description": texts,
    },
)


@given(st.lists(tracks, min_size=1, max_size=5))
def test_one_track_has_the_tokens_it_has_among_all(rows: list[dict[str, Any]]) -> None:
    indptr, hashes, kinds = tokens(table(rows))
    content = fitted(rows)
    for n, row in enumerate(rows):
        mine = sorted(zip(*tokens_of(row), strict=True))
        span = slice(indptr[n], indptr[n + 1])
        assert mine == sorted(zip(hashes[span], kinds[span], strict=True))
        assert mine == sorted(zip(*content.tokens_of(n), strict=True))


@given(st.lists(tracks, min_size=1, max_size=5))
def test_a_track_that_comes_later_gets_the_vector_it_would_have_had(rows: list[dict[str, Any]]) -> None:
    content = fitted(rows)
    for row, vector in zip(rows, content.vectors, strict=True):
        np.testing.assert_allclose(content.embed(*tokens_of(row)), vector, atol=1e-5)


def test_words_nobody_used_weigh_most() -> None:
    content = fitted([TRACK, {"title": "night"}, {"title": "night"}])
    assert content.idf[-1] == content.idf.max()
    found = content.embed(*tokens_of({"title": "night zyx"}))
    alone = content.embed(*tokens_of({"title": "zyx"}))
    assert 0.7 < float(found @ alone) < 1.0
    assert not fitted([{}]).embed(*tokens_of({})).any()
