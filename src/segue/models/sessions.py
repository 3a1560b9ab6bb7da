"""Listening sessions as ragged arrays: what every sequence model is fit on.

Plays are grouped into sessions, sessions are ordered by (listener, start) and plays inside one by time, so
that a listener's sessions, and the plays in them, are contiguous: a model walks them with plain integer
loops.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segue.contracts.errors import InvalidData

__all__ = ["DAY_US", "Sessions"]

DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Sessions:
    """Ragged sessions, sorted by (user, start).

    indptr: int64[n_sessions + 1]; items: int32[n_plays]; ts: int64[n_plays], UTC microseconds, not decreasing
    in a session; user: int32[n_sessions]; n_items: size of the catalogue, items are in 0..n_items-1.
    """

    indptr: npt.NDArray[np.int64]
    items: npt.NDArray[np.int32]
    ts: npt.NDArray[np.int64]
    user: npt.NDArray[np.int32]
    n_items: int

    @classmethod
    def from_plays(
        cls,
        user: npt.NDArray[np.integer],
        item: npt.NDArray[np.integer],
        ts: npt.NDArray[np.integer],
        session: npt.NDArray[np.integer],
        *,
        n_items: int,
    ) -> Sessions:
        """Group plays, one entry each, given in any order. Plays of one moment keep the order they came in.

        ``session`` need only be unique within a listener. Raises InvalidData for unequal lengths or an item
        outside the catalogue.
        """
        if not len(user) == len(item) == len(ts) == len(session):
            sizes = (len(user), len(item), len(ts), len(session))
            raise InvalidData(
                f"user, item, ts and session must be equally long, got {sizes}", field="session"
            )
        if len(item) and (int(item.min()) < 0 or int(item.max()) >= n_items):
            raise InvalidData(
                f"items must be between 0 and {n_items - 1}, found {int(item.min())} to {int(item.max())}",
                field="item",
                limit=f"0 <= item < {n_items}",
            )
        order = np.lexsort((ts, session, user))
        starts = _boundaries(user[order], session[order])
        # Sessions of one listener are now by session id; put them by their first play, whole.
        lengths = np.diff(np.append(starts, len(order)))
        by_start = np.lexsort((ts[order][starts], user[order][starts]))
        indptr = np.concatenate([[0], np.cumsum(lengths[by_start])]).astype(np.int64)
        source = np.repeat(starts[by_start] - indptr[:-1], lengths[by_start]) + np.arange(len(order))
        order = order[source]
        return cls(
            indptr,
            np.asarray(item)[order].astype(np.int32),
            np.asarray(ts)[order].astype(np.int64),
            np.asarray(user)[order][indptr[:-1]].astype(np.int32),
            n_items,
        )

    @property
    def n_sessions(self) -> int:
        """Number of sessions."""
        return len(self.indptr) - 1

    @property
    def n_plays(self) -> int:
        """Number of plays."""
        return len(self.items)

    def play_user(self) -> npt.NDArray[np.int32]:
        """int32[n_plays]: the listener of each play."""
        return np.repeat(self.user, np.diff(self.indptr))

    def item_counts(self) -> npt.NDArray[np.int64]:
        """int64[n_items]: plays of each item."""
        return np.bincount(self.items, minlength=self.n_items)

    def by_listener(self) -> Sessions:
        """One long session per listener: for models of a whole history rather than of a sitting."""
        first = np.ones(self.n_sessions, dtype=np.bool_)
        first[1:] = self.user[1:] != self.user[:-1]
        starts = np.flatnonzero(first)
        indptr = np.append(self.indptr[starts], self.n_plays).astype(np.int64)
        # Sessions may overlap in time (two devices), so a listener's plays are put in order of time again.
        order = np.lexsort((self.ts, self.play_user()))
        return Sessions(indptr, self.items[order], self.ts[order], self.user[starts], self.n_items)

    def occurrences(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Inverted index item -> its plays: (indptr int64[n_items + 1], positions int64[n_plays],
        ascending).
        """
        indptr = np.zeros(self.n_items + 1, dtype=np.int64)
        np.cumsum(self.item_counts(), out=indptr[1:])
        return indptr, np.argsort(self.items, kind="stable")

    def session_of_play(self) -> npt.NDArray[np.int64]:
        """int64[n_plays]: the session of each play."""
        return np.repeat(np.arange(self.n_sessions), np.diff(self.indptr))

    def play_weights(self, now: int, half_life_days: float | None) -> npt.NDArray[np.float32]:
        """float32[n_plays]: 2^-(age / half-life) at the moment ``now`` (microseconds); ones without a
        half-life.
        """
        if half_life_days is None:
            return np.ones(self.n_plays, dtype=np.float32)
        age = np.maximum(now - self.ts, 0) / (half_life_days * DAY_US)
        return np.exp2(-age).astype(np.float32)


def _boundaries(user: npt.NDArray[np.integer], session: npt.NDArray[np.integer]) -> npt.NDArray[np.intp]:
    first = np.ones(len(user), dtype=np.bool_)
    first[1:] = (user[1:] != user[:-1]) | (session[1:] != session[:-1])
    return np.flatnonzero(first)
