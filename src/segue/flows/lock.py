"""One writer of a home at a time: a run of the flow, one of its steps, an import, a simulation. The lock is the operating
system's, on an open file: it ends with the process that holds it, however that ends, so a lock is never left behind."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from segue.contracts.errors import Conflict

NAME = "run.lock"
_TURN_S = 0.2


@contextmanager
def exclusive(home: Path, what: str, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock of that home while the block runs. `what` is what others are told that is at work.

    Raises Conflict naming the process that holds it, after `wait` seconds.
    """
    home.mkdir(parents=True, exist_ok=True)
    path = home / NAME
    with open(path, "a+", encoding="utf-8") as file:
        until = time.monotonic() + wait
        while not _taken(file):
            if time.monotonic() >= until:
                file.seek(0)
                holder = file.read().strip() or "an unknown process"
                raise Conflict(
                    f"{home} is being written: {holder} holds {path}; wait for it, or stop it",
                    field=str(path),
                    limit="one writer at a time",
                )
            time.sleep(_TURN_S)
        file.truncate(0)
        file.write(f"{what}, process {os.getpid()}")
        file.flush()
        yield


def _taken(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
