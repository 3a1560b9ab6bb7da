"""Dead letters: refused events are kept for the table `rejects`, as many as the settings allow.

They reach a topic of their own in the background: nobody waits for them, and the good events of the batch least of all. A
flood of garbage costs as much of the disk as a trickle.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from segue.contracts.ports import Log
from segue.events.incoming import Refused
from segue.events.records import DEAD_LETTERS_TOPIC, DeadLetter, encode_dead_letter
from segue.wiring.background import BackgroundWriter

BURST_S: Final = 60
"""Seconds' worth of dead letters that are kept at once."""


class DeadLetters:
    """Keeps refused events, `per_s` a second. Used from any number of threads."""

    def __init__(self, log: Log, per_s: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._clock = clock
        self._left = float(per_s * BURST_S)
        self._at = clock()
        self._turn = threading.Lock()
        self._writer = BackgroundWriter(log, DEAD_LETTERS_TOPIC, most=2 * per_s * BURST_S)

    def keep(self, refused: Sequence[Refused], caller: str | None, now: int) -> int:
        """Keep as many as the limit leaves room for; returns how many. `caller` names the key; `now` is UTC microseconds."""
        origin = f"http:{caller}" if caller else "http"
        kept = 0
        for event in refused[: self._room(len(refused))]:
            letter = DeadLetter(now, origin, event.reason, event.field, event.content)
            kept += self._writer.add(encode_dead_letter(letter))
        return kept

    def close(self) -> None:
        """Write what waits, and stop."""
        self._writer.close()

    def _room(self, wanted: int) -> int:
        with self._turn:
            moment = self._clock()
            self._left = min(self._per_s * BURST_S, self._left + (moment - self._at) * self._per_s)
            self._at = moment
            given = min(wanted, int(self._left))
            self._left -= given
            return given
