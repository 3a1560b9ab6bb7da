"""The listener's own transitions: what they themselves went on to after the tracks they are playing now.

Nothing is trained or stored per listener: the listener's recent plays, which the request has read anyway, are
searched for the last tracks of the session; what followed each match (and, for less, came before it) is
scored by the distances on both sides, as in :mod:`segue.models.sequence_rules`, and by the age of the match.
The session itself is searched too, so a loop is recognised while it is being played.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
from numba import njit

from segue.models.sequence_rules import by_distance
from segue.models.sessions import DAY_US
from segue.models.sparse_sum import add, best, damp, empty_table

__all__ = ["TransitionsConfig", "own_transitions"]

Ids = npt.NDArray[np.int32]
Times = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]


class TransitionsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the listener's own past speaks.

    window: plays looked at on either side of a match; power: weight distance^-power; backward: worth of plays
    before the match; prefix_window, prefix_power: how many last tracks are matched, and their weight by
    distance from the end; half_life_days: of a match's age (none: no decay); max_gap_minutes: plays further
    apart do not follow each other; seen_weight: factor for tracks already in the session.
    """

    window: int = 10
    power: float = 2.0
    backward: float = 0.3
    prefix_window: int = 10
    prefix_power: float = 2.0
    half_life_days: float | None = 180.0
    max_gap_minutes: float = 60.0
    seen_weight: float = 0.2


@njit(cache=True, nogil=True)
def _match(
    keys: Ids,
    sums: npt.NDArray[np.float64],
    items: Ids,
    ts: Times,
    prefix: Ids,
    now: int,
    rate: float,
    max_gap: int,
    near: npt.NDArray[np.float64],
    decay: npt.NDArray[np.float64],
    backward: float,
) -> None:
    """Add what surrounds each occurrence of the prefix's last tracks in the plays ``items``."""
    n = len(items)
    reach = min(len(decay), len(prefix))
    for at in range(n):
        worth = 0.0
        for back in range(reach):
            if prefix[len(prefix) - 1 - back] == items[at] and items[at] >= 0:
                worth += decay[back]
                break  # the nearest mention of a track in the prefix speaks for it
        if worth == 0.0:
            continue
        if rate > 0.0:
            worth *= 2.0 ** (-rate * max(now - ts[at], 0))
        for step in range(1, len(near) + 1):
            other = at + step
            if other >= n or ts[other] - ts[other - 1] > max_gap:
                break
            if items[other] >= 0:
                add(keys, sums, items[other], worth * near[step - 1])
        if backward > 0.0:
            for step in range(1, len(near) + 1):
                other = at - step
                if other < 0 or ts[other + 1] - ts[other] > max_gap:
                    break
                if items[other] >= 0:
                    add(keys, sums, items[other], worth * near[step - 1] * backward)


@njit(cache=True, nogil=True)
def _score(
    past_items: Ids,
    past_ts: Times,
    prefix: Ids,
    prefix_ts: Times,
    now: int,
    rate: float,
    max_gap: int,
    near: npt.NDArray[np.float64],
    decay: npt.NDArray[np.float64],
    backward: float,
    seen_weight: float,
    k: int,
) -> tuple[Ids, Scores]:
    keys, sums = empty_table(len(past_items) + len(prefix))
    _match(keys, sums, past_items, past_ts, prefix, now, rate, max_gap, near, decay, backward)
    # The session is matched against itself only forward: what came just before is what is being played.
    _match(keys, sums, prefix, prefix_ts, prefix, now, rate, max_gap, near, decay, 0.0)
    damp(keys, sums, prefix, seen_weight)
    found: tuple[Ids, Scores] = best(keys, sums, k)
    return found


def own_transitions(
    past_items: Ids,
    past_ts: Times,
    prefix: Ids,
    prefix_ts: Times,
    now: int,
    k: int,
    config: TransitionsConfig,
) -> tuple[Ids, Scores]:
    """The ``k`` tracks this listener most went to from here: (ids int32[m], scores float32[m]), best first.

    ``past_items``/``past_ts``: plays before this session, oldest first (int32, int64 microseconds);
    ``prefix``/``prefix_ts``: the session so far; ``now``: the request's moment. Negative ids are unknown
    tracks.
    """
    found: tuple[Ids, Scores] = _score(
        past_items,
        past_ts,
        prefix,
        prefix_ts,
        now,
        0.0 if config.half_life_days is None else 1.0 / (config.half_life_days * DAY_US),
        int(config.max_gap_minutes * 60e6),
        by_distance(config.window, config.power),
        by_distance(config.prefix_window, config.prefix_power),
        config.backward,
        config.seen_weight,
        k,
    )
    return found
