"""The embedded log: topics as runs of append-only files, safe for several processes on one host.

    root/<topic>/<position of its first byte, 20 digits>.log     frames: magic, length, checksum, record
    root/<topic>/lock                                            held by whoever appends
    root/<topic>/groups/<group>                                  the position up to which a group has committed
    root/<topic>/groups/<group>.lock                             held by the group's consumer

A position is a byte's place in the topic, counted over all its segments, so positions only grow and mean the same to every
reader. Appenders take turns (flock): one write and one fsync each, then the lock is let go and `append` returns.

What can go wrong, and what then holds:
* a process dies while appending: the kernel frees its lock. Its frames that are whole stay (they were never
  acknowledged, so they may), a torn one is at the end of its segment; the next appender starts a new segment behind it
  and readers step over it.
* the machine stops: a reader makes what it is about to return durable first, so nobody has read past what a restart finds.
* the disk is full: the segment is cut back to where it was, and the caller gets Unavailable.
* a consumer dies: what it had not committed comes again to the next. A commit is one small write without a sync, so after
  a power cut it may be an older one: more comes again, nothing is passed over.
* bytes rot: the checksum, which also covers the frame's position, fails; readers log a warning and go on at the next frame.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
import threading
import time
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

from segue.adapters.log.names import check_sizes, named
from segue.contracts.errors import Conflict, Unavailable
from segue.contracts.ports import Records
from segue.contracts.vocabulary import SECOND

MAX_RECORD: Final = 16_000_000
"""Bytes of the largest record."""
SEGMENT_BYTES: Final = 64_000_000
"""A segment that has reached this size is followed by a new one."""
LOCK_SECONDS: Final = 10.0
"""How long an append waits for its turn."""
POLL_SECONDS: Final = 0.001
LONGEST_POLL_SECONDS: Final = 0.01
SLOWER: Final = 1.25
"""How soon a waiting reader looks again, and by how much later each time that nothing came."""
LIST_SECONDS: Final = 0.05
"""How long a reader that waits takes the segment that was the last for the last, and asks for its size alone."""

_LAST: Final = 2**63
"""Behind every position: only the last segment."""
_MAGIC: Final = b"SGL1"
_HEADER: Final = struct.Struct(">4sII")
_COMMIT: Final = struct.Struct(">QI")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Segment:
    path: str
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
        self._folders: dict[str, Path] = {}
        self._turn = threading.Lock()
        self._clean: dict[
            str, int
        ] = {}  # per topic: the position up to which its frames are known to be whole

    def append(self, topic: str, records: Sequence[bytes]) -> int:
        """Make the records durable, in order: when this returns they are on disk. Returns the position behind them.

        Raises InvalidInput for a record above MAX_RECORD bytes, Unavailable if the disk is full or the lock stays taken.
        """
        if not records:
            return 0
        check_sizes(records, MAX_RECORD)
        folder = self._folder(topic)
        with self._writing(folder):
            segment = self._tail(topic, folder)
            frames = _frames(records, segment.end)
            _write(segment, frames)
            self._clean[topic] = segment.end + len(frames)
            return self._clean[topic]

    def read(self, topic: str, after: int, limit: int) -> Records:
        """Up to `limit` records behind position `after` (0: from the start). A record's place is the position behind it.

        A log that was never written is empty. Raises Unavailable if something else is in its place.
        """
        found = Records([], [])
        for segment in self._readable(self._folder(topic), after):
            for position, record in _records(segment, max(after, segment.base)):
                found.records.append(record)
                found.places.append(position)
                if len(found) == limit:
                    return found
        return found

    def consumer(self, topic: str, group: str, *, shared: bool = False) -> FileConsumer:
        """The reader of a topic on behalf of a group, one at a time. Raises Conflict while another one is open."""
        return FileConsumer(self, topic, self._folder(topic) / "groups", group)

    def reader(self, topic: str, since: int | None = None) -> FileReader:
        """A reader of its own, from the first record appended at or after a moment (UTC microseconds) on."""
        _check_folders(self._folder(topic))
        return FileReader(self, topic, 0 if since is None else self.since(topic, since))

    def passed(self, topic: str, group: str, place: int) -> bool:
        """Whether the group has committed up to the position."""
        return self.committed(topic, group) >= place

    def committed(self, topic: str, group: str) -> int:
        """The position up to which a group has committed."""
        return _committed(f"{self._folder(topic)}/groups/{named('group', group)}")

    def end(self, topic: str) -> int:
        """The position behind the last byte, of whole records or not."""
        last = self.last(topic)
        return 0 if last is None else last.end

    def last(self, topic: str) -> _Segment | None:
        """The last segment, as large as it is now."""
        return next(iter(_segments(self._folder(topic), _LAST)), None)

    def since(self, topic: str, moment: int) -> int:
        """A position before everything that was appended at or after a moment (UTC microseconds)."""
        sure = moment - SECOND  # the clock of a file system is coarse
        segments = _segments(self._folder(topic))
        return next((s.base for s in segments if _written(s.path) >= sure), self.end(topic))

    def create(self, groups: Mapping[str, Sequence[str]]) -> None:
        """Nothing: a topic is made by the first append."""

    def prune(self, topic: str, groups: Sequence[str], before: int) -> int:
        """Remove segments last written before a moment (UTC microseconds) that the groups have passed. Returns how many.

        Other groups are waited for if they have committed since that moment; one that has not is taken to be gone.
        """
        folder = self._folder(topic)
        alive = {path.name for path in _groups(folder) if _written(path) >= before}
        passed = min((self.committed(topic, group) for group in alive.union(groups)), default=0)
        with self._writing(folder):
            old = [
                segment
                for segment in _segments(folder)[:-1]
                if segment.end <= passed and _written(segment.path) < before
            ]
            for segment in old:
                os.unlink(segment.path)
        return len(old)

    def close(self) -> None:
        """Nothing stays open between calls."""

    def _folder(self, topic: str) -> Path:
        if topic not in self._folders:
            self._folders[topic] = self._root / named("topic", topic)
        return self._folders[topic]

    @contextmanager
    def _writing(self, folder: Path) -> Iterator[None]:
        """One appender at a time, over threads and processes."""
        with self._turn:
            try:
                lock = _open_lock(folder)
            except OSError as error:
                raise Unavailable(f"log {folder}: {error.strerror}", field="log") from error
            try:
                _acquire(lock, fcntl.LOCK_EX, folder)
                yield
            except OSError as error:  # no file handle left, a disk that fails: wherever it shows
                raise Unavailable(f"log {folder}: {error.strerror}", field="log") from error
            finally:
                os.close(lock)

    def _tail(self, topic: str, folder: Path) -> _Segment:
        """The segment to append to. Call it while holding the lock."""
        segments = _segments(folder, _LAST)
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
        try:
            lock = os.open(f"{folder}/lock", os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            _check_folders(folder)
            return []
        try:
            _acquire(lock, fcntl.LOCK_SH, folder)
            segments = [segment for segment in _segments(folder, after) if segment.end > after]
            if segments:
                # Only the last can have been left unsynced: a new segment is begun after the one before was synced.
                _sync(segments[-1].path)
        finally:
            os.close(lock)
        return segments


class FileReader:
    """The `Reader` port over a FileLog, from a position on."""

    def __init__(self, log: FileLog, topic: str, position: int) -> None:
        self._log = log
        self._topic = topic
        self._at = self._looked = position
        self._pause = POLL_SECONDS

    def poll(self, limit: int, wait_s: float = 0.0) -> Records:
        """Up to `limit` records behind those polled before; none if none comes within `wait_s` seconds."""
        now = time.monotonic()
        until, listed = now + wait_s, now
        last = self._log.last(self._topic)
        while True:
            if last is not None and last.end > self._looked:
                found = self._log.read(self._topic, self._at, limit)
                if len(found):
                    self._at = self._looked = found.places[-1]
                    self._pause = POLL_SECONDS
                    return found
                self._looked = last.end  # what lies there is half a record of a process that died
            if now >= until:
                return Records([], [])
            time.sleep(self._pause)
            self._pause = min(self._pause * SLOWER, LONGEST_POLL_SECONDS)
            now = time.monotonic()
            if last is None or now - listed >= LIST_SECONDS or _size(last.path) != last.size:
                last, listed = self._log.last(self._topic), now

    def close(self) -> None:
        """Nothing stays open between calls."""


class FileConsumer(FileReader):
    """The `Consumer` port over a FileLog."""

    def __init__(self, log: FileLog, topic: str, folder: Path, group: str) -> None:
        path = folder / named("group", group)
        _check_folders(folder.parent)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise Unavailable(f"log {path}: {error.strerror}", field="log") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise Conflict(
                f"log topic {topic}: another process reads it for {group}; see who holds {path}.lock",
                field="group",
            ) from error
        super().__init__(log, topic, _committed(str(path)))

    def commit(self) -> None:
        """Everything polled so far is dealt with."""
        os.pwrite(self._file, _COMMIT.pack(self._at, zlib.crc32(struct.pack(">Q", self._at))), 0)

    def behind(self) -> int:
        """Bytes behind what was polled."""
        return max(self._log.end(self._topic) - self._at, 0)

    def rewind(self, since: int | None = None) -> None:
        """Go back to what was appended at or after a moment (UTC microseconds), or to the first record."""
        self._at = 0 if since is None else min(self._at, self._log.since(self._topic, since))
        self._looked = self._at

    def close(self) -> None:
        """Let another process read for the group."""
        for handle in (self._file, self._lock):
            os.close(handle)


def _check_folders(folder: Path) -> None:
    """Raise Unavailable if something else is in the place of the log or of a topic's folder: it is no empty log."""
    for path in (folder.parent, folder):
        if path.exists() and not path.is_dir():
            raise Unavailable(f"log {path}: is a file where a directory should be; move it away", field="log")


