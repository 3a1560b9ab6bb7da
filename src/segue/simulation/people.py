"""Making listeners: where they live, what they like now and later, and whom they know.

Everyone starts from one to four favourite scenes, more often scenes at home in their country. From these come a
liking per genre and a point in the taste space; both move in a straight line to where they will be at the end of
the history. Listeners hear of music mostly in the scenes that fit them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from segue.contracts.vocabulary import DAY
from segue.simulation.config import SimulationConfig
from segue.simulation.music import Scenes
from segue.simulation.words import COUNTRIES, GENRES
from segue.simulation.world import EXPLICIT, F32, F64, I32, I64, LISTENER_ROW, PRIVATE, SCENES, TASTE, People

__all__ = ["Habits", "make_people"]

_FAVOURITES = 4
_BATCH = 4_096


class Habits(NamedTuple):
    """How listeners live: country int32[u] (indexes COUNTRIES), joined int64[u] (microseconds, ascending),
    premium bool[u], rate float64[u] (sessions a day), shift float32[u] (hours their day lies later than others')."""

    country: I32
    joined: I64
    premium: npt.NDArray[np.bool_]
    rate: F64
    shift: F32


def make_people(config: SimulationConfig, scenes: Scenes) -> tuple[People, Habits]:
    """All listeners of the period with their truth, and their habits."""
    rng = np.random.default_rng([config.seed, 3])
    n = config.listeners
    habits = _make_habits(config, rng)
    favourites = _draw_favourites(scenes, habits.country, rng)
    n_favourites = rng.integers(1, _FAVOURITES + 1, n)
    taste0, genre0 = _tastes(scenes, favourites, n_favourites, rng)
    moved = favourites.copy()
    # Why the last favourite: the first ones are the roots of a taste, and stay.
    moved[:, 1] = _draw_favourites(scenes, habits.country, rng)[:, 1]
    taste2, genre2 = _tastes(scenes, moved, np.maximum(n_favourites, 2), rng)
    step = config.drift * rng.uniform(0.4, 1.6, (n, 1)).astype(np.float32)
    step = np.minimum(step, 1.0, dtype=np.float32)
    taste1 = taste0 + step * (taste2 - taste0)
    genre1 = genre0 + step * (genre2 - genre0)
    scenes0, reach0 = _reachable(scenes, taste0, genre0)
    scenes1, reach1 = _reachable(scenes, taste1, genre1)
    friend_ptr, friend = _make_friends(n, favourites[:, 0], rng)
    who = np.zeros(n, LISTENER_ROW)
    for name, values in {
        "country": np.uint64(1) << habits.country.astype(np.uint64),
        "explicit_ok": rng.random(n) >= config.no_explicit_share,
        "consent": rng.random(n) >= config.no_consent_share,
        "taste0": taste0,
        "taste1": taste1,
        "genre0": genre0,
        "genre1": genre1,
        "scenes0": scenes0,
        "scenes1": scenes1,
        "reach0": reach0,
        "reach1": reach1,
    }.items():
        who[name] = values
    refuses = who["country"] | PRIVATE | np.where(who["explicit_ok"], np.uint64(0), EXPLICIT)
    people = People(who, refuses, friend_ptr, friend)
    return people, habits


def _make_habits(config: SimulationConfig, rng: np.random.Generator) -> Habits:
    n = config.listeners
    share = np.array([c[1] for c in COUNTRIES])
    joining = rng.random(n) < config.joining_share
    before = config.start_us - (rng.exponential(400 * DAY, n)).astype(np.int64) - 1
    during = config.start_us + (rng.random(n) * (config.end_us - config.start_us)).astype(np.int64)
    sigma = 1.0
    return Habits(
        country=rng.choice(len(COUNTRIES), n, p=share / share.sum()).astype(np.int32),
        joined=np.sort(np.where(joining, during, before)),
        premium=rng.random(n) < 0.4,
        rate=np.minimum(config.sessions_per_day * rng.lognormal(-sigma * sigma / 2, sigma, n), 8.0),
        shift=rng.normal(0, 2.5, n).astype(np.float32),
    )


def _draw_favourites(scenes: Scenes, country: I32, rng: np.random.Generator) -> I32:
    """int32[u, _FAVOURITES] scenes by size, four times as likely where a scene is at home in the listener's country."""
    out = np.empty((len(country), _FAVOURITES), np.int32)
    for c in np.unique(country):
        rows = np.flatnonzero(country == c)
        weight = scenes.size * np.where(scenes.home == c, 4.0, 1.0)
        out[rows] = rng.choice(len(weight), (len(rows), _FAVOURITES), p=weight / weight.sum())
    return out


def _tastes(
    scenes: Scenes, favourites: I32, n_favourites: npt.NDArray[np.int64], rng: np.random.Generator
) -> tuple[F32, F32]:
    """Taste float32[u, TASTE] near the favourites' centres, and liking float32[u, genres]."""
    n = len(favourites)
    importance = np.array([1.0, 0.75, 0.6, 0.5]) * (np.arange(_FAVOURITES) < n_favourites[:, None])
    share = (importance / importance.sum(axis=1, keepdims=True)).astype(np.float32)
    taste = np.einsum("uf,ufk->uk", share, scenes.centre[favourites])
    taste += rng.normal(0, 0.12, (n, TASTE)).astype(np.float32)
    taste *= 0.9 / np.maximum(np.linalg.norm(taste, axis=1, keepdims=True), 1e-6)
    liking = rng.normal(-0.7, 0.3, (n, len(GENRES))).astype(np.float32)
    for f in range(_FAVOURITES):
        rows = np.flatnonzero(f < n_favourites)
        genre = scenes.genre[favourites[rows, f]]
        liking[rows, genre] = np.maximum(liking[rows, genre], np.float32(1.2 - 0.25 * f))
    return taste.astype(np.float32), liking


def _reachable(scenes: Scenes, taste: F32, liking: F32) -> tuple[I32, F32]:
    """The scenes a listener hears of: int32[u, s] and cumulative chances float32[u, s]."""
    picked = np.empty((len(taste), SCENES), np.int32)
    reach = np.empty((len(taste), SCENES), np.float32)
    for at in range(0, len(taste), _BATCH):
        rows = slice(at, at + _BATCH)
        fit = taste[rows] @ scenes.centre.T + liking[rows][:, scenes.genre] + 0.4 * np.log(scenes.size)
        best = np.argpartition(-fit, SCENES - 1, axis=1)[:, :SCENES]
        best = np.take_along_axis(best, np.argsort(-np.take_along_axis(fit, best, axis=1), axis=1), axis=1)
        chance = np.exp(1.1 * np.take_along_axis(fit, best, axis=1))
        chance = np.cumsum(chance, axis=1)
        picked[rows] = best
        reach[rows] = chance / chance[:, -1:]
    return picked, reach


def _make_friends(n: int, circle: I32, rng: np.random.Generator) -> tuple[I64, I32]:
    """Mutual friends, heavy-tailed in number, two thirds of them with the same first favourite scene.

    Returns int64[n + 1] pointers and the friends, int32, sorted within each listener.
    """
    degree = np.minimum(rng.geometric(0.35, n) - 1 + (rng.pareto(2.2, n) * 0.6).astype(np.int64), 60)
    one = np.repeat(np.arange(n), degree)
    order = np.argsort(circle, kind="stable")
    place = np.empty(n, np.int64)
    place[order] = np.arange(n)
    near = order[np.clip(place[one] + rng.integers(-12, 13, len(one)), 0, n - 1)]
    two = np.where(rng.random(len(one)) < 0.67, near, rng.integers(0, n, len(one)))
    keep = one != two
    both = np.unique(np.concatenate([one[keep] * n + two[keep], two[keep] * n + one[keep]]))
    pointers = np.concatenate([[0], np.cumsum(np.bincount(both // n, minlength=n))]).astype(np.int64)
    return pointers, (both % n).astype(np.int32)
