"""Open a bundle: every array is memory-mapped, so all workers of a host share one copy.

Hashing gigabytes takes seconds, and each worker of a host opens the same files. Whoever has hashed them leaves their sizes,
times and inodes in the folder, as Git's index does; while those stay, the bytes are taken to be the same.
"""

from __future__ import annotations

import mmap
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from segue.bundle.manifest import NAME, Manifest, file_hash, read_manifest
from segue.contracts.errors import BundleCorrupt

GIVEN_BACK = 16 << 20
"""Bytes of a mapping that are given back at once: a fraction of a millisecond, during which no other thread runs."""
HASHED = ".hashed"
"""The file that says as of when the others were hashed."""
REPAIR = "go back with `segue bundle rollback`, or train anew with `segue run --force`"


class Arrays(dict[str, npt.NDArray[Any]]):
    """Arrays by name. One that is asked for and not there is an error of the bundle, not of the code that asks."""

    def __init__(self, folder: Path, prefix: str) -> None:
        super().__init__()
        self._where = folder / prefix

    def __missing__(self, name: str) -> npt.NDArray[Any]:
        raise BundleCorrupt(
            f"{self._where}: has no array {name!r}: another version of Segue wrote it; {REPAIR}", field=name
        )


class Bundle:
    """A bundle opened for reading.

    Raises BundleCorrupt when a file is absent, has another size, or other bytes than the manifest says. Files that have not
    been touched since somebody hashed them are not hashed again, unless `every_byte` is asked for.
    """

    def __init__(self, folder: Path, *, every_byte: bool = False) -> None:
        self.folder = folder
        self.manifest: Manifest = read_manifest(folder)
        self._maps: list[mmap.mmap] = []
        self._check(every_byte)

    @property
    def version(self) -> str:
        """The bundle's version."""
        return self.manifest.version

    def has(self, prefix: str) -> bool:
        """Whether any file stands under that prefix."""
        return any(name.startswith(f"{prefix}/") or name == prefix for name in self.manifest.files)

    def arrays(self, prefix: str, *, own: bool = False) -> Arrays:
        """The arrays stored directly under a prefix, memory-mapped: read-only, or `own`, where a page that is written to
        becomes this process's own, and the file stays as it is.
        """
        found = Arrays(self.folder, prefix)
        for name in self.manifest.files:
            if name.startswith(f"{prefix}/") and name.endswith(".npy") and "/" not in name[len(prefix) + 1 :]:
                array = np.load(self.folder / name, mmap_mode="c" if own else "r", allow_pickle=False)
                if not own:  # pages that may have been written to are nowhere else
                    self._maps.append(array.base)
                found[name[len(prefix) + 1 : -4]] = np.asarray(array)
        if not found:
            raise BundleCorrupt(f"{self.folder}: no arrays under {prefix!r}; {REPAIR}", field=prefix)
        return found

    def json(self, name: str) -> Any:
        """The value stored as `name.json`."""
        if f"{name}.json" not in self.manifest.files:
            raise BundleCorrupt(f"{self.folder}: has no {name}.json; {REPAIR}", field=name)
        return msgspec.json.decode((self.folder / f"{name}.json").read_bytes())

    def path(self, name: str) -> Path:
        """Path of a file in a library's own format."""
        return self.folder / name

    def give_back(self) -> None:
        """Let go of the pages of its arrays, a little at a time; who still reads them gets them again from the system's cache.

        To be called before the last reference goes: to unmap gigabytes of pages at once stops every thread for tens of
        milliseconds.
        """
        for mapped in self._maps:
            for start in range(0, len(mapped), GIVEN_BACK):
                mapped.madvise(mmap.MADV_DONTNEED, start, min(GIVEN_BACK, len(mapped) - start))
                time.sleep(0)  # lets a thread that waits have its turn

    def _check(self, every_byte: bool) -> None:
        self._check_sizes()
        stamp = self._stamp()
        if not every_byte and stamp == self._last_stamp():
            return
        self._check_bytes()
        with suppress(OSError):  # as where the folder may only be read: then the next to open it hashes again
            temporary = self.folder / f"{HASHED}.{os.getpid()}"
            temporary.write_bytes(stamp)
            temporary.replace(self.folder / HASHED)

    def _stamp(self) -> bytes:
        found = {name: (self.folder / name).stat() for name in self.manifest.files}
        return msgspec.json.encode({n: (s.st_size, s.st_mtime_ns, s.st_ino) for n, s in found.items()})

    def _last_stamp(self) -> bytes | None:
        try:
            return (self.folder / HASHED).read_bytes()
        except OSError:
            return None

    def _check_sizes(self) -> None:
        for name, entry in self.manifest.files.items():
            path = self.folder / name
            if not path.is_file():
                raise BundleCorrupt(f"{path}: missing; {REPAIR}", field=name)
            if path.stat().st_size != entry.bytes:
                raise BundleCorrupt(
                    f"{path}: {path.stat().st_size} bytes, {NAME} says {entry.bytes}; {REPAIR}",
                    field=name,
                )

    def _check_bytes(self) -> None:
        for name, entry in self.manifest.files.items():
            path = self.folder / name
            if file_hash(path) != entry.sha256:
                raise BundleCorrupt(
                    f"{path}: its bytes have changed since it was written (SHA-256 differs); {REPAIR}",
                    field=name,
                )
