"""Listeners as they stood at earlier moments: the state a request would have read then."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segue.contracts.ports import Days, Engine
from segue.contracts.tables import EVENTS, LISTENERS
from segue.contracts.vocabulary import EventType
from segue.features.relations import MARKS_AGE
from segue.listener.fold import Changes, Profiles, apply, read_events
from segue.listener.state import ListenerState, anonymous
from segue.settings.tree import State

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Replay:
    """Events of some listeners, from which their state at any moment is folded."""

    profiles: Profiles
    changes: Changes
    impressions: pa.Table
    limits: State

    @classmethod
    def load(cls, engine: Engine, users: I64, until: int, limits: State) -> Replay:
        """What these listeners did before `until` (microseconds), as far back as state is filled from."""
        events = engine.read(EVENTS, Days.holding(until - MARKS_AGE, until - 1))
        names = ["user_id", "ts", "type", "track_id", "artist_id", "ms_played", "listened", "skipped"]
        wanted = events.filter(events.ts < until).select(*names).order_by(["user_id", "ts"])
        chosen = pa.array(np.unique(users))
        batches = [
            batch.filter(pc.is_in(batch["user_id"], value_set=chosen)) for batch in engine.stream(wanted)
        ]
        table = pa.Table.from_batches(batches) if batches else engine.collect(wanted.limit(0))
        changes = read_events(table)
        impressions = table.filter(pc.equal(table["type"], EventType.IMPRESSION.value))
        order = np.lexsort((changes.plays["ts"], changes.play_user))
        mark_order = np.lexsort((changes.marks["ts"], changes.mark_user))
        return cls(
            Profiles(engine.collect(engine.read(LISTENERS))),
            Changes(
                changes.play_user[order],
                changes.plays[order],
                changes.mark_user[mark_order],
                changes.marks[mark_order],
            ),
            impressions.select(["user_id", "ts", "track_id"]).combine_chunks(),
            limits,
        )

    def state(self, user_id: int, moment: int) -> ListenerState:
        """The listener strictly before a moment."""
        base = self.profiles.find(user_id) or anonymous(user_id)
        plays = _before(self.changes.play_user, self.changes.plays["ts"], user_id, moment)
        marks = _before(self.changes.mark_user, self.changes.marks["ts"], user_id, moment)
        mine = Changes(
            self.changes.play_user[plays],
            self.changes.plays[plays],
            self.changes.mark_user[marks],
            self.changes.marks[marks],
        )
        return apply(base, mine, self.limits)

    def marked(self, user_id: int, kind: int, since: int) -> I64:
        """Ids that the listener marked so at or after a moment. int64[n]."""
        mine = self.changes.mark_user == user_id
        rows = self.changes.marks[mine]
        ids: I64 = rows["target_id"][(rows["kind"] == kind) & rows["on"] & (rows["ts"] >= since)]
        return ids

    def shown(self, user_id: int, since: int, until: int) -> I64:
        """Ids of the tracks that the listener was shown from `since` until before `until` (microseconds). int64[n]."""
        users = self.impressions["user_id"].to_numpy()
        start, stop = np.searchsorted(users, [user_id, user_id + 1])
        mine = self.impressions.slice(start, stop - start)
        ts = mine["ts"].to_numpy()
        ids: I64 = mine["track_id"].to_numpy()[(ts >= since) & (ts < until)]
        return ids


def _before(user: I64, ts: I64, user_id: int, moment: int) -> slice:
    start, stop = np.searchsorted(user, user_id, "left"), np.searchsorted(user, user_id, "right")
    return slice(int(start), int(start + np.searchsorted(ts[start:stop], moment, "left")))
