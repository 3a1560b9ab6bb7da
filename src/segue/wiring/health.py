"""Whether listener state answers, asked every second, traffic or not.

A store that is away takes nobody out of rotation: every worker would go at once, and what needs no state is still answered. It
is seen in /readyz, in the metrics, and in one line of the log when it goes and one when it is back.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from segue.contracts.errors import SegueError
from segue.listener.states import ListenerStates

LOOK_S: Final = 1.0
GONE_S: Final = 3.0
"""What has not answered for so long is away, not slow."""
PROBE: Final = 0
"""A listener who need not exist."""
_log = logging.getLogger("segue.health")


class StateWatch:
    """Reads from the store again and again, from a thread of its own, until it is closed."""

    def __init__(self, states: ListenerStates) -> None:
        self.trouble: str | None = None
        """Why listener state cannot be read, once that has lasted for GONE_S."""
        self._states = states
        self._since: float | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="segue-health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.wait(LOOK_S):
            try:
                self._states.read(PROBE)
            except SegueError as error:
                self._bad(error.message)
            except Exception as error:  # noqa: BLE001 - whatever it is, this thread must go on
                self._bad(repr(error))
            else:
                self._good()

    def _bad(self, reason: str) -> None:
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if self.trouble is None and now - self._since >= GONE_S:
            _log.error("listener state has not answered for %.0f s: %s", now - self._since, reason)
            self.trouble = reason

    def _good(self) -> None:
        if self.trouble is not None and self._since is not None:
            _log.warning("listener state answers again, after %.0f s", time.monotonic() - self._since)
        self._since = self.trouble = None
