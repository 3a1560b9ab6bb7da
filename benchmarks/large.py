"""A service of a million tracks: not trained, but of the shapes that training would give it, made from a seed in minutes.

Popularity follows a power law, a third of the tracks were never played, artists have their scenes and scenes their genres.
Sessions are drawn from the scenes, and everything that counts (co-listens, rules, graph filter, session kNN, popularity,
content) is fitted on them as in training; only the factors are drawn instead of learnt: the direction of the scene with
noise, a norm that follows popularity. Daily features are drawn, and the trees grown, with the shipped settings, on made-up rows.
Every listener has a full state. The bundle is written and published the way `segue run` does it.

It stays in the system's temporary directory, some 7 GB, as long as it would be made the same and can be read; `BENCH_LARGE_HOME`
names one to use or to make.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segue.bundle.catalogue import Catalogue, build
from segue.bundle.manifest import FORMAT
from segue.contracts.vocabulary import DAY, MINUTE, SECOND, SESSION_GAP
from segue.features import FEATURES
from segue.features.online import Daily
from segue.features.relations import Artist, Candidate, Entity, Track
from segue.listener.codec import encode
from segue.listener.state import BLOCK, FOLLOW, HIDE, LIKE, MARK, PLAY, ListenerState
from segue.models.co_listen import CoListenConfig, fit_co_listens
from segue.models.content import Content, ContentConfig
from segue.models.graph_filter import GraphFilter, GraphFilterConfig
from segue.models.ials import IALS, IALSConfig
from segue.models.interactions import Interactions
from segue.models.popularity import Popular, Popularity, PopularityConfig
from segue.models.sequence_rules import SequenceRules, SequenceRulesConfig
from segue.models.session_knn import SessionKNN, SessionKNNConfig
from segue.models.sessions import Sessions
from segue.models.tokens import WEIGHTS, tokens
from segue.models.transitions import TransitionsConfig
from segue.recommend.artifacts import Snapshots
from segue.recommend.debuts import Debuts
from segue.recommend.ranker import Ranker
from segue.recommend.retrieval import Retrieval
from segue.settings.tree import Settings
from segue.simulation.words import GENRES, MOODS, NOUNS
from segue.training.build import Trained, write
from segue.training.features import ranker_features
from segue.training.ranker import fit_ranker
from segue.training.samples import Samples
from segue.wiring.home import Home

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]


class Size(msgspec.Struct, frozen=True):
    """How much there is of everything."""

    tracks: int = 1_000_000
    artists: int = 120_000
    scenes: int = 1_500
    sessions: int = 400_000
    listeners: int = 4_000
    seed: int = 7


COUNTRIES = tuple(f"{a}{b}" for a in "ABCDE" for b in "QRSTUV")
SESSION = 12
"""Plays of a session, on average."""
SAMPLES = 30_000
DAYS = 180
"""Of history."""


def large_home(size: Size | None = None) -> Home:
    """The service's home, made first where it is not there yet."""
    size = size or Size()
    own = os.environ.get("BENCH_LARGE_HOME")
    root = Path(own) if own else Path(tempfile.gettempdir()) / f"segue-bench-large-{_digest(size)}"
    if not root.exists():
        _make(root, size)
    return Home.open(root, environ={})


def _digest(size: Size) -> str:
    """Of what decides whether it can be read and would be made the same."""
    made_by = msgspec.json.encode((size, FORMAT, tuple(FEATURES), Settings().training))
    return hashlib.sha256(made_by + Path(__file__).read_bytes()).hexdigest()[:12]


@dataclass(frozen=True)
class World:
    """What the rest is drawn from: of each track its scene, artist (position) and plays; of each scene its direction and genre.

    `by_scene` are the tracks scene after scene, `before` float64[n + 1] the plays of those before each, `first` int64[scenes + 1]
    where each scene begins.
    """

    scene: Ids
    artist: Ids
    plays: npt.NDArray[np.float64]
    direction: Floats
    genre: Ids
    by_scene: Ids
    before: npt.NDArray[np.float64]
    first: I64

    def draw(self, scene: npt.NDArray[np.integer[Any]], rng: np.random.Generator) -> Ids:
        """A track of each scene, by popularity."""
        low, high = self.before[self.first[scene]], self.before[self.first[scene + 1]]
        at = np.searchsorted(self.before, low + rng.random(len(scene)) * (high - low), "right") - 1
        found: Ids = self.by_scene[np.clip(at, self.first[scene], self.first[scene + 1] - 1)]
        return found


