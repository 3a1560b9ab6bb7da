"""Sorting, numbering and selecting inside compiled functions: one radix sort, one hash table, compiled once.

NumPy's own sorts inside a kernel are compiled again for every type and way they are called, which cost a fresh machine some
fifteen seconds; and for the few hundred to thousand keys of a request a radix sort is no slower.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

Order = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]
Items = npt.NDArray[np.int32]

_TOP = np.uint32(0x80000000)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@njit(cache=True, nogil=True)
def rising(keys: npt.NDArray[np.uint64]) -> Order:
    """Places of the keys uint64[n] from the smallest on, equal ones as they came: int64[n]. Bytes all keys share cost nothing."""
    n = len(keys)
    counts = np.zeros((8, 256), np.int64)
    for i in range(n):
        key = keys[i]
        for digit in range(8):
            counts[digit, (key >> np.uint64(8 * digit)) & np.uint64(255)] += 1
    order, spare = np.arange(n), np.empty(n, np.int64)
    for digit in range(8):
        shift = np.uint64(8 * digit)
        if n == 0 or counts[digit, (keys[0] >> shift) & np.uint64(255)] == n:
            continue
        at = 0
        for value in range(256):
            count = counts[digit, value]
            counts[digit, value] = at
            at += count
        for i in range(n):
            value = (keys[order[i]] >> shift) & np.uint64(255)
            spare[counts[digit, value]] = order[i]
            counts[digit, value] += 1
        order, spare = spare, order
    return order


@njit(cache=True, nogil=True)
def numbered(values: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], Order, Items]:
    """Distinct values in the order they came, each value's number among them, and a table for `slot_of`; negative values are
    unknown, and have number -1. int64[m], int64[n], int32[a power of two, at least 2 n].
    """
    n, size, found = len(values), 16, 0
    while size < 2 * n:
        size *= 2
    distinct, number, table = np.empty(n, np.int64), np.full(n, -1, np.int64), np.full(size, -1, np.int32)
    for row in range(n):
        if values[row] < 0:
            continue
        slot = slot_of(table, distinct, values[row])
        if table[slot] < 0:
            table[slot], distinct[found] = found, values[row]
            found += 1
        number[row] = table[slot]
    return distinct[:found].copy(), number, table


@njit(cache=True, nogil=True)
def slot_of(table: Items, distinct: npt.NDArray[np.int64], value: int) -> np.int64:
    """Where in the table the value's number is, or would be put: linear probing after a multiplicative hash (Knuth)."""
    mask = len(table) - 1
    slot = np.int64((np.uint64(value) * _GOLDEN) >> np.uint64(33)) & mask
    while table[slot] >= 0 and distinct[table[slot]] != value:
        slot = (slot + 1) & mask
    return slot


@njit(cache=True, nogil=True)
def rising_bits(scores: Scores) -> npt.NDArray[np.uint32]:
    """Numbers uint32[n] that are ordered as the scores float32[n] are, which must not be NaN."""
    bits = scores.view(np.uint32)
    out = np.empty(len(bits), np.uint32)
    for i in range(len(bits)):
        out[i] = ~bits[i] if bits[i] & _TOP else bits[i] | _TOP
    return out


@njit(cache=True, nogil=True)
def kth_largest(scores: Scores, k: int) -> np.float32:
    """The k-th largest of the scores float32[n], 1 <= k <= n: digit by digit, each among those that have the digits before."""
    bits = rising_bits(scores)
    counts = np.empty(2048, np.int64)
    left, alike = k, len(bits)
    for shift in (np.uint32(21), np.uint32(10), np.uint32(0)):
        counts[:] = 0
        for i in range(alike):
            counts[(bits[i] >> shift) & np.uint32(2047)] += 1
        digit = 2047
        while counts[digit] < left:
            left -= counts[digit]
            digit -= 1
        kept = 0
        for i in range(alike):
            value = bits[i]
            bits[kept] = value
            kept += (value >> shift) & np.uint32(2047) == digit
        alike = kept
    found = bits[:1]
    found[0] = found[0] ^ _TOP if found[0] & _TOP else ~found[0]
    kth: np.float32 = found.view(np.float32)[0]
    return kth


@njit(cache=True, nogil=True)
def among(values: Items, chosen: Items) -> npt.NDArray[np.bool_]:
    """Which of the values int32[n] are among the chosen int32[m]; all of them >= 0 or none equal. bool[n]."""
    ordered = chosen[rising(chosen.astype(np.uint32).astype(np.uint64))].astype(np.uint32)
    out = np.zeros(len(values), np.bool_)
    if len(ordered) == 0:
        return out
    for i in range(len(values)):
        value = np.uint32(values[i])
        low, high = 0, len(ordered) - 1
        while low < high:
            middle = (low + high) >> 1
            if ordered[middle] < value:
                low = middle + 1
            else:
                high = middle
        out[i] = ordered[low] == value
    return out


@njit(cache=True, nogil=True)
def best_first(scores: Scores, items: Items, k: int) -> Order:
    """Places of the k largest scores, equal ones by item: int64[min(k, n)]. scores float32[n], no NaN; items int32[n], >= 0."""
    kept = np.arange(len(scores))
    if len(scores) > k > 0:  # sort only what can be among them
        bar, n = kth_largest(scores, k), 0
        for i in range(len(scores)):
            kept[n] = i
            n += scores[i] >= bar
        kept = kept[:n]
    bits = rising_bits(scores[kept])
    keys = np.empty(len(kept), np.uint64)
    for i in range(len(kept)):
        keys[i] = np.uint64(~bits[i]) << np.uint64(32) | np.uint64(items[kept[i]])
    order: Order = kept[rising(keys)[:k]]
    return order
