"""Search among names against the obvious way of doing it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from segue.bundle.catalogue import PUBLIC, Texts
from segue.recommend.titles import Titles

NAME = st.one_of(st.text("aAbB é", max_size=6), st.text("ab", min_size=50, max_size=150))


def lowered(names: list[str]) -> Texts:
    return Texts.of(pa.array([name.lower() for name in names]))


@given(
    titles=st.lists(NAME, max_size=30),
    artists=st.lists(NAME, min_size=1, max_size=5),
    needle=st.one_of(st.text("abAB é", max_size=3), st.text("ab", max_size=20)),
    limit=st.integers(1, 12),
    seed=st.integers(0, 2**32 - 1),
)
def test_finds_what_reading_every_name_finds(
    titles: list[str], artists: list[str], needle: str, limit: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    n = len(titles)
    artist = rng.integers(-1, len(artists), n)
    flags = np.where(rng.random(n) < 0.8, PUBLIC, 0).astype(np.uint8)
    plays = rng.integers(0, 4, n).astype(np.float32)
    by_artist = np.lexsort((-plays, artist)).astype(np.int32)
    by_artist = by_artist[artist[by_artist] >= 0]
    counts = np.bincount(artist[by_artist], minlength=len(artists))
    found = Titles(lowered(titles), lowered(artists)).search(
        needle,
        limit,
        flags=flags,
        plays=plays,
        artist_indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        artist_tracks=by_artist,
    )
    fits = [
        track
        for track in range(n)
        if needle
        and flags[track] & PUBLIC
        and (
            needle.lower() in titles[track].lower()
            or (artist[track] >= 0 and needle.lower() in artists[artist[track]].lower())
        )
    ]
    assert found.tolist() == sorted(fits, key=lambda track: (-plays[track], track))[:limit]
