"""A service's history, day by day: listeners live their sessions in waves, the logging policy answers.

Within a day listeners are taken in chunks; a chunk's sessions run in waves of one segment each (see
segue.simulation.session). A session that passes midnight lands its later events in the next day's tables. Memory is
bounded by what listeners remember, one chunk's work and one day's tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segue.contracts.ids import uuid7_column
from segue.contracts.vocabulary import DAY, HOUR, MINUTE, SECOND, SESSION_GAP
from segue.simulation.catalogue import Catalogue
from segue.simulation.columns import (
    EventColumns,
    ExposureColumns,
    Writer,
    event_columns,
    exposure_columns,
    join,
    pick,
)
from segue.simulation.config import SimulationConfig
from segue.simulation.draws import seeds
from segue.simulation.listener import choose_segments, react, stock_libraries
from segue.simulation.policy import POOL, LoggingPolicy
from segue.simulation.service import Service
from segue.simulation.session import (
    EVENT_ROW,
    PLAY,
    ROWS_PER_SEGMENT,
    SESSION_ROW,
    Requests,
    Rows,
    Sessions,
    Slates,
)
from segue.simulation.words import COUNTRIES, DEVICES, HOURS, MOODS, WEEKDAYS
from segue.simulation.world import F64, I32, I64, USER_BASE, Crowd, Memory, new_memory

__all__ = [
    "CHUNK",
    "FADE",
    "HOUR_SHARES",
    "LONGEST",
    "DayOfEvents",
    "Policy",
    "Witness",
    "begin",
    "crowd_of",
    "run_chunk",
    "sessions_of",
    "simulate_days",
    "when",
]

CHUNK: Final = 8_192
"""Listeners simulated together. Part of the history: another value gives another, equally good one."""
HOUR_SHARES: Final = np.array(HOURS) / sum(HOURS)
_SPREAD: Final = 0.72
"""Spread of the logarithm of a session's planned plays."""
LONGEST: Final = 150
_HOT: Final = 200
FADE: Final = 0.85
"""What is left of a play's say in what is talked about, a day later."""
_NEWS_DAYS: Final = 12.0
_UNNAMED_DEVICE: Final = len(DEVICES) - 1
"""Clients on this device name no session."""


class Witness:
    """Looks on while sessions are played, and may change how they go on. This one does neither."""

    def opened(self, sessions: Sessions, rows: I64) -> None:
        """The sessions `rows` begin now."""

    def reacted(self, sessions: Sessions, active: I64, rows: Rows, events: EventColumns) -> None:
        """The sessions `active` have played a segment: what they did, as EVENT_ROW and as columns."""


class Policy(Protocol):
    """Anything that answers requests with slates. It must obey the guarantees; listeners refuse what breaks them."""

    def answer(self, requests: Requests, crowd: Crowd) -> Slates:
        """A slate for each request, in order."""


@dataclass(frozen=True, slots=True)
class DayOfEvents:
    """One UTC day: events in the schema RAW_EVENTS, exposures in EXPOSURES, both sorted by listener and time."""

    day: date
    events: pa.Table
    exposures: pa.Table


def begin(config: SimulationConfig, catalogue: Catalogue) -> Service:
    """The service at the start of its history: who was there before has found some tracks already."""
    music, people = catalogue.music, catalogue.people
    memory = new_memory(seeds(config.seed, 4, config.listeners))
    talk = music.track["weight"] * _news(catalogue, config.start_us)
    crowd = crowd_of(config, catalogue, talk, config.start_us)
    there = int(np.searchsorted(music.track["uploaded"], config.start_us))
    old = np.arange(np.searchsorted(catalogue.habits.joined, config.start_us), dtype=np.int32)
    stock_libraries(music, people, memory, crowd, old, there)
    return Service(memory, talk)


