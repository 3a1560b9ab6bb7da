"""The follower: reads the events of the log and folds them into listener state, one process at a time.

A fold may repeat events, so the order is simple: read, fold, commit. Whoever dies in between leaves a place in the log that is
too early, never too late, and the next follower repeats a little. Every worker of a server has a follower; one of
them reads, the others stand by until the log lets them. A store that does not answer is asked again, with the same events,
for as long as it takes.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Final

from segue.contracts.errors import Conflict, SegueError
from segue.contracts.ports import Consumer, Log
from segue.contracts.vocabulary import SECOND
from segue.events.records import read_events
from segue.listener.fold import KnowsTracks, read_records
from segue.listener.states import ListenerStates
from segue.settings.tree import State

TOPIC: Final = "events"
GROUP: Final = "state"
"""Whose place in the log the embedded store's is; another kind of store has one of its own."""
MOST_AT_ONCE: Final = 5_000
"""Events folded in one go."""
WAIT_S: Final = 0.25
"""How long one look at the log waits, and how long a stand-by waits before it asks again."""
LONGEST_PAUSE_S: Final = 5.0
_log = logging.getLogger("segue.follower")


class Follower:
    """Folds events into listener state from a thread of its own, until it is closed.

    `facts` gives what is known of tracks at the moment, which judges how much of a play was listened to.
    """

    def __init__(
        self, log: Log, states: ListenerStates, facts: Callable[[], KnowsTracks | None], group: str = GROUP
    ) -> None:
        self._log = log
        self._group = group
        self._states = states
        self._facts = facts
        self.trouble: str | None = None
        """Why events wait to be folded in, while they do."""
        self.backlog: int | None = None
        """What lies in the log behind the events at hand: bytes of files, records in Kafka; None where that is not known."""
        self._oldest: float | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="segue-follower", daemon=True)
        self._thread.start()

    def lag_s(self) -> float:
        """How long the oldest event that is known of and not yet in listener state has waited; 0 for who stands by."""
        oldest = self._oldest
        return 0.0 if oldest is None else max(time.time() - oldest, 0.0)

    def close(self) -> None:
        """Finish the batch at hand and let another process follow."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        pauses = 0
        while not self._closing.wait(_pause(pauses)):
            try:
                consumer = self._log.consumer(TOPIC, self._group, shared=True)
            except Conflict:
                pauses = 0
                self._well()
                self._closing.wait(WAIT_S)
                continue
            except Exception as error:  # noqa: BLE001 - as below
                self._failed(error)
                pauses += 1
                continue
            try:
                pauses = self._follow(consumer, pauses)
            finally:
                consumer.close()

    def _follow(self, consumer: Consumer, pauses: int) -> int:
        """Read and fold until closed, or until something fails and the log is asked anew. Returns the failures in a row."""
        while not self._closing.is_set():
            try:
                found = consumer.poll(MOST_AT_ONCE, WAIT_S)
                self.backlog = consumer.behind()
                if len(found):
                    self._fold(found.records)
                    consumer.commit()
                self._well(caught_up=not len(found))
                pauses = 0
            except Exception as error:  # noqa: BLE001
                # Whatever it is, what listeners say from now on depends on this thread: it must go on.
                self._failed(error)
                return pauses + 1
        return 0

    def _fold(self, records: list[bytes]) -> None:
        events = read_events(records)  # what is no event is the landing's to report
        if events:
            self._oldest = min(event.received_at for event in events) / SECOND
            self._states.add(read_records(events, self._facts()))

    def _failed(self, error: Exception) -> None:
        """Say once what keeps events waiting, however often it is tried again."""
        if self.trouble is None:
            foreseen = isinstance(error, SegueError)
            _log.error("events wait to be folded into listener state: %s", error, exc_info=not foreseen)
        self._oldest = self._oldest or time.time()
        self.trouble = str(error)

    def _well(self, caught_up: bool = True) -> None:
        if self.trouble is not None:
            _log.warning("events are folded into listener state again")
        self.trouble = None
        if caught_up:
            self._oldest = None


def group_of(state: State) -> str:
    """The group that follows the log for a store: two stores that are filled from one log must not share a place in it."""
    return GROUP if state.kind == "lmdb" else f"{GROUP}-{state.kind}"


def _pause(failures: int) -> float:
    """Seconds before the next attempt, doubling, with jitter: a store that comes back must not be stormed."""
    return random.uniform(0, min(LONGEST_PAUSE_S, 0.05 * 2 ** min(failures, 20))) if failures else 0.0
