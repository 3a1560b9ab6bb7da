"""Making the catalogue: scenes, artists, releases and tracks with true vectors in a taste space.

A scene is a sub-genre at home in one country, with a centre in the taste space. Artists belong to a scene, tracks
stand near their artist. Sizes and fame are log-normal, so that few artists and tracks hold most of the plays.
Tracks of one release are uploaded together and stand next to each other in order of upload.
"""

# mypy: disable-error-code="untyped-decorator"
# Why: numba's decorators carry no types.
from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from segue.contracts.vocabulary import DAY, HOUR, SECOND
from segue.simulation.config import SimulationConfig
from segue.simulation.draws import below, gumbel, seeds, uniform
from segue.simulation.words import COUNTRIES, GENRES, MOODS
from segue.simulation.world import (
    EXPLICIT,
    F32,
    F64,
    I32,
    I64,
    NEIGHBOURS,
    PRIVATE,
    TASTE,
    TRACK_ROW,
    U8,
    U64,
    Music,
    Records,
)

__all__ = ["Artists", "Scenes", "make_music"]

_PAST_DAYS = 1_095
"""Days before the history from which tracks are."""
_RELEASE_SIZES = np.array([1, 1, 1, 2, 4, 5, 8, 10, 12])
_PROPOSALS = 60


class Scenes(NamedTuple):
    """Scenes: genre, sub, home int32[s] (home indexes COUNTRIES); centre float32[s, TASTE]; size float64[s]."""

    genre: I32
    sub: I32
    home: I32
    centre: F32
    size: F64


class Artists(NamedTuple):
    """Artists: scene, country int32[a]; joined int64[a], microseconds."""

    scene: I32
    country: I32
    joined: I64


def make_music(config: SimulationConfig) -> tuple[Music, Scenes, Artists]:
    """All tracks of the period with their truth, the scenes they belong to and their artists."""
    rng = np.random.default_rng([config.seed, 1])
    scenes = _make_scenes(config, rng)
    scene = rng.choice(len(scenes.genre), config.artists, p=scenes.size / scenes.size.sum()).astype(np.int32)
    country = np.where(
        rng.random(config.artists) < 0.6, scenes.home[scene], _draw_countries(config.artists, rng)
    ).astype(np.int32)
    vector = scenes.centre[scene] + rng.normal(0, 0.28, (config.artists, TASTE)).astype(np.float32)
    fame = rng.normal(0, 0.85, config.artists)
    counts = 1 + _shares(rng.lognormal(0, 1.1, config.artists), config.tracks - config.artists, rng)

    artist, release, uploaded = _make_releases(config, counts, rng)
    n = config.tracks
    mood_taste = rng.dirichlet(np.full(len(MOODS), 0.35), len(scenes.genre))
    quality = rng.normal(0, 0.45, n).astype(np.float32)
    public = rng.random(n) >= config.private_share
    weight = np.exp(fame[artist] + rng.normal(0, 0.75, n) + 0.8 * quality) * public
    track_scene = scene[artist]
    artist_order = np.argsort(artist, kind="stable").astype(np.int32)
    scene_order = np.argsort(track_scene, kind="stable").astype(np.int32)
    track = np.zeros(n, TRACK_ROW)
    for name, values in {
        "artist": artist,
        "genre": scenes.genre[track_scene],
        "scene": track_scene,
        "release": release,
        "mood": _draw_rows(mood_taste, track_scene, rng),
        "vector": vector[artist] + rng.normal(0, 0.22, (n, TASTE)).astype(np.float32),
        "quality": quality,
        "weight": weight,
        "duration": np.clip(rng.lognormal(np.log(232_000), 0.34, n), 12_000, 3_600_000).astype(np.int32),
        "explicit": rng.random(n) < config.explicit_share,
        "public": public,
        "blocked": _make_blocks(config, rng),
        "uploaded": uploaded,
        "neighbours": -1,
    }.items():
        track[name] = values
    music = Music(
        track=track,
        gate=_gates(track),
        scene_ptr=_pointers(track_scene, len(scenes.genre)),
        scene_tracks=scene_order,
        artist_ptr=_pointers(artist, config.artists),
        artist_tracks=artist_order,
    )
    reach = np.concatenate([[0.0], np.cumsum(weight[scene_order])])
    _find_neighbours(music, reach, seeds(config.seed, 2, n))
    joined = uploaded[artist_order[music.artist_ptr[:-1]]] - (
        rng.exponential(60 * DAY, config.artists)
    ).astype(np.int64)
    return music, scenes, Artists(scene, country, joined - HOUR)