def simulate_days(
    config: SimulationConfig, catalogue: Catalogue, service: Service | None = None
) -> Iterator[DayOfEvents]:
    """The history of `catalogue`, which must come from the same config, one day at a time.

    A `service` fresh from `begin` is brought along: after the last day it is the service as of the history's end.
    """
    service = service or begin(config, catalogue)
    policy = LoggingPolicy(catalogue.music, catalogue.people, service.memory)
    writer = Writer(catalogue)
    chunks = range(0, config.listeners, CHUNK)
    left: dict[int, tuple[EventColumns, ExposureColumns]] = {}
    for number in range(config.days):
        start = config.start_us + number * DAY
        day = config.first + timedelta(days=number)
        crowd = crowd_of(config, catalogue, service.talk, start)
        plays = np.zeros(config.tracks)
        events: list[pa.Table] = []
        exposures: list[pa.Table] = []
        for first in chunks:
            rng = np.random.default_rng([config.seed, 5, number, first])
            sessions = _begin_sessions(config, catalogue, first, start, rng)
            done, shown = run_chunk(config, catalogue, service.memory, crowd, policy, sessions, start, rng)
            if first in left:
                done, shown = join([left[first][0], done]), join([left[first][1], shown])
            today, asked = done.ts < start + DAY, shown.ts < start + DAY
            left[first] = pick(done, ~today), pick(shown, ~asked)
            done, shown = pick(done, today), pick(shown, asked)
            plays += np.bincount(done.track[done.type == PLAY], minlength=config.tracks)
            events.append(writer.events(done, day))
            exposures.append(writer.exposures(shown, day))
        # What was talked about before, in the unit of a day's plays.
        scale = plays.sum() / max(service.talk.sum(), 1e-9) if number == 0 else 1.0
        service.talk = FADE * service.talk * scale + plays
        yield DayOfEvents(day, pa.concat_tables(events), pa.concat_tables(exposures))


