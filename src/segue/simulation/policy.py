"""The logging policy: a plain recommender whose propensities are exact.

For a request it forms three pools from what it may know: popular (the most played tracks of late), taste (what goes
well with the listener's library, or with the seed), explore (a pool of the day: new uploads and random tracks). Each
pool gives its tracks fixed weights. A slot is filled by choosing a pool by the surface's shares and a track of it by
weight, among those not yet on the slate; so, given the slots before,

    propensity(i) = sum over pools p that still have tracks of  share_p / (sum of their shares) * w_p(i) / W_p(left).

It reads no true preference. Country, explicit, private, hidden and blocked are obeyed in every pool; without consent
the pools read no history.
"""

# mypy: disable-error-code="untyped-decorator"
# Why: numba's decorators carry no types.
from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from segue.simulation.draws import uniform
from segue.simulation.session import HOME, SLATE_SIZES, Requests, Slates, empty_slates
from segue.simulation.world import (
    F32,
    F64,
    I32,
    I64,
    LIBRARY,
    NEIGHBOURS,
    RECENT,
    U64,
    Crowd,
    Memory,
    Music,
    People,
    Records,
)

__all__ = ["SOURCE_NAMES", "LoggingPolicy", "fill_slate"]

SOURCE_NAMES: Final = ("logged-popular", "logged-taste", "logged-explore")
POOL: Final = 64
"""Tracks a pool may hold."""
_SHARES: Final = np.array([[0.30, 0.60, 0.10], [0.04, 0.92, 0.04], [0.04, 0.92, 0.04], [0.05, 0.90, 0.05]])
"""Shares of the pools on home, station, next-up and related."""
_SIZES: Final = np.array(SLATE_SIZES)
_LIBRARY_SEEDS: Final = 10


class LoggingPolicy:
    """Answers requests from what the crowd played and the listener remembers."""

    def __init__(self, music: Music, people: People, memory: Memory) -> None:
        self._music, self._people, self._memory = music, people, memory

    def answer(self, requests: Requests, crowd: Crowd) -> Slates:
        """A slate for each request; draws from the listeners' own random streams."""
        slates = empty_slates(len(requests.user))
        _answer(self._music, self._people, self._memory, crowd, requests, slates)
        return slates


@njit(cache=True, nogil=True)
def may_play(
    tracks: Records, gate: U64, refuses: U64, memory: Memory, user: int, track: int, uploaded: int
) -> bool:
    """Whether this listener may be given this track when the first `uploaded` tracks are there.

    Takes bare arrays of Music and People: a kernel pays for every array in a tuple it passes on.
    """
    if track < 0 or track >= uploaded or gate[track] & refuses[user]:
        return False
    if memory["n_hidden"][user] + memory["n_blocked"][user] == 0:
        return True
    for i in range(memory["n_hidden"][user]):
        if memory[user]["hidden"][i] == track:
            return False
    artist = tracks[track]["artist"]
    for i in range(memory["n_blocked"][user]):  # noqa: SIM110
        if memory[user]["blocked"][i] == artist:
            return False
    return True


@njit(cache=True, nogil=True)
def _answer(
    music: Music, people: People, memory: Memory, crowd: Crowd, requests: Requests, slates: Slates
) -> None:
    pool = np.empty((3, POOL), np.int32)
    weight = np.empty((3, POOL), np.float64)
    count = np.zeros(3, np.int64)
    tracks, gate, refuses = music.track, music.gate, people.refuses
    consent, hot, fresh, rng = people.who["consent"], crowd.hot, crowd.fresh, memory["rng"]
    for r in range(len(requests.user)):
        user, surface, uploaded = requests.user[r], requests.surface[r], requests.uploaded[r]
        count[:] = 0
        _offer(tracks, gate, refuses, memory, user, uploaded, hot, 0, 0.1, pool, weight, count)
        if requests.seed[r] >= 0:
            _near_seed(tracks, gate, refuses, memory, user, uploaded, requests.seed[r], pool, weight, count)
        elif consent[user]:
            _near_library(tracks, gate, refuses, memory, user, uploaded, pool, weight, count)
        _offer(tracks, gate, refuses, memory, user, uploaded, fresh, 2, 0.0, pool, weight, count)
        seed = requests.seed[r]
        for p in range(3):
            _drop(pool[p], weight[p], count, p, seed)
        if surface != HOME and consent[user]:
            for i in range(min(memory["n_recent"][user], RECENT)):
                for p in range(3):
                    _drop(pool[p], weight[p], count, p, memory[user]["recent"][i])
        fill_slate(
            pool, weight, count, _SHARES[surface], rng, user, _SIZES[surface],
            slates.track[r], slates.score[r], slates.propensity[r], slates.sources[r],
        )  # fmt: skip


