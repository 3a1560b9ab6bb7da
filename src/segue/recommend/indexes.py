"""What is looked up in a catalogue and its models: made once, when a bundle is written, and mapped by everyone who opens it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt

from segue.bundle import Bundle, BundleWriter
from segue.bundle.catalogue import Catalogue
from segue.models.nearest import Nearest
from segue.recommend.later import Later
from segue.recommend.retrieval import Retrieval
from segue.recommend.titles import Titles

Ids = npt.NDArray[np.int32]

UPLOADS = 5_000
"""Newest uploads that are looked at one by one."""
_OF_COSINE = ("weight", "cell_mean", "cell_spread", "cell_scale")
"""What the search by cosine has of its own."""


@dataclass(frozen=True)
class Indexes:
    """Orders of the tracks, and searches among their vectors and names.

    most_played int32[n]: all tracks, most played first, then newest first; newest int32[m]: tracks with a known upload,
    newest first; newest_at int64[u] and newest_vectors float32[u, d]: when the first UPLOADS of them came, and their content
    vectors, here side by side, as those of a large catalogue are all over it; tracks of artist a are
    `artist_tracks[artist_indptr[a]:artist_indptr[a + 1]]`, most played first; by_product and by_cosine search among item factors
    (the same arrays of them), by_content among content vectors; one_over_length float32[n] of the item factors, 0 where a track
    has none; artist int32[n]: the catalogue's.

    `later` is what came after they were made, and is in none of them.
    """

    most_played: Ids
    newest: Ids
    newest_at: npt.NDArray[np.int64]
    newest_vectors: npt.NDArray[np.float32]
    artist_indptr: npt.NDArray[np.int64]
    artist_tracks: Ids
    by_product: Nearest
    by_cosine: Nearest
    by_content: Nearest
    titles: Titles
    one_over_length: npt.NDArray[np.float32]
    artist: Ids
    later: Later = field(default_factory=Later)

    @classmethod
    def of(cls, catalogue: Catalogue, retrieval: Retrieval) -> Self:
        """Made from what they index."""
        plays, uploaded, artist = retrieval.popular.counts, catalogue.uploaded_at, catalogue.artist
        by_artist = np.lexsort((-plays, artist)).astype(np.int32)
        by_artist = by_artist[artist[by_artist] >= 0]
        counts = np.bincount(artist[by_artist], minlength=len(catalogue.artist_id))
        newest = np.argsort(-uploaded, kind="stable")[: np.count_nonzero(uploaded >= 0)].astype(np.int32)
        by_product = Nearest.fit(retrieval.ials.item_factors)
        by_cosine = by_product.by_cosine()
        return cls(
            most_played=np.lexsort((-uploaded, -plays)).astype(np.int32),
            newest=newest,
            newest_at=uploaded[newest[:UPLOADS]],
            newest_vectors=retrieval.content.vectors[newest[:UPLOADS]],
            artist_indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            artist_tracks=by_artist,
            by_product=by_product,
            by_cosine=by_cosine,
            by_content=Nearest.fit(retrieval.content.vectors),
            titles=Titles.of(catalogue),
            one_over_length=by_cosine.weight,
            artist=artist,
        )

    def save(self, writer: BundleWriter) -> None:
        """Write them into a bundle, without what they index."""
        orders = ("most_played", "newest", "artist_indptr", "artist_tracks")
        ends = {"artist_indptr": int(self.artist_indptr[-1])}
        writer.arrays("indexes", {name: getattr(self, name) for name in orders}, ends)
        for name, index in (("product", self.by_product), ("content", self.by_content)):
            own = {key: array for key, array in index.arrays().items() if key != "vectors"}
            writer.arrays(f"indexes/{name}", own)
        cosine = self.by_cosine.arrays()
        writer.arrays("indexes/cosine", {key: cosine[key] for key in _OF_COSINE}, {"weight": 0})
        writer.arrays("indexes/titles", self.titles.arrays())

    @classmethod
    def load(cls, bundle: Bundle, catalogue: Catalogue, retrieval: Retrieval) -> Self:
        """The indexes of a bundle over its own catalogue and models."""
        orders = bundle.arrays("indexes")
        known = catalogue.tracks.known
        product = bundle.arrays("indexes/product") | {"vectors": retrieval.ials.item_factors[:known]}
        content = bundle.arrays("indexes/content") | {"vectors": retrieval.content.vectors[:known]}
        cosine = bundle.arrays("indexes/cosine")
        weight, newest = cosine["weight"], orders["newest"][:UPLOADS]
        return cls(
            most_played=orders["most_played"],
            newest=orders["newest"],
            newest_at=catalogue.uploaded_at[newest],
            newest_vectors=retrieval.content.vectors[newest],
            artist_indptr=orders["artist_indptr"],
            artist_tracks=orders["artist_tracks"],
            by_product=Nearest.from_arrays(product),
            by_cosine=Nearest.from_arrays(product | cosine | {"weight": weight[:known]}),
            by_content=Nearest.from_arrays(content),
            titles=Titles.from_arrays(bundle.arrays("indexes/titles")),
            one_over_length=weight,
            artist=catalogue.artist,
        )

    def tracks_of_each(self, artists: Ids, limit: int) -> Ids:
        """What `tracks_of` says of each of the artists, one after another. int32[m]."""
        if self.later.of_any_artist:
            return np.concatenate([self.tracks_of(artist, limit) for artist in artists.tolist()])
        start = self.artist_indptr[artists]
        size = np.minimum(self.artist_indptr[artists + 1] - start, limit)
        end = np.cumsum(size)
        found: Ids = self.artist_tracks[np.arange(end[-1]) + np.repeat(start - end + size, size)]
        return found

    def tracks_of(self, artist: int, limit: int) -> Ids:
        """Tracks of an artist, int32[m], m <= limit: the most played, behind those that came later, of which half at most."""
        start, stop = self.artist_indptr[artist], self.artist_indptr[artist + 1]
        # A copy: to Numba an array that may not be written to is another type, for which every kernel is compiled again.
        found = np.array(self.artist_tracks[start : min(stop, start + limit)])
        came = self.later.of_artist(artist)
        if came is None:
            return found
        came = came[self.artist[came] == artist][: max(1, limit // 2)]
        found = found[(self.artist[found] == artist) & ~np.isin(found, came)]
        return np.concatenate([came, found])[:limit]

    def uploads(self) -> Ids:
        """Tracks with a known time of upload: the newest, and all that were changed later. int32[m]."""
        later = self.later.uploads
        newest = self.newest[:UPLOADS]
        return np.union1d(later, newest) if len(later) else newest
