"""The topics of the log, who reads them, and when their records may go."""

from __future__ import annotations

import time
from typing import Final

from segue.contracts.ports import Log
from segue.contracts.vocabulary import DAY
from segue.events.records import DEAD_LETTERS_TOPIC, EVENTS_TOPIC, EXPOSURES_TOPIC
from segue.settings import Settings
from segue.wiring.follower import group_of

LANDED: Final = {
    EVENTS_TOPIC: ("warehouse",),
    EXPOSURES_TOPIC: ("warehouse", "candidates"),
    DEAD_LETTERS_TOPIC: ("warehouse",),
}
"""The topics, and the groups of the landings that read each."""


def readers(settings: Settings) -> dict[str, tuple[str, ...]]:
    """The topics, and the groups that read each, listener state's included."""
    return LANDED | {EVENTS_TOPIC: (*LANDED[EVENTS_TOPIC], group_of(settings.state))}


def prune(log: Log, settings: Settings) -> int:
    """Remove what is older than `log.keep_days` and was read by all who must. Returns how many files went.

    Call it after a landing. A state store that is switched on later, or was away for longer, is filled from the warehouse by
    the flow's step `state`.
    """
    before = time.time_ns() // 1000 - settings.log.keep_days * DAY
    return sum(log.prune(topic, groups, before) for topic, groups in LANDED.items())
