"""What a bundle holds for requests, opened: catalogue, retrieval models, feature matrices, rankers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, Self

import msgspec
import numpy as np
import numpy.typing as npt

from segue.bundle import Bundle, BundleWriter
from segue.bundle import catalogue as catalogues
from segue.bundle.catalogue import Catalogue
from segue.features.online import Catalogue as FeatureKeys
from segue.features.online import Daily, OnlineFeatures
from segue.models.content import Content
from segue.models.ials import IALS, IALSConfig
from segue.models.item_knn import Neighbours
from segue.models.nearest import Nearest, NearestConfig
from segue.models.popularity import Popular, Popularity
from segue.models.sequence_rules import SequenceRules, SequenceRulesConfig
from segue.models.session_knn import SessionKNN, SessionKNNConfig
from segue.models.transitions import TransitionsConfig
from segue.recommend.ranker import Ranker

Ids = npt.NDArray[np.int32]


class Savable(Protocol):
    """A fitted model: arrays to save."""

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]: ...


@dataclass(frozen=True)
class Retrieval:
    """The fitted retrieval models over one catalogue."""

    ials: IALS
    graph: Neighbours
    co_listens: Neighbours
    rules: SequenceRules
    session_knn: SessionKNN
    transitions: TransitionsConfig
    popularity: Popularity
    popular: Popular
    content: Content

    def save(self, writer: BundleWriter) -> None:
        """Write the models into a bundle."""
        models: dict[str, Savable] = {
            "ials": self.ials,
            "graph": self.graph,
            "co_listens": self.co_listens,
            "rules": self.rules,
            "session_knn": self.session_knn,
            "popularity": self.popularity,
            "popular": self.popular,
            "content": self.content,
        }
        for name, model in models.items():
            writer.arrays(f"models/{name}", model.arrays())
        configs = {
            "ials": self.ials.config,
            "rules": self.rules.config,
            "session_knn": self.session_knn.config,
            "transitions": self.transitions,
        }
        writer.json("models/configs", configs)

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        """The models of a bundle, memory-mapped."""
        configs = bundle.json("models/configs")

        def arrays(name: str) -> dict[str, npt.NDArray[Any]]:
            return bundle.arrays(f"models/{name}")

        return cls(
            ials=IALS.from_arrays(arrays("ials"), msgspec.convert(configs["ials"], IALSConfig)),
            graph=Neighbours.from_arrays(arrays("graph")),
            co_listens=Neighbours.from_arrays(arrays("co_listens")),
            rules=SequenceRules.from_arrays(
                msgspec.convert(configs["rules"], SequenceRulesConfig), arrays("rules")
            ),
            session_knn=SessionKNN.from_arrays(
                msgspec.convert(configs["session_knn"], SessionKNNConfig), arrays("session_knn")
            ),
            transitions=msgspec.convert(configs["transitions"], TransitionsConfig),
            popularity=Popularity.from_arrays(arrays("popularity")),
            popular=Popular.from_arrays(arrays("popular")),
            content=Content.from_arrays(arrays("content")),
        )


@dataclass(frozen=True)
class Snapshots:
    """Daily features of tracks and artists, rows in catalogue order."""

    tracks: Daily
    artists: Daily

    def save(self, writer: BundleWriter) -> None:
        """Write them into a bundle."""
        writer.arrays("features", {"tracks": self.tracks.values, "artists": self.artists.values})
        writer.json("features/names", {"tracks": self.tracks.names, "artists": self.artists.names})

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        """The snapshots of a bundle."""
        arrays, names = bundle.arrays("features"), bundle.json("features/names")
        return cls(Daily(names["tracks"], arrays["tracks"]), Daily(names["artists"], arrays["artists"]))


@dataclass(frozen=True)
class Artifacts:
    """Everything a request reads, besides the listener's state.

    by_artist: tracks of artist a are `artist_tracks[artist_indptr[a]:artist_indptr[a + 1]]`, most played first;
    newest int32[n]: tracks by upload, newest first; plays float32[n]: listens of each track, halved by age.
    """

    version: str
    catalogue: Catalogue
    retrieval: Retrieval
    rankers: dict[str, Ranker]
    online: dict[str, OnlineFeatures]
    plays: npt.NDArray[np.float32]
    artist_indptr: npt.NDArray[np.int64]
    artist_tracks: Ids
    newest: Ids

    @cached_property
    def most_played(self) -> Ids:
        """All tracks, most played first, then newest first. int32[n]."""
        return np.lexsort((-self.catalogue.uploaded_at, -self.plays)).astype(np.int32)

    @cached_property
    def unit_factors(self) -> npt.NDArray[np.float32]:
        """Item factors at unit length; zeros for tracks never played. float32[n, d]."""
        factors = self.retrieval.ials.item_factors
        length = np.linalg.norm(factors, axis=1, keepdims=True)
        unit: npt.NDArray[np.float32] = np.divide(
            factors, length, out=np.zeros_like(factors), where=length > 0
        )
        return unit

    @cached_property
    def nearest(self) -> Nearest:
        """Search among item factors by inner product."""
        return Nearest.fit(self.retrieval.ials.item_factors, NearestConfig())

    @cached_property
    def nearest_unit(self) -> Nearest:
        """Search among item factors by cosine."""
        return Nearest.fit(self.unit_factors, NearestConfig())

    @cached_property
    def nearest_content(self) -> Nearest:
        """Search among content vectors by cosine."""
        return Nearest.fit(self.retrieval.content.vectors, NearestConfig())

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        """All of a bundle."""
        catalogue = catalogues.load(bundle)
        retrieval = Retrieval.load(bundle)
        rankers = {name: Ranker.load(bundle, name) for name in bundle.json("rankers")}
        return cls.of(bundle.version, catalogue, retrieval, rankers, Snapshots.load(bundle))

    @classmethod
    def of(
        cls,
        version: str,
        catalogue: Catalogue,
        retrieval: Retrieval,
        rankers: dict[str, Ranker],
        snapshots: Snapshots | None,
    ) -> Self:
        """The artifacts of models that are in memory; the small indexes are derived here."""
        plays = retrieval.popular.counts
        order = np.lexsort((-plays, catalogue.artist)).astype(np.int32)
        order = order[catalogue.artist[order] >= 0]
        counts = np.bincount(catalogue.artist[order], minlength=len(catalogue.artist_id))
        newest = np.argsort(-catalogue.uploaded_at, kind="stable").astype(np.int32)
        return cls(
            version=version,
            catalogue=catalogue,
            retrieval=retrieval,
            rankers=rankers,
            online={} if snapshots is None else _online(catalogue, rankers, snapshots),
            plays=plays,
            artist_indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            artist_tracks=order,
            newest=newest[: int((catalogue.uploaded_at >= 0).sum())],
        )

    def tracks_of(self, artist: int, limit: int) -> Ids:
        """The most played tracks of an artist. int32[m], m <= limit."""
        start, stop = self.artist_indptr[artist], self.artist_indptr[artist + 1]
        return self.artist_tracks[start : min(stop, start + limit)]


def _online(
    catalogue: Catalogue, rankers: dict[str, Ranker], snapshots: Snapshots
) -> dict[str, OnlineFeatures]:
    keys = FeatureKeys(catalogue.track_id, catalogue.artist, catalogue.artist_id, catalogue.genre)
    return {
        name: OnlineFeatures(ranker.spec.features, keys, snapshots.tracks, snapshots.artists)
        for name, ranker in rankers.items()
    }
