"""What a bundle says of itself: who made it, from what, and the hash of every file."""

from __future__ import annotations

import hashlib
from datetime import date
from pathlib import Path

import msgspec
from msgspec import Struct

from segue.contracts.errors import BundleCorrupt

FORMAT = 4
NAME = "manifest.json"


class FileEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """One file: its size in bytes and its SHA-256 in hex."""

    bytes: int
    sha256: str


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """The manifest of a bundle. `data_through` is the last day whose events it has seen (ISO date)."""

    format: int
    version: str
    created_at: int
    code: str
    data_through: str
    settings: str
    tracks: int
    files: dict[str, FileEntry]
    metrics: dict[str, dict[str, float]] = {}
    notes: dict[str, str] = {}


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a bundle's folder. Raises BundleCorrupt if it is absent, unreadable or of a newer format."""
    path = folder / NAME
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError as error:
        raise BundleCorrupt(f"{folder}: no {NAME}; this is not a bundle", field=NAME) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleCorrupt(f"{path}: not a manifest this version reads: {error}", field=NAME) from error
    if manifest.format != FORMAT:
        raise BundleCorrupt(
            f"{path}: format {manifest.format}, this version reads {FORMAT}; use the Segue that wrote it or train anew",
            field="format",
        )
    try:
        date.fromisoformat(manifest.data_through)
    except ValueError as error:
        raise BundleCorrupt(f"{path}: data_through: {error}; train anew", field="data_through") from error
    if outside := [name for name in manifest.files if name.startswith("/") or ".." in name.split("/")]:
        raise BundleCorrupt(f"{path}: files: {outside[0]} is not in the bundle; train anew", field="files")
    return manifest


def file_hash(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
