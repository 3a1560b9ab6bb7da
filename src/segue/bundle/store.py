"""The bundles of a home directory and which of them is CURRENT."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from segue.bundle.bundle import Bundle
from segue.bundle.manifest import Manifest, read_manifest
from segue.contracts.errors import NotFound

CURRENT = "CURRENT"
HISTORY = "HISTORY"


class BundleStore:
    """`root/<version>/` folders, `root/CURRENT` naming the champion, `root/HISTORY` the champions before it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def versions(self) -> list[Manifest]:
        """All bundles, newest first."""
        folders = [p for p in self.root.glob("*") if p.is_dir() and not p.name.startswith(".")]
        manifests = [read_manifest(folder) for folder in folders]
        return sorted(manifests, key=lambda m: (m.created_at, m.version), reverse=True)

    def current(self) -> str | None:
        """Version of the champion, or None before the first publish."""
        try:
            return (self.root / CURRENT).read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None

    def open(self, version: str | None = None, *, verify: bool = True) -> Bundle:
        """Open a bundle, the champion by default. Raises NotFound, BundleCorrupt."""
        chosen = version or self.current()
        if chosen is None:
            raise NotFound(f"{self.root}: no bundle is published yet; run `segue run` first", field="bundle")
        if "/" in chosen or chosen.startswith(".") or not (self.root / chosen).is_dir():
            known = ", ".join(m.version for m in self.versions()[:5]) or "none"
            raise NotFound(f"no bundle {chosen!r}; there are: {known}", field="bundle")
        return Bundle(self.root / chosen, verify=verify)

    def publish(self, version: str) -> None:
        """Make a bundle the champion, atomically, after checking every byte of it."""
        self.open(version, verify=True)
        before = self.current()
        if before == version:
            return
        if before is not None:
            self._replace(HISTORY, "".join(f"{v}\n" for v in [*self._history(), before]))
        self._replace(CURRENT, f"{version}\n")

    def rollback(self) -> str:
        """Make the champion before this one the champion again; returns its version. Raises NotFound."""
        history = self._history()
        while history:
            version = history.pop()
            if (self.root / version).is_dir():
                self.open(version, verify=True)
                self._replace(CURRENT, f"{version}\n")
                self._replace(HISTORY, "".join(f"{v}\n" for v in history))
                return version
        raise NotFound("no earlier bundle to roll back to", field="bundle")

    def prune(self, keep: int) -> list[str]:
        """Remove all but the newest `keep` bundles; the champion always stays. Returns what was removed."""
        current = self.current()
        doomed = [m.version for m in self.versions()[keep:] if m.version != current]
        for version in doomed:
            shutil.rmtree(self.root / version)
        return doomed

    def _history(self) -> list[str]:
        try:
            return (self.root / HISTORY).read_text(encoding="utf-8").split()
        except FileNotFoundError:
            return []

    def _replace(self, name: str, text: str) -> None:
        handle, temporary = tempfile.mkstemp(prefix=f".{name}-", dir=self.root)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(self.root / name)
