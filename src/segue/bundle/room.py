"""Room in a bundle for what comes after it: blank rows at the end of every array that has a row per track, or per artist."""

# mypy: disallow-untyped-decorators=False
from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from numba import njit

from segue.models.order import numbered

T = TypeVar("T", bound=np.generic)
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]


class Rows:
    """Which row has which id: the first `known` rows are sorted by id, those behind are given to ids as they come.

    `ids` int64[n] is written to. One thread adds, any number find; who finds a row finds what was written before it was added.
    """

    def __init__(self, ids: I64, known: int | None = None) -> None:
        self.known = len(ids) if known is None else known
        self._ids = ids
        self._sorted = read_only(ids[: self.known])
        self._next = self.known
        self._later = np.empty(0, np.int64), np.empty(0, np.int32)

    @property
    def left(self) -> int:
        """How many rows are still blank."""
        return len(self._ids) - self._next

    @property
    def later(self) -> I32:
        """Rows that were added, in order. int32[m]."""
        return np.arange(self.known, self._next, dtype=np.int32)

    def find(self, ids: I64 | Sequence[int]) -> I32:
        """Rows of ids, -1 where unknown. int32[m]."""
        wanted = np.asarray(ids, np.int64)
        found: I32 = _find(self._sorted, read_only(wanted))
        later, rows = self._later
        if len(later):
            missing = np.flatnonzero(found < 0)
            at = find(later, wanted[missing])
            found[missing] = np.where(at >= 0, rows[at], -1)
        return found

    def blank(self) -> int:
        """The row to write the next id's facts to, before it is added; -1 if there is none left."""
        return self._next if self.left else -1

    def add(self, row_id: int) -> None:
        """Give the blank row to an id: it can be found from now on."""
        ids, rows = self._later
        place = int(np.searchsorted(ids, row_id))
        self._ids[self._next] = row_id
        self._later = np.insert(ids, place, row_id), np.insert(rows, place, np.int32(self._next))
        self._next += 1


def find(sorted_ids: I64, wanted: I64) -> I32:
    """Positions of `wanted` in `sorted_ids`, -1 where absent. int32[m]."""
    found: I32 = _find(read_only(sorted_ids), read_only(wanted))
    return found


def read_only(array: npt.NDArray[T]) -> npt.NDArray[T]:
    """What may be written to and what may not are two types to a compiler: it should meet one, and before the first request."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


@njit(cache=True, nogil=True)
def _find(sorted_ids: I64, wanted: I64) -> I32:
    """Binary searches for the distinct ones, sixteen in step: each waits for memory, and they wait together."""
    out = np.full(len(wanted), -1, np.int32)
    if len(sorted_ids) == 0:
        return out
    distinct, place, _ = numbered(wanted)
    found = len(distinct)
    base = np.empty(found, np.int64)
    for first in range(0, found, 16):
        end = min(first + 16, found)
        base[first:end] = 0
        left = len(sorted_ids)
        while left > 1:
            half = left >> 1
            for i in range(first, end):
                base[i] += half if sorted_ids[base[i] + half] <= distinct[i] else 0
            left -= half
    for at in range(len(wanted)):
        if place[at] >= 0 and sorted_ids[base[place[at]]] == wanted[at]:
            out[at] = base[place[at]]
    return out
