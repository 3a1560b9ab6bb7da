"""The state of one listener, as columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

PLAY = np.dtype(
    [
        ("ts", "<i8"),  # UTC microseconds
        ("track_id", "<i8"),
        ("artist_id", "<i8"),  # -1 where unknown
        ("session_start", "<i8"),  # UTC microseconds
        ("ms_played", "<i4"),  # -1 where unknown
        ("listened", "?"),
        ("skipped", "?"),
    ]
)
"""One play or skip. Rows are unique by (ts, track_id) and sorted by ts, oldest first."""

MARK = np.dtype([("kind", "<u1"), ("on", "?"), ("target_id", "<i8"), ("ts", "<i8")])
"""A standing statement: the latest event by `ts` decides `on`. Unique by (kind, target_id)."""

LIKE, REPOST, FOLLOW, HIDE, BLOCK, ADD = range(6)
"""Values of MARK.kind. HIDE and BLOCK are never evicted before the others: they are guarantees."""


@dataclass(frozen=True)
class ListenerState:
    """A listener as of now. `plays` is PLAY[n], at most `state.max_plays`; `marks` is MARK[m]."""

    user_id: int
    country: str | None = None
    plan: str | None = None
    joined_at: int | None = None
    consent: bool = True
    explicit_ok: bool = True
    known: bool = True
    plays: npt.NDArray[np.void] = field(default_factory=lambda: np.empty(0, PLAY))
    marks: npt.NDArray[np.void] = field(default_factory=lambda: np.empty(0, MARK))

    def marked(self, kind: int) -> npt.NDArray[np.int64]:
        """Ids with a standing mark of that kind, newest first. int64[n]."""
        kinds, ids = self.standing
        found: npt.NDArray[np.int64] = ids[kinds == kind]
        return found

    @cached_property
    def standing(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Kinds and targets of the marks that stand, newest first. uint8[n], int64[n]."""
        standing = self.marks[self.marks["on"]]
        order = np.argsort(-standing["ts"], kind="stable")
        return standing["kind"].take(order), standing["target_id"].take(order)


def anonymous(user_id: int = -1, country: str | None = None, *, consent: bool = True) -> ListenerState:
    """The state of somebody nothing is known about."""
    return ListenerState(user_id, country=country, consent=consent, known=False)


def unreadable(user_id: int | None) -> ListenerState:
    """What may be assumed of somebody whose state cannot be read: nothing is known, nothing explicit is wanted."""
    return ListenerState(-1 if user_id is None else user_id, consent=False, explicit_ok=False, known=False)
