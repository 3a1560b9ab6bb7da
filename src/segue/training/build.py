"""Train: retrieval before a cut, ranker samples after it, retrieval again over everything, and a bundle of the result."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segue.bundle import BundleStore, BundleWriter, Manifest
from segue.bundle import catalogue as catalogues
from segue.bundle.catalogue import Catalogue
from segue.bundle.room import find
from segue.contracts.errors import InvalidData
from segue.contracts.ports import Engine, Factorizer
from segue.contracts.tables import LISTENERS
from segue.contracts.vocabulary import DAY
from segue.recommend.artifacts import Artifacts, Snapshots
from segue.recommend.debuts import Debuts
from segue.recommend.indexes import Indexes
from segue.recommend.pipeline import Recommender
from segue.recommend.ranker import Ranker
from segue.recommend.retrieval import Retrieval
from segue.settings.tree import RankerFit, Settings, Training
from segue.training.catalogue import load_catalogue
from segue.training.debuts import load_debuts
from segue.training.features import join_features, ranker_features, snapshots
from segue.training.history import Plays, load_plays
from segue.training.ranker import fit_ranker
from segue.training.replay import Replay
from segue.training.retrieval import fit_retrieval
from segue.training.samples import Samples, draw, home_moments, next_moments, together

Progress = Callable[[str], None]
MOMENTS = {"home": home_moments, "next-up": next_moments}
"""Surfaces that have a ranker of their own, and how their samples are drawn."""

LEAST_ROOM = 1_000
"""Tracks that a small bundle has room for."""


@dataclass(frozen=True)
class Trained:
    """Everything a bundle holds, still in memory."""

    catalogue: Catalogue
    retrieval: Retrieval
    rankers: dict[str, Ranker]
    snapshots: Snapshots
    until: int
    debuts: Debuts

    def artifacts(self, version: str = "unpublished") -> Artifacts:
        """Ready to answer requests."""
        return Artifacts.of(
            version, self.catalogue, self.retrieval, self.rankers, self.snapshots, self.debuts
        )


def train(
    engine: Engine,
    settings: Settings,
    until: int,
    progress: Progress,
    rankers: dict[str, Ranker] | None = None,
    factorizer: Factorizer | None = None,
) -> Trained:
    """Train on what happened before `until` (microseconds); with `rankers` given, retrieval and snapshots only.

    With a `factorizer`, iALS is fitted by it.

    Raises InvalidData where there are no plays.
    """
    catalogue, tracks = load_catalogue(engine)
    since = until - settings.training.history_days * DAY
    plays = load_plays(engine, catalogue, since=since, until=until)
    if not plays.listened.any():
        raise InvalidData(
            f"no listens before {_date(until)}: import or simulate some events and run the flow",
            field="listens",
        )
    country_of = _countries(engine, catalogue)

    def fit(before: Plays, now: int, say: Progress) -> Retrieval:
        return fit_retrieval(before, catalogue, tracks, country_of, now, settings.training, say, factorizer)

    if rankers is None:
        rankers = _fit_rankers(engine, settings, catalogue, plays, fit, until, progress)
    progress(f"retrieval before {_date(until)}")
    retrieval = fit(plays, until, progress)
    debuts = load_debuts(engine, settings, catalogue, until)
    return Trained(catalogue, retrieval, rankers, snapshots(engine, catalogue, until), until, debuts)


def write(
    trained: Trained,
    store: BundleStore,
    settings: Settings,
    metrics: dict[str, dict[str, float]],
    extra: Callable[[BundleWriter], None],
) -> Manifest:
    """Write the bundle; it is not published yet. `extra` may add files of its own."""
    room = max(LEAST_ROOM, round(settings.bundles.spare * len(trained.catalogue)))
    with BundleWriter(store.root, spare=room) as writer:
        catalogues.save(trained.catalogue, writer)
        trained.retrieval.save(writer)
        Indexes.of(trained.catalogue, trained.retrieval).save(writer)
        trained.snapshots.save(writer)
        trained.debuts.save(writer)
        for name, ranker in trained.rankers.items():
            ranker.save(writer, name)
        writer.json("rankers", sorted(trained.rankers))
        extra(writer)
        last = _date(trained.until - 1)
        digest = hashlib.sha256(msgspec.json.encode(settings.training)).hexdigest()[:12]
        return writer.finish(
            version_prefix=last,
            data_through=last,
            settings=digest,
            tracks=len(trained.catalogue),
            metrics=metrics,
        )


def windows(plays: Plays, until: int, settings: Training) -> list[tuple[int, int]]:
    """Windows of ranker samples as (cut, end), latest first; retrieval for each is fitted before its cut."""
    history = until - int(plays.ts.min())
    width = max(min(settings.ranker_days * DAY, history // 4), 1)
    count = min(settings.ranker_windows, max(1, (history // 2) // width))
    return [(until - (n + 1) * width, until - n * width) for n in range(count)]


def _fit_rankers(
    engine: Engine,
    settings: Settings,
    catalogue: Catalogue,
    plays: Plays,
    fit: Callable[[Plays, int, Progress], Retrieval],
    until: int,
    progress: Progress,
) -> dict[str, Ranker]:
    training = settings.training
    rng = np.random.default_rng(training.seed)
    drawn: dict[str, list[Samples]] = {surface: [] for surface in MOMENTS}
    wanted = {surface: training.rankers.get(surface, RankerFit()).requests for surface in MOMENTS}
    for cut, end in windows(plays, until, training):
        before = plays.where(plays.ts < cut)
        if not before.listened.any() or not any(wanted.values()):
            break
        within = plays.where(plays.ts < end)
        moments = {
            surface: draw_moments(within, catalogue.track_id, cut, wanted[surface], rng)
            for surface, draw_moments in MOMENTS.items()
        }
        progress(
            f"window {_date(cut)}..{_date(end - 1)}: retrieval before it, {sum(map(len, moments.values())):,} requests"
        )
        artifacts = Artifacts.of("samples", catalogue, fit(before, cut, _quiet), {}, None)
        recommender = Recommender(artifacts, settings.surfaces, lambda _: None, settings.serving.max_k)
        for surface, some in moments.items():
            wanted[surface] -= len(some)
            if len(some):
                replay = Replay.load(engine, some.user_id, end, settings.state)
                samples = draw(recommender, replay, some, training.negatives, rng)
                drawn[surface] += [samples] if samples is not None else []
    rankers: dict[str, Ranker] = {}
    for surface, parts in drawn.items():
        if parts:
            samples = together(parts)
            names = ranker_features(samples.names)
            progress(
                f"{surface}: joining {len(names)} features to {len(samples):,} samples ({int(samples.played.sum()):,} played)"
            )
            x = join_features(engine, samples, names, settings.state)
            progress(f"{surface}: growing trees")
            rankers[surface] = fit_ranker(samples, x, names, training)
    return rankers


def _countries(
    engine: Engine, catalogue: Catalogue
) -> Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int32]]:
    listeners = engine.collect(engine.read(LISTENERS).select("user_id", "country").order_by("user_id"))
    ids = listeners["user_id"].to_numpy()
    codes = pa.array(catalogue.countries, pa.string())
    position = pa.compute.fill_null(pa.compute.index_in(listeners["country"], codes), -1).to_numpy()

    def country_of(users: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        at = find(ids, users)
        return np.where(at >= 0, position[at] if len(position) else -1, -1).astype(np.int32)

    return country_of


def _date(ts: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ts)).date().isoformat()


def _quiet(_: str) -> None:
    return
