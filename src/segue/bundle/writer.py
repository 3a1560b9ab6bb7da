"""Write a bundle: arrays and texts into a hidden folder, then one rename, so that nobody ever sees half of one."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

import segue
from segue.bundle.bundle import Bundle
from segue.bundle.folder import begin, remove, turn
from segue.bundle.manifest import FORMAT, NAME, FileEntry, Manifest, file_hash, read_manifest
from segue.contracts.errors import BundleCorrupt, Conflict, Unavailable


class BundleWriter:
    """Collects the files of one bundle. Use as a context manager: leaving without `finish` removes what was written.

    `spare` is how many blank rows follow in the arrays that have a row per track or artist (see room.py).
    Raises Unavailable where a file cannot be written, as on a full disk; what is published stays as it is.
    """

    def __init__(self, root: Path, spare: int = 0) -> None:
        self._root = root
        self._spare = spare
        self._folder, self._handle = begin(root)

    def __enter__(self) -> BundleWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._handle)
        if isinstance(error, OSError):
            # NumPy, where the disk took only a part of an array, says how much and not why.
            why = error.strerror or f"the disk is full ({error})"
            raise Unavailable(
                f"{self._root}: the bundle cannot be written: {why}; what is published stays, make room and run again",
                field="bundle",
            ) from error

    def arrays(
        self,
        prefix: str,
        arrays: Mapping[str, npt.NDArray[Any]],
        blank: Mapping[str, npt.ArrayLike] | None = None,
    ) -> None:
        """Store arrays as `prefix/name.npy`; those named in `blank` with the spare rows behind, which hold that value."""
        for name, array in arrays.items():
            path = self._path(f"{prefix}/{name}.npy")
            if blank is None or name not in blank:
                np.save(path, np.ascontiguousarray(array), allow_pickle=False)
                continue
            header = np.lib.format.header_data_from_array_1_0(np.ascontiguousarray(array))
            header["shape"] = (len(array) + self._spare, *array.shape[1:])
            with path.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                np.ascontiguousarray(array).tofile(file)
                np.full((self._spare, *array.shape[1:]), blank[name], array.dtype).tofile(file)

    def json(self, name: str, value: object) -> None:
        """Store a value as `name.json`."""
        self._path(f"{name}.json").write_bytes(msgspec.json.encode(value))

    def path(self, name: str) -> Path:
        """Where a library may write a file of its own format."""
        return self._path(name)

    def finish(
        self,
        *,
        version_prefix: str,
        data_through: str,
        settings: str,
        tracks: int,
        metrics: dict[str, dict[str, float]] | None = None,
        notes: dict[str, str] | None = None,
    ) -> Manifest:
        """Hash, name and move the bundle into place. The version is the prefix and a hash of the contents."""
        files = {
            str(path.relative_to(self._folder)): FileEntry(path.stat().st_size, file_hash(path))
            for path in sorted(self._folder.rglob("*"))
            if path.is_file()
        }
        digest = msgspec.json.encode(files)
        version = f"{version_prefix}-{_short_hash(digest + settings.encode())}"
        manifest = Manifest(
            format=FORMAT,
            version=version,
            created_at=self._later_than_all(),
            code=segue.__version__,
            data_through=data_through,
            settings=settings,
            tracks=tracks,
            files=files,
            metrics=metrics or {},
            notes=notes or {},
        )
        (self._folder / NAME).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
        _sync(self._folder)
        self._place(self._root / version)
        _sync_folder(self._root)
        return manifest

    def _later_than_all(self) -> int:
        """Now, by a clock that may have been set back: the newest bundle is the one that was made last."""
        made = [time.time_ns() // 1000]
        for path in self._root.glob(f"*/{NAME}"):
            with suppress(BundleCorrupt):
                made.append(read_manifest(path.parent).created_at + 1)
        return max(made)

    def _place(self, target: Path) -> None:
        if target.exists() and not _whole(target):
            remove(target)
        with turn(self._root):
            if target.exists():
                # Same content, same name: only what the manifest says of its making is new.
                (self._folder / NAME).replace(target / NAME)
                return
            self._folder.chmod(0o755)
            try:
                self._folder.rename(target)
            except OSError as error:
                raise Conflict(
                    f"{target}: cannot move the bundle into place: {error}", field="bundle"
                ) from error

    def _path(self, name: str) -> Path:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _whole(folder: Path) -> bool:
    try:
        Bundle(folder)
    except BundleCorrupt:
        return False
    return True


def _short_hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:8]


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
