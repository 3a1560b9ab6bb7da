"""Listener states in a store: what everybody else reads and changes them by.

The store keeps bytes, a record and a tail of rows; here they become a `ListenerState`, and changes become rows. Every way
into a record is the one fold of `fold.py`, so it does not matter whether a play came through the tail, at once, or from the
warehouse.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Final

from segue.contracts.errors import InvalidData, Unavailable
from segue.contracts.ports import StateStore
from segue.listener.codec import decode, decode_rows, encode, encode_rows
from segue.listener.fold import Changes, add_rows, by_listener, merge
from segue.listener.state import ListenerState, anonymous
from segue.settings.tree import State

_FILL_SLICE: Final = 10_000
"""Records held in memory while they are filled in."""


class ListenerStates:
    """The states of all listeners, in a store. As many threads may use it as may use the store; it owns the store."""

    def __init__(self, store: StateStore, limits: State) -> None:
        self._store = store
        self._limits = limits

    def read(self, user_id: int) -> ListenerState | None:
        """The listener as of now, or None where nothing is known. One round trip to the store.

        Raises Unavailable where the store does not answer, or what it keeps cannot be read.
        """
        record, tail = self._store.get(user_id)
        return None if record is None and not tail else self._state(user_id, record, tail)

    def add(self, changes: Changes) -> None:
        """Make the changes known: when this returns, every later `read` has them. May be repeated. Raises Unavailable."""
        self._store.add(
            {user: encode_rows(plays, marks) for user, plays, marks in by_listener(changes)}, self._fold
        )

    def fill(self, records: Iterable[tuple[int, bytes]]) -> int:
        """Merge records rebuilt from the warehouse: their profile, and the plays and marks of both. Returns how many."""
        count, rest = 0, iter(records)
        while rebuilt := dict(islice(rest, _FILL_SLICE)):

            def merged(
                user_id: int, record: bytes | None, tail: bytes, new: dict[int, bytes] = rebuilt
            ) -> bytes:
                if not tail and (record is None or record == new[user_id]):
                    return new[user_id]
                there = self._state(user_id, record, tail)
                return encode(merge(decode(new[user_id]), there, self._limits))

            self._store.update(rebuilt, merged)
            count += len(rebuilt)
        return count

    def forget(self, user_ids: Iterable[int]) -> None:
        """Delete everything kept of those listeners."""
        self._store.update(user_ids, lambda user_id, record, tail: None)

    def sample(self, limit: int) -> list[int]:
        """Up to `limit` listeners something is known of, beginning at an arbitrary place; all, if there are fewer."""
        return self._store.sample(limit)

    def create(self) -> None:
        """Make what the store needs before first use."""
        self._store.create()

    def close(self) -> None:
        """Release the store."""
        self._store.close()

    def _fold(self, user_id: int, record: bytes | None, rows: bytes) -> bytes:
        return encode(self._state(user_id, record, rows))

    def _state(self, user_id: int, record: bytes | None, rows: bytes) -> ListenerState:
        with _readable(user_id):
            state = anonymous(user_id) if record is None else decode(record)
            return add_rows(state, *decode_rows(rows), self._limits) if rows else state


@contextmanager
def _readable(user_id: int) -> Iterator[None]:
    """What cannot be read is the store's fault, not the caller's: a newer program's record, or a damaged one."""
    try:
        yield
    except InvalidData as error:
        raise Unavailable(
            f"listener {user_id}: {error.message}", field=error.field, limit=error.limit
        ) from error
