"""The topics of the log, who reads them, and when their records may go."""

from __future__ import annotations

import time
from typing import Final

from segue.bundle import BundleStore
from segue.contracts.ports import Log
from segue.contracts.vocabulary import DAY
from segue.events import changes
from segue.events.records import DEAD_LETTERS_TOPIC, EVENTS_TOPIC, EXPOSURES_TOPIC
from segue.settings import Settings
from segue.wiring.follower import group_of

LANDED: Final = {
    EVENTS_TOPIC: ("warehouse",),
    EXPOSURES_TOPIC: ("warehouse", "candidates"),
    DEAD_LETTERS_TOPIC: ("warehouse",),
    changes.TOPIC: ("warehouse",),
}
"""The topics, and the groups of the landings that read each."""
LANDED_WITHIN: Final = 2 * DAY
"""A change of the catalogue that is so much older than a bundle had landed before it was made: every run lands first."""


def readers(settings: Settings) -> dict[str, tuple[str, ...]]:
    """The topics, and the groups that read each, listener state's included."""
    return LANDED | {EVENTS_TOPIC: (*LANDED[EVENTS_TOPIC], group_of(settings.state))}


def prune(log: Log, settings: Settings, bundles: BundleStore) -> int:
    """Remove what is older than `log.keep_days` and was read by all who must. Returns how many files went.

    Call it after a landing. A state store that is switched on later, or was away for longer, is filled from the warehouse by
    the flow's step `state`. Changes of the catalogue are kept for as long as a bundle is that may lack them.
    """
    before = time.time_ns() // 1000 - settings.log.keep_days * DAY
    lacking = min((m.created_at - LANDED_WITHIN for m in bundles.versions()), default=before)
    limits = dict.fromkeys(LANDED, before) | {changes.TOPIC: min(before, lacking)}
    return sum(log.prune(topic, groups, limits[topic]) for topic, groups in LANDED.items())
