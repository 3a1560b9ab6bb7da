"""How listeners behave: what they turn to next, and how they react to a slate or a track.

Choices follow true relevance (segue.simulation.taste) with noise; nothing here knows how a slate was made. A played
track is one row: `play` with the milliseconds it ran, or `skip` when it was given up within its first seconds.
Marks (likes, follows, hides, ...) come with plays, more often when the track is liked more.
"""

# mypy: disable-error-code="untyped-decorator"
# Why: numba's decorators carry no types.
from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numba import njit

from segue.contracts.vocabulary import END_MS, LISTEN_MS, SECOND
from segue.simulation.draws import below, exponential, gumbel, normal, uniform
from segue.simulation.memory import (
    follow,
    from_library,
    from_library_of,
    just_heard,
    place_in_library,
    remember,
    set_liked,
    unfollow,
)
from segue.simulation.policy import may_play
from segue.simulation.session import (
    BLOCK_ARTIST,
    CLICK,
    FOLLOW,
    HIDE,
    HOME,
    IMPRESSION,
    LIKE,
    NEXT_UP,
    PLAY,
    PLAYLIST_ADD,
    RELATED,
    REPOST,
    ROWS_PER_SEGMENT,
    SEARCH,
    SEARCHED,
    SHARE,
    SKIP,
    SLOTS,
    STATION,
    UNFOLLOW,
    UNLIKE,
    Rows,
    Sessions,
)
from segue.simulation.taste import FAMILIAR, OFF_MOOD, TIRED, listen_chance, relevance
from segue.simulation.world import (
    BLOCKED,
    FOLLOWS,
    HIDDEN,
    I32,
    I64,
    NEIGHBOURS,
    RECENT,
    Crowd,
    Memory,
    Music,
    People,
)

__all__ = ["ORIGINS", "choose_segments", "react", "stock_libraries"]

ORIGINS: Final = (
    "home",
    "station",
    "next-up",
    "related",
    "library",
    "search",
    "artist",
    "friends",
    "trending",
    "browse",
)
LIBRARY_RUN, SEARCH_RUN, ARTIST_RUN, FRIENDS_RUN, TRENDING_RUN, BROWSE_RUN = range(4, 10)

#                        home stat  next  rel   libr  srch  art   frnd  trnd  brws
_OPENING = np.array([0.30, 0.09, 0.00, 0.00, 0.14, 0.14, 0.09, 0.05, 0.05, 0.14])
_GOING_ON = np.array([0.16, 0.05, 0.22, 0.08, 0.08, 0.09, 0.12, 0.03, 0.03, 0.14])

_SEEN = 0.88
"""Chance to look at one slot more."""
_GLIMPSE = 0.7
"""Noise of what a title and cover tell of a track, in units of relevance."""
_PICK_BIAS, _PICK_SLOPE = -2.3, 0.75
_PICK_RELATED = 0.8
_RUN = 0.74
"""Chance that an own run goes on after a track."""
_NONE: Final = np.int64(-1)
"""No slot, request, ...: typed, so that kernels are compiled once and not again for the literal."""
_ANY_MOOD: Final = np.int64(255)
_SHORT_SKIP_MS = 5_000
"""Given up within this, the row is a skip; later, a short play."""
_OF_SCENE = 0.25
"""How much a play of the same scene bores, where one of the same artist counts 1."""
_LOOKS = 4
"""Tracks a browsing listener compares."""


class _Scene(NamedTuple):
    """What every step of a segment reads and writes: the world, the sessions, and the rows of events.

    period: the history's start and end in microseconds; at int64[1]: the next free row.
    """

    music: Music
    people: People
    memory: Memory
    crowd: Crowd
    sessions: Sessions
    period: tuple[int, int]
    rows: Rows
    at: I64


@njit(cache=True, nogil=True)
def stock_libraries(
    music: Music, people: People, memory: Memory, crowd: Crowd, users: I32, uploaded: int
) -> None:
    """Give listeners who were there before the history a library: tracks they found by browsing."""
    for u in users:
        for _ in range(6 + below(memory["rng"], u, 15)):
            track = _browse(music, people, memory, crowd, u, uploaded, _ANY_MOOD, 0.0)
            if track >= 0:
                remember(memory, u, track)