def _make_scenes(config: SimulationConfig, rng: np.random.Generator) -> Scenes:
    """Every genre has a scene at least; popular genres have more."""
    genres = len(GENRES)
    count = int(np.clip(config.tracks // 160, genres, 3_000))
    liking = (np.arange(genres) + 2.0) ** -0.7
    more = rng.choice(genres, count - genres, p=liking / liking.sum())
    genre = np.concatenate([np.arange(genres), more]).astype(np.int32)
    genre_centre = rng.normal(0, 0.45, (genres, TASTE))
    centre = (genre_centre[genre] + rng.normal(0, 0.6, (count, TASTE))).astype(np.float32)
    return Scenes(
        genre,
        rng.integers(0, 6, count).astype(np.int32),
        _draw_countries(count, rng),
        centre,
        rng.lognormal(0, 0.5, count),
    )


def _make_releases(
    config: SimulationConfig, counts: npt.NDArray[np.int64], rng: np.random.Generator
) -> tuple[I32, I32, I64]:
    """Cut each artist's tracks into releases, date them, and order all tracks by upload.

    Returns artist int32[n], release int32[n] and uploaded int64[n] in microseconds, strictly ascending in a release.
    """
    n = config.tracks
    sizes = rng.choice(_RELEASE_SIZES, n)
    starts = np.zeros(n, bool)
    cuts = np.cumsum(sizes)
    starts[cuts[cuts < n]] = True
    starts[np.concatenate([[0], np.cumsum(counts)[:-1]])] = True
    release = np.cumsum(starts) - 1
    begin = np.flatnonzero(starts)
    low = config.start_us - _PAST_DAYS * DAY
    span = config.end_us - HOUR - low
    # Why the power: catalogues grow, so later days see more uploads.
    moment = (low + span * rng.random(len(begin)) ** 0.6).astype(np.int64) // SECOND * SECOND
    uploaded = moment[release] + (np.arange(n) - begin[release]) * SECOND
    order = np.lexsort((np.arange(n), release, moment[release]))
    artist = np.repeat(np.arange(config.artists), counts)
    first_seen = np.unique(release[order], return_index=True)[1]
    renumber = np.empty(len(begin), np.int64)
    renumber[np.argsort(first_seen)] = np.arange(len(begin))
    uploaded = np.maximum.accumulate(uploaded[order])
    return artist[order].astype(np.int32), renumber[release[order]].astype(np.int32), uploaded


def _make_blocks(config: SimulationConfig, rng: np.random.Generator) -> U64:
    """A bit per country in which the track may not be played."""
    blocked = np.zeros(config.tracks, np.uint64)
    rows = np.flatnonzero(rng.random(config.tracks) < config.blocked_share)
    for _ in range(3):
        blocked[rows] |= np.uint64(1) << rng.integers(0, len(COUNTRIES), len(rows)).astype(np.uint64)
    return blocked


def _gates(track: Records) -> U64:
    """Who may not play a track: see Music."""
    gate: U64 = track["blocked"].copy()
    gate[track["explicit"]] |= EXPLICIT
    gate[~track["public"]] |= PRIVATE
    return gate


def _draw_countries(n: int, rng: np.random.Generator) -> I32:
    share = np.array([c[1] for c in COUNTRIES])
    return rng.choice(len(COUNTRIES), n, p=share / share.sum()).astype(np.int32)


def _draw_rows(chances: F64, row: I32, rng: np.random.Generator) -> U8:
    """One draw per entry of `row` from that row of `chances`."""
    cumulative = np.cumsum(chances, axis=1)
    drawn: U8 = (rng.random(len(row))[:, None] > cumulative[row, :-1]).sum(axis=1).astype(np.uint8)
    return drawn


def _shares(weight: F64, total: int, rng: np.random.Generator) -> I64:
    """`total` things dealt to the weights at random."""
    return rng.multinomial(total, weight / weight.sum()).astype(np.int64)


def _pointers(group: I32, n: int) -> I64:
    return np.concatenate([[0], np.cumsum(np.bincount(group, minlength=n))]).astype(np.int64)


@njit(cache=True, nogil=True)
def _find_neighbours(music: Music, reach: F64, rng: U64) -> None:
    """Fill `music.neighbours`: of some public tracks of the scene, drawn by weight, those nearest in taste and mood."""
    best = np.empty(NEIGHBOURS, np.float64)
    for track in range(len(music.track)):
        scene = music.track["scene"][track]
        a, b = music.scene_ptr[scene], music.scene_ptr[scene + 1]
        low, high = reach[a], reach[b]
        row = music.track[track]["neighbours"]
        best[:] = -np.inf
        for _ in range(_PROPOSALS if high > low else 0):
            at = np.searchsorted(reach[a : b + 1], low + uniform(rng, track) * (high - low), side="right") - 1
            other = music.scene_tracks[a + min(at, b - a - 1)]
            if other == track or not music.track["public"][other] or _holds(row, other):
                continue
            score = 0.5 * gumbel(rng, track) + (
                1.0 if music.track["mood"][other] == music.track["mood"][track] else 0.0
            )
            for k in range(TASTE):
                gap = music.track[track]["vector"][k] - music.track[other]["vector"][k]
                score -= 0.5 * gap * gap
            _insert(row, best, other, score)
        # Why: a scene sounds alike, but some of what goes well together comes from elsewhere.
        if below(rng, track, 4) == 0:
            other = below(rng, track, len(music.track))
            if other != track and music.track["public"][other] and not _holds(row, other):
                row[NEIGHBOURS - 1] = other


@njit(cache=True, nogil=True)
def _holds(row: I32, item: int) -> bool:
    for i in range(len(row)):  # noqa: SIM110
        if row[i] == item:
            return True
    return False


@njit(cache=True, nogil=True)
def _insert(row: I32, best: F64, item: int, score: float) -> None:
    """Put `item` at its place in `row`, ordered by score, dropping the last."""
    at = len(row)
    while at > 0 and score > best[at - 1]:
        at -= 1
    for i in range(len(row) - 1, at, -1):
        row[i] = row[i - 1]
        best[i] = best[i - 1]
    if at < len(row):
        row[at] = item
        best[at] = score