def _make(root: Path, size: Size) -> None:
    building = root.with_name(f"{root.name}.{os.getpid()}")
    home = Home.open(building, environ={})
    rng, now = np.random.default_rng(size.seed), time.time_ns() // 1000
    settings = home.settings
    world = _world(size, settings.training.factors, rng)
    tracks, catalogue = _catalogue(world, size, now, rng)
    home.state.fill(_states(world, catalogue, size, now, rng))
    trained = Trained(
        catalogue,
        _retrieval(world, catalogue, tracks, size, settings, now, rng),
        _rankers(settings, rng),
        Snapshots(
            _daily(Track, world.plays, rng),
            _daily(Artist, np.bincount(world.artist, world.plays).astype(float), rng),
        ),
        now,
        Debuts.none(len(catalogue)),
    )
    manifest = write(trained, home.bundles, settings, {}, lambda writer: None)
    home.bundles.publish(manifest.version)
    home.state.close()
    home.log.close()
    building.rename(root)


def _world(size: Size, dims: int, rng: np.random.Generator) -> World:
    spectrum = np.arange(1, dims + 1) ** -0.5
    spectrum *= np.sqrt(dims / (spectrum**2).sum())
    genre = rng.integers(0, len(GENRES), size.scenes).astype(np.int32)
    home = rng.normal(size=(len(GENRES), dims)) * spectrum
    direction = 0.8 * home[genre] + 0.7 * rng.normal(size=(size.scenes, dims)) * spectrum
    weight = rng.zipf(1.5, size.scenes).clip(1, 200).astype(float)
    scene_of_artist = rng.choice(size.scenes, size.artists, p=weight / weight.sum())
    fame = (rng.permutation(size.artists) + 1.0) ** -0.9
    output = rng.zipf(1.7, size.artists).clip(1, 300).astype(float)
    # Everybody has a track; the rest goes to those who make many.
    artist = np.concatenate(
        [
            np.arange(size.artists),
            rng.choice(size.artists, size.tracks - size.artists, p=output / output.sum()),
        ]
    )
    plays = fame[artist] * rng.pareto(1.1, size.tracks)
    plays *= 30.0 * size.tracks / plays.sum()
    plays[plays < np.quantile(plays, 1 / 3)] = 0.0
    scene = scene_of_artist[artist].astype(np.int32)
    by_scene = np.argsort(scene, kind="stable").astype(np.int32)
    return World(
        scene,
        artist.astype(np.int32),
        plays,
        direction.astype(np.float32),
        genre,
        by_scene,
        np.concatenate([[0.0], np.cumsum(plays[by_scene] + 1e-9)]),
        np.concatenate([[0], np.cumsum(np.bincount(scene, minlength=size.scenes))]),
    )