@njit(cache=True, nogil=True)
def choose_segments(
    sessions: Sessions, active: I64, people: People, memory: Memory, origin: I32, surface: I32, seed: I32
) -> None:
    """What each session of `active` turns to: writes origin, surface asked (-1: none) and seed track (-1: none)."""
    for i in range(len(active)):
        s = active[i]
        user = sessions["user"][s]
        chances = _OPENING if sessions["last"][s] < 0 else _GOING_ON
        dart = uniform(memory["rng"], user)
        what = 0
        while what < len(chances) - 1 and dart >= chances[what]:
            dart -= chances[what]
            what += 1
        empty = memory["n_library"][user] == 0
        if empty and (what == LIBRARY_RUN or (what == ARTIST_RUN and sessions["last"][s] < 0)):
            what = BROWSE_RUN
        origin[i] = what
        surface[i] = what if what <= RELATED else -1
        seed[i] = -1
        if what in (NEXT_UP, RELATED):
            seed[i] = sessions["last"][s]
        elif what == STATION:
            seed[i] = from_library(memory, user)
            if seed[i] < 0:
                seed[i] = sessions["last"][s]
            if seed[i] < 0:
                origin[i] = HOME
                surface[i] = HOME


@njit(cache=True, nogil=True)
def react(
    music: Music,
    people: People,
    memory: Memory,
    crowd: Crowd,
    sessions: Sessions,
    active: I64,
    origin: I32,
    request: I32,
    slates: I32,
    period: tuple[int, int],
    rows: Rows,
    written: int,
) -> int:
    """Play one segment of each session of `active` and write its events behind row `written`.

    `request` int32[n] is the row of `slates` (tracks, int32[m, SLOTS]) that answers the session, or -1; `period` the
    history's start and end in microseconds. Changes sessions and memory. Returns the rows written so far.
    """
    at = np.empty(1, np.int64)
    at[0] = written
    scene = _Scene(music, people, memory, crowd, sessions, period, rows, at)
    for i in range(len(active)):
        s = active[i]
        what, asked = np.int64(origin[i]), np.int64(request[i])
        before = sessions["played"][s]
        limit = at[0] + ROWS_PER_SEGMENT - 24
        sessions["clock"][s] += int(exponential(memory["rng"], sessions["user"][s]) * 8 * SECOND)
        if what in (HOME, RELATED):
            _look(scene, s, what, asked, slates, limit)
        elif what in (STATION, NEXT_UP):
            _let_play(scene, s, what, asked, slates, limit)
        else:
            _own_way(scene, s, what, limit)
        _maybe_stop(memory, sessions, s, before)
    return int(at[0])


@njit(cache=True, nogil=True)
def _maybe_stop(memory: Memory, sessions: Sessions, s: int, before: int) -> None:
    """A session ends when it had the plays it meant to have, or finds nothing to play."""
    user = sessions["user"][s]
    if sessions["played"][s] >= sessions["planned"][s] or (
        sessions["played"][s] == before and uniform(memory["rng"], user) < 0.25
    ):
        sessions["alive"][s] = False
    if not sessions["alive"][s]:
        memory["busy"][user] = max(memory["busy"][user], sessions["clock"][s])


@njit(cache=True, nogil=True)
def _look(scene: _Scene, s: int, surface: int, request: int, slates: I32, limit: int) -> None:
    """Scan a page from the top and play what looks good; some plays lead on to a run of the listener's own."""
    sessions, memory = scene.sessions, scene.memory
    user = sessions["user"][s]
    bias = _PICK_BIAS + (_PICK_RELATED if surface == RELATED else 0.0)
    slot = np.int64(0)
    while slot < SLOTS and slates[request, slot] >= 0 and scene.at[0] < limit:
        track = np.int64(slates[request, slot])
        if not _may_play(scene, s, track):
            slot += 1
            continue
        _write(scene, s, sessions["clock"][s], IMPRESSION, track, _NONE, surface, slot, request, _NONE)
        sessions["clock"][s] += SECOND // 4 + int(uniform(memory["rng"], user) * SECOND)
        like = relevance(scene.music, scene.people, user, track, _drift(sessions["clock"][s], scene.period))
        looks = like - _boredom(scene, user, track) + _GLIMPSE * normal(memory["rng"], user)
        if uniform(memory["rng"], user) < 1.0 / (1.0 + math.exp(-(bias + _PICK_SLOPE * looks))):
            if uniform(memory["rng"], user) < 0.3:
                _write(scene, s, sessions["clock"][s], CLICK, track, _NONE, surface, slot, request, _NONE)
                sessions["clock"][s] += 2 * SECOND
            stayed = _play(scene, s, track, surface, slot, request)
            if sessions["played"][s] >= sessions["planned"][s]:
                return
            if stayed and uniform(memory["rng"], user) < 0.4:
                _run_on(scene, s, track, _NONE, limit)
                return
        if uniform(memory["rng"], user) >= _SEEN:
            return
        slot += 1


