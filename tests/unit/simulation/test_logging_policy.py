"""The logging policy's propensities against the formula written out by hand, and against frequencies."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.simulation.draws import below, exponential, gumbel, normal, seeds, uniform
from segue.simulation.policy import POOL, fill_slate

Pools = list[dict[int, float]]


def by_hand(pools: Pools, shares: list[float], placed: list[int]) -> dict[int, float]:
    """Chance of every track to be next: the docstring of segue.simulation.policy, word for word."""
    left = [{i: w for i, w in pool.items() if i not in placed} for pool in pools]
    total = sum(s for s, pool in zip(shares, left, strict=True) if pool)
    chance: dict[int, float] = {}
    for share, pool in zip(shares, left, strict=True):
        for i, w in pool.items():
            chance[i] = chance.get(i, 0.0) + share / total * w / sum(pool.values())
    return chance


def fill(
    pools: Pools, shares: list[float], size: int, rng: npt.NDArray[np.uint64]
) -> tuple[list[int], list[float], list[int], list[float]]:
    pool, weight = np.full((3, POOL), -1, np.int32), np.zeros((3, POOL))
    for p, one in enumerate(pools):
        pool[p, : len(one)], weight[p, : len(one)] = list(one), list(one.values())
    count = np.array([len(one) for one in pools])
    track, score = np.full(size, -1, np.int32), np.zeros(size, np.float32)
    chance, sources = np.zeros(size), np.zeros(size, np.uint8)
    n = fill_slate(pool, weight, count, np.array(shares), rng, 0, size, track, score, chance, sources)
    return track[:n].tolist(), chance[:n].tolist(), sources[:n].tolist(), score[:n].tolist()


pool = st.dictionaries(st.integers(0, 12), st.floats(0.01, 5), max_size=8)


@settings(max_examples=200, deadline=None)
@given(st.tuples(pool, pool, pool), st.integers(0, 2**32), st.integers(1, 12))
def test_logged_propensity_is_the_formula(pools: tuple[dict[int, float], ...], seed: int, size: int) -> None:
    shares = [0.3, 0.6, 0.1]
    everything = set().union(*pools)
    tracks, chances, sources, scores = fill(list(pools), shares, size, seeds(seed, 0, 1))
    assert len(tracks) == min(size, len(everything)) == len(set(tracks))
    for slot, (track, chance, mask) in enumerate(zip(tracks, chances, sources, strict=True)):
        wanted = by_hand(list(pools), shares, tracks[:slot])
        assert abs(sum(wanted.values()) - 1) < 1e-9
        assert abs(chance - wanted[track]) < 1e-6
        assert mask == sum(1 << p for p in range(3) if track in pools[p])
        assert abs(np.exp(scores[slot]) - by_hand(list(pools), shares, [])[track]) < 1e-5


def test_frequencies_are_the_propensities() -> None:
    pools: Pools = [{1: 3.0, 2: 1.0}, {2: 1.0, 3: 2.0, 4: 0.5}, {5: 1.0}]
    shares, rng, n = [0.3, 0.6, 0.1], seeds(11, 0, 1), 40_000
    first: dict[int, int] = {}
    second: dict[tuple[int, int], int] = {}
    for _ in range(n):
        one, two = fill(pools, shares, 2, rng)[0]
        first[one] = first.get(one, 0) + 1
        second[one, two] = second.get((one, two), 0) + 1
    for track, chance in by_hand(pools, shares, []).items():
        assert abs(first[track] / n - chance) < 5 * np.sqrt(chance / n)
        for other, then in by_hand(pools, shares, [track]).items():
            assert abs(second.get((track, other), 0) / n - chance * then) < 5 * np.sqrt(chance * then / n)


def test_an_empty_offer_fills_nothing() -> None:
    assert fill([{}, {}, {}], [0.3, 0.6, 0.1], 4, seeds(1, 0, 1))[0] == []


def test_draws_have_their_moments() -> None:
    rng, n = seeds(2, 0, 1), 20_000
    for draw, mean, sd in (
        (uniform, 0.5, 0.289),
        (exponential, 1.0, 1.0),
        (normal, 0.0, 1.0),
        (gumbel, 0.577, 1.283),
    ):
        values = np.array([draw(rng, 0) for _ in range(n)])
        assert abs(values.mean() - mean) < 5 * sd / np.sqrt(n)
        assert abs(values.std() - sd) < 0.05 * sd
    small = np.bincount([below(rng, 0, 7) for _ in range(n)], minlength=7)
    assert len(small) == 7
    assert (np.abs(small / n - 1 / 7) < 0.015).all()