def _open_lock(folder: Path) -> int:
    path, flags = f"{folder}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o644)
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(path, flags, 0o644)


def _committed(path: str) -> int:
    """The position in a group's file; 0, from where everything comes again, if there is none or it is torn."""
    try:
        with open(path, "rb", buffering=0) as file:
            raw = file.read(_COMMIT.size + 1)
    except FileNotFoundError:
        return 0
    if len(raw) != _COMMIT.size:
        return 0
    position, checksum = _COMMIT.unpack(raw)
    return int(position) if zlib.crc32(struct.pack(">Q", position)) == checksum else 0


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


def _segments(folder: Path, after: int = 0) -> list[_Segment]:
    """The segments with bytes behind `after`, and always the last. A week may have thousands: only these are looked at."""
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    bases = sorted(int(name.removesuffix(".log")) for name in names if name.endswith(".log"))
    found = []
    for base in bases[max(bisect_right(bases, after) - 1, 0) :]:
        path = f"{folder}/{base:020d}.log"
        with suppress(FileNotFoundError):  # pruned meanwhile
            found.append(_Segment(path, base, os.stat(path).st_size))
    return found


def _size(path: str) -> int:
    """Bytes of a file; -1 for one that was removed meanwhile."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return -1


def _groups(folder: Path) -> list[Path]:
    return [path for path in folder.glob("groups/*") if path.suffix != ".lock"]


def _written(path: str | Path) -> int:
    """When a file was last written, UTC microseconds; for one that was removed meanwhile, long ago."""
    try:
        return os.stat(path).st_mtime_ns // 1000
    except FileNotFoundError:
        return 0


def _create(folder: Path, base: int) -> _Segment:
    """A new, empty segment; what came before it is synced, and so is its name."""
    for segment in _segments(folder, _LAST):
        if segment.size == 0:
            return segment
        _sync(segment.path)
    path = f"{folder}/{base:020d}.log"
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
        for directory in (folder, folder.parent):
            _sync(str(directory))
    except OSError as error:
        raise Unavailable(f"log {folder}: {error.strerror}", field="log") from error
    return _Segment(path, base, 0)


def _sync(path: str) -> None:
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
    try:
        file = open(segment.path, "rb")  # noqa: SIM115 - closed below
    except FileNotFoundError:  # pruned meanwhile, so this reader is none that is waited for
        return
    with file:
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