@njit(cache=True, nogil=True)
def _let_play(scene: _Scene, s: int, surface: int, request: int, slates: I32, limit: int) -> None:
    """Let a queue play; give it up after skips."""
    sessions, memory = scene.sessions, scene.memory
    user = sessions["user"][s]
    slot = np.int64(0)
    while slot < SLOTS and slates[request, slot] >= 0 and scene.at[0] < limit:
        track = np.int64(slates[request, slot])
        if not _may_play(scene, s, track):
            slot += 1
            continue
        _write(scene, s, sessions["clock"][s], IMPRESSION, track, _NONE, surface, slot, request, _NONE)
        stayed = _play(scene, s, track, surface, slot, request)
        if sessions["played"][s] >= sessions["planned"][s]:
            return
        if uniform(memory["rng"], user) < (0.04 if stayed else 0.3):
            return
        slot += 1


@njit(cache=True, nogil=True)
def _own_way(scene: _Scene, s: int, what: int, limit: int) -> None:
    """Go where the listener wants: library, search, an artist, friends, what is talked about, or browsing."""
    sessions, memory = scene.sessions, scene.memory
    user, surface, slot = sessions["user"][s], _NONE, _NONE
    track = _target(scene, s, what, _drift(sessions["clock"][s], scene.period))
    if track < 0:
        return
    if what == SEARCH_RUN:
        surface = np.int64(SEARCH)
        slot = np.int64(min(int(exponential(memory["rng"], user) * 1.2), 9))
        _write(
            scene, s, sessions["clock"][s], SEARCHED, track, -1, SEARCH, -1, -1, below(memory["rng"], user, 5)
        )
        sessions["clock"][s] += int((4.0 + 8.0 * uniform(memory["rng"], user)) * SECOND)
        _write(scene, s, sessions["clock"][s], CLICK, track, _NONE, SEARCH, slot, _NONE, _NONE)
        sessions["clock"][s] += SECOND
    shuffle = what == LIBRARY_RUN and uniform(memory["rng"], user) < 0.55
    stayed = _play(scene, s, track, surface, slot, _NONE)
    if sessions["played"][s] >= sessions["planned"][s]:
        return
    if shuffle:
        while scene.at[0] < limit and uniform(memory["rng"], user) < _RUN:
            track = from_library(memory, user)
            if not _may_play(scene, s, track):
                return
            _play(scene, s, track, _NONE, _NONE, _NONE)
            if sessions["played"][s] >= sessions["planned"][s]:
                return
    elif stayed:
        _run_on(scene, s, track, what, limit)


@njit(cache=True, nogil=True)
def _target(scene: _Scene, s: int, what: int, drift: float) -> int:
    """The track a listener goes to of their own accord, or -1."""
    music, people, memory, crowd, sessions = (
        scene.music,
        scene.people,
        scene.memory,
        scene.crowd,
        scene.sessions,
    )
    user, uploaded, track = sessions["user"][s], np.int64(sessions["uploaded"][s]), -1
    if what == LIBRARY_RUN or (what == SEARCH_RUN and uniform(memory["rng"], user) < 0.4):
        track = from_library(memory, user)
    elif what == ARTIST_RUN:
        track = _of_artist(scene, s, drift)
    elif what == FRIENDS_RUN:
        first, last = people.friend_ptr[user], people.friend_ptr[user + 1]
        if last > first:
            track = from_library_of(
                memory, user, people.friend[first + below(memory["rng"], user, last - first)]
            )
    elif what == TRENDING_RUN and len(crowd.hot) > 0:
        best = -np.inf
        for _ in range(_LOOKS):
            at = np.searchsorted(
                crowd.hot_reach, uniform(memory["rng"], user) * crowd.hot_reach[-1], side="right"
            )
            other = crowd.hot[min(at, len(crowd.hot) - 1)]
            value = relevance(music, people, user, other, drift) + gumbel(memory["rng"], user)
            if value > best:
                best, track = value, other
    if track < 0 and what != LIBRARY_RUN:
        track = _browse(music, people, memory, crowd, user, uploaded, np.int64(sessions["mood"][s]), drift)
    return track if _may_play(scene, s, track) else -1


