"""Latencies in buckets that are narrow where values are small and wide where they are large.

The layout is HdrHistogram's (Gil Tene, https://hdrhistogram.org): 128 buckets to every power of two, so that any percentile is
known within 0.8 %, from a microsecond to an hour, in a few kilobytes; and two histograms add up to one.
"""

from __future__ import annotations

import math
from typing import Final

from msgspec import Struct, field

_BITS: Final = 7
_LINEAR: Final = 1 << (_BITS + 1)


class Histogram(Struct):
    """How often each latency was seen. `counts` is by bucket; buckets never seen are absent."""

    counts: dict[int, int] = field(default_factory=dict)
    total: int = 0
    largest: int = 0

    def record(self, micros: int) -> None:
        """Count one latency, in microseconds; a negative one is none."""
        micros = max(micros, 0)
        shift = max(micros.bit_length() - _BITS - 1, 0)
        bucket = (shift << _BITS) + (micros >> shift)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.total += 1
        self.largest = max(self.largest, micros)

    def add(self, other: Histogram) -> None:
        """Count everything that `other` counted."""
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.total += other.total
        self.largest = max(self.largest, other.largest)

    def percentile(self, q: float) -> int:
        """Microseconds that `q` per cent of the latencies do not exceed; 0 if there are none."""
        wanted = math.ceil(self.total * q / 100)
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= wanted:
                return min(_highest(bucket), self.largest)
        return 0


def _highest(bucket: int) -> int:
    """The largest value that falls into a bucket."""
    if bucket < _LINEAR:
        return bucket
    shift = (bucket >> _BITS) - 1
    return ((bucket - (shift << _BITS) + 1) << shift) - 1
