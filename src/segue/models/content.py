"""Content vectors: what a track's words, tags, genre and artist say, for tracks nobody has played yet.

Each token has a fixed pseudo-random direction of +-1 entries derived from its 64-bit hash (random projection; Achlioptas,
JCSS 2003), so a new upload gets its vector without refitting anything. A track's vector is the IDF-weighted sum of its
tokens' directions, at unit length; the dot product of two vectors estimates the cosine of their weighted token sets with
a standard error of about 1/sqrt(dims).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt
from numba import njit

Floats = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.uint64]
Kinds = npt.NDArray[np.uint8]


class ContentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of the content vectors."""

    dims: int = 128


@dataclass(frozen=True, slots=True)
class Content:
    """vectors float32[n_items, dims], unit length, all zero where a track has no token.

    What they were made of, so that an item that is changed or comes later gets the vector it would have had: tokens uint64[v]
    ascending are those that were seen, idf float32[v + 1] their weights and last that of any other; item i has those at
    token[indptr[i]:indptr[i + 1]] (int32), of the kinds beside (uint8), whose weights are `weights` float32[kinds].
    """

    vectors: Floats
    tokens: Tokens
    idf: Floats
    indptr: npt.NDArray[np.int64]
    token: npt.NDArray[np.int32]
    kind: Kinds
    weights: Floats

    @classmethod
    def fit(
        cls,
        indptr: npt.NDArray[np.int64],
        tokens: Tokens,
        kind: Kinds,
        weights: Floats,
        config: ContentConfig,
    ) -> Self:
        """From ragged tokens: indptr int64[n_items + 1], tokens uint64 hashes, kind uint8 of each, weights float32 by kind."""
        n_items = len(indptr) - 1
        distinct, place = np.unique(tokens, return_inverse=True)
        frequency = np.append(np.bincount(place, minlength=len(distinct)), 1)
        idf = np.log1p(n_items / frequency).astype(np.float32)
        vectors = _project(indptr, tokens, weights[kind] * idf[place], config.dims)
        return cls(vectors, distinct, idf, indptr, place.astype(np.int32), kind, weights)

    @classmethod
    def from_arrays(cls, arrays: dict[str, npt.NDArray[np.generic]]) -> Self:
        """The vectors saved as `arrays()`."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})  # type: ignore[arg-type]

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """All there is to save."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def tokens_of(self, item: int) -> tuple[Tokens, Kinds]:
        """What an item's vector was made of. uint64[m], uint8[m]."""
        span = slice(self.indptr[item], self.indptr[item + 1])
        return self.tokens[self.token[span]], self.kind[span]

    def embed(self, tokens: Tokens, kind: Kinds) -> Floats:
        """The vector of an item with these tokens. uint64[m], uint8[m] -> float32[dims]."""
        at = np.searchsorted(self.tokens, tokens)
        known = self.tokens[np.minimum(at, len(self.tokens) - 1)] == tokens if len(self.tokens) else at > 0
        idf = self.idf[np.where(known, at, len(self.tokens))]
        vectors = _project(
            np.array([0, len(tokens)]), tokens, self.weights[kind] * idf, self.vectors.shape[1]
        )
        found: Floats = vectors[0]
        return found

    def profile(self, items: npt.NDArray[np.int32], weights: Floats) -> Floats:
        """The unit vector of a weighted set of items, zeros if there is nothing to go by. float32[dims]."""
        total = weights @ self.vectors[items]
        length = float(np.linalg.norm(total))
        return (total / length if length > 0 else total).astype(np.float32)


@njit(cache=True, nogil=True)
def _project(indptr: npt.NDArray[np.int64], tokens: Tokens, weights: Floats, dims: int) -> Floats:
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