def _catalogue(world: World, size: Size, now: int, rng: np.random.Generator) -> tuple[pa.Table, Catalogue]:
    n = size.tracks
    genre = world.genre[world.scene]
    feeling = pa.array([word for mood in MOODS for word in mood])
    noun = pa.array(NOUNS)

    def words(values: pa.Array, count: int) -> pa.Array:
        return values.take(pa.array(rng.integers(0, len(values), count)))

    nothing = pa.array([], pa.string())
    blocked = np.zeros(n + 1, np.int32)
    blocked[1:] = np.cumsum(rng.random(n) < 0.02)
    tags = pa.ListArray.from_arrays(
        pa.array(np.arange(0, 2 * n + 1, 2, dtype=np.int32)), words(feeling, 2 * n)
    )
    artist_id = np.sort(rng.choice(2**62, size.artists, replace=False))
    tracks = pa.table(
        {
            "track_id": np.sort(rng.choice(2**62, n, replace=False)),
            "artist_id": artist_id[world.artist],
            "title": pc.binary_join_element_wise(words(feeling, n), words(noun, n), words(noun, n), " "),
            "description": nothing.take(pa.nulls(n, pa.int32())),
            "genre": pa.array(list(GENRES)).take(pa.array(genre)),
            "tags": tags,
            "duration_ms": rng.normal(210_000, 60_000, n).clip(30_000, 900_000).astype(np.int32),
            "uploaded_at": now - (rng.random(n) ** 1.5 * 8 * 365 * DAY).astype(np.int64),
            "explicit": rng.random(n) < 0.08,
            "public": rng.random(n) < 0.97,
            "blocked_countries": pa.ListArray.from_arrays(
                pa.array(blocked), words(pa.array(COUNTRIES), blocked[-1])
            ),
        }
    )
    names = pc.binary_join_element_wise(words(feeling, size.artists), words(noun, size.artists), " ")
    return tracks, build(tracks, pa.table({"artist_id": artist_id, "name": names}), COUNTRIES)


def _retrieval(
    world: World,
    catalogue: Catalogue,
    tracks: pa.Table,
    size: Size,
    settings: Settings,
    now: int,
    rng: np.random.Generator,
) -> Retrieval:
    training, n = settings.training, len(catalogue)
    session, item, ts = _plays(world, size, now, rng)
    sessions = Sessions.from_plays(session, item, ts, session, n_items=n)
    interactions = Interactions.from_pairs(session, item, n_users=size.sessions, n_items=n).binary()
    graph = GraphFilter.fit(interactions, GraphFilterConfig()).neighbours(training.neighbours)
    half_life = training.half_life_days
    popularity = Popularity.fit(
        item,
        ts,
        (session % len(COUNTRIES)).astype(np.int32),
        catalogue.genre[item].astype(np.int32),
        np.ones(len(item), np.float32),
        now,
        PopularityConfig(half_life_days=half_life),
    )
    age = np.exp2(-(now - ts) / (half_life * DAY))
    return Retrieval(
        ials=IALS.of_items(
            _factors(world, rng), IALSConfig(training.factors, unobserved_weight=training.unobserved)
        ),
        graph=graph,
        co_listens=fit_co_listens(sessions, CoListenConfig(neighbours=training.neighbours), now=now),
        rules=SequenceRules.fit(sessions, SequenceRulesConfig(neighbours=training.neighbours), now=now),
        session_knn=SessionKNN.fit(sessions, SessionKNNConfig()),
        transitions=TransitionsConfig(),
        popularity=popularity,
        popular=Popular(np.bincount(item, age, n).astype(np.float32)),
        content=Content.fit(*tokens(tracks), WEIGHTS, ContentConfig()),
    )


def _plays(world: World, size: Size, now: int, rng: np.random.Generator) -> tuple[I64, Ids, I64]:
    """Of each play: its session, track and time. A session stays in its scene for three plays of four."""
    length = rng.poisson(SESSION, size.sessions).clip(2)
    session = np.repeat(np.arange(size.sessions), length)
    begin = now - (rng.random(size.sessions) * DAYS * DAY).astype(np.int64) - 2 * SESSION_GAP
    ts = (
        begin[session]
        + (np.arange(len(session)) - np.repeat(np.cumsum(length) - length, length)) * 3 * MINUTE
    )
    return session, world.draw(_scenes(world, size.sessions, rng)[session], rng), ts


def _scenes(world: World, count: int, rng: np.random.Generator) -> I64:
    """Scenes, by how much is played of them."""
    share = np.diff(world.before[world.first])
    return rng.choice(len(share), count, p=share / share.sum())


def _factors(world: World, rng: np.random.Generator) -> Floats:
    """Directions spread around their scene's; norms follow the plays, and are zero without any."""
    n, dims = len(world.plays), world.direction.shape[1]
    factors = rng.standard_normal((n, dims), np.float32)
    factors *= (0.7 * np.std(world.direction, axis=0)).astype(np.float32)
    factors += world.direction[world.scene]
    norms = np.log1p(world.plays) ** 0.7 * np.exp(0.15 * rng.normal(size=n))
    factors *= (norms / np.linalg.norm(factors, axis=1)).astype(np.float32)[:, None]
    return factors


