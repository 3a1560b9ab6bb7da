"""The new-artist programme in a bundle: how many exposures each new upload still needs a day, and how it was received.

Arrays by catalogue position, made once a day from the table `debuts`. A track that comes later has a blank row: it needs
all, and is expected to be received as new uploads usually are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from segue.bundle import Bundle, BundleWriter
from segue.contracts.vocabulary import DAY, DEBUT_DAYS

Ids = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
_ARRAYS = ("wanted", "rate", "spread")


@dataclass
class Debuts:
    """wanted float32[n]: listeners a day that a track is still to be shown to, 0 where it is paused, satisfied or no debut;
    rate float32[n]: expected listens per exposure, spread float32[n]: its standard deviation; requests: a day's, that may show a
    debut; `blank` of the three, for later tracks.
    """

    wanted: Floats
    rate: Floats
    spread: Floats
    requests: float
    blank: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @classmethod
    def none(cls, tracks: int) -> Self:
        """No programme."""
        wanted, rate, spread = np.zeros((3, tracks), np.float32)
        return cls(wanted, rate, spread, 0.0)

    def take(self, newer: Debuts) -> None:
        """Become what another night's programme over the same catalogue is, under whoever reads it."""
        self.wanted, self.rate, self.spread = newer.wanted, newer.rate, newer.spread
        self.requests, self.blank = newer.requests, newer.blank

    def save(self, writer: BundleWriter) -> None:
        """Write them into a bundle."""
        blank = dict(zip(_ARRAYS, self.blank, strict=True))
        writer.arrays("debuts", {name: getattr(self, name) for name in _ARRAYS}, blank)
        writer.json("debuts/about", {"requests": self.requests} | blank)

    @classmethod
    def load(cls, bundle: Bundle, tracks: int) -> Self:
        """Those of a bundle; none where it was made before there was a programme."""
        if not bundle.has("debuts"):
            return cls.none(tracks)
        arrays, about = bundle.arrays("debuts"), bundle.json("debuts/about")
        wanted, rate, spread = (arrays[name] for name in _ARRAYS)
        return cls(wanted, rate, spread, about["requests"], (about["wanted"], about["rate"], about["spread"]))

    def active(self, uploads: Ids, uploaded_at: npt.NDArray[np.int64], now: int) -> Ids:
        """Those of some uploads that are debuts now and want exposures. int32[m]."""
        age = now - uploaded_at[uploads]
        found: Ids = uploads[(age >= 0) & (age < DEBUT_DAYS * DAY) & (self.wanted[uploads] > 0)]
        return found

    def chance(self, active: Ids) -> float:
        """With what probability a request is to show one, so that all get what they want today; may be above 1."""
        return float(self.wanted[active].sum(dtype=np.float64)) / max(self.requests, 1.0)
