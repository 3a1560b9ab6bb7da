"""What the state stores on a network share: records with tails, deadlines, retries, conditional writes.

A record is tens of kilobytes and a play is 47 bytes. To rewrite the record for every play would cost a DynamoDB write unit per
kilobyte and a Bigtable cell of the whole record, so rows are appended to a short tail instead: one blind write that
cannot conflict with another. When the tail is longer than `state.tail_bytes` it is folded into the record by a conditional
write: everything kept of a listener carries a token that every write changes, and the fold is written only if the
token is still the one it was read with. Killed between append and fold, the rows stay in the tail, readers see them,
and the next append folds them.

An adapter says how its store reads, appends and replaces; how long to try and what to do on a conflict is decided here. A
failure that may pass is tried again after a random pause up to a bound that doubles ("full jitter": Brooker, AWS
Architecture Blog, 2015), until the deadline.
"""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Final, TypeVar

from segue.adapters.state.keys import checked, slices
from segue.contracts.errors import Conflict, Unavailable
from segue.contracts.ports import Change, Fold
from segue.settings.tree import State

T = TypeVar("T")

_FIRST_PAUSE_S: Final = 0.01
_LONGEST_PAUSE_S: Final = 1.0
_SLICE: Final = 100
"""Listeners of one batch: each batch has the whole deadline."""
_LONGEST_APPEND: Final = 50_000
"""Longer rows of one listener are folded in at once, so that a tail stays far below what an item or a cell may hold."""


class Transient(Exception):
    """The store did not answer, or asked to try again."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a store keeps of one listener. `token` changes with every write; None: nothing is kept."""

    record: bytes | None = None
    tail: bytes = b""
    token: bytes | int | None = None


NOTHING: Final = Kept()


@dataclass(frozen=True, slots=True)
class Replacement:
    """A record to write, or None to delete everything, if the listener's token is still this one."""

    token: bytes | int | None
    record: bytes | None


class TailedState(ABC):
    """The StateStore port, given the four verbs of a store. `where` names it in errors: "Redis at 127.0.0.1:6379".

    Each verb gets the seconds it may take, raises Transient for what may pass and a SegueError for what will not.
    """

    reserve = 0.0
    """Share of a deadline at whose end no attempt starts, where an attempt cannot be held to the seconds it gets."""

    def __init__(self, settings: State, where: str) -> None:
        self._read_s = settings.read_deadline_ms / 1000
        self._write_s = settings.write_deadline_ms / 1000
        self._where = where

    @abstractmethod
    def _read(self, user_ids: Sequence[int], seconds: float) -> Mapping[int, Kept]:
        """What is kept of some listeners; those of whom nothing is kept may be left out."""

    @abstractmethod
    def _append(self, rows: Mapping[int, bytes], seconds: float) -> list[int]:
        """Append to tails. The listeners whose tail should be folded now."""

    @abstractmethod
    def _replace(self, changes: Mapping[int, Replacement], seconds: float) -> list[int]:
        """Replace record and tail, each listener atomically. The listeners whose token was another one."""

    @abstractmethod
    def _sample(self, limit: int, seconds: float) -> list[int]:
        """Some listeners of whom something is kept."""

    @abstractmethod
    def create(self) -> None:
        """Make what the store needs before first use, unless it is there."""

    @abstractmethod
    def close(self) -> None:
        """Release the store."""

    def get(self, user_id: int) -> tuple[bytes | None, bytes]:
        """Record and tail of the listener, in one round trip."""
        found = self._try(self._deadline(self._read_s), partial(self._read, [checked(user_id)]))
        kept = found.get(user_id, NOTHING)
        return kept.record, kept.tail

    def add(self, rows: Mapping[int, bytes], fold: Fold) -> None:
        """Append the rows to the listeners' tails, and fold the tails that have become long."""
        for some in slices(rows, _SLICE):
            short = {checked(user): rows[user] for user in some if len(rows[user]) <= _LONGEST_APPEND}
            long = [checked(user) for user in some if user not in short]
            deadline = self._deadline(self._write_s)
            due = self._try(deadline, partial(self._append, short)) if short else []
            with suppress(
                Conflict
            ):  # Others are folding the same tail. What they leave, the next append folds.
                self._update(
                    due, lambda user, record, tail: fold(user, record, tail) if tail else record, deadline
                )
            self._update(long, lambda user, record, tail: fold(user, record, tail + rows[user]), deadline)

    def update(self, user_ids: Iterable[int], change: Change) -> None:
        """Read, change and replace; again for those that somebody else wrote meanwhile."""
        for some in slices(dict.fromkeys(user_ids), _SLICE):
            self._update([checked(user) for user in some], change, self._deadline(self._write_s))

    def sample(self, limit: int) -> list[int]:
        """Some listeners, from an arbitrary place."""
        return self._try(self._deadline(self._write_s), partial(self._sample, limit))

    def _update(self, waiting: list[int], change: Change, deadline: Deadline) -> None:
        for attempt in count():
            kept = self._try(deadline, partial(self._read, waiting)) if waiting else {}
            changes: dict[int, Replacement] = {}
            for user in waiting:
                there = kept.get(user, NOTHING)
                after = change(user, there.record, there.tail)
                if after != there.record or there.tail:
                    changes[user] = Replacement(there.token, after)
            if not changes:
                return
            waiting = self._try(deadline, partial(self._replace, changes))
            if waiting and not deadline.pause(attempt):
                raise Conflict(
                    f"{self._where}: others keep changing listener {waiting[0]}; try again",
                    field="user_id",
                    limit=f"{deadline.ms} ms (state.write_deadline_ms)",
                )

    def _try(self, deadline: Deadline, verb: Callable[[float], T]) -> T:
        """What the verb returns, tried until the deadline. Raises Unavailable."""
        for attempt in count():
            try:
                return verb(deadline.left())
            except Transient as error:
                if not deadline.pause(attempt):
                    raise Unavailable(
                        f"{self._where} did not answer within {deadline.ms} ms: {error}",
                        field="state",
                        limit=f"{deadline.ms} ms",
                    ) from error
        raise AssertionError("unreachable")

    def _deadline(self, seconds: float) -> Deadline:
        return Deadline(seconds, self.reserve)


class Deadline:
    """When to stop trying: after `seconds`, of which the share `reserve` is left for the last attempt to end in."""

    def __init__(self, seconds: float, reserve: float) -> None:
        self.ms = f"{seconds * 1000:g}"
        self._ends = time.monotonic() + seconds * (1 - reserve)

    def left(self) -> float:
        """Seconds; a hundredth if there are none, for clients that take no timeout of nothing."""
        return max(self._ends - time.monotonic(), 0.01)

    def pause(self, attempt: int) -> bool:
        """Pause at random up to a bound that doubles, and say whether to try again; False at once if it would be too late."""
        seconds = random.uniform(0, min(_FIRST_PAUSE_S * 2.0 ** min(attempt, 30), _LONGEST_PAUSE_S))
        if time.monotonic() + seconds >= self._ends:
            return False
        time.sleep(seconds)
        return True
