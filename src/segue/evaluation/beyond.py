"""Beyond accuracy: how much of the catalogue is shown, how evenly, how unfamiliar and how varied the lists are.

A model can win on accuracy by showing everybody the same few tracks; these numbers make that visible
(Castells, Hurley and Vargas 2022, "Novelty and Diversity in Recommender Systems"). All are taken from the top
lists that `protocols.evaluate` keeps, over the catalogue of the split (tracks played before it):

* coverage and Gini belong to the whole set of lists, so they have no interval, and they depend on how many
  lists there are: compare them only between models of one task;
* novelty, intra-list and artist diversity are means over the lists that hold at least two tracks, with intervals
  over resampled listeners.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from segue.bundle.catalogue import Catalogue
from segue.contracts.errors import InvalidData
from segue.evaluation.bootstrap import interval
from segue.evaluation.metrics import artist_diversity, coverage, gini, intra_list_diversity, novelty
from segue.evaluation.protocols import Lists, Measured, Split

__all__ = ["SHARES", "Beyond", "Items", "Shown", "beyond", "concentration"]

Longs = npt.NDArray[np.int64]

Curve = tuple[tuple[float, float], ...]
SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0)
"""Shares of the catalogue at which a concentration curve is read; dense at the top, where exposure is."""
MOST_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Items:
    """What is known of the n items of a split, beside who played them.

    plays int64[n]: plays before the split; first_play int64[n]: microseconds; uploaded_at int64[n]: microseconds, -1
    unknown; artist int64[n]: a number from 1 per artist, 0 unknown; vectors float32[n, d]: zeros where there is none;
    place int32[n]: position in `catalogue`, -1 where it has none.
    """

    plays: Longs
    first_play: Longs
    uploaded_at: Longs
    artist: Longs
    vectors: npt.NDArray[np.float32]
    place: npt.NDArray[np.int32]
    catalogue: Catalogue

    @classmethod
    def of(cls, split: Split, catalogue: Catalogue, vectors: npt.NDArray[np.float32]) -> Items:
        """Items of a split looked up in a catalogue. `vectors`: float32[len(catalogue), d]."""
        if len(vectors) != len(catalogue):
            raise InvalidData(
                f"{len(vectors)} vectors for {len(catalogue)} tracks: give one per track of the catalogue",
                field="vectors",
            )
        place = catalogue.positions(split.tracks)
        inside = place >= 0
        own = np.zeros((len(place), vectors.shape[1]), dtype=np.float32)
        own[inside] = vectors[place[inside]]
        first = np.full(len(place), np.iinfo(np.int64).max)
        np.minimum.at(first, split.train.items, split.train.ts)
        uploaded, artist = np.full(len(place), -1, dtype=np.int64), np.zeros(len(place), dtype=np.int64)
        uploaded[inside] = catalogue.uploaded_at[place[inside]]
        artist[inside] = catalogue.artist[place[inside]] + 1
        return cls(split.train.item_counts(), first, uploaded, artist, own, place, catalogue)

    def title(self, item: int) -> str | None:
        """The title of an item, where it is known."""
        return self.catalogue.titles[int(self.place[item])] if self.place[item] >= 0 else None

    def artist_name(self, item: int) -> str | None:
        """The name of an item's artist, where it is known."""
        return self.catalogue.artist_names[int(self.artist[item]) - 1] if self.artist[item] > 0 else None


class Shown(msgspec.Struct, frozen=True):
    """A track that is shown often: the share of lists that hold it, and its plays before the split."""

    track_id: int
    title: str | None
    artist: str | None
    share: float
    plays: int


class Beyond(msgspec.Struct, frozen=True):
    """Properties of one model's lists on one task.

    filled: share of the lists' places that hold a track; coverage: share of the catalogue in at least one list;
    gini: of exposure, 0 even, 1 all on one track; novelty: bits; intra_list_diversity: mean 1 - cosine, 0..2;
    artist_diversity: distinct artists / length, None where no artist is known;
    exposure: pairs (share of the catalogue, most shown first; share of all places that go to it).
    """

    lists: int
    length: int
    filled: float
    coverage: float
    gini: float
    novelty: Measured
    intra_list_diversity: Measured
    artist_diversity: Measured | None
    exposure: Curve
    most_shown: tuple[Shown, ...]


def beyond(lists: Lists, user: Longs, split: Split, items: Items) -> Beyond | None:
    """Measure the kept lists of a task; None where no list holds two tracks.

    `user`: int64[n], the listener of each of the task's cases.
    """
    top = lists.top
    some = (top >= 0).sum(axis=1) > 1
    if not some.any():
        return None
    group = user[lists.cases][some]
    counts = np.bincount(top[top >= 0], minlength=len(items.plays))

    def mean(values: npt.NDArray[np.float64]) -> Measured:
        return Measured(float(values.mean()), interval(values, group))

    return Beyond(
        lists=len(top),
        length=top.shape[1],
        filled=float((top >= 0).mean()),
        coverage=coverage(top, len(items.plays)),
        gini=gini(top, len(items.plays)),
        novelty=mean(novelty(top[some], items.plays)),
        intra_list_diversity=mean(intra_list_diversity(top[some], items.vectors)),
        artist_diversity=mean(artist_diversity(top[some], items.artist)) if items.artist.any() else None,
        exposure=concentration(counts),
        most_shown=_most_shown(counts, len(top), split, items),
    )


def concentration(counts: npt.NDArray[np.integer]) -> Curve:
    """A Lorenz curve read from its rich end: pairs (share of the entries, largest first; share of all counts on them).

    ``counts``: int[n], not negative. Between two entries the curve is a straight line. All zeros give zeros.
    """
    held = np.concatenate([[0], np.cumsum(np.sort(counts)[::-1])]) / max(int(counts.sum()), 1)
    at = np.interp(np.asarray(SHARES) * len(counts), np.arange(len(held)), held)
    return tuple(zip(SHARES, at.tolist(), strict=True))


def _most_shown(counts: Longs, lists: int, split: Split, items: Items) -> tuple[Shown, ...]:
    order = np.argsort(-counts, kind="stable")[:MOST_SHOWN]
    return tuple(
        Shown(
            track_id=int(split.tracks[item]),
            title=items.title(item),
            artist=items.artist_name(item),
            share=float(counts[item] / lists),
            plays=int(items.plays[item]),
        )
        for item in order.tolist()
        if counts[item]
    )
