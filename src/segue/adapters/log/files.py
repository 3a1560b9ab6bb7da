"""The embedded log: topics as runs of append-only files, safe for several processes on one host.

    root/<topic>/<position of its first byte, 20 digits>.log     frames: magic, length, checksum, record
    root/<topic>/lock                                            held by whoever appends

A position is a byte's place in the topic, counted over all its segments, so positions only grow and mean the same to every
reader. Appenders take turns (flock): one write and one fsync each, then the lock is let go and `append` returns.

What can go wrong, and what then holds:
* a process dies while appending: the kernel frees its lock. Its frames that are whole stay (they were never
  acknowledged, so they may), a torn one is at the end of its segment; the next appender starts a new segment behind it
  and readers step over it.
* the machine stops: a reader makes what it is about to return durable first, so nobody has read past what a restart finds.
* the disk is full: the segment is cut back to where it was, and the caller gets Unavailable.
* bytes rot: the checksum, which also covers the frame's position, fails; readers log a warning and go on at the next frame.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import struct
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

from segue.contracts.errors import InvalidInput, Unavailable

MAX_RECORD: Final = 16_000_000
"""Bytes of the largest record."""
SEGMENT_BYTES: Final = 64_000_000
"""A segment that has reached this size is followed by a new one."""
LOCK_SECONDS: Final = 10.0
"""How long an append waits for its turn."""

_MAGIC: Final = b"SGL1"
_HEADER: Final = struct.Struct(">4sII")
_TOPIC: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Segment:
    path: Path
    base: int
    size: int

    @property
    def end(self) -> int:
        return self.base + self.size


class FileLog:
    """The `Log` port on files below `root`. One object serves any number of threads; open one in each process."""

    def __init__(self, root: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._root = root
        self._segment_bytes = segment_bytes
        self._turn = threading.Lock()
        self._clean: dict[
            str, int
        ] = {}  # per topic: the position up to which its frames are known to be whole

    def append(self, topic: str, records: Sequence[bytes]) -> None:
        """Make the records durable, in order: when this returns they are on disk.

        Raises InvalidInput for a record above MAX_RECORD bytes, Unavailable if the disk is full or the lock stays taken.
        """
        if not records:
            return
        for record in records:
            if len(record) > MAX_RECORD:
                raise InvalidInput(
                    f"a log record of {len(record):,} bytes is too large; split it",
                    field="record",
                    limit=f"{MAX_RECORD:,} bytes",
                )
        folder = self._folder(topic)
        with self._writing(folder):
            segment = self._tail(topic, folder)
            frames = _frames(records, segment.end)
            _write(segment, frames)
            self._clean[topic] = segment.end + len(frames)

    def read(self, topic: str, after: int, limit: int) -> tuple[list[bytes], int]:
        """Up to `limit` records behind position `after` (0: from the start) and the position behind the last.

        A log that was never written is empty. Raises Unavailable if something else is in its place.
        """
        folder = self._folder(topic)
        records: list[bytes] = []
        position = after
        for segment in self._readable(folder, after):
            for position, record in _records(segment, max(after, segment.base)):
                records.append(record)
                if len(records) == limit:
                    return records, position
        return records, position

    def close(self) -> None:
        """Nothing stays open between calls."""

    def _folder(self, topic: str) -> Path:
        if not _TOPIC.fullmatch(topic):
            raise InvalidInput(
                f"log topic {topic[:80]!r}: use lower-case letters, digits, - and _",
                field="topic",
                limit=_TOPIC.pattern,
            )
        return self._root / topic

    @contextmanager
    def _writing(self, folder: Path) -> Iterator[None]:
        """One appender at a time, over threads and processes."""
        with self._turn:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError as error:
                raise Unavailable(f"log {folder}: {error.strerror}", field="log") from error
            try:
                _acquire(lock, fcntl.LOCK_EX, folder)
                yield
            finally:
                os.close(lock)

    def _tail(self, topic: str, folder: Path) -> _Segment:
        """The segment to append to. Call it while holding the lock."""
        segments = _segments(folder)
        if not segments:
            return _create(folder, 0)
        last = segments[-1]
        known = self._clean.get(topic, 0)
        whole = known if last.base <= known <= last.end else last.base
        if whole < last.end:
            whole = max((end for end, _ in _records(last, whole)), default=whole)
        if whole < last.end or last.size >= self._segment_bytes:
            return _create(folder, last.end)
        return last

    def _readable(self, folder: Path, after: int) -> list[_Segment]:
        """Segments with bytes behind `after`, their sizes as of a moment when nobody was appending, durable."""
        for path in (self._root, folder):
            if path.exists() and not path.is_dir():
                raise Unavailable(
                    f"log {path}: is a file where a directory should be; move it away", field="log"
                )
        if not (folder / "lock").exists():
            return []
        lock = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _acquire(lock, fcntl.LOCK_SH, folder)
            segments = [segment for segment in _segments(folder) if segment.end > after]
            if segments:
                # Only the last can have been left unsynced: a new segment is begun after the one before was synced.
                _sync(segments[-1].path)
        finally:
            os.close(lock)
        return segments


def _acquire(lock: int, kind: int, folder: Path) -> None:
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > until:
                raise Unavailable(
                    f"log {folder}: another process has been appending for {LOCK_SECONDS:.0f} s; see who holds {folder}/lock",
                    field="log",
                ) from error
            time.sleep(0.001)


def _segments(folder: Path) -> list[_Segment]:
    found = [_Segment(path, int(path.stem), path.stat().st_size) for path in folder.glob("*.log")]
    return sorted(found, key=lambda segment: segment.base)


def _create(folder: Path, base: int) -> _Segment:
    """A new, empty segment; what came before it is synced, and so is its name."""
    for segment in _segments(folder)[-1:]:
        if segment.size == 0:
            return segment
        _sync(segment.path)
    path = folder / f"{base:020d}.log"
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
        for directory in (folder, folder.parent):
            _sync(directory)
    except OSError as error:
        raise Unavailable(f"log {folder}: {error.strerror}", field="log") from error
    return _Segment(path, base, 0)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(segment: _Segment, frames: bytes) -> None:
    handle = os.open(segment.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        left = memoryview(frames)
        while left:
            left = left[os.write(handle, left) :]
        os.fsync(handle)
    except OSError as error:
        os.ftruncate(handle, segment.size)
        raise Unavailable(
            f"log {segment.path}: {error.strerror}; nothing was appended, make room and send it again",
            field="log",
        ) from error
    finally:
        os.close(handle)


def _frames(records: Sequence[bytes], position: int) -> bytes:
    out = bytearray()
    for record in records:
        out += _HEADER.pack(_MAGIC, len(record), _checksum(record, position + len(out)))
        out += record
    return bytes(out)


def _checksum(record: bytes | memoryview, position: int) -> int:
    """CRC-32 over position, length and record: a frame that lies where it was not written is not a frame."""
    return zlib.crc32(record, zlib.crc32(struct.pack(">QI", position, len(record))))


def _records(segment: _Segment, after: int) -> Iterator[tuple[int, bytes]]:
    """(position behind it, record) of each whole frame behind `after`, as far as the segment was known to go."""
    at = after
    with segment.path.open("rb") as file:
        while at < segment.end:
            file.seek(at - segment.base)
            for record in _run_of_frames(file, at, segment.end):
                at += _HEADER.size + len(record)
                yield at, record
            if at < segment.end:
                file.seek(at - segment.base)
                at = _next_frame(file.read(segment.end - at), at, segment)


def _run_of_frames(file: BinaryIO, at: int, end: int) -> Iterator[bytes]:
    """Records from `at` on, up to the first frame that is not whole."""
    while at + _HEADER.size <= end:
        magic, length, checksum = _HEADER.unpack(file.read(_HEADER.size))
        if magic != _MAGIC or length > MAX_RECORD or at + _HEADER.size + length > end:
            return
        record = file.read(length)
        if _checksum(record, at) != checksum:
            return
        yield record
        at += _HEADER.size + length


def _next_frame(data: bytes, at: int, segment: _Segment) -> int:
    """The position of the first whole frame in `data`, whose first byte is a broken frame at `at`; the end if there is none."""
    found = data.find(_MAGIC, 1)
    while found >= 0:
        if next(_run_of_frames(BytesIO(data[found:]), at + found, segment.end), None) is not None:
            _logger.warning("log %s: skipped %d damaged bytes at %d", segment.path, found, at - segment.base)
            return at + found
        found = data.find(_MAGIC, found + 1)
    return segment.end
