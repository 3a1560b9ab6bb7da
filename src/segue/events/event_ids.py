"""Event ids that follow from what happened, so that importing the same row twice gives the same event.

A UUIDv7 (RFC 9562) whose time is the event's and whose 74 other bits are a hash of its content: two lanes of the
SplitMix64 finalizer (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators", OOPSLA) over the columns.
Two different events of the same millisecond share an id with probability 2**-74. The hash is not keyed: it identifies,
it does not protect.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segue.contracts.ids import uuid7_column
from segue.events.columns import single

U64 = npt.NDArray[np.uint64]

NUMBERS: Final = ("user_id", "ts", "track_id", "artist_id", "ms_played", "playlist_id")
TEXTS: Final = ("type", "query")
"""What makes an event itself. Two rows equal in all of these are one event that was written down twice."""

_LANES: Final = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03))
_ABSENT: Final = np.uint64(0x8000000000000001)


def event_ids(source: str, events: pa.Table) -> pa.Array:
    """binary[n], 16 bytes each, of rows that have the columns of the contract. `source` sets systems apart."""
    n = events.num_rows
    seed = _hash_text(source)
    lanes = [np.full(n, seed ^ lane, np.uint64) for lane in _LANES]
    for name in NUMBERS:
        lanes = _mix_in(lanes, _numbers(events, name))
    for name in TEXTS:
        lanes = _mix_in(lanes, _texts(events, name))
    ts = np.asarray(single(events["ts"]).to_numpy(zero_copy_only=False), np.int64)
    raw = uuid7_column(ts, np.stack(lanes, axis=1))
    return pa.Array.from_buffers(pa.binary(16), n, [None, pa.py_buffer(raw.tobytes())]).cast(pa.binary())


def _mix_in(lanes: list[U64], column: U64) -> list[U64]:
    return [_mix((lane * _LANES[0] + _LANES[1]) ^ column) for lane in lanes]


def _mix(x: U64) -> U64:
    """The SplitMix64 finalizer: every input bit flips about half of the output bits."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _numbers(events: pa.Table, name: str) -> U64:
    column = single(events[name])
    values = np.asarray(column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False), np.int64).view(
        np.uint64
    )
    absent = np.asarray(column.is_null().to_numpy(zero_copy_only=False), np.bool_)
    return np.where(absent, _ABSENT, values)


def _texts(events: pa.Table, name: str) -> U64:
    coded = single(events[name]).dictionary_encode()
    hashes = np.array([_hash_text(text) for text in coded.dictionary.to_pylist()] + [_ABSENT], np.uint64)
    at = np.asarray(coded.indices.fill_null(len(hashes) - 1).to_numpy(zero_copy_only=False), np.int64)
    return hashes[at]


def _hash_text(text: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big"))
