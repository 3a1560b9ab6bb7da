"""Co-listening: tracks played near each other, in either order, damped so that hits are not everybody's
neighbour.

Every pair of plays within one session adds distance^-power x 2^-(gap / half-life); the sum of a pair is
divided by powers of both tracks' plays. With both powers at one half this is a cosine, at target power 0 a
conditional probability; in between it is the asymmetric similarity that won the Million Song Dataset
challenge (Aiolli 2013). Fit on `Sessions.by_listener()` instead of on sittings, it relates tracks across the
days of one listener's history.
"""

from __future__ import annotations

import msgspec
import numpy as np

from segue.models.item_knn import Neighbours
from segue.models.sequence_rules import by_distance, count_pairs
from segue.models.sessions import DAY_US, Sessions

__all__ = ["CoListenConfig", "fit_co_listens"]


class CoListenConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a pair is worth.

    window: greatest distance in plays; power: weight distance^-power; gap_half_life_days: of the time between
    the two plays (none: no decay); half_life_days: of the newer play's age at fit time (none: no decay);
    source_damping, target_damping: powers of the tracks' weighted plays a pair is divided by; neighbours:
    kept per track.
    """

    window: int = 20
    power: float = 0.5
    gap_half_life_days: float | None = 60.0
    half_life_days: float | None = None
    source_damping: float = 0.75
    target_damping: float = 0.25
    neighbours: int = 200


def fit_co_listens(sessions: Sessions, config: CoListenConfig, *, now: int) -> Neighbours:
    """Count the pairs of all sessions. ``now`` (microseconds) is the moment ages are measured from."""
    near = np.concatenate([[0.0], by_distance(config.window, config.power)])
    return count_pairs(
        sessions,
        sessions.play_weights(now, config.half_life_days),
        near,
        near,
        0.0 if config.gap_half_life_days is None else 1.0 / (config.gap_half_life_days * DAY_US),
        config.source_damping,
        config.target_damping,
        config.neighbours,
    )
