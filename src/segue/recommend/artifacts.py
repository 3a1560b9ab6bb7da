"""What a bundle holds for requests, opened: catalogue, retrieval models, indexes, feature matrices, rankers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from segue.bundle import Bundle, BundleWriter
from segue.bundle import catalogue as catalogues
from segue.bundle.catalogue import PUBLIC, Catalogue
from segue.features import FEATURES
from segue.features.online import Daily, OnlineFeatures
from segue.recommend.debuts import Debuts
from segue.recommend.indexes import Indexes
from segue.recommend.ranker import Ranker
from segue.recommend.retrieval import Retrieval

Ids = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Snapshots:
    """Daily features of tracks and artists, rows in catalogue order."""

    tracks: Daily
    artists: Daily

    def save(self, writer: BundleWriter) -> None:
        """Write them into a bundle."""
        arrays = {"tracks": self.tracks.values, "artists": self.artists.values}
        writer.arrays(
            "features", arrays, {"tracks": _defaults(self.tracks), "artists": _defaults(self.artists)}
        )
        writer.json("features/names", {"tracks": self.tracks.names, "artists": self.artists.names})

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        """The snapshots of a bundle. They may be written to; only this process sees it."""
        arrays, names = bundle.arrays("features", own=True), bundle.json("features/names")
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
    snapshots: Snapshots | None
    debuts: Debuts

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        """All of a bundle."""
        catalogue = catalogues.load(bundle)
        retrieval, snapshots = Retrieval.load(bundle), Snapshots.load(bundle)
        rankers = {name: Ranker.load(bundle, name) for name in bundle.json("rankers")}
        return cls(
            version=bundle.version,
            catalogue=catalogue,
            retrieval=retrieval,
            indexes=Indexes.load(bundle, catalogue, retrieval),
            rankers=rankers,
            online=_online(catalogue, rankers, snapshots),
            snapshots=snapshots,
            debuts=Debuts.load(bundle, len(catalogue)),
        )

    @classmethod
    def of(
        cls,
        version: str,
        catalogue: Catalogue,
        retrieval: Retrieval,
        rankers: dict[str, Ranker],
        snapshots: Snapshots | None,
        debuts: Debuts | None = None,
    ) -> Self:
        """The artifacts of models that are in memory."""
        return cls(
            version=version,
            catalogue=catalogue,
            retrieval=retrieval,
            indexes=Indexes.of(catalogue, retrieval),
            rankers=rankers,
            online={} if snapshots is None else _online(catalogue, rankers, snapshots),
            snapshots=snapshots,
            debuts=debuts or Debuts.none(len(catalogue)),
        )

    @property
    def plays(self) -> npt.NDArray[np.float32]:
        """Listens of each track, halved by age. float32[n]."""
        return self.retrieval.popular.counts

    def search(self, text: str, limit: int) -> Ids:
        """Positions of public tracks whose title, or whose artist's name, contains the text; most played first."""
        later = self.indexes.later
        found = self.indexes.titles.search(
            text,
            limit + min(limit, len(later.names)),
            flags=self.catalogue.flags,
            plays=self.plays,
            artist_indptr=self.indexes.artist_indptr,
            artist_tracks=self.indexes.artist_tracks,
        )
        if later.names and text:
            now = later.matching(text.lower())
            now = now[(self.catalogue.flags[now] & PUBLIC) != 0]
            found = np.concatenate([found[~later.renamed(found)], now])
            found = found[np.lexsort((found, -self.plays[found]))]
        return found[:limit]

    def alike(self, profile: Floats, limit: int) -> tuple[Ids, Floats]:
        """Tracks whose words are most like a unit vector float32[dims], those that came later among them, and their cosines."""
        tracks, scores = (found[0] for found in self.indexes.by_content.search(profile[None, :], limit))
        later = self.catalogue.tracks.later
        if len(later):
            near = self.retrieval.content.vectors[later[0] : later[-1] + 1] @ profile
            tracks, scores = np.concatenate([tracks, later]), np.concatenate([scores, near])
        known = np.flatnonzero((tracks >= 0) & (scores > 0))
        best = known[np.argsort(-scores[known], kind="stable")][:limit]
        return tracks[best], scores[best]

    def uploads_like(self, profile: Floats, after: int) -> tuple[Ids, Floats]:
        """Tracks uploaded after a time (UTC microseconds), of the newest and those changed later, and their cosines with a unit
        vector float32[dims].
        """
        indexes, later = self.indexes, self.indexes.later.uploads
        n = len(indexes.newest_at) - int(np.searchsorted(indexes.newest_at[::-1], after, side="right"))
        tracks, scores = indexes.newest[:n], indexes.newest_vectors[:n] @ profile
        if len(later):
            as_they_were = ~np.isin(tracks, later)
            later = later[self.catalogue.uploaded_at[later] > after]
            tracks = np.concatenate([tracks[as_they_were], later])
            scores = np.concatenate([scores[as_they_were], self.retrieval.content.vectors[later] @ profile])
        return tracks, scores

    def unit_factors(self, tracks: Ids) -> Floats:
        """Item factors of some tracks at unit length; zeros for tracks never played. float32[m, d]."""
        unit: Floats = (
            self.retrieval.ials.item_factors[tracks] * self.indexes.one_over_length[tracks][:, None]
        )
        return unit


def _defaults(daily: Daily) -> Floats:
    """What the features of a track or an artist are that no day has seen."""
    return np.array([FEATURES[name].default for name in daily.names], np.float32)


def _online(
    catalogue: Catalogue, rankers: dict[str, Ranker], snapshots: Snapshots
) -> dict[str, OnlineFeatures]:
    return {
        name: OnlineFeatures(ranker.spec.features, catalogue, snapshots.tracks, snapshots.artists)
        for name, ranker in rankers.items()
    }
