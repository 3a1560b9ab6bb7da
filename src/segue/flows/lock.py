"""One run of the flow at a time. The lock is the operating system's, on an open file: it ends with the process that holds it,
however that ends, so a lock is never left behind."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segue.contracts.errors import Conflict


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock while the block runs. Raises Conflict naming the process that holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise Conflict(
                f"another run of the flow is at work here: process {holder} holds {path}; wait for it, or stop it",
                field=str(path),
                limit="one run at a time",
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
