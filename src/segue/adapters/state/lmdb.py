"""Listener state in LMDB: one memory-mapped file shared by every process of a host, the embedded default.

What it promises: a reader sees the last committed record and never waits for a writer (copy-on-write pages, LMDB's
MVCC); writers of all processes take turns; `update` reads and writes in one transaction, so no change is lost; a process
that dies inside one leaves the old record and frees the lock. `metasync` is off: after a power cut the last
commits may be missing but the file is whole, and the fold over the event log restores them, since it may repeat events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

import lmdb

from segue.contracts.errors import InvalidData, InvalidInput, Unavailable
from segue.contracts.ids import MAX_ID
from segue.settings.tree import State

_LOAD_ROWS: Final = 10_000
"""Records of one `load` transaction: other writers wait for as long as one takes."""
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

    def get(self, user_id: int) -> bytes | None:
        """The listener's record, or None."""
        with self._guard(), self._env.begin() as txn:
            return txn.get(_key(user_id))

    def update(self, user_id: int, change: Callable[[bytes | None], bytes | None]) -> None:
        """Replace the record by `change` of it, in one transaction; None deletes it.

        If `change` raises, the record stays as it was. Raises Unavailable when the store is full.
        """
        key = _key(user_id)
        with self._guard(), self._env.begin(write=True) as txn:
            before = txn.get(key)
            after = change(before)
            if after is None:
                txn.delete(key)
            elif after != before:
                txn.put(key, after)

    def load(
        self, records: Iterable[tuple[int, bytes]], merge: Callable[[bytes, bytes], bytes] | None = None
    ) -> int:
        """Write many records, in transactions of some thousands; merged with what is there, or over it. Returns how many."""
        count = 0
        rest = iter(records)
        while some := list(islice(rest, _LOAD_ROWS)):
            with self._guard(), self._env.begin(write=True) as txn:
                for user_id, record in some:
                    key = _key(user_id)
                    there = txn.get(key) if merge is not None else None
                    txn.put(key, record if there is None or merge is None else merge(there, record))
            count += len(some)
        return count

    def ids(self, start: int, limit: int, *, backwards: bool = False) -> list[int]:
        """Up to `limit` listeners that have a record: ascending from `start`, or descending from the last."""
        with self._guard(), self._env.begin() as txn, txn.cursor() as cursor:
            found = cursor.last() if backwards else cursor.set_range(_key(start))
            if not found:
                return []
            keys = cursor.iterprev(values=False) if backwards else cursor.iternext(values=False)
            return [int.from_bytes(key, "big") for key in islice(keys, limit)]

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
        except (lmdb.DiskError, lmdb.ReadersFullError, lmdb.MapResizedError) as error:
            raise Unavailable(f"the listener state store does not answer: {error}") from error


def _key(user_id: int) -> bytes:
    if not 0 <= user_id <= MAX_ID:
        raise InvalidInput(
            f"user_id: {user_id} is no listener's id; use 0 to {MAX_ID}",
            field="user_id",
            limit=f"0..{MAX_ID}",
        )
    return user_id.to_bytes(8, "big")
