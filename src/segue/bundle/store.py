"""The bundles of a home directory and which of them is CURRENT."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

from segue.bundle.bundle import REPAIR, Bundle
from segue.bundle.folder import remove, turn
from segue.bundle.manifest import Manifest, read_manifest
from segue.contracts.errors import BundleCorrupt, NotFound, Unavailable

CURRENT = "CURRENT"
HISTORY = "HISTORY"


class BundleStore:
    """`root/<version>/` folders, `root/CURRENT` naming the champion, `root/HISTORY` the champions before it."""

    def __init__(self, root: Path, in_use: Callable[[], Collection[str]] = tuple) -> None:
        """`in_use` names the versions that others than CURRENT point at."""
        self.root = root
        self._in_use = in_use

    def versions(self) -> list[Manifest]:
        """All bundles whose manifest can be read, newest first."""
        found = [manifest for _, manifest in self._folders() if isinstance(manifest, Manifest)]
        return sorted(found, key=lambda m: (m.created_at, m.version), reverse=True)

    def unreadable(self) -> dict[str, str]:
        """What should be a bundle, or name one, and does not: name -> what is wrong."""
        found = {name: error.message for name, error in self._folders() if isinstance(error, BundleCorrupt)}
        try:
            self.current()
        except BundleCorrupt as error:
            found[CURRENT] = error.message
        return found

    def current(self) -> str | None:
        """Version of the champion, or None before the first publish."""
        try:
            return (self.root / CURRENT).read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None
        except UnicodeDecodeError as error:
            raise BundleCorrupt(
                f"{self.root / CURRENT}: names no version: {error}; name one with `segue bundle publish`",
                field=CURRENT,
            ) from error

    def open(self, version: str | None = None, *, every_byte: bool = False) -> Bundle:
        """Open a bundle, the champion by default. Raises NotFound, BundleCorrupt."""
        chosen = self.current() if version is None else version
        if chosen is None:
            raise NotFound(f"{self.root}: no bundle is published yet; run `segue run` first", field="bundle")
        if not chosen or "/" in chosen or chosen.startswith(".") or not (self.root / chosen).is_dir():
            known = ", ".join(m.version for m in self.versions()[:5]) or "none"
            told = f"{self.root / CURRENT}: {REPAIR}: " if chosen == self._champion() else ""
            raise NotFound(f"{told}no bundle {chosen!r}; there are: {known}", field="bundle")
        return Bundle(self.root / chosen, every_byte=every_byte)

    def publish(self, version: str) -> None:
        """Make a bundle the champion, atomically, after checking every byte of it. Raises Unavailable on a full disk."""
        self.open(version, every_byte=True)
        with turn(self.root):
            before = self._champion()
            if before == version:
                return
            if before is not None:
                self._replace(HISTORY, "".join(f"{v}\n" for v in [*self._history(), before]))
            self._replace(CURRENT, f"{version}\n")

    def rollback(self) -> str:
        """Make the champion before this one the champion again; returns its version.

        Champions that were removed or damaged since are passed over. Raises NotFound where none is left.
        """
        if not self.root.is_dir():
            raise NotFound(f"{self.root}: no bundle is published yet", field="bundle")
        with turn(self.root):
            history, current = self._history(), self._champion()
            while history:
                version = history.pop()
                if version != current and self._whole(version):
                    self._replace(CURRENT, f"{version}\n")
                    self._replace(HISTORY, "".join(f"{v}\n" for v in history))
                    return version
        raise NotFound("no earlier bundle to roll back to", field="bundle")

    def prune(self, keep: int) -> list[str]:
        """Remove all but the newest `keep` bundles; the champion stays, and so does what is in use. Returns what was removed."""
        kept = {self.current(), *self._in_use()}
        doomed = [m.version for m in self.versions()[keep:] if m.version not in kept]
        for version in doomed:
            remove(self.root / version)
        return doomed

    def _folders(self) -> list[tuple[str, Manifest | BundleCorrupt]]:
        found: list[tuple[str, Manifest | BundleCorrupt]] = []
        for folder in self.root.glob("*"):
            if folder.is_dir() and not folder.name.startswith("."):
                try:
                    found.append((folder.name, read_manifest(folder)))
                except BundleCorrupt as error:
                    found.append((folder.name, error))
        return found

    def _champion(self) -> str | None:
        """CURRENT, or None where it names nothing."""
        try:
            return self.current()
        except BundleCorrupt:
            return None

    def _whole(self, version: str) -> bool:
        try:
            self.open(version, every_byte=True)
        except (NotFound, BundleCorrupt):
            return False
        return True

    def _history(self) -> list[str]:
        try:
            return (self.root / HISTORY).read_text(encoding="utf-8").split()
        except FileNotFoundError:
            return []

    def _replace(self, name: str, text: str) -> None:
        """Put the text in the file's place, whole or not at all. What cannot be written is swept by the next writer."""
        try:
            handle, temporary = tempfile.mkstemp(prefix=f".{name}-", dir=self.root)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(self.root / name)
        except OSError as error:
            raise Unavailable(
                f"{self.root / name}: cannot be written: {error.strerror}; what is published stays, "
                "make room and publish again",
                field=name,
            ) from error
