"""What a bundle holds for requests, opened: catalogue, retrieval models, indexes, feature matrices, rankers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from segue.bundle import Bundle, BundleWriter
from segue.bundle import catalogue as catalogues
from segue.bundle.catalogue import Catalogue
from segue.features.online import Catalogue as FeatureKeys
from segue.features.online import Daily, OnlineFeatures
from segue.recommend.indexes import Indexes
from segue.recommend.ranker import Ranker
from segue.recommend.retrieval import Retrieval

Ids = npt.NDArray[np.int32]


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
    """Everything a request reads, besides the listener's state. Opened from a bundle, all that is large is memory-mapped."""

    version: str
    catalogue: Catalogue
    retrieval: Retrieval
    indexes: Indexes
    rankers: dict[str, Ranker]
    online: dict[str, OnlineFeatures]

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        """All of a bundle."""
        catalogue = catalogues.load(bundle)
        retrieval = Retrieval.load(bundle)
        rankers = {name: Ranker.load(bundle, name) for name in bundle.json("rankers")}
        return cls(
            version=bundle.version,
            catalogue=catalogue,
            retrieval=retrieval,
            indexes=Indexes.load(bundle, catalogue, retrieval),
            rankers=rankers,
            online=_online(catalogue, rankers, Snapshots.load(bundle)),
        )

    @classmethod
    def of(
        cls,
        version: str,
        catalogue: Catalogue,
        retrieval: Retrieval,
        rankers: dict[str, Ranker],
        snapshots: Snapshots | None,
    ) -> Self:
        """The artifacts of models that are in memory."""
        return cls(
            version=version,
            catalogue=catalogue,
            retrieval=retrieval,
            indexes=Indexes.of(catalogue, retrieval),
            rankers=rankers,
            online={} if snapshots is None else _online(catalogue, rankers, snapshots),
        )

    @property
    def plays(self) -> npt.NDArray[np.float32]:
        """Listens of each track, halved by age. float32[n]."""
        return self.retrieval.popular.counts

    def search(self, text: str, limit: int) -> Ids:
        """Positions of public tracks whose title, or whose artist's name, contains the text; most played first."""
        return self.indexes.titles.search(
            text,
            limit,
            flags=self.catalogue.flags,
            plays=self.plays,
            artist_indptr=self.indexes.artist_indptr,
            artist_tracks=self.indexes.artist_tracks,
        )

    def unit_factors(self, tracks: Ids) -> npt.NDArray[np.float32]:
        """Item factors of some tracks at unit length; zeros for tracks never played. float32[m, d]."""
        index = self.indexes.by_cosine
        unit: npt.NDArray[np.float32] = index.vectors[tracks] * index.weight[tracks][:, None]
        return unit


def _online(
    catalogue: Catalogue, rankers: dict[str, Ranker], snapshots: Snapshots
) -> dict[str, OnlineFeatures]:
    keys = FeatureKeys(catalogue.track_id, catalogue.artist, catalogue.artist_id, catalogue.genre)
    return {
        name: OnlineFeatures(ranker.spec.features, keys, snapshots.tracks, snapshots.artists)
        for name, ranker in rankers.items()
    }
