"""Listener state in LMDB: one memory-mapped file shared by every process of a host, the embedded default.

What it promises: a reader sees the last committed record and never waits for a writer (copy-on-write pages, LMDB's
MVCC); writers of all processes take turns; `add` and `update` read and write in one transaction, so no change is lost; a
process that dies inside one leaves the old record and frees the lock. `metasync` is off: after a power cut the last
commits may be missing but the file is whole, and the fold over the event log restores them, since it may repeat events.

Rewriting a record costs a few microseconds here, so rows are folded in at once and the tail is always empty.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

import lmdb

from segue.adapters.state.keys import checked, slices
from segue.contracts.errors import InvalidData, Unavailable
from segue.contracts.ports import Change, Fold
from segue.settings.tree import State

_SLICE: Final = 10_000
"""Listeners of one transaction: other writers wait for as long as one takes."""
_MAX_READERS: Final = 1024


class LMDBState:
    """The StateStore port over an LMDB environment in the directory `path`, which is made if it is not there.

    Open it once per process, after forking. Raises InvalidData if the directory holds something else.
    """

    def __init__(self, path: Path, settings: State) -> None:
        self._limit = settings.map_size_mb
        path.mkdir(parents=True, exist_ok=True)
        try:
            self._env = lmdb.open(
                str(path),
                map_size=self._limit << 20,
                max_readers=_MAX_READERS,
                metasync=False,
                readahead=False,
            )
        except (
            lmdb.InvalidError,
            lmdb.CorruptedError,
            lmdb.VersionMismatchError,
        ) as error:
            raise InvalidData(
                f"{path}: not a listener state store ({error}); delete it and rebuild the state from the events",
                field="path",
            ) from error
        except lmdb.Error as error:
            raise Unavailable(
                f"{path}: the listener state store does not open: {error}", field="path"
            ) from error
        self._env.reader_check()

    def get(self, user_id: int) -> tuple[bytes | None, bytes]:
        """The listener's record, or None, and no tail."""
        with self._guard(), self._env.begin() as txn:
            return txn.get(_key(user_id)), b""

    def add(self, rows: Mapping[int, bytes], fold: Fold) -> None:
        """Fold the rows into the records, some thousand listeners in one transaction."""
        self.update(rows, lambda user_id, record, _: fold(user_id, record, rows[user_id]))

    def update(self, user_ids: Iterable[int], change: Change) -> None:
        """Replace records, some thousand listeners in one transaction; if `change` raises, all of them stay as they were.

        Raises Unavailable when the store is full.
        """
        for some in slices(user_ids, _SLICE):
            with self._guard(), self._env.begin(write=True) as txn:
                for user_id in some:
                    key = _key(user_id)
                    before = txn.get(key)
                    after = change(user_id, before, b"")
                    if after is None:
                        txn.delete(key)
                    elif after != before:
                        txn.put(key, after)

    def sample(self, limit: int) -> list[int]:
        """Listeners that have a record, from a random id on, and from the first when the last is reached."""
        with self._guard(), self._env.begin() as txn, txn.cursor() as cursor:
            if not cursor.last():
                return []
            start = random.randint(0, int.from_bytes(cursor.key(), "big"))
            cursor.set_range(_key(start))
            found = [_id(key) for key in islice(cursor.iternext(values=False), limit)]
            if len(found) < limit and cursor.first():
                before = (_id(key) for key in cursor.iternext(values=False))
                found += islice((user_id for user_id in before if user_id < start), limit - len(found))
            return found

    def create(self) -> None:
        """Nothing: the store is made when it is opened."""

    def close(self) -> None:
        """Release the store."""
        self._env.close()

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except lmdb.MapFullError as error:
            raise Unavailable(
                f"the listener state store is full at {self._limit} MB; raise state.map_size_mb and restart",
                field="state.map_size_mb",
                limit=f"{self._limit} MB",
            ) from error
        except (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.PanicError) as error:
            raise InvalidData(
                f"the listener state store is damaged ({error}); delete it and rebuild the state from the events"
            ) from error
        except (lmdb.Error, OSError) as error:  # a full disk shows in many ways
            raise Unavailable(f"the listener state store does not answer: {error}") from error


def _key(user_id: int) -> bytes:
    return checked(user_id).to_bytes(8, "big")


def _id(key: bytes) -> int:
    return int.from_bytes(key, "big")
