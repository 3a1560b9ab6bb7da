"""A bundle: one immutable, hashed, memory-mapped directory that holds everything a request needs."""

from segue.bundle.bundle import Bundle
from segue.bundle.manifest import Manifest
from segue.bundle.store import BundleStore
from segue.bundle.writer import BundleWriter

__all__ = ["Bundle", "BundleStore", "BundleWriter", "Manifest"]
