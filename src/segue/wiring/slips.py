"""Slips: how far each worker of this host has followed a topic, so that an acknowledgement can wait for all of them.

A slip is a file of eight bytes that its worker holds a lock on. A worker that dies lets go of it, and nobody waits for the dead.
"""

from __future__ import annotations

import fcntl
import os
import struct
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

_PLACE: Final = struct.Struct(">Q")


class Slip:
    """One worker's slip, of which every other can read how far it is."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file, name = tempfile.mkstemp(prefix=".worker-", dir=folder)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._path = folder / Path(name).name[1:]  # seen only now that it is locked
        Path(name).rename(self._path)

    def reached(self, place: int) -> None:
        """Everything before a place of the topic is in effect here."""
        os.pwrite(self._file, _PLACE.pack(place), 0)

    def close(self) -> None:
        """Nobody is to wait for this worker any more."""
        self._path.unlink(missing_ok=True)
        os.close(self._file)


def all_reached(folder: Path, place: int) -> bool:
    """Whether everything before a place is in effect with every living worker."""
    return all(_reached(path) >= place or _left_behind(path) for path in folder.glob("worker-*"))


def _reached(path: Path) -> int:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return 0
    return int(_PLACE.unpack(raw)[0]) if len(raw) == _PLACE.size else 0


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
