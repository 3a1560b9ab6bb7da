"""Slips: which records of a topic each worker of this host has come by last, so that an acknowledgement can wait for all of them.

A slip is a small file of the latest places, which its worker holds a lock on. A worker that dies lets go of it, and nobody waits
for the dead.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from array import array
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

PLACES: Final = 512
"""Latest places on a slip. Places of a log need not be in order, only be the record's own."""


class Slip:
    """One worker's slip, which every other can read."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file, name = tempfile.mkstemp(prefix=".worker-", dir=folder)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._path = folder / Path(name).name[1:]  # seen only now that it is locked
        Path(name).rename(self._path)
        self._latest: list[int] = []

    def reached(self, places: Sequence[int]) -> None:
        """The records at these places are in effect here, and so are those polled before them."""
        self._latest = [*self._latest, *places][-PLACES:]
        os.pwrite(self._file, array("Q", self._latest).tobytes(), 0)

    def close(self) -> None:
        """Nobody is to wait for this worker any more."""
        self._path.unlink(missing_ok=True)
        os.close(self._file)


def all_reached(folder: Path, place: int) -> bool:
    """Whether the record at a place is in effect with every living worker."""
    return all(place in _latest(path) or _left_behind(path) for path in folder.glob("worker-*"))


def _latest(path: Path) -> array[int]:
    found = array("Q")
    with suppress(FileNotFoundError):
        raw = path.read_bytes()
        found.frombytes(raw[: len(raw) // found.itemsize * found.itemsize])
    return found


def _left_behind(path: Path) -> bool:
    """Whether the slip's worker is gone; then the slip goes too."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        with suppress(FileNotFoundError):
            path.unlink()
    except BlockingIOError:
        return False
    finally:
        os.close(file)
    return True