def _begin_sessions(
    config: SimulationConfig, catalogue: Catalogue, first: int, start: int, rng: np.random.Generator
) -> Sessions:
    """The sessions of one chunk of listeners that begin on the UTC day at `start`, by listener and time."""
    habits = catalogue.habits
    here = slice(first, min(first + CHUNK, int(np.searchsorted(habits.joined, start + DAY))))
    weekday = WEEKDAYS[(start // DAY + 3) % 7]
    count = rng.poisson(habits.rate[here] * weekday)
    user = np.repeat(np.arange(here.start, here.start + len(count)), count).astype(np.int32)
    hour = rng.choice(24, len(user), p=HOUR_SHARES) + rng.random(len(user))
    begin = when(catalogue, user, hour, start)
    order = np.lexsort((begin, user))
    user, begin = user[order], begin[order]
    keep = begin > habits.joined[user]
    user, begin = user[keep], begin[keep]
    n = len(user)
    spread = rng.normal(size=n)
    mood = rng.integers(0, len(MOODS), n)
    device = rng.choice(len(DEVICES), n, p=[d[1] for d in DEVICES])
    return sessions_of(config, user, begin, spread, mood, device)


def when(catalogue: Catalogue, user: I32, hour: F64, start: int) -> I64:
    """The moments of the UTC day at `start` at which it is `hour` of these listeners' own day. int64 microseconds."""
    ahead = np.array([c[2] for c in COUNTRIES])[catalogue.habits.country[user]]
    local = hour + catalogue.habits.shift[user] - ahead
    moment: I64 = start + ((local % 24) * HOUR).astype(np.int64) // SECOND * SECOND
    return moment


def sessions_of(
    config: SimulationConfig,
    user: I32,
    begin: I64,
    spread: F64,
    mood: npt.NDArray[np.integer],
    device: npt.NDArray[np.integer],
) -> Sessions:
    """Sessions that have not begun, from columns by listener and time; `spread` is standard normal, of the planned plays."""
    sessions = np.zeros(len(user), SESSION_ROW)
    sessions["user"], sessions["start"] = user, begin
    planned = np.rint(config.plays_per_session * np.exp(_SPREAD * spread))
    sessions["planned"] = np.clip(planned, 1, LONGEST)
    sessions["last"] = -1
    sessions["mood"], sessions["device"] = mood, device
    sessions["alive"] = True
    return sessions


def run_chunk(
    config: SimulationConfig,
    catalogue: Catalogue,
    memory: Memory,
    crowd: Crowd,
    policy: Policy,
    sessions: Sessions,
    start: int,
    rng: np.random.Generator,
    witness: Witness = Witness(),  # noqa: B008 - it holds nothing
) -> tuple[EventColumns, ExposureColumns]:
    """Play the sessions to their end, wave by wave. A listener's next session waits for the one before."""
    music, people = catalogue.music, catalogue.people
    uploaded = np.ascontiguousarray(music.track["uploaded"])
    period = (config.start_us, config.end_us)
    active = _first_of_each(sessions["user"])
    active = _open(sessions, active, memory, uploaded, start + DAY)
    witness.opened(sessions, active)
    events: list[EventColumns] = []
    exposures: list[ExposureColumns] = []
    while len(active) or not events:
        origin, surface, seed = (np.empty(len(active), np.int32) for _ in range(3))
        choose_segments(sessions, active, people, memory, origin, surface, seed)
        asking = np.flatnonzero(surface >= 0)
        who = active[asking]
        requests = Requests(
            sessions["user"][who],
            surface[asking],
            seed[asking],
            sessions["uploaded"][who],
            sessions["clock"][who].copy(),
        )
        slates = policy.answer(requests, crowd)
        ids = uuid7_column(requests.ts, rng.integers(0, 2**64, (len(who), 2), np.uint64))
        request = np.full(len(active), -1, np.int32)
        request[asking] = np.arange(len(asking))
        rows = np.empty(len(active) * ROWS_PER_SEGMENT, EVENT_ROW)
        written = react(
            music, people, memory, crowd, sessions, active, origin, request, slates.track, period, rows, 0
        )
        events.append(event_columns(rows[:written], sessions, _session_ids(sessions), ids, rng))
        exposures.append(exposure_columns(requests, slates, ids))
        witness.reacted(sessions, active, rows[:written], events[-1])
        active, following = _next_wave(sessions, active, memory, uploaded, start + DAY)
        witness.opened(sessions, following)
    return join(events), join(exposures)


def _session_ids(sessions: Sessions) -> I64:
    """A number the client would give: listener and second; -1 where the client gives none."""
    named = (sessions["user"].astype(np.int64) + USER_BASE) << 32 | sessions["start"] // SECOND & 0xFFFFFFFF
    return np.where(sessions["device"] == _UNNAMED_DEVICE, -1, named)


def _first_of_each(user: I32) -> I64:
    """Rows at which a new listener begins."""
    if not len(user):
        return np.empty(0, np.int64)
    return np.flatnonzero(np.concatenate([[True], user[1:] != user[:-1]]))


def _next_wave(sessions: Sessions, active: I64, memory: Memory, uploaded: I64, end: int) -> tuple[I64, I64]:
    """Sessions still running with those that follow the ones that just ended, and the latter alone."""
    alive = sessions["alive"][active]
    following = active[~alive] + 1
    following = following[following < len(sessions["user"])]
    following = following[sessions["user"][following] == sessions["user"][following - 1]]
    following = _open(sessions, following, memory, uploaded, end)
    return np.sort(np.concatenate([active[alive], following])), following


def _open(sessions: Sessions, rows: I64, memory: Memory, uploaded: I64, end: int) -> I64:
    """Begin sessions, not before the silence that ends the last one; those pushed out of the day never begin."""
    begin = np.maximum(sessions["start"][rows], memory["busy"][sessions["user"][rows]] + SESSION_GAP + MINUTE)
    rows, begin = rows[begin < end], begin[begin < end]
    sessions["start"][rows] = begin
    sessions["clock"][rows] = begin
    sessions["uploaded"][rows] = np.searchsorted(uploaded, begin, side="right")
    return rows


def _news(catalogue: Catalogue, now: int) -> F64:
    """How much more than usual a track is talked about because it is new; 0 before its upload."""
    age = (now - catalogue.music.track["uploaded"]) / DAY
    return np.where(age >= 0, 1.0 + 2.5 * np.exp(-np.maximum(age, 0) / _NEWS_DAYS), 0.0)


def crowd_of(config: SimulationConfig, catalogue: Catalogue, talk: F64, now: int) -> Crowd:
    """What everybody hears about on the day that begins at `now`."""
    music = catalogue.music
    uploaded = music.track["uploaded"]
    age = np.maximum((now - uploaded) / DAY, 0.0)
    weight = (music.track["weight"] * (1.0 + 2.5 * np.exp(-age / _NEWS_DAYS)))[music.scene_tracks]
    size = min(_HOT, config.tracks)
    most = np.argpartition(-talk, size - 1)[:size]
    most = most[np.argsort(-talk[most], kind="stable")]
    hot = most[talk[most] > 0].astype(np.int32)
    rng = np.random.default_rng([config.seed, 8, now // DAY])
    there = int(np.searchsorted(uploaded, now))
    recent = int(np.searchsorted(uploaded, now - 14 * DAY))
    pool = np.concatenate(
        [
            rng.choice(np.arange(recent, there), min(POOL // 2, there - recent), replace=False),
            rng.integers(0, max(there, 1), POOL // 2),
        ]
    )
    return Crowd(
        scene_reach=np.concatenate([[0.0], np.cumsum(weight)]),
        hot=hot,
        hot_reach=np.cumsum(1.0 / (20.0 + np.arange(len(hot)))),
        fresh=np.unique(pool).astype(np.int32),
    )
