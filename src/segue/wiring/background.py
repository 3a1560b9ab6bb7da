"""Records that reach the log in the background, so that no listener waits for a disk.

They wait in memory for at most FLUSH_S seconds; when the log cannot be written they wait longer, up to a number of them.
What comes after that is counted as lost and said in the process's log, since answering listeners comes first.
"""

from __future__ import annotations

import logging
import threading

from segue.contracts.errors import InvalidInput, SegueError
from segue.contracts.ports import Log

FLUSH_S = 0.2
_log = logging.getLogger("segue.background")


class BackgroundWriter:
    """Appends records to a topic from a thread of its own. Up to `most` records wait."""

    def __init__(self, log: Log, topic: str, most: int) -> None:
        self._log = log
        self._topic = topic
        self._most = most
        self._waiting: list[bytes] = []
        self._lost = 0
        self._turn = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"segue-{topic}", daemon=True)
        self._thread.start()

    def add(self, record: bytes) -> bool:
        """Hand a record over. False if it is lost, because too many wait."""
        with self._turn:
            if len(self._waiting) >= self._most:
                self._lost += 1
                return False
            self._waiting.append(record)
            return True

    def close(self) -> None:
        """Write what waits, and stop."""
        with self._turn:
            self._closing = True
            self._turn.notify()
        self._thread.join()

    def _run(self) -> None:
        closing = False
        while not closing:
            with self._turn:
                self._turn.wait(FLUSH_S)
                closing, records, lost = self._closing, self._waiting, self._lost
                self._waiting, self._lost = [], 0
            if lost:
                _log.error("%d records are missing from %s: the log could not be written", lost, self._topic)
            try:
                self._write(records)
            except Exception as error:  # noqa: BLE001 - whatever it is, this thread must go on
                _log.error("%s: %s", self._topic, error, exc_info=not isinstance(error, SegueError))
                with self._turn:
                    self._waiting = (records + self._waiting)[: self._most]

    def _write(self, records: list[bytes]) -> None:
        """Append the records; without those that are too large for the log, which would hold up the others for ever."""
        try:
            self._log.append(self._topic, records)
        except InvalidInput as error:
            if len(records) > 1:
                for record in records:
                    self._write([record])
            else:
                _log.error("%s: a record is lost: %s", self._topic, error)