@njit(cache=True, nogil=True)
def _browse(
    music: Music,
    people: People,
    memory: Memory,
    crowd: Crowd,
    user: int,
    uploaded: int,
    mood: int,
    drift: float,
) -> int:
    """The best of a few tracks met in the scenes the listener moves in, or -1; `mood` 255 is any."""
    best, track = -np.inf, -1
    for _ in range(_LOOKS):
        later = uniform(memory["rng"], user) < drift
        reach = people.who[user]["reach1"] if later else people.who[user]["reach0"]
        place = min(np.searchsorted(reach, uniform(memory["rng"], user), side="right"), len(reach) - 1)
        scene = people.who[user]["scenes1"][place] if later else people.who[user]["scenes0"][place]
        a, b = music.scene_ptr[scene], music.scene_ptr[scene + 1]
        there = np.searchsorted(music.scene_tracks[a:b], uploaded)
        low, high = crowd.scene_reach[a], crowd.scene_reach[a + there]
        if not high > low:
            continue
        dart = low + uniform(memory["rng"], user) * (high - low)
        at = np.searchsorted(crowd.scene_reach[a : a + there + 1], dart, side="right") - 1
        other = music.scene_tracks[a + min(at, there - 1)]
        if not may_play(music.track, music.gate, people.refuses, memory, user, other, uploaded):
            continue
        value = relevance(music, people, user, other, drift) + gumbel(memory["rng"], user)
        value += 1.0 if music.track["mood"][other] == mood else 0.0
        if value > best:
            best, track = value, other
    return track


@njit(cache=True, nogil=True)
def _of_artist(scene: _Scene, s: int, drift: float) -> int:
    """A track of an artist the listener knows: the one just heard, a followed one, or one of the library."""
    music, people, memory, sessions = scene.music, scene.people, scene.memory, scene.sessions
    user, uploaded, known = sessions["user"][s], np.int64(sessions["uploaded"][s]), sessions["last"][s]
    artist = -1
    if memory["n_follows"][user] > 0 and (known < 0 or uniform(memory["rng"], user) < 0.3):
        artist = memory[user]["follows"][below(memory["rng"], user, min(memory["n_follows"][user], FOLLOWS))]
    if artist < 0:
        known = known if known >= 0 else from_library(memory, user)
        if known < 0:
            return -1
        artist = music.track["artist"][known]
    a, b = music.artist_ptr[artist], music.artist_ptr[artist + 1]
    there = np.searchsorted(music.artist_tracks[a:b], uploaded)
    best, track = -np.inf, -1
    for _ in range(3 if there > 0 else 0):
        other = music.artist_tracks[a + below(memory["rng"], user, there)]
        value = relevance(music, people, user, other, drift) + math.log(music.track["weight"][other] + 1e-9)
        value += gumbel(memory["rng"], user)
        if value > best:
            best, track = value, other
    return track


