"""A small hash accumulator of (item, score), for scoring one request without an array as long as the
catalogue.

A request touches a few thousand items of a catalogue of hundreds of millions. The table is open-addressed,
sized by the number of additions the caller can bound, and lives for one call. Compiled functions, used inside
kernels.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from numba import njit

from segue.models.order import best_first, rising

Keys = npt.NDArray[np.int32]
Sums = npt.NDArray[np.float64]


@njit(cache=True, nogil=True)
def empty_table(additions: int) -> tuple[Keys, Sums]:
    """A table for up to ``additions`` distinct keys: keys int32 (-1 is free) and sums float64, at most half
    full.
    """
    size = 16
    while size < 2 * additions:
        size *= 2
    return np.full(size, -1, dtype=np.int32), np.zeros(size)


@njit(cache=True, nogil=True)
def slot_of(keys: Keys, item: int) -> int:
    """Where ``item`` is, or where it would be put. Linear probing after a multiplicative hash (Knuth)."""
    mask = len(keys) - 1
    slot = ((item * 2654435761) >> 7) & mask
    while keys[slot] != -1 and keys[slot] != item:
        slot = (slot + 1) & mask
    return slot


@njit(cache=True, nogil=True)
def add(keys: Keys, sums: Sums, item: int, amount: float) -> bool:
    """Add ``amount`` to the sum of ``item``. Whether the item is new."""
    slot = slot_of(keys, item)
    new = bool(keys[slot] == -1)
    keys[slot] = item
    sums[slot] += amount
    return new


@njit(cache=True, nogil=True)
def larger(keys: Keys, sums: Sums, additions: int) -> tuple[Keys, Sums]:
    """The same sums in a table with room for ``additions`` distinct keys in all."""
    new_keys, new_sums = empty_table(additions)
    for slot in range(len(keys)):
        if keys[slot] != -1:
            to = slot_of(new_keys, keys[slot])
            new_keys[to], new_sums[to] = keys[slot], sums[slot]
    return new_keys, new_sums


@njit(cache=True, nogil=True)
def damp(keys: Keys, sums: Sums, items: Keys, factor: float) -> None:
    """Multiply the sums of ``items`` that are there, each once however often it is named; negatives are unknown."""
    before = -1
    for i in rising(items.astype(np.uint32).astype(np.uint64)):
        item = items[i]
        if item >= 0 and item != before:
            slot = slot_of(keys, item)
            if keys[slot] == item:
                sums[slot] *= factor
        before = item


@njit(cache=True, nogil=True)
def best(keys: Keys, sums: Sums, k: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """The ``k`` largest positive sums: items int32[m], scores float32[m], best first, equal scores by
    item.
    """
    used = np.flatnonzero(sums > 0.0)
    items, scores = keys[used], sums[used].astype(np.float32)
    order = best_first(scores, items, k)
    return items[order], scores[order]


def padded(
    lists: Iterable[tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]], n: int, k: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """The lists of ``n`` requests, at most ``k`` long, as a batch: int32[n, k] padded by -1, float32[n, k] by 0."""
    ids = np.full((n, k), -1, dtype=np.int32)
    scores = np.zeros((n, k), dtype=np.float32)
    for row, (items, values) in enumerate(lists):
        ids[row, : len(items)] = items
        scores[row, : len(items)] = values
    return ids, scores
