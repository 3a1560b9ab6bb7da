"""Train: retrieval before a cut, ranker samples after it, retrieval again over everything, and a bundle of the result."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segue.bundle import BundleStore, BundleWriter, Manifest
from segue.bundle import catalogue as catalogues
from segue.bundle.catalogue import Catalogue, find
from segue.contracts.errors import InvalidData
from segue.contracts.ports import Engine
from segue.contracts.tables import LISTENERS
from segue.contracts.vocabulary import DAY
from segue.recommend.artifacts import Artifacts, Retrieval, Snapshots
from segue.recommend.pipeline import Recommender
from segue.recommend.ranker import Ranker
from segue.settings.tree import Settings
from segue.training.catalogue import load_catalogue
from segue.training.features import join_features, ranker_features, snapshots
from segue.training.history import Plays, load_plays
from segue.training.ranker import fit_ranker
from segue.training.replay import Replay
from segue.training.retrieval import fit_retrieval
from segue.training.samples import Moments, draw, home_moments, next_moments

Progress = Callable[[str], None]
MOMENTS = {"home": home_moments, "next-up": next_moments}
"""Surfaces that have a ranker of their own, and how their samples are drawn."""


@dataclass(frozen=True)
class Trained:
    """Everything a bundle holds, still in memory."""

    catalogue: Catalogue
    retrieval: Retrieval
    rankers: dict[str, Ranker]
    snapshots: Snapshots
    until: int

    def artifacts(self, version: str = "unpublished") -> Artifacts:
        """Ready to answer requests."""
        return Artifacts.of(version, self.catalogue, self.retrieval, self.rankers, self.snapshots)


def train(engine: Engine, settings: Settings, until: int, progress: Progress) -> Trained:
    """Train on what happened before `until` (microseconds). Raises InvalidData where there are no plays."""
    catalogue, tracks = load_catalogue(engine)
    since = until - settings.training.history_days * DAY
    plays = load_plays(engine, catalogue, since=since, until=until)
    if not plays.listened.any():
        raise InvalidData(
            f"no listens before {_date(until)}: import or simulate some events and run the flow",
            field="listens",
        )
    country_of = _countries(engine, catalogue)
    cut = sample_cut(plays, until, settings.training.ranker_days)
    before = plays.where(plays.ts < cut)
    rankers: dict[str, Ranker] = {}
    if before.listened.any():
        progress(f"retrieval before {_date(cut)}, for ranker samples")
        earlier = fit_retrieval(before, catalogue, tracks, country_of, cut, settings.training, _quiet)
        rankers = _fit_rankers(engine, settings, catalogue, earlier, plays, cut, until, progress)
    progress(f"retrieval before {_date(until)}")
    retrieval = fit_retrieval(plays, catalogue, tracks, country_of, until, settings.training, progress)
    return Trained(catalogue, retrieval, rankers, snapshots(engine, catalogue, until), until)


def write(
    trained: Trained,
    store: BundleStore,
    settings: Settings,
    metrics: dict[str, dict[str, float]],
    notes: dict[str, str],
    extra: Callable[[BundleWriter], None],
) -> Manifest:
    """Write the bundle; it is not published yet. `extra` may add files of its own."""
    with BundleWriter(store.root) as writer:
        catalogues.save(trained.catalogue, writer)
        trained.retrieval.save(writer)
        trained.snapshots.save(writer)
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
            notes=notes,
        )


def sample_cut(plays: Plays, until: int, ranker_days: int) -> int:
    """Where the ranker's window begins: `ranker_days` before `until`, but at most a quarter of the history."""
    first = int(plays.ts.min())
    window = min(ranker_days * DAY, (until - first) // 4)
    return until - window


def _fit_rankers(
    engine: Engine,
    settings: Settings,
    catalogue: Catalogue,
    earlier: Retrieval,
    plays: Plays,
    cut: int,
    until: int,
    progress: Progress,
) -> dict[str, Ranker]:
    artifacts = Artifacts.of("samples", catalogue, earlier, {}, None)
    rng = np.random.default_rng(settings.training.seed)
    rankers: dict[str, Ranker] = {}
    for surface, draw_moments in MOMENTS.items():
        moments: Moments = draw_moments(
            plays, catalogue.track_id, cut, settings.training.max_sample_requests, rng
        )
        if len(moments) == 0:
            continue
        progress(f"{surface}: replaying {len(moments):,} requests")
        replay = Replay.load(engine, moments.user_id, until, settings.state)
        recommender = Recommender(artifacts, settings.surfaces, lambda _: None, settings.serving.max_k)
        started = time.perf_counter()
        samples = draw(recommender, replay, moments, rng)
        names = ranker_features(samples.names)
        progress(
            f"{surface}: {len(samples):,} samples, {int(samples.played.sum()):,} played "
            f"({time.perf_counter() - started:.1f} s); joining {len(names)} features"
        )
        x = join_features(engine, samples, names, settings.state)
        progress(f"{surface}: fitting {settings.training.trees} trees per objective")
        rankers[surface] = fit_ranker(samples, x, names, settings.training)
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
