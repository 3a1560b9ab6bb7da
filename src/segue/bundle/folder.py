"""Who may change a bundle store when, and what a killed process left in it.

Everything unfinished has a name that begins with a dot. The locks are the operating system's, on the directories themselves:
they end with the process that holds them, so a folder that nobody holds is nobody's.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def turn(root: Path) -> Iterator[None]:
    """Wait for, and hold, the right to change what the store's directory lists."""
    handle = os.open(root, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def begin(root: Path) -> tuple[Path, int]:
    """A new folder to write into, and the handle that says it is in use (close it when done). Sweeps before."""
    root.mkdir(parents=True, exist_ok=True)
    with turn(root):
        _sweep(root)
        folder = Path(tempfile.mkdtemp(prefix=".writing-", dir=root))
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(handle, fcntl.LOCK_EX)
        return folder, handle


def remove(folder: Path) -> None:
    """Remove a bundle: in one step for everybody who looks, then file by file."""
    with turn(folder.parent):
        hidden = Path(tempfile.mkdtemp(prefix=".removed-", dir=folder.parent))
        folder.rename(hidden / folder.name)
        shutil.rmtree(hidden)


def _sweep(root: Path) -> None:
    """Remove what killed processes left. Call it while holding the turn."""
    for path in root.glob(".*-*"):
        if not path.is_dir():
            path.unlink()
        elif not _in_use(path):
            shutil.rmtree(path)


def _in_use(folder: Path) -> bool:
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
