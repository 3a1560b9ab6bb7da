"""A service that lives on after its history, with listeners who react to what they are given.

A history's listeners come and stay by habit alone. Here how content they are has consequences:

* boredom: a recommended track loses relevance by how many of the latest plays were of its artist or scene
  (segue.simulation.listener, `_boredom`);
* patience: every started track that is listened to prolongs the session a little, every other shortens it;
* return: a session that was better or worse than `expected` changes how often its listener comes, and is forgotten
  session by session.

A listener looks at a page from the top (position bias), hears of what is played a lot and of what friends keep (social
influence): those are in every history.

Two lives of one service under different recommenders use common random numbers: whether a listener comes on a day, when, for
how long, and the stream of all draws within a session depend on the seed, the day, the listener and the number of the session
that day, and on nothing that happened before. Their difference is then mostly the recommender's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated, Final, Protocol

import numpy as np
import numpy.typing as npt
from msgspec import Meta, Struct
from scipy.special import pdtr

from segue.contracts.vocabulary import DAY, END_MS, LISTEN_MS
from segue.simulation.catalogue import Catalogue
from segue.simulation.columns import EventColumns, ExposureColumns, join, pick
from segue.simulation.config import SimulationConfig
from segue.simulation.history import (
    CHUNK,
    FADE,
    HOUR_SHARES,
    LONGEST,
    Policy,
    Witness,
    crowd_of,
    run_chunk,
    sessions_of,
    when,
)
from segue.simulation.service import Service
from segue.simulation.session import PLAY, SKIP, Rows, Sessions
from segue.simulation.words import DEVICES, MOODS, WEEKDAYS
from segue.simulation.world import F64, I64, U64, Memory

__all__ = ["Environment", "LivedDay", "Observer", "Reactions"]

_MOST: Final = 12
"""Sessions of a listener in a day, at most: as many draws are made for each, so that nobody's shift another's."""


class Reactions(Struct, frozen=True, forbid_unknown_fields=True):
    """How strongly listeners react. Set by judgement: no public data set has what these would be fitted to."""

    boredom: Annotated[
        float,
        Meta(ge=0, description="relevance a track loses if all of the last 16 plays were of its artist"),
    ] = 2.0
    patience: Annotated[
        float, Meta(ge=0, description="plays a session gets longer for a listen above what is expected")
    ] = 0.5
    returning: Annotated[
        float, Meta(ge=0, description="how much more often a listener comes, per share of listens above it")
    ] = 1.0
    expected: Annotated[
        float, Meta(ge=0, le=1, description="share of started tracks listened to that changes nothing")
    ] = 0.74
    forgetting: Annotated[
        float, Meta(gt=0, le=1, description="weight of the latest session in how content a listener is")
    ] = 0.25


NONE: Final = Reactions(boredom=0.0, patience=0.0, returning=0.0)
"""Listeners as in a history: nothing they are given changes when they come and how long they stay."""


class Observer(Protocol):
    """Hears of every event, wave by wave, before the next requests are made."""

    def observe(self, events: EventColumns) -> None:
        """What was just done."""


@dataclass(frozen=True, slots=True)
class LivedDay:
    """What happened on one UTC day: events and exposed slots, sorted by nothing."""

    day: date
    events: EventColumns
    exposures: ExposureColumns


class Environment:
    """A service from the end of its history on. `service` is changed as it lives.

    `policy` answers, `observer` hears of the reactions (by default nobody); who is not among `present` bool[listeners] stays
    away. `first` is the first day to live, the day after the history by default.
    """

    def __init__(
        self,
        config: SimulationConfig,
        catalogue: Catalogue,
        service: Service,
        policy: Policy,
        *,
        seed: int,
        reactions: Reactions = Reactions(),  # noqa: B008 - frozen
        observer: Observer | None = None,
        present: npt.NDArray[np.bool_] | None = None,
        first: date | None = None,
    ) -> None:
        self._config, self._catalogue, self._service = config, catalogue, service
        self._policy, self._observer = policy, observer
        self._seed, self._reactions = seed, reactions
        rate = catalogue.habits.rate
        self._rate = rate if present is None else np.where(present, rate, 0.0)
        self._first = first or config.end + timedelta(days=1)
        self._duration = np.ascontiguousarray(catalogue.music.track["duration"])
        self._left: dict[int, tuple[EventColumns, ExposureColumns]] = {}
        service.memory["bored"] = reactions.boredom

    def live(self, days: int) -> Iterator[LivedDay]:
        """The days that follow, one at a time. Days lived before, by the same object, are not lived again."""
        left = self._left
        for _ in range(days):
            day = self._first
            self._first += timedelta(days=1)
            start = self._config.start_us + (day - self._config.first).days * DAY
            crowd = crowd_of(self._config, self._catalogue, self._service.talk, start)
            plays = np.zeros(self._config.tracks)
            events: list[EventColumns] = []
            exposures: list[ExposureColumns] = []
            for chunk in range(0, self._config.listeners, CHUNK):
                rng = np.random.default_rng([self._seed, 9, start // DAY, chunk])
                sessions, streams = self._sessions(chunk, start, rng)
                feedback = _Feedback(
                    self._service.memory, sessions, streams, self._reactions, self._duration, self._observer
                )
                done, shown = run_chunk(
                    self._config,
                    self._catalogue,
                    self._service.memory,
                    crowd,
                    self._policy,
                    sessions,
                    start,
                    rng,
                    feedback,
                )
                if chunk in left:
                    done, shown = join([left[chunk][0], done]), join([left[chunk][1], shown])
                today, asked = done.ts < start + DAY, shown.ts < start + DAY
                left[chunk] = pick(done, ~today), pick(shown, ~asked)
                events.append(pick(done, today))
                exposures.append(pick(shown, asked))
                plays += np.bincount(events[-1].track[events[-1].type == PLAY], minlength=self._config.tracks)
            self._service.talk = FADE * self._service.talk + plays
            yield LivedDay(day, join(events), join(exposures))

    def _sessions(self, first: int, start: int, rng: np.random.Generator) -> tuple[Sessions, U64]:
        """The sessions of one chunk that begin on the UTC day at `start`, and the random stream of each."""
        habits, memory = self._catalogue.habits, self._service.memory
        here = np.arange(first, min(first + CHUNK, self._config.listeners))
        shape = (len(here), _MOST)
        dart = rng.random(len(here))
        hour = rng.choice(24, shape, p=HOUR_SHARES) + rng.random(shape)
        spread = rng.normal(size=shape)
        mood = rng.integers(0, len(MOODS), shape)
        device = rng.choice(len(DEVICES), shape, p=[d[1] for d in DEVICES])
        streams = rng.integers(0, 2**64, shape, np.uint64)
        rate = self._rate[here] * WEEKDAYS[(start // DAY + 3) % 7]
        rate *= np.exp(self._reactions.returning * memory["joy"][here])
        # Why by inversion: a higher rate only ever adds sessions behind those there were.
        count = (dart[:, None] > pdtr(np.arange(_MOST), rate[:, None])).sum(axis=1)
        row, number = np.nonzero(np.arange(_MOST) < count[:, None])
        user = here[row].astype(np.int32)
        begin = when(self._catalogue, user, hour[row, number], start)
        order = np.lexsort((begin, user))
        order = order[begin[order] > habits.joined[user[order]]]
        row, number = row[order], number[order]
        sessions = sessions_of(
            self._config,
            user[order],
            begin[order],
            spread[row, number],
            mood[row, number],
            device[row, number],
        )
        return sessions, streams[row, number]


class _Feedback(Witness):
    """The consequences of what the sessions of a day are given, and the observer's ear."""

    def __init__(
        self,
        memory: Memory,
        sessions: Sessions,
        streams: U64,
        reactions: Reactions,
        duration: npt.NDArray[np.int32],
        observer: Observer | None,
    ) -> None:
        self._memory, self._streams, self._reactions = memory, streams, reactions
        self._duration, self._observer = duration, observer
        self._meant = sessions["planned"].astype(np.float64)
        self._started, self._listened = np.zeros(len(sessions)), np.zeros(len(sessions))

    def opened(self, sessions: Sessions, rows: I64) -> None:
        """A session draws from its own stream, whatever its listener drew before."""
        self._memory["rng"][sessions["user"][rows]] = self._streams[rows]

    def reacted(self, sessions: Sessions, active: I64, rows: Rows, events: EventColumns) -> None:
        """Prolong or shorten sessions; remember how content those that ended leave their listeners."""
        plays = rows[(rows["type"] == PLAY) | (rows["type"] == SKIP)]
        n = len(sessions)
        self._started += np.bincount(plays["session"], minlength=n)
        self._listened += np.bincount(plays["session"], _listened(plays, self._duration), minlength=n)
        self._bear_with(sessions, active)
        ended = active[~sessions["alive"][active]]
        ended = ended[self._started[ended] > 0]
        user, memory = sessions["user"][ended], self._memory
        joy = self._listened[ended] / self._started[ended] - self._reactions.expected
        memory["joy"][user] += self._reactions.forgetting * (joy - memory["joy"][user])
        if self._observer is not None:
            self._observer.observe(events)

    def _bear_with(self, sessions: Sessions, active: I64) -> None:
        """Plan as many plays as the listener has patience for now; who was only out of plan may go on."""
        if self._reactions.patience == 0.0:
            return
        above: F64 = self._listened[active] - self._reactions.expected * self._started[active]
        planned = np.rint(self._meant[active] + self._reactions.patience * above).clip(1, LONGEST)
        played, before = sessions["played"][active], sessions["planned"][active]
        alive, user = sessions["alive"][active], sessions["user"][active]
        goes_on = played < planned
        sessions["planned"][active] = planned
        sessions["alive"][active] = goes_on & (alive | (played >= before))
        gone = alive & ~goes_on
        clock = sessions["clock"][active]
        self._memory["busy"][user[gone]] = np.maximum(self._memory["busy"][user[gone]], clock[gone])


def _listened(plays: Rows, duration: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Which started tracks were listened to: the warehouse's rule."""
    ms = plays["ms"]
    listened: npt.NDArray[np.bool_] = (plays["type"] == PLAY) & (
        (ms >= LISTEN_MS) | (ms >= duration[plays["track"]] - END_MS)
    )
    return listened