@njit(cache=True, nogil=True)
def _run_on(scene: _Scene, s: int, track: int, what: int, limit: int) -> None:
    """Go on from a track: the next of its release, a track that goes well with it, or another of the artist."""
    music, memory, sessions = scene.music, scene.memory, scene.sessions
    user, uploaded = sessions["user"][s], np.int64(sessions["uploaded"][s])
    while scene.at[0] < limit and uniform(memory["rng"], user) < _RUN:
        dart, following = uniform(memory["rng"], user), -1
        if what == ARTIST_RUN:
            dart *= 0.6
        if (
            dart < 0.45
            and track + 1 < uploaded
            and music.track["release"][track + 1] == music.track["release"][track]
        ):
            following = track + 1
        elif dart < 0.55:
            a, b = (
                music.artist_ptr[music.track["artist"][track]],
                music.artist_ptr[music.track["artist"][track] + 1],
            )
            there = np.searchsorted(music.artist_tracks[a:b], uploaded)
            if there > 0:
                following = music.artist_tracks[a + below(memory["rng"], user, there)]
        if following < 0 or following == track:
            following = music.track[track]["neighbours"][
                min(int(exponential(memory["rng"], user) * 3.5), NEIGHBOURS - 1)
            ]
        if not _may_play(scene, s, following):
            return
        stayed = _play(scene, s, following, _NONE, _NONE, _NONE)
        if sessions["played"][s] >= sessions["planned"][s]:
            return
        if stayed:
            track = following
        elif uniform(memory["rng"], user) < 0.35:
            return


@njit(cache=True, nogil=True)
def _play(scene: _Scene, s: int, track: int, surface: int, slot: int, request: int) -> bool:
    """Start a track: how long it runs, what the listener does beside it, what they remember. True for a listen."""
    music, memory, sessions = scene.music, scene.memory, scene.sessions
    user, ts, duration = sessions["user"][s], sessions["clock"][s], music.track["duration"][track]
    like = relevance(scene.music, scene.people, user, track, _drift(ts, scene.period))
    known = place_in_library(memory, user, track)
    moment = like + (FAMILIAR if known >= 0 else 0.0)
    moment -= TIRED if just_heard(memory, user, track) else 0.0
    moment -= OFF_MOOD if music.track["mood"][track] != sessions["mood"][s] else 0.0
    moment -= _boredom(scene, user, track) if request >= 0 else 0.0
    stayed = uniform(memory["rng"], user) < listen_chance(moment)
    if stayed:
        ms = duration
        if duration > LISTEN_MS + END_MS and uniform(memory["rng"], user) < 0.22:
            ms = LISTEN_MS + int(uniform(memory["rng"], user) * (duration - LISTEN_MS - END_MS))
    else:
        top = min(LISTEN_MS - 1, duration - END_MS - 1)
        ms = min(int(1_000 + 9_000 * math.exp(0.8 * normal(memory["rng"], user))), top)
    gave_up = not stayed and ms < _SHORT_SKIP_MS
    _write(scene, s, ts, SKIP if gave_up else PLAY, track, ms, surface, slot, request, _NONE)
    _mark(scene, s, track, like, stayed, known, ts, ms, surface, slot, request)
    if stayed and (known >= 0 or uniform(memory["rng"], user) < 0.45 * listen_chance(like)):
        remember(memory, user, track)
    memory[user]["recent"][memory["n_recent"][user] % RECENT] = track
    memory["n_recent"][user] += 1
    sessions["last"][s] = track
    sessions["played"][s] += 1
    sessions["clock"][s] = ts + ms * 1_000 + int(exponential(memory["rng"], user) * 2 * SECOND) + 1_000
    if uniform(memory["rng"], user) < 0.07:
        pause = min(300.0 * math.exp(0.8 * normal(memory["rng"], user)), 1_500.0)
        sessions["clock"][s] += int(pause) * SECOND
    return bool(stayed)


@njit(cache=True, nogil=True)
def _boredom(scene: _Scene, user: int, track: int) -> float:
    """What a recommended track loses because the latest plays were of its artist or its scene: who goes to an artist of
    their own accord wants more of them, who is handed the same again and again does not."""
    music, memory = scene.music, scene.memory
    strength = memory["bored"][user]
    if strength == 0.0:
        return 0.0
    same = 0.0
    for i in range(min(memory["n_recent"][user], RECENT)):
        other = memory[user]["recent"][i]
        if music.track["artist"][other] == music.track["artist"][track]:
            same += 1.0
        elif music.track["scene"][other] == music.track["scene"][track]:
            same += _OF_SCENE
    return float(strength * same / RECENT)