def _daily(entity: Entity, plays: npt.NDArray[np.float64], rng: np.random.Generator) -> Daily:
    """Counts around the plays where there are any, defaults elsewhere."""
    names = [name for name, feature in FEATURES.items() if feature.entity is entity]
    values = np.array([[FEATURES[name].default for name in names]], np.float32).repeat(len(plays), axis=0)
    heard = np.flatnonzero(plays > 0)
    for column in range(len(names)):
        values[heard, column] = plays[heard] * rng.lognormal(0.0, 0.5, len(heard))
    return Daily(names, values)


def _rankers(settings: Settings, rng: np.random.Generator) -> dict[str, Ranker]:
    """Trees of the shipped size, grown on features that are as skewed as real ones and say something of the labels."""
    names = ranker_features(tuple(name for name, f in FEATURES.items() if f.entity is Candidate))
    x = rng.lognormal(0.0, 1.0, (SAMPLES, len(names))).astype(np.float32)
    x[rng.random(x.shape) < 0.2] = np.nan
    known = np.log1p(np.nan_to_num(x))
    rows = np.arange(SAMPLES)

    def label(share: float) -> npt.NDArray[np.bool_]:
        worth = known @ rng.normal(size=len(names)) + rng.normal(size=SAMPLES)
        likely: npt.NDArray[np.bool_] = worth > np.quantile(worth, 1 - share)
        return likely

    found = {}
    for surface in settings.training.rankers:
        samples = Samples(
            surface,
            (rows // 30).astype(np.int32),
            rows,
            rows,
            rows,
            played=label(0.1),
            skipped=label(0.05),
            liked=label(0.02),
            columns=x[:, :0],
            names=(),
        )
        found[surface] = fit_ranker(samples, x, names, settings.training)
    return found


def _states(
    world: World, catalogue: Catalogue, size: Size, now: int, rng: np.random.Generator
) -> Iterator[tuple[int, bytes]]:
    """Listeners with as many plays as are kept, of four scenes, three sessions a day until an hour ago; and some marks."""
    settings = Settings()
    most = settings.state.max_plays
    for user_id in range(1, size.listeners + 1):
        session = np.arange(most)[::-1] // SESSION
        tracks = world.draw(rng.choice(_scenes(world, 4, rng), session.max() + 1)[session], rng)
        begin = now - 60 * MINUTE - session * 8 * 60 * MINUTE
        plays = np.zeros(most, PLAY)
        plays["session_start"] = begin
        plays["ts"] = begin + np.arange(most) % SESSION * 200 * SECOND
        plays["track_id"] = catalogue.track_id[tracks]
        plays["artist_id"] = catalogue.artists_of(tracks)
        plays["ms_played"] = rng.integers(5_000, 240_000, most)
        plays["listened"] = plays["ms_played"] >= 30_000
        plays["skipped"] = ~plays["listened"]
        plays = plays[np.lexsort((plays["track_id"], plays["ts"]))]
        marks = np.zeros(40, MARK)
        marks["kind"] = np.repeat([LIKE, FOLLOW, HIDE, BLOCK], [25, 10, 3, 2])
        of_artist = np.isin(marks["kind"], (FOLLOW, BLOCK))
        some = rng.choice(np.unique(tracks), 40)
        marks["target_id"] = np.where(of_artist, catalogue.artists_of(some), catalogue.track_id[some])
        marks["on"], marks["ts"] = True, now - rng.integers(1, 90, 40) * DAY
        _, first = np.unique(marks[["kind", "target_id"]], return_index=True)
        country = COUNTRIES[user_id % len(COUNTRIES)]
        yield (
            user_id,
            encode(
                ListenerState(
                    user_id,
                    country,
                    "free",
                    now - 400 * DAY,
                    explicit_ok=user_id % 5 > 0,
                    plays=plays,
                    marks=marks[first],
                )
            ),
        )
