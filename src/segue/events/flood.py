"""How many events of one listener are taken: a device whose program runs in a circle must not fill the log for everybody.

Events are counted over WINDOW_S seconds, so that a device that was offline may send what it kept. Memory is bounded: once
MOST_LISTENERS have been counted, the counting begins anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

WINDOW_S: Final = 10
MOST_LISTENERS: Final = 100_000


class ListenerLimit:
    """Counts events by listener. `events_per_s` of 0 takes any number."""

    def __init__(self, events_per_s: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = events_per_s * WINDOW_S
        self._clock = clock
        self._until = clock() + WINDOW_S
        self._counts: dict[int, int] = {}

    def admit(self, user_id: int) -> bool:
        """Count an event. False if the listener has had as many as are taken."""
        if not self._most:
            return True
        if self._clock() >= self._until or len(self._counts) >= MOST_LISTENERS:
            self._counts, self._until = {}, self._clock() + WINDOW_S
        count = self._counts[user_id] = self._counts.get(user_id, 0) + 1
        return count <= self._most