@njit(cache=True, nogil=True)
def fill_slate(
    pool: I32,
    weight: F64,
    count: I64,
    shares: F64,
    rng: U64,
    user: int,
    size: int,
    track: I32,
    score: F32,
    propensity: F64,
    sources: U64,
) -> int:
    """Fill one slate of `size` slots: see the module's formula.

    pool int32[3, POOL] and weight float64[3, POOL] hold count int64[3] tracks each, no track twice in a pool; shares
    float64[3]. Writes track int32, score float32 (log of the chance to be first), propensity float64, sources uint64.
    Returns how many slots were filled.
    """
    left = np.zeros(3)
    alive = np.zeros(3, np.int64)
    used = np.zeros((3, POOL), np.bool_)
    for p in range(3):
        alive[p] = count[p]
        for i in range(count[p]):
            left[p] += weight[p, i]
    first = left.copy()
    full = 0.0
    for p in range(3):
        full += shares[p] if count[p] > 0 else 0.0
    for slot in range(size):
        total = 0.0
        for p in range(3):
            total += shares[p] if alive[p] > 0 else 0.0
        if total <= 0.0:
            return slot
        dart = uniform(rng, user) * total
        chosen = -1
        for p in range(3):
            if alive[p] > 0:
                chosen = p
                dart -= shares[p]
                if dart < 0.0:
                    break
        dart = uniform(rng, user) * left[chosen]
        item = -1
        for i in range(count[chosen]):
            if not used[chosen, i]:
                item = pool[chosen, i]
                dart -= weight[chosen, i]
                if dart < 0.0:
                    break
        chance, opening, mask = 0.0, 0.0, 0
        for p in range(3):
            for i in range(count[p]):
                if pool[p, i] == item and not used[p, i]:
                    chance += shares[p] / total * weight[p, i] / left[p]
                    opening += shares[p] / full * weight[p, i] / first[p]
                    mask |= 1 << p
                    used[p, i] = True
                    alive[p] -= 1
                    left[p] = max(left[p] - weight[p, i], 1e-12)
                    break
        track[slot] = item
        propensity[slot] = min(chance, 1.0)
        score[slot] = np.log(opening)
        sources[slot] = mask
    return size


@njit(cache=True, nogil=True)
def _add(pool: I32, weight: F64, count: I64, p: int, track: int, value: float) -> None:
    """Put a track in a pool, or add to its weight if it is there; a full pool takes no more."""
    for i in range(count[p]):
        if pool[p, i] == track:
            weight[p, i] += value
            return
    if count[p] < POOL:
        pool[p, count[p]] = track
        weight[p, count[p]] = value
        count[p] += 1


@njit(cache=True, nogil=True)
def _drop(pool: I32, weight: F64, count: I64, p: int, track: int) -> None:
    for i in range(count[p]):
        if pool[i] == track:
            count[p] -= 1
            pool[i] = pool[count[p]]
            weight[i] = weight[count[p]]
            return


@njit(cache=True, nogil=True)
def _offer(
    tracks: Records,
    gate: U64,
    refuses: U64,
    memory: Memory,
    user: int,
    uploaded: int,
    offer: I32,
    p: int,
    steep: float,
    pool: I32,
    weight: F64,
    count: I64,
) -> None:
    """Fill pool `p` with an offer made to everybody; the n-th weighs 1 / (1 + steep n)."""
    for i in range(min(POOL, len(offer))):
        if may_play(tracks, gate, refuses, memory, user, offer[i], uploaded):
            pool[p, count[p]] = offer[i]
            weight[p, count[p]] = 1.0 / (1.0 + steep * i)
            count[p] += 1


@njit(cache=True, nogil=True)
def _near_seed(
    tracks: Records,
    gate: U64,
    refuses: U64,
    memory: Memory,
    user: int,
    uploaded: int,
    seed: int,
    pool: I32,
    weight: F64,
    count: I64,
) -> None:
    """The next of the seed's release, its neighbours and their neighbours."""
    after = seed + 1
    if after < uploaded and tracks[after]["release"] == tracks[seed]["release"]:  # noqa: SIM102
        if may_play(tracks, gate, refuses, memory, user, after, uploaded):
            _add(pool, weight, count, 1, after, 1.5)
    for i in range(NEIGHBOURS):
        near = tracks[seed]["neighbours"][i]
        if near < 0:
            continue
        if may_play(tracks, gate, refuses, memory, user, near, uploaded):
            _add(pool, weight, count, 1, near, 1.0 / (2.0 + i))
        for j in range(4):
            far = tracks[near]["neighbours"][j]
            if far != seed and may_play(tracks, gate, refuses, memory, user, far, uploaded):
                _add(pool, weight, count, 1, far, 0.5 / ((2.0 + i) * (1.0 + j)))


@njit(cache=True, nogil=True)
def _near_library(
    tracks: Records,
    gate: U64,
    refuses: U64,
    memory: Memory,
    user: int,
    uploaded: int,
    pool: I32,
    weight: F64,
    count: I64,
) -> None:
    """The latest of the library and their neighbours."""
    known = memory[user]["n_library"]
    for back in range(min(known, _LIBRARY_SEEDS)):
        item = memory[user]["library"][(known - 1 - back) % LIBRARY]
        if may_play(tracks, gate, refuses, memory, user, item, uploaded):
            _add(pool, weight, count, 1, item, 0.15)
        for i in range(6):
            near = tracks[item]["neighbours"][i]
            if may_play(tracks, gate, refuses, memory, user, near, uploaded):
                _add(pool, weight, count, 1, near, 1.0 / (2.0 + i))
