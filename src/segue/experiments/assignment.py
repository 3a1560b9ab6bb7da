"""Who is in an experiment, and with which variant: a pure function of texts, the same in every language.

    bucket(salt, unit) = (first 8 bytes, big endian, of SHA-256(UTF-8 of salt + ":" + unit), shifted right by 11 bits) / 2^53
    place(layer, unit) = floor(1,000,000 * bucket("layer:" + layer, unit))

A unit is in the experiment iff round(1,000,000 * offset) <= place < round(1,000,000 * (offset + share)). Its variant is the
first, in the order of names, whose cumulative weight, divided by the sum of all, is above bucket(salt, unit). The division by
2^53 is exact in a double. docs/concepts/assignment.md explains it; assignment-vectors.json beside it is for other languages.

A listener's unit is the id in decimal; a session's is LISTENER:SESSION, a request's its UUID, an artist's the id, a slot's its
number.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from segue.contracts.experiments import Experiment
from segue.contracts.vocabulary import MINUTE

PLACES: Final = 1_000_000
"""Places of a layer: a slice of it is a range of whole ones, so that neither an overlap nor a gap is a matter of rounding."""
LAYER: Final = "layer:"
"""Before a layer's name in the salt that its places are drawn by."""
_SLICE: Final = 100_000
"""Units hashed at once."""


def bucket(salt: str, unit: str) -> float:
    """A number in [0, 1), as good as random but always the same for this salt and unit."""
    digest = hashlib.sha256(f"{salt}:{unit}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) * 2.0**-53


def buckets(salt: str, units: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The same for many units that are whole numbers. float64[n] for int64[n]; about a million a second."""
    begun = hashlib.sha256(f"{salt}:".encode())

    def digest(unit: int) -> bytes:
        one = begun.copy()
        one.update(b"%d" % unit)
        return one.digest()

    found = np.empty(len(units), np.float64)
    for start in range(0, len(units), _SLICE):
        raw = b"".join(map(digest, units[start : start + _SLICE].tolist()))
        first = np.frombuffer(raw, ">u8")[::4]
        found[start : start + _SLICE] = (first >> np.uint64(11)) * 2.0**-53
    return found


def place(layer: str, unit: str) -> int:
    """The unit's place in the layer, from 0 to 999,999: the same for all its experiments."""
    return int(bucket(f"{LAYER}{layer}", unit) * PLACES)


def slice_of(experiment: Experiment) -> range:
    """The places of its layer that are in it."""
    return range(round(experiment.offset * PLACES), round((experiment.offset + experiment.share) * PLACES))


def salt_of(experiment: Experiment) -> str:
    """What its variants are drawn by."""
    return experiment.salt or experiment.name


def slot(ts: int, minutes: int) -> int:
    """The number of the time slot of a moment (UTC microseconds), counted from 1970."""
    return ts // (minutes * MINUTE)


@dataclass(frozen=True)
class Split:
    """An experiment's part of its layer, and how that is divided: `edges` are where the variants' ranges end."""

    layer: str
    salt: str
    places: range
    names: tuple[str, ...]
    edges: tuple[float, ...]

    @classmethod
    def of(cls, experiment: Experiment) -> Self:
        """The split that an experiment's file says."""
        names = tuple(sorted(experiment.variants))
        sums = list(accumulate(experiment.variants[name].weight for name in names))
        edges = (*(one / sums[-1] for one in sums[:-1]), 1.0)
        return cls(experiment.layer, salt_of(experiment), slice_of(experiment), names, edges)

    def variant(self, unit: str) -> str | None:
        """The unit's variant, or None where it is not in."""
        return self.drawn(unit) if place(self.layer, unit) in self.places else None

    def drawn(self, unit: str) -> str:
        """The variant of a unit that is in."""
        at = bucket(self.salt, unit)
        return next(name for name, edge in zip(self.names, self.edges, strict=True) if at < edge)

    def column(self, units: npt.NDArray[np.int64]) -> npt.NDArray[np.int8]:
        """Positions in `names` of the variants of many units, -1 where a unit is not in. int8[n] for int64[n]."""
        found = np.full(len(units), -1, np.int8)
        places = (buckets(f"{LAYER}{self.layer}", units) * PLACES).astype(np.int64)
        inside = np.flatnonzero((places >= self.places.start) & (places < self.places.stop))
        found[inside] = np.searchsorted(self.edges, buckets(self.salt, units[inside]), side="right")
        return found


def assign(experiment: Experiment, unit: int | str) -> str | None:
    """The variant of one unit, or None where it is not in. Targeting, dates and holdouts are the caller's."""
    return Split.of(experiment).variant(str(unit))
