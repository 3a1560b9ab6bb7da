"""Plays as columns, from the warehouse: what every model is fitted on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segue.bundle.catalogue import Catalogue
from segue.contracts.ports import Days, Engine
from segue.contracts.tables import EVENTS, LISTENERS
from segue.contracts.vocabulary import EventType

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Plays:
    """Plays and skips sorted by (user_id, ts, track_id).

    user_id, ts, session_start int64[n]; track int32[n] catalogue positions; listened, skipped bool[n].
    """

    user_id: I64
    ts: I64
    session_start: I64
    track: npt.NDArray[np.int32]
    listened: npt.NDArray[np.bool_]
    skipped: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ts)

    def where(self, mask: npt.NDArray[np.bool_]) -> Plays:
        """The chosen plays."""
        return Plays(
            self.user_id[mask],
            self.ts[mask],
            self.session_start[mask],
            self.track[mask],
            self.listened[mask],
            self.skipped[mask],
        )


def load_plays(engine: Engine, catalogue: Catalogue, *, since: int, until: int) -> Plays:
    """Plays with since <= ts < until (microseconds) of tracks in the catalogue, of listeners who let theirs be learnt from."""
    events = engine.read(EVENTS, Days.holding(since, max(since, until - 1)))
    listeners = engine.read(LISTENERS)
    chosen = events.filter(
        events.type.isin([EventType.PLAY.value, EventType.SKIP.value])
        & (events.ts >= since)
        & (events.ts < until)
        & events.track_id.notnull()
    )
    chosen = chosen.anti_join(listeners.filter(~listeners.personalization_consent), "user_id")
    chosen = chosen.select("user_id", "ts", "session_start", "track_id", "listened", "skipped")
    rows = engine.collect(chosen.order_by(["user_id", "ts", "track_id"]))
    track = catalogue.positions(rows["track_id"].to_numpy())
    plays = Plays(
        rows["user_id"].to_numpy(),
        rows["ts"].to_numpy(),
        rows["session_start"].to_numpy(),
        track,
        rows["listened"].to_numpy(zero_copy_only=False).astype(np.bool_),
        rows["skipped"].to_numpy(zero_copy_only=False).astype(np.bool_),
    )
    return plays.where(track >= 0)
