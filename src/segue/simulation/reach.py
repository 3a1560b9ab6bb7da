"""Whom new uploads reached in a simulated life, by their exposures as they happen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segue.contracts.vocabulary import DAY, DEBUT_DAYS, MATCHED
from segue.simulation.answering import source_names
from segue.simulation.catalogue import Catalogue
from segue.simulation.environment import LivedDay
from segue.simulation.world import FLAGS, I64

__all__ = ["Reach", "Reached"]

_SHIFT = 32


@dataclass(frozen=True)
class Reached:
    """Of some tracks, each int64[n]: relevant exposures within 14 days of the upload, and distinct listeners of these."""

    relevant: I64
    listeners: I64


class Reach:
    """Counts day by day; relevant exposures are those that a source of MATCHED proposed, as in the warehouse."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._uploaded = np.ascontiguousarray(catalogue.music.track["uploaded"])
        bits = {name: np.uint64(1 << bit) for bit, name in enumerate(source_names())}
        self._matched = np.bitwise_or.reduce([bits[name] for name in MATCHED])
        self._relevant = np.zeros(len(self._uploaded), np.int64)
        self._met: list[I64] = []

    def look(self, day: LivedDay) -> None:
        """Count a day."""
        shown = day.exposures
        age = shown.ts - self._uploaded[shown.track]
        new = (age >= 0) & (age < DEBUT_DAYS * DAY)
        relevant = new & (shown.by >= 0) & ((shown.sources & self._matched) != 0)
        self._relevant += np.bincount(shown.track[relevant], minlength=len(self._uploaded))
        self._met.append(np.unique(shown.track[relevant].astype(np.int64) << _SHIFT | shown.user[relevant]))

    def of(self, tracks: FLAGS) -> Reached:
        """What tracks reached, bool[tracks]."""
        chosen = np.flatnonzero(tracks)
        met = np.unique(np.concatenate([*self._met, np.empty(0, np.int64)]))
        listeners = np.bincount(met >> _SHIFT, minlength=len(self._uploaded))
        return Reached(self._relevant[chosen], listeners[chosen])

    def pairs(self, tracks: FLAGS) -> tuple[I64, I64]:
        """Tracks and listeners of their relevant exposures, each pair once. int64[m] and int64[m]."""
        met = np.unique(np.concatenate([*self._met, np.empty(0, np.int64)]))
        met = met[tracks[met >> _SHIFT]]
        return met >> _SHIFT, met & ((1 << _SHIFT) - 1)