@njit(cache=True, nogil=True)
def _mark(
    scene: _Scene,
    s: int,
    track: int,
    like: float,
    stayed: bool,
    known: int,
    ts: int,
    ms: int,
    surface: int,
    slot: int,
    request: int,
) -> None:
    """Likes and the rest, somewhere within the play."""
    music, memory, user = scene.music, scene.memory, scene.sessions["user"][s]
    joy = 1.0 / (1.0 + math.exp(-(like - 2.5)))
    if stayed:
        when = ts + int(uniform(memory["rng"], user) * ms * 1_000)
        liked = known >= 0 and memory[user]["liked"][known] == 1
        if not liked and uniform(memory["rng"], user) < 0.10 * joy:
            _write(scene, s, when, LIKE, track, _NONE, surface, slot, request, _NONE)
            remember(memory, user, track)
            set_liked(memory, user, track, 1)
        if uniform(memory["rng"], user) < 0.012 * joy:
            _write(scene, s, when + 1_000, REPOST, track, _NONE, surface, slot, request, _NONE)
        if uniform(memory["rng"], user) < 0.03 * joy:
            _write(
                scene,
                s,
                when + 2_000,
                PLAYLIST_ADD,
                track,
                -1,
                surface,
                slot,
                request,
                music.track["mood"][track] % 4,
            )
        if uniform(memory["rng"], user) < 0.006 * joy:
            _write(scene, s, when + 3_000, SHARE, track, _NONE, surface, slot, request, _NONE)
        follows = uniform(memory["rng"], user) < 0.02 * joy and memory["n_follows"][user] < FOLLOWS
        if follows and follow(memory, user, music.track["artist"][track]):
            _write(scene, s, when + 4_000, FOLLOW, track, _NONE, surface, slot, request, _NONE)
        return
    when = ts + ms * 1_000
    if known >= 0 and memory[user]["liked"][known] == 1 and uniform(memory["rng"], user) < 0.05:
        _write(scene, s, when, UNLIKE, track, _NONE, surface, slot, request, _NONE)
        set_liked(memory, user, track, 0)
    dislike = 1.0 / (1.0 + math.exp(like + 0.5))
    if known < 0 and uniform(memory["rng"], user) < 0.03 * dislike:
        if memory["n_hidden"][user] < HIDDEN:
            memory[user]["hidden"][memory["n_hidden"][user]] = track
            memory["n_hidden"][user] += 1
            _write(scene, s, when + 1, HIDE, track, _NONE, surface, slot, request, _NONE)
    elif uniform(memory["rng"], user) < 0.003 * dislike and memory["n_blocked"][user] < BLOCKED:
        memory[user]["blocked"][memory["n_blocked"][user]] = music.track["artist"][track]
        memory["n_blocked"][user] += 1
        if unfollow(memory, user, music.track["artist"][track]):
            _write(scene, s, when + 1, UNFOLLOW, track, _NONE, surface, slot, request, _NONE)
        _write(scene, s, when + 2, BLOCK_ARTIST, track, _NONE, surface, slot, request, _NONE)


@njit(cache=True, nogil=True)
def _write(
    scene: _Scene,
    s: int,
    ts: int,
    kind: int,
    track: int,
    ms: int,
    surface: int,
    slot: int,
    request: int,
    extra: int,
) -> None:
    rows, i = scene.rows, scene.at[0]
    rows[i]["session"] = s
    rows[i]["ts"] = ts
    rows[i]["type"] = kind
    rows[i]["track"] = track
    rows[i]["ms"] = ms
    rows[i]["surface"] = surface
    rows[i]["position"] = slot
    rows[i]["request"] = request
    rows[i]["extra"] = extra
    scene.at[0] = i + 1


@njit(cache=True, nogil=True)
def _may_play(scene: _Scene, s: int, track: int) -> bool:
    """Whether the listener of a session may play a track that had been uploaded when it began."""
    user, uploaded = scene.sessions["user"][s], np.int64(scene.sessions["uploaded"][s])
    music, refuses = scene.music, scene.people.refuses
    return bool(may_play(music.track, music.gate, refuses, scene.memory, user, track, uploaded))


@njit(cache=True, nogil=True)
def _drift(ts: int, period: tuple[int, int]) -> float:
    return min(1.0, (ts - period[0]) / (period[1] - period[0]))
