"""Distinct 64-bit ids seen so far, 8 bytes each: counts listeners and tracks of an import of any length."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]


class IdSet:
    """Sorted runs of doubling size (a log-structured merge): adding n ids one batch after another costs O(n log n)."""

    def __init__(self) -> None:
        self._runs: list[Ids] = []

    def __len__(self) -> int:
        return sum(len(run) for run in self._runs)

    @property
    def ids(self) -> Ids:
        """All of them, in no order. int64[n]."""
        return np.concatenate([np.empty(0, np.int64), *self._runs])

    def add(self, ids: Ids) -> Ids:
        """Add the ids; returns those that are new, each once, sorted. int64[n] -> int64[m]."""
        fresh: Ids = np.unique(ids)
        for run in self._runs:
            at = np.minimum(np.searchsorted(run, fresh), len(run) - 1)
            fresh = fresh[run[at] != fresh]
        if len(fresh):
            self._push(fresh)
        return fresh

    def _push(self, run: Ids) -> None:
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.concatenate([self._runs.pop(), run])
            run.sort(kind="stable")
        self._runs.append(run)
