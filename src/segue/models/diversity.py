"""Choosing the slots: relevance against sameness, artist spacing, and exploration with known propensities.

Greedy maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998). With S the tracks already placed, the next is

    argmax over allowed i of  (1 - strength) * relevance[i] - strength * max over j in S of similarity(i, j)

`relevance` is the score rescaled to 0..1 over the candidates, so that one strength means the same on every surface;
`similarity` is the cosine of the item vectors or, without vectors, 1 for two tracks of one artist and 0 otherwise.

Artist spacing narrows "allowed" slot by slot. Exploration replaces the greedy choice with probability `explore` by
a draw from the allowed part of a pool, each with the chance `weight / sum of the weights`: the probability of what was
shown is known exactly and can be logged, and off-policy estimates divide by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from numba import njit

from segue.contracts.errors import InvalidInput, InvalidSettings

# Bits of `Selection.moved_by`: why a track is lower than its score, or here at all.
MOVED_BY_DIVERSITY: Final = 1  # had the best score of those allowed, but a less similar track was taken first
MOVED_BY_SPACING: Final = 2  # would have been taken earlier, but its artist had just been placed
MOVED_BY_EXPLORATION: Final = 4  # an exploration draw took the slot it would have had
DRAWN: Final = 8  # is here because an exploration draw chose it


class SelectionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How slots are filled."""

    strength: float = 0.3
    """Weight of diversity against relevance: 0 is the order of the scores, 1 looks at similarity only."""
    artist_spacing: int = 0
    """At least this many other tracks between two of one artist, as long as any candidate allows it."""
    max_per_artist: int = 0
    """At most this many tracks of one artist, even if the list gets shorter; 0 means no limit."""
    explore: float = 0.0
    """Probability that a slot is drawn from the exploration pool."""

    def __post_init__(self) -> None:
        for name in ("strength", "explore"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InvalidSettings(f"{name} must be between 0 and 1", field=name, limit="0..1")
        for name in ("artist_spacing", "max_per_artist"):
            if getattr(self, name) < 0:
                raise InvalidSettings(f"{name} must not be negative", field=name, limit=">= 0")


@dataclass(frozen=True, slots=True)
class Selection:
    """What goes into the slots, all of length m <= k (shorter only when the candidates or the artist limit run out)."""

    order: npt.NDArray[np.int32]
    """Index of the candidate in each slot."""
    propensity: npt.NDArray[np.float64]
    """Probability that this slot shows this candidate, given the slots before it."""
    rank: npt.NDArray[np.int32]
    """Where the score alone would have placed the candidate, from 0."""
    moved_by: npt.NDArray[np.uint8]
    """The MOVED_BY_* and DRAWN bits."""


def select(
    scores: npt.NDArray[np.float32],
    k: int,
    config: SelectionConfig,
    *,
    artists: npt.NDArray[np.int64],
    vectors: npt.NDArray[np.float32] | None = None,
    rows: npt.NDArray[np.int32] | None = None,
    pool: npt.NDArray[np.bool_] | npt.NDArray[np.float64] | None = None,
    once: npt.NDArray[np.bool_] | None = None,
    uniforms: npt.NDArray[np.float64] | None = None,
) -> Selection:
    """Fill k slots from n candidates.

    scores: float32[n], finite, higher is better. artists: int64[n]; 0 and below is unknown and clashes with nobody.
    vectors: float32[n, d] of any length (they are normalised); a zero vector is similar to nothing. With `rows` int32[n] given,
    that of candidate i is vectors[rows[i]].
    pool: what exploration may draw: bool[n], all alike, or float64[n], weights; 0 is not in it. once: bool[n], those of the
    pool of which a page draws one at most: behind one of them the others are not in the pool. uniforms: float64[>= k, 2] in
    [0, 1), needed when `config.explore` > 0: the first number of a row decides whether the slot explores, the second which
    member of the pool it shows.

    The order of the input does not matter, except between equal scores. Raises InvalidInput for arrays that do not
    fit together or scores that are not finite.
    """
    _check(scores, k, config, artists, vectors if rows is None else rows, pool, once, uniforms)
    by_score = np.argsort(-scores, kind="stable")
    nothing = np.empty(0)
    order, propensity, moved_by = _select(
        *_sorted(scores, k, config, artists, vectors, rows, pool, once, uniforms, by_score),
        np.empty(0, np.int32),
        False,
        np.empty((0, 0)),
        nothing,
        nothing,
        nothing,
    )
    return Selection(by_score[order].astype(np.int32), propensity, order, moved_by)


@dataclass(frozen=True, slots=True)
class Chances:
    """What a recipe would have done with the slots of a page that was filled by another."""

    chance: npt.NDArray[np.float64]
    """Probability that the slot shows the candidate asked about, given the slots before it. float64[m]."""
    expected: npt.NDArray[np.float64]
    """Mean of `values` over what the slot would show, given the slots before it. float64[m]; zeros without `values`."""
    repeated: npt.NDArray[np.float64]
    """Probability that the slot shows a candidate that was asked about for a slot above it. float64[m]."""


def chances(
    scores: npt.NDArray[np.float32],
    asked: npt.NDArray[np.int32],
    config: SelectionConfig,
    *,
    artists: npt.NDArray[np.int64],
    vectors: npt.NDArray[np.float32] | None = None,
    rows: npt.NDArray[np.int32] | None = None,
    pool: npt.NDArray[np.bool_] | npt.NDArray[np.float64] | None = None,
    once: npt.NDArray[np.bool_] | None = None,
    uniforms: npt.NDArray[np.float64] | None = None,
    values: npt.NDArray[np.float64] | None = None,
) -> Chances:
    """How likely `select` with these candidates would show, slot by slot, the candidates `asked` int32[m]; -1 is none of them.

    Without `uniforms` the slots before are those asked about: from the first slot whose chance is 0 on, all are 0 (and
    `expected` too, behind that slot). With `uniforms` float64[>= m, 2] the slots before are what they draw, as in `select`.
    values float64[m, n]: of each candidate in each slot. The rest is as in `select`. Raises InvalidInput likewise.
    """
    n, m = len(scores), min(len(asked), len(scores))
    draws = np.ones((m, 2)) if uniforms is None else uniforms  # 1 is never below `explore`
    _check(scores, m, config, artists, vectors if rows is None else rows, pool, once, draws)
    by_score = np.argsort(-scores, kind="stable")
    place = np.empty(n + 1, np.int32)
    place[by_score], place[-1] = np.arange(n), -1
    chance, expected, repeated = np.zeros((3, len(asked)))
    _select(
        *_sorted(scores, m, config, artists, vectors, rows, pool, once, draws, by_score),
        place[asked[:m]],
        uniforms is None,
        np.zeros((0, n)) if values is None else np.ascontiguousarray(values[:, by_score]),
        chance,
        expected,
        repeated,
    )
    return Chances(chance, expected, repeated)


def _check(
    scores: npt.NDArray[np.float32],
    k: int,
    config: SelectionConfig,
    artists: npt.NDArray[np.int64],
    vectors: npt.NDArray[Any] | None,
    pool: npt.NDArray[Any] | None,
    once: npt.NDArray[np.bool_] | None,
    uniforms: npt.NDArray[np.float64] | None,
) -> None:
    n = len(scores)
    if k < 0:
        raise InvalidInput(f"k must not be negative, got {k}", field="k", limit=">= 0")
    for name, array in (("artists", artists), ("vectors", vectors), ("pool", pool), ("once", once)):
        if array is not None and len(array) != n:
            raise InvalidInput(f"{name} has {len(array)} rows for {n} scores", field=name, limit=f"{n} rows")
    if not np.isfinite(scores).all():
        raise InvalidInput("scores must be finite", field="scores", limit="finite")
    if pool is not None and not (np.isfinite(pool).all() and (pool >= 0).all()):
        raise InvalidInput("pool: weights must be finite and not negative", field="pool", limit=">= 0")
    if config.explore > 0.0 and (
        uniforms is None or uniforms.shape[0] < min(k, n) or uniforms.shape[1:] != (2,)
    ):
        raise InvalidInput(
            "exploration needs uniforms of shape (k, 2)", field="uniforms", limit="float64[k, 2]"
        )


def _sorted(
    scores: npt.NDArray[np.float32],
    k: int,
    config: SelectionConfig,
    artists: npt.NDArray[np.int64],
    vectors: npt.NDArray[np.float32] | None,
    rows: npt.NDArray[np.int32] | None,
    pool: npt.NDArray[np.bool_] | npt.NDArray[np.float64] | None,
    once: npt.NDArray[np.bool_] | None,
    uniforms: npt.NDArray[np.float64] | None,
    by_score: npt.NDArray[np.intp],
) -> tuple[Any, ...]:
    """The kernel's first arguments: candidates by falling score."""
    n = len(scores)
    return (
        scores[by_score],
        min(k, n),
        np.float32(config.strength),
        artists[by_score],
        np.empty((n, 0), np.float32)
        if vectors is None
        else _unit_rows(vectors, by_score if rows is None else rows[by_score]),
        vectors is None,
        config.artist_spacing,
        config.max_per_artist if config.max_per_artist > 0 else n,
        config.explore,
        np.zeros(n) if pool is None or config.explore == 0.0 else pool[by_score].astype(np.float64),
        np.zeros(n, np.bool_) if once is None else once[by_score],
        np.zeros((0, 2)) if uniforms is None else uniforms,
    )


# Fastmath lets the compiler reorder the sums, here and in _similarity, which is what vectorizes them.
@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _unit_rows(vectors: npt.NDArray[np.float32], order: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """float32[n, d]: some rows, at unit length; zeros stay zeros."""
    n, d = len(order), vectors.shape[1]
    out = np.empty((n, d), np.float32)
    for i in range(n):
        row = vectors[order[i]]
        norm = np.float32(0)
        for c in range(d):
            norm += row[c] * row[c]
        scale = np.float32(1) / np.sqrt(norm) if norm > 0 else np.float32(0)
        for c in range(d):
            out[i, c] = row[c] * scale
    return out


@njit(cache=True, nogil=True)
def _select(
    scores: npt.NDArray[np.float32],
    k: int,
    strength: np.float32,
    artists: npt.NDArray[np.int64],
    unit: npt.NDArray[np.float32],
    by_artist: bool,
    spacing: int,
    most: int,
    explore: float,
    pool: npt.NDArray[np.float64],
    once: npt.NDArray[np.bool_],
    uniforms: npt.NDArray[np.float64],
    asked: npt.NDArray[np.int32],
    forced: bool,
    values: npt.NDArray[np.float64],
    chance: npt.NDArray[np.float64],
    expected: npt.NDArray[np.float64],
    repeated: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64], npt.NDArray[np.uint8]]:
    """The greedy loop over candidates sorted by falling score; ties go to the earlier one.

    With `asked`, writes what `Chances` says of each slot; `forced` puts the asked ones into the slots.

    A candidate's largest similarity to what is placed can only grow, its value only fall: most are ruled out by a value
    that leaves the latest slots out, and are compared with those only once they might win (Minoux's lazy greedy, 1978).
    """
    n = scores.size
    pool = pool.copy()
    one = np.float32(1)
    spread = scores[0] - scores[-1] if n else np.float32(0)
    relevance = np.zeros(n, np.float32)
    if spread > 0:
        for i in range(n):
            relevance[i] = (one - strength) * ((scores[i] - scores[-1]) / spread)
    sameness = np.zeros(
        n, np.float32
    )  # max similarity to the first `compared` placed; 0 while there are none
    compared = np.zeros(n, np.int64)
    taken = np.zeros(n, np.bool_)  # placed, or its artist has reached its limit
    blocked_to = np.full(n, -1, np.int64)  # last slot its artist may not have
    of_artist = np.zeros(n, np.int64)
    moved = np.zeros(n, np.uint8)
    order = np.empty(k, np.int32)
    propensity = np.empty(k, np.float64)
    for slot in range(k):
        free = -1  # greedy choice if spacing did not exist
        greedy = -1  # greedy choice among those that keep the spacing
        top = -1  # best score among those that keep the spacing
        free_value = greedy_value = np.float32(-np.inf)
        in_pool = 0.0  # weight of those that may be drawn for this slot
        for i in range(n):
            if taken[i]:
                continue
            fits = blocked_to[i] < slot
            value = relevance[i] - strength * sameness[i]
            # What was never compared may be unlike the first one placed: its value may still rise.
            if slot > 0 and (compared[i] == 0 or value > free_value or (fits and value > greedy_value)):
                for earlier in range(compared[i], slot):
                    alike = _similarity(order[earlier], i, unit, artists, by_artist)
                    if earlier == 0 or alike > sameness[i]:
                        sameness[i] = alike
                compared[i] = slot
                value = relevance[i] - strength * sameness[i]
            if value > free_value:
                free, free_value = i, value
            if fits:
                in_pool += pool[i]
                if top < 0:
                    top = i
                if value > greedy_value:
                    greedy, greedy_value = i, value
        if free < 0:
            return order[:slot], propensity[:slot], moved[order[:slot]]
        relaxed = greedy < 0
        if relaxed:  # every candidate left would break the spacing: then it does not apply to this slot
            greedy = free
            for i in range(n):
                in_pool += 0.0 if taken[i] else pool[i]
        else:
            if top != greedy:
                moved[top] |= MOVED_BY_DIVERSITY
            if free != greedy:
                moved[free] |= MOVED_BY_SPACING
        chosen = greedy
        # With nothing to draw from, the greedy choice is certain.
        aimed = 1.0 - explore if in_pool > 0 else 1.0
        each = explore / in_pool if in_pool > 0 else 0.0
        if len(asked) > 0:
            mean = aimed * values[slot, greedy] if len(values) > 0 else 0.0
            for i in range(n):
                if taken[i] or (blocked_to[i] >= slot and not relaxed):
                    continue
                drawn = each * pool[i]
                if len(values) > 0:
                    mean += drawn * values[slot, i]
                drawn += aimed if i == greedy else 0.0
                if i == asked[slot]:
                    chance[slot] = drawn
                elif drawn > 0.0:
                    for earlier in range(slot):
                        if asked[earlier] == i:
                            repeated[slot] += drawn
            expected[slot] = mean
            if forced:
                if chance[slot] == 0.0:
                    return order[:slot], propensity[:slot], moved[order[:slot]]
                chosen = asked[slot]
        if in_pool > 0 and explore > 0.0 and uniforms[slot, 0] < explore:
            left = uniforms[slot, 1] * in_pool
            for i in range(n):
                if pool[i] > 0.0 and not taken[i] and (relaxed or blocked_to[i] < slot):
                    chosen = i  # stays if rounding leaves something over behind the last one
                    left -= pool[i]
                    if left < 0.0:
                        break
            moved[chosen] |= DRAWN
            if chosen != greedy:
                moved[greedy] |= MOVED_BY_EXPLORATION
        propensity[slot] = (aimed if chosen == greedy else 0.0) + each * pool[chosen]
        # Why however it came here: chances must follow from the slots before, not from how they were filled.
        if once[chosen]:
            for i in range(n):
                pool[i] = 0.0 if once[i] else pool[i]
        order[slot] = chosen
        taken[chosen] = True
        artist = artists[chosen]
        if artist > 0:
            for i in range(n):
                if artists[i] == artist:
                    of_artist[i] += 1
                    blocked_to[i] = slot + spacing
                    taken[i] |= of_artist[i] >= most
    return order, propensity, moved[order]


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _similarity(
    one: int, other: int, unit: npt.NDArray[np.float32], artists: npt.NDArray[np.int64], by_artist: bool
) -> np.float32:
    if by_artist:
        return np.float32(artists[one] > 0 and artists[one] == artists[other])
    product = np.float32(0)
    for c in range(unit.shape[1]):
        product += unit[one, c] * unit[other, c]
    return product
