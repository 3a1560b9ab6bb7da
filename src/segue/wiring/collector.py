"""The collector: events become durable many requests at a time, and are acknowledged when the next request will know them.

Each request's records wait for the append that is under way, and then all that have gathered go to the log as one: one write
and one sync for many requests, however slow the disk (group commit; Gawlick and Kinkade, 1985). What is appended is
acknowledged once the follower has folded it into listener state, so that a listener who said "never again" is heard
on the next request; after ACK_S it is acknowledged all the same, since it is durable and will be folded in.

Nothing grows without bound: beyond `serving.max_waiting_events` records the caller is told to come again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final

from segue.contracts.errors import Overloaded, SegueError, Unavailable
from segue.contracts.ports import Log

ACK_S: Final = 0.2
"""How long an acknowledgement waits for listener state to know the events."""
LOOK_S: Final = 0.001
LONGEST_LOOK_S: Final = 0.01
"""How soon it looks, and looks again: each time half as late again, up to so late."""
MOST_AT_ONCE: Final = 20_000
"""Records of one append, about."""
_log = logging.getLogger("segue.collector")


@dataclass(frozen=True)
class _Batch:
    records: list[bytes]
    done: Future[None]


@dataclass(frozen=True)
class _Appended:
    place: int | None
    until: float
    batches: list[_Batch]


class Collector:
    """Appends the records of many requests from one thread, and acknowledges them from another.

    `known` tells whether everything before a place of the topic is in effect.
    """

    def __init__(self, log: Log, topic: str, known: Callable[[int], bool], max_waiting: int) -> None:
        self._log = log
        self._topic = topic
        self._knows = known
        self._max_waiting = max_waiting
        self._waiting = 0
        self._turn = threading.Lock()
        self._batches: SimpleQueue[_Batch | None] = SimpleQueue()
        self._appended: SimpleQueue[_Appended | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._append, name="segue-collect", daemon=True),
            threading.Thread(target=self._acknowledge, name="segue-acknowledge", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, records: list[bytes]) -> Future[None]:
        """Hand records over. The future is done when they are acknowledged, or fails with what the log raised.

        Raises Overloaded where too many records wait already.
        """
        done: Future[None] = Future()
        done.set_running_or_notify_cancel()  # a caller that goes away must not keep it from being settled
        if not records:
            done.set_result(None)
            return done
        with self._turn:
            if self._waiting + len(records) > self._max_waiting:
                raise Overloaded(
                    f"{self._waiting:,} events wait to be written in this worker; try again in a second",
                    limit=f"at most {self._max_waiting:,} at once per worker (serving.max_waiting_events)",
                )
            self._waiting += len(records)
        self._batches.put(_Batch(records, done))
        return done

    def close(self) -> None:
        """Write and acknowledge what waits, and stop."""
        self._batches.put(None)
        for thread in self._threads:
            thread.join()

    def _append(self) -> None:
        closing = False
        while not closing:
            batches, closing = self._gather()
            records = [record for batch in batches for record in batch.records]
            try:
                place = self._log.append(self._topic, records) if records else None
            except Exception as error:  # noqa: BLE001 - callers must hear of it, and the next batch be written
                _log.error(
                    "events could not be written: %s", error, exc_info=not isinstance(error, SegueError)
                )
                known = (
                    error
                    if isinstance(error, SegueError)
                    else Unavailable(f"the event log: {error}", field="log")
                )
                for batch in batches:
                    batch.done.set_exception(known)
            else:
                self._appended.put(_Appended(place, time.monotonic() + ACK_S, batches))
            with self._turn:
                self._waiting -= len(records)
        self._appended.put(None)

    def _gather(self) -> tuple[list[_Batch], bool]:
        """What waits, at least one batch of it, and whether it was the last."""
        batches: list[_Batch] = []
        count = 0
        try:
            batch = self._batches.get()
            while batch is not None:
                batches.append(batch)
                count += len(batch.records)
                if count >= MOST_AT_ONCE:
                    return batches, False
                batch = self._batches.get_nowait()
        except Empty:
            return batches, False
        return batches, True

    def _acknowledge(self) -> None:
        while (appended := self._appended.get()) is not None:
            # A place that cannot be read is as one that is not reached.
            pause = LOOK_S
            while not self._known(appended.place) and time.monotonic() < appended.until:
                time.sleep(pause)
                pause = min(1.5 * pause, LONGEST_LOOK_S)
            for batch in appended.batches:
                batch.done.set_result(None)

    def _known(self, place: int | None) -> bool:
        """Whether what was appended is in effect. A log without places cannot tell."""
        try:
            return place is None or self._knows(place)
        except (OSError, SegueError):
            return False
