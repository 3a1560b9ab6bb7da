"""Content vectors: what a track's words, tags, genre and artist say, for tracks nobody has played yet.

Each token has a fixed pseudo-random direction of +-1 entries derived from its 64-bit hash (random projection; Achlioptas,
JCSS 2003), so a new upload gets its vector without refitting anything. A track's vector is the IDF-weighted sum of its
tokens' directions, at unit length; the dot product of two vectors estimates the cosine of their weighted token sets with
a standard error of about 1/sqrt(dims).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt
from numba import njit

Floats = npt.NDArray[np.float32]


class ContentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of the content vectors."""

    dims: int = 128


@dataclass(frozen=True, slots=True)
class Content:
    """vectors float32[n_items, dims], unit length, all zero where a track has no token."""

    vectors: Floats

    @classmethod
    def fit(
        cls,
        indptr: npt.NDArray[np.int64],
        tokens: npt.NDArray[np.uint64],
        weights: Floats,
        config: ContentConfig,
    ) -> Self:
        """From ragged tokens: indptr int64[n_items + 1], tokens uint64 hashes, weights float32 (by kind of token)."""
        n_items = len(indptr) - 1
        distinct, place = np.unique(tokens, return_inverse=True)
        frequency = np.bincount(place, minlength=len(distinct))
        idf = np.log1p(n_items / np.maximum(frequency, 1)).astype(np.float32)
        return cls(_project(indptr, tokens, weights * idf[place], config.dims))

    @classmethod
    def from_arrays(cls, arrays: dict[str, npt.NDArray[np.generic]]) -> Self:
        """The vectors saved as `arrays()`."""
        return cls(arrays["vectors"])  # type: ignore[arg-type]

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """All there is to save."""
        return {"vectors": self.vectors}

    def profile(self, items: npt.NDArray[np.int32], weights: Floats) -> Floats:
        """The unit vector of a weighted set of items, zeros if there is nothing to go by. float32[dims]."""
        total = weights @ self.vectors[items]
        length = float(np.linalg.norm(total))
        return (total / length if length > 0 else total).astype(np.float32)


@njit(cache=True, nogil=True)
def _project(
    indptr: npt.NDArray[np.int64], tokens: npt.NDArray[np.uint64], weights: Floats, dims: int
) -> Floats:
    vectors = np.zeros((len(indptr) - 1, dims), np.float32)
    for item in range(len(indptr) - 1):
        row = vectors[item]
        for at in range(indptr[item], indptr[item + 1]):
            bits = np.uint64(0)
            for dim in range(dims):
                if dim % 64 == 0:
                    bits = _mix(tokens[at] + np.uint64(dim) * np.uint64(0x9E3779B97F4A7C15))
                if (bits >> np.uint64(dim % 64)) & np.uint64(1):
                    row[dim] += weights[at]
                else:
                    row[dim] -= weights[at]
        length = np.sqrt(np.sum(row * row))
        if length > 0:
            row /= length
    return vectors


@njit(cache=True, nogil=True)
def _mix(x: np.uint64) -> np.uint64:
    """SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): all bits of the input reach all bits of the output."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
