"""One process's share of a run: sessions arrive, their steps come due, answers are timed.

Open loop, without coordinated omission (Gil Tene, "How NOT to Measure Latency", 2013): when a session arrives, and when each of
its steps is due, is drawn beforehand and never moved. A step whose session still waits for an answer is sent as soon as that is
there, and its latency counts from when it was due; so a server that stalls for a second is charged with all that was due in that
second. Sessions are a partly open system (Schroeder, Wierman, Harchol-Balter, "Open Versus Closed", 2006).

The run starts in the middle: of sessions that began before it, the steps still to come are taken, so that the rate is the
planned one from the first second.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import dropwhile, takewhile
from random import Random
from typing import Final

import msgspec
from msgspec import Struct

from segue.contracts.vocabulary import SECOND
from segue.load.connections import Exchange, Pool
from segue.load.plan import Plan
from segue.load.sessions import EVENTS, HEARD_S, MOST_TRACKS, PAUSE_S, REQUESTS, Session, Step, timetable
from segue.load.tally import Tally

TICK_S: Final = 0.5
"""How often requests without an answer are looked through, and how often the tally is told."""
DRAIN_S: Final = 0.01
OK: Final = 200
ACCEPTED: Final = 202
NOT_SENT: Final = "not sent: the listener still waited for an answer"


class _Result(Struct, frozen=True):
    status: str
    event_id: str | None = None
    reason: str | None = None


class _Told(Struct, frozen=True):
    """What the server says of a batch of events."""

    accepted: int
    rejected: int
    results: tuple[_Result, ...]


_told: Final = msgspec.json.Decoder(_Told)
_encode: Final = msgspec.json.Encoder().encode


def arrivals(plan: Plan, dice: Random) -> Iterator[float]:
    """When sessions begin, seconds from the run's start, ascending: a Poisson process, from long before the run to its end.

    The rate follows `plan.shape` by thinning (Lewis and Shedler, 1979), and is as in the first part before the run.
    """
    mean = sum(plan.shape) / len(plan.shape)
    most = max(plan.shape)
    rate = plan.rate / plan.processes / REQUESTS * most / mean
    at = -MOST_TRACKS * (HEARD_S + PAUSE_S) / plan.speed
    while (at := at + dice.expovariate(rate)) < plan.duration_s:
        part = plan.shape[max(int(at / plan.duration_s * len(plan.shape)), 0)]
        if part == most or dice.random() * most < part:
            yield at


class Generator:
    """Runs one process's share of a plan. `tell` gets the tally twice a second, and at the end with `over` set."""

    def __init__(self, plan: Plan, number: int, tell: Callable[[Tally], None]) -> None:
        self._plan = plan
        self._tell = tell
        self._tally = Tally()
        key = f"Authorization: Bearer {plan.key}\r\n" if plan.key else ""
        self._pool = Pool(plan.address, plan.connections // plan.processes, key)
        self._asking: set[Session] = set()
        self._acknowledged: list[bytes] = []
        self._dice = Random(f"{plan.seed}/{number}")
        self._arrivals = arrivals(plan, Random(f"{plan.seed}/{number}/arrivals"))
        self._first = 0.0
        self._under_way = list(self._begun_before())
        self._loop: asyncio.AbstractEventLoop
        self._zero = self._cpu = 0.0
        self._end = plan.duration_s
        self._closing = False
        self._ending = asyncio.Event()

    async def run(self) -> None:
        """Drive the server until the time is over or `stop` is called, then let sessions catch up that wait for an answer."""
        self._loop = asyncio.get_running_loop()
        self._zero, self._cpu = self._loop.time(), time.process_time()
        for session in self._under_way:
            self._go_on(session)
        self._under_way.clear()
        self._loop.call_at(self._zero + self._first, self._arrive, self._first)
        self._loop.call_at(self._zero + self._plan.warm_up_s, self._measure)
        self._loop.call_at(self._zero + self._end, self.stop)
        while not self._ending.is_set():
            await self._tick(self._ending.wait())
        until = self._loop.time() + self._plan.timeout_s
        while self._asking and self._loop.time() < until:
            await self._tick(asyncio.sleep(DRAIN_S))
        self._closing = True
        self._pool.close()
        self._tally.over = True
        await self._tick(asyncio.sleep(0))

    def stop(self) -> None:
        """Begin nothing more."""
        if not self._ending.is_set():
            self._end = min(self._end, self._now())
            self._take_stock()
            self._ending.set()

    def _begun_before(self) -> Iterator[Session]:
        """The sessions under way when the run starts; leaves `_first` at the first that begins later."""
        for at in self._arrivals:
            if at >= 0:
                self._first = at
                return
            session = self._session(at)
            session.steps = dropwhile(lambda step: step.at < 0, session.steps)
            yield session
        self._first = self._plan.duration_s

    def _session(self, at: float) -> Session:
        dice = Random(self._dice.getrandbits(64))
        plan = self._plan
        return Session(dice.choice(plan.listeners), plan.k, timetable(dice, at, plan.speed))

    def _now(self) -> float:
        """Seconds since the run's start."""
        return self._loop.time() - self._zero

    def _arrive(self, at: float) -> None:
        if at >= self._end:
            return
        self._tally.sessions += at >= self._plan.warm_up_s
        self._go_on(self._session(at))
        following = next(self._arrivals, self._plan.duration_s)
        self._loop.call_at(self._zero + following, self._arrive, following)

    def _go_on(self, session: Session) -> None:
        """Send what the session does next, when it is due."""
        step = next(session.steps, None)
        if step is None or step.at >= self._end:
            return
        if step.at <= self._now():
            self._send(session, step)
        else:
            self._loop.call_at(self._zero + step.at, self._due, session, step)

    def _due(self, session: Session, step: Step) -> None:
        if step.at >= self._plan.warm_up_s:
            self._tally.late.record(int((self._now() - step.at) * SECOND))
        if step.at < self._end:
            self._send(session, step)

    def _send(self, session: Session, step: Step) -> None:
        request = session.request(step)
        counted = step.at >= self._plan.warm_up_s
        if counted:
            self._tally.kind(request.kind).intended += 1
            if request.body is not None:
                self._tally.events += len(session.sent)
        self._asking.add(session)
        done = partial(self._done, session, step, request.kind)
        self._pool.send(Exchange(request, self._loop.time(), done))

    def _done(self, session: Session, step: Step, name: str, status: int, body: bytes) -> None:
        self._asking.discard(session)
        now = self._now()
        fault = self._take(session, step, name, status, body)
        if step.at >= self._plan.warm_up_s:
            kind = self._tally.kind(name)
            if fault is not None:
                kind.error(fault)
            else:
                kind.latency.record(int((now - step.at) * SECOND))
                self._tally.in_time += now <= self._end
        if self._closing:
            self._leave(session)
        else:
            self._go_on(session)

    def _leave(self, session: Session) -> None:
        """The answer a session waited for never came: what was due meanwhile was not sent, and counts all the same."""
        for step in takewhile(lambda step: step.at < self._end, session.steps):
            if step.at >= self._plan.warm_up_s:
                kind = self._tally.kind(step.surface or EVENTS)
                kind.intended += 1
                kind.error(NOT_SENT)

    def _take(self, session: Session, step: Step, name: str, status: int, body: bytes) -> str | None:
        """Use an answer. Returns what is wrong with it."""
        if not status:
            return body.decode()
        if status != (ACCEPTED if name == EVENTS else OK):
            return f"status {status}"
        try:
            if name != EVENTS:
                session.show(body)
            else:
                self._acknowledge(session, _told.decode(body), step.at >= self._plan.warm_up_s)
        except msgspec.DecodeError as error:
            return f"another answer than Segue's: {error}"
        return None

    def _acknowledge(self, session: Session, told: _Told, counted: bool) -> None:
        if counted:
            self._tally.acknowledged += told.accepted
        for event, result in zip(session.sent, told.results, strict=False):
            if result.status == "accepted":
                if self._plan.acknowledged is not None:
                    self._acknowledged.append(_encode(event) + b"\n")
            elif counted:
                reason = result.reason or "no reason given"
                self._tally.refused[reason] = self._tally.refused.get(reason, 0) + 1

    async def _tick(self, pause: Awaitable[object]) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(pause, TICK_S)
        self._pool.expire(self._loop.time() - self._plan.timeout_s)
        if self._acknowledged and self._plan.acknowledged is not None:
            # In one write of whole lines: other processes write there too.
            with self._plan.acknowledged.open("ab", buffering=0) as file:
                file.write(b"".join(self._acknowledged))
            self._acknowledged.clear()
        if not self._ending.is_set():
            self._take_stock()
        self._tell(self._tally)

    def _measure(self) -> None:
        """The warm-up is over: count from here."""
        self._cpu = time.process_time()
        self._pool.sent = self._pool.waited = self._pool.bytes_out = self._pool.bytes_in = 0

    def _take_stock(self) -> None:
        tally = self._tally
        tally.seconds = max(min(self._now(), self._end) - self._plan.warm_up_s, 0.0)
        tally.cpu_s = time.process_time() - self._cpu
        tally.sent, tally.waited = self._pool.sent, self._pool.waited
        tally.bytes_out, tally.bytes_in = self._pool.bytes_out, self._pool.bytes_in


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop whose timers are as exact as the clock: epoll, and uvloop, wait in whole milliseconds."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())
