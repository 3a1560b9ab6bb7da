"""Popularity lists against a count by hand."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from segue.contracts.errors import InvalidData, InvalidSettings
from segue.models.interactions import Interactions
from segue.models.popularity import (
    ANY,
    DAY_US,
    DAYS_OF_TRACK,
    Popular,
    Popularity,
    PopularityConfig,
    latest_days,
)

NOW = 1_700_000_000_000_000


def plays(seed: int, n: int = 800) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    return (
        rng.integers(0, 30, n),
        NOW - rng.integers(0, 60 * DAY_US, n),
        rng.integers(-1, 4, n),
        rng.integers(-1, 3, n),
        rng.uniform(0.5, 2.0, n),
    )


def by_hand(columns: tuple[np.ndarray, ...], half_life: float) -> dict[tuple[int, int], dict[int, float]]:
    cells: dict[tuple[int, int], dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for track, ts, country, genre, weight in zip(*columns, strict=True):
        decayed = weight * 0.5 ** ((NOW - ts) / (half_life * DAY_US))
        for cell in {(ANY, ANY), (int(country), ANY), (ANY, int(genre)), (int(country), int(genre))}:
            if _is_own_cell(cell, int(country), int(genre)):
                cells[cell][int(track)] += decayed
    return cells


def _is_own_cell(cell: tuple[int, int], country: int, genre: int) -> bool:
    """Unknown codes count in the wider lists only, and once."""
    return all(code in (ANY, known) for code, known in zip(cell, (country, genre), strict=True))


def test_every_cell_equals_the_count_by_hand() -> None:
    columns = plays(0)
    model = Popularity.fit(*columns, NOW, PopularityConfig(half_life_days=10, top=12, min_weight=0))
    expected = by_hand(columns, 10)
    assert set(zip(model.countries.tolist(), model.genres.tolist(), strict=True)) == set(expected)
    for (country, genre), counts in expected.items():
        items, scores = model.ranked(country, genre)
        best = sorted(counts, key=lambda track: (-counts[track], track))[:12]
        assert_array_equal(items, best)
        assert_allclose(scores, [counts[track] for track in best], rtol=1e-5)


def test_a_play_counts_half_after_a_half_life() -> None:
    columns = (
        np.array([7, 8]),
        np.array([NOW, NOW - 14 * DAY_US]),
        np.zeros(2, int),
        np.zeros(2, int),
        np.ones(2),
    )
    _, scores = Popularity.fit(*columns, NOW, PopularityConfig(half_life_days=14)).ranked()
    assert_allclose(scores, [1.0, 0.5])


def test_thin_cells_back_off_to_wider_ones() -> None:
    tracks = np.array([1] * 30 + [2] * 25 + [3])
    countries = np.array([0] * 30 + [1] * 25 + [1])
    genres = np.array([0] * 30 + [1] * 25 + [2])
    model = Popularity.fit(
        tracks, np.full(56, NOW), countries, genres, np.ones(56), NOW, PopularityConfig(min_weight=20)
    )
    assert_array_equal(model.ranked(0, 0)[0], [1])
    assert_array_equal(model.ranked(0, 1)[0], [2])  # nothing of the genre there: the genre everywhere
    assert_array_equal(model.ranked(1, 2)[0], [2, 3])  # genre 2 too thin: the country
    assert_array_equal(model.ranked(9, 9)[0], [1, 2, 3])


def test_no_plays_and_future_plays() -> None:
    empty = tuple(np.empty(0, kind) for kind in (np.int64, np.int64, np.int32, np.int32, np.float64))
    model = Popularity.fit(*empty, NOW, PopularityConfig())
    assert len(model.ranked(3, 4)[0]) == 0
    columns = plays(1, 5)
    with pytest.raises(InvalidData, match="later"):
        Popularity.fit(columns[0], columns[1] + 60 * DAY_US, *columns[2:], NOW, PopularityConfig())
    with pytest.raises(InvalidData, match="equally long"):
        Popularity.fit(columns[0][:-1], *columns[1:], NOW, PopularityConfig())


def test_round_trip_and_settings() -> None:
    model = Popularity.fit(*plays(2), NOW, PopularityConfig(min_weight=0))
    again = Popularity.from_arrays(model.arrays())
    assert_array_equal(again.ranked(2, 1)[0], model.ranked(2, 1)[0])
    with pytest.raises(InvalidSettings):
        PopularityConfig(half_life_days=0)
    with pytest.raises(InvalidSettings):
        PopularityConfig(top=0)


def test_popular_counts_listeners_not_plays() -> None:
    interactions = Interactions.from_pairs(
        np.array([0, 0, 1]), np.array([1, 2, 1]), np.array([1.0, 9.0, 1.0]), n_users=2, n_items=4
    )
    model = Popular.from_arrays(Popular.fit(interactions).arrays())
    assert_array_equal(model.scores(interactions), [[0, 2, 1, 0]] * 2)


def test_of_a_listeners_days_with_a_track_the_latest_count_once_each() -> None:
    rng = np.random.default_rng(3)
    listeners, tracks = rng.integers(0, 6, 900), rng.integers(0, 5, 900)
    ts = NOW - rng.permutation(900) * DAY_US // 40
    counted = latest_days(listeners, tracks, ts)
    expected = set()
    for pair in {*zip(listeners.tolist(), tracks.tolist(), strict=True)}:
        mine = np.flatnonzero((listeners == pair[0]) & (tracks == pair[1]))
        last = {int(ts[play] // DAY_US): int(play) for play in mine[np.argsort(ts[mine])]}
        expected |= {last[day] for day in sorted(last)[-DAYS_OF_TRACK:]}
    assert_array_equal(np.flatnonzero(counted == 1), sorted(expected))
    assert counted.sum() == len(expected) < 150
    assert len(latest_days(listeners[:0], tracks[:0], ts[:0])) == 0


def test_who_plays_a_track_around_the_clock_moves_it_no_further_than_somebody_who_likes_it() -> None:
    bot = np.full(5_000, 1), np.zeros(5_000, int), NOW - np.arange(5_000) * DAY_US // 700
    people = np.arange(10, 20), np.ones(10, int), np.full(10, NOW - 7 * DAY_US)
    listeners, tracks, ts = (np.concatenate(columns) for columns in zip(bot, people, strict=True))
    unknown = np.full(len(ts), -1)
    counted = latest_days(listeners, tracks, ts)
    tops = [
        Popularity.fit(tracks, ts, unknown, unknown, weights, NOW, PopularityConfig()).ranked()[0][0]
        for weights in (np.ones(len(ts)), counted)
    ]
    assert tops == [0, 1]
