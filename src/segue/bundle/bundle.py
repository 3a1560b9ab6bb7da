"""Open a bundle: every array is memory-mapped, so all workers of a host share one copy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from segue.bundle.manifest import NAME, Manifest, file_hash, read_manifest
from segue.contracts.errors import BundleCorrupt


class Bundle:
    """A bundle opened for reading.

    Raises BundleCorrupt when a file is absent, has another size, or (with `verify`) other bytes than the manifest says.
    """

    def __init__(self, folder: Path, *, verify: bool = True) -> None:
        self.folder = folder
        self.manifest: Manifest = read_manifest(folder)
        self._check(verify)

    @property
    def version(self) -> str:
        """The bundle's version."""
        return self.manifest.version

    def has(self, prefix: str) -> bool:
        """Whether any file stands under that prefix."""
        return any(name.startswith(f"{prefix}/") or name == prefix for name in self.manifest.files)

    def arrays(self, prefix: str) -> dict[str, npt.NDArray[Any]]:
        """The arrays stored directly under a prefix, memory-mapped read-only."""
        found = {}
        for name in self.manifest.files:
            if name.startswith(f"{prefix}/") and name.endswith(".npy") and "/" not in name[len(prefix) + 1 :]:
                array = np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
                found[name[len(prefix) + 1 : -4]] = np.asarray(array)
        if not found:
            raise BundleCorrupt(f"{self.folder}: no arrays under {prefix!r}", field=prefix)
        return found

    def json(self, name: str) -> Any:
        """The value stored as `name.json`."""
        return msgspec.json.decode((self.folder / f"{name}.json").read_bytes())

    def path(self, name: str) -> Path:
        """Path of a file in a library's own format."""
        return self.folder / name

    def _check(self, verify: bool) -> None:
        for name, entry in self.manifest.files.items():
            path = self.folder / name
            if not path.is_file():
                raise BundleCorrupt(f"{path}: missing; run `segue bundle rollback` or train anew", field=name)
            if path.stat().st_size != entry.bytes:
                raise BundleCorrupt(
                    f"{path}: {path.stat().st_size} bytes, {NAME} says {entry.bytes}; "
                    "run `segue bundle rollback` or train anew",
                    field=name,
                )
            if verify and file_hash(path) != entry.sha256:
                raise BundleCorrupt(
                    f"{path}: its bytes have changed since it was written (SHA-256 differs); "
                    "run `segue bundle rollback` or train anew",
                    field=name,
                )
