"""What would be served, as a scorer of the temporal protocol: the request pipeline itself, ranking by score alone.

Listeners stand frozen at the split: their state is folded from the events before it; a session so far is laid on top. The
page selection (diversity, spacing, exploration) is left out, since it trades accuracy for other things on purpose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from segue.bundle.catalogue import Catalogue
from segue.evaluation.protocols import HOME_NEW, NEXT_UP, Split, Task, without_known
from segue.listener.state import PLAY, ListenerState
from segue.recommend.api import Request
from segue.recommend.pipeline import Recommender

LONGEST = 50
"""Latest tracks of a session that a request sends."""
SPARE = 150
"""Places beyond the cut that are asked for where known tracks are taken out afterwards."""


class Served:
    """A `protocols.Scorer` over a recommender whose models saw nothing after the split."""

    def __init__(
        self,
        recommender: Recommender,
        split: Split,
        state_at_split: Callable[[int], ListenerState],
        progress: Callable[[int], None] = lambda cases: None,
    ) -> None:
        self._recommender = recommender
        self._split = split
        self._state = state_at_split
        self._progress = progress
        self._place = {int(track): item for item, track in enumerate(split.tracks)}

    def __call__(self, task: Task, rows: slice) -> npt.NDArray[np.int32]:
        """Top lists int32[b, cut], -1 at the end."""
        width = task.cut + (SPARE if task.name == HOME_NEW else 0)
        top = np.full((rows.stop - rows.start, width), -1, np.int32)
        indptr, items, ts = task.prefixes(rows, LONGEST)
        for row, case in enumerate(range(rows.start, rows.stop)):
            session, session_ts = items[indptr[row] : indptr[row + 1]], ts[indptr[row] : indptr[row + 1]]
            ids = self._rank(task, case, session, session_ts, width)
            known = [self._place[track] for track in ids.tolist() if track in self._place]
            top[row, : len(known)] = known
        self._progress(rows.stop - rows.start)
        return without_known(task, rows, top, task.cut) if task.name == HOME_NEW else top

    def _rank(
        self, task: Task, case: int, session: npt.NDArray[np.int32], ts: npt.NDArray[np.int64], k: int
    ) -> npt.NDArray[np.int64]:
        user, moment = int(task.user[case]), int(task.moment[case])
        state = self._state(user)
        if task.name != NEXT_UP:
            return self._recommender.rank(Request(surface="home", user_id=user, k=k, now=moment), state)
        ids = np.where(session >= 0, self._split.tracks[session], -1)
        tracks = tuple(int(track) for track in ids if track >= 0)
        request = Request(surface="next-up", user_id=user, k=k, session=tracks, now=moment + 1)
        return self._recommender.rank(
            request, with_session(state, ids, ts, self._recommender.artifacts.catalogue)
        )


def with_session(
    state: ListenerState,
    tracks: npt.NDArray[np.int64],
    ts: npt.NDArray[np.int64],
    catalogue: Catalogue,
) -> ListenerState:
    """The state with a session's plays laid on top, as heard to the end and, as in service, each by its artist."""
    known = tracks >= 0
    rows = np.zeros(int(known.sum()), PLAY)
    rows["ts"], rows["track_id"] = ts[known], tracks[known]
    rows["artist_id"] = catalogue.artists_of(catalogue.positions(tracks[known]))
    rows["session_start"], rows["ms_played"], rows["listened"] = ts[0], -1, True
    return replace(state, plays=np.concatenate([state.plays, rows]), known=True)
