"""A simulated catalogue: the tables of a service before its first event, and the world behind them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segue.contracts.tables import ARTISTS, FRIENDSHIPS, LISTENERS, TRACKS
from segue.simulation.config import SimulationConfig
from segue.simulation.music import Artists, Scenes, make_music
from segue.simulation.people import Habits, make_people
from segue.simulation.text import artist_names, track_texts
from segue.simulation.truth import Truth
from segue.simulation.words import COUNTRIES, GENRES
from segue.simulation.world import ARTIST_BASE, TRACK_BASE, USER_BASE, Music, People

__all__ = ["Catalogue", "generate_catalogue"]

_CODES = [c[0] for c in COUNTRIES]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Tables in the schemas TRACKS, ARTISTS, LISTENERS and FRIENDSHIPS, and what `simulate_days` and evaluations need.

    The tables hold the whole period: tracks uploaded and listeners joining during it are in them with their dates.
    """

    tracks: pa.Table
    artists: pa.Table
    listeners: pa.Table
    friendships: pa.Table
    truth: Truth
    music: Music
    people: People
    habits: Habits


def generate_catalogue(config: SimulationConfig) -> Catalogue:
    """Music and listeners of a whole service. Deterministic by `config`."""
    music, scenes, artists = make_music(config)
    people, habits = make_people(config, scenes)
    truth = Truth(
        track_vector=np.ascontiguousarray(music.track["vector"]),
        track_genre=np.ascontiguousarray(music.track["genre"]),
        track_quality=np.ascontiguousarray(music.track["quality"]),
        track_scene=np.ascontiguousarray(music.track["scene"]),
        track_release=np.ascontiguousarray(music.track["release"]),
        track_mood=np.ascontiguousarray(music.track["mood"]),
        taste_start=np.ascontiguousarray(people.who["taste0"]),
        taste_end=np.ascontiguousarray(people.who["taste1"]),
        liking_start=np.ascontiguousarray(people.who["genre0"]),
        liking_end=np.ascontiguousarray(people.who["genre1"]),
        start_us=config.start_us,
        end_us=config.end_us,
    )
    return Catalogue(
        tracks=_tracks(config, music, scenes),
        artists=_artists(config, artists),
        listeners=_listeners(people, habits),
        friendships=_friendships(people),
        truth=truth,
        music=music,
        people=people,
        habits=habits,
    )


def _tracks(config: SimulationConfig, music: Music, scenes: Scenes) -> pa.Table:
    rng = np.random.default_rng([config.seed, 6])
    titles, descriptions, tags = track_texts(
        music.track["genre"], scenes.sub[music.track["scene"]], music.track["mood"], rng
    )
    return pa.Table.from_arrays(
        [
            pa.array(np.arange(config.tracks) + TRACK_BASE),
            pa.array(music.track["artist"].astype(np.int64) + ARTIST_BASE),
            pa.array(titles, pa.string()),
            pa.array(descriptions, pa.string()),
            _named(music.track["genre"], list(GENRES)),
            pa.array(tags, pa.list_(pa.string())),
            pa.array(music.track["duration"]),
            pa.array(music.track["uploaded"]),
            pa.array(music.track["explicit"]),
            pa.array(music.track["public"]),
            _block_lists(music.track["blocked"]),
            pa.nulls(config.tracks, pa.string()),
        ],
        schema=TRACKS.arrow,
    )


def _artists(config: SimulationConfig, artists: Artists) -> pa.Table:
    rng = np.random.default_rng([config.seed, 7])
    return pa.Table.from_arrays(
        [
            pa.array(np.arange(config.artists) + ARTIST_BASE),
            pa.array(artist_names(config.artists, rng), pa.string()),
            _named(artists.country, _CODES),
            pa.array(artists.joined),
            pa.nulls(config.artists, pa.string()),
        ],
        schema=ARTISTS.arrow,
    )


def _listeners(people: People, habits: Habits) -> pa.Table:
    n = len(habits.joined)
    return pa.Table.from_arrays(
        [
            pa.array(np.arange(n) + USER_BASE),
            _named(habits.country, _CODES),
            pa.array(habits.joined),
            _named(habits.premium.astype(np.int32), ["free", "premium"]),
            pa.array(people.who["explicit_ok"]),
            pa.array(people.who["consent"]),
            pa.nulls(n, pa.string()),
        ],
        schema=LISTENERS.arrow,
    )


def _friendships(people: People) -> pa.Table:
    user = np.repeat(np.arange(len(people.friend_ptr) - 1), np.diff(people.friend_ptr))
    return pa.Table.from_arrays(
        [pa.array(user + USER_BASE), pa.array(people.friend.astype(np.int64) + USER_BASE)],
        schema=FRIENDSHIPS.arrow,
    )


def _named(code: npt.NDArray[np.int32], names: list[str]) -> pa.Array:
    return pa.array(names, pa.string()).take(pa.array(code))


def _block_lists(blocked: npt.NDArray[np.uint64]) -> pa.Array:
    """Lists of country codes from bits; empty where nothing is blocked."""
    rows = np.flatnonzero(blocked)
    bits = (blocked[rows, None] >> np.arange(len(_CODES), dtype=np.uint64)) & np.uint64(1)
    counts = np.zeros(len(blocked), np.int64)
    counts[rows] = bits.sum(axis=1)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), _named(np.nonzero(bits)[1].astype(np.int32), _CODES))
