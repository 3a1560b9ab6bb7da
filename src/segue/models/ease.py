"""EASE: the item-item weights of the best linear autoencoder without self-similarity, in closed form.

Steck: Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019. With listeners x items X,

    minimise  sum_u n_u^-a |x_u - x_u B|^2  +  sum_i (l + c g_i) |B_i|^2   subject to  diag(B) = 0

where n_u is the listener's number of items, G = X' diag(n_u^-a) X and g_i its diagonal. The solution is B = I
- P diag(1 / diag P) with P = (G + diag(l + c g))^-1. The part of the regularization that grows with g_i is
the dropout noise of Steck (Autoencoders that don't overfit towards the Identity, NeurIPS 2020); a > 0 keeps
listeners with long histories from deciding everything. Scores are multiplied by the item's count to the power
of `popularity_exponent`, which corrects for the taste of the metric, not of the listener.

One dense inverse of n_items^2: for small catalogues, as a reference and as neighbour lists. Where listeners
are fewer than items, the same inverse comes from one of n_users^2 by Woodbury's identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt
import scipy.linalg.lapack as lapack

from segue.contracts.errors import InvalidData, InvalidSettings
from segue.models.interactions import Interactions, top_k
from segue.models.item_knn import Neighbours

Floats = npt.NDArray[np.float32]


class EASEConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of EASE; the names follow the module's docstring."""

    regularization: float = 100.0
    """l: the same for all items."""
    count_regularization: float = 0.5
    """c: in units of the item's own diagonal."""
    listener_exponent: float = 0.5
    """a: 0 counts every pair alike, 1 every listener alike."""
    popularity_exponent: float = -0.1
    max_items: int = 20_000
    """Refuse larger catalogues: memory is 8 bytes * items^2, time items^3 (20,000: 3.2 GB, minutes)."""

    def __post_init__(self) -> None:
        if not self.regularization > 0:
            raise InvalidSettings(
                "ease.regularization must be above 0", field="ease.regularization", limit="> 0"
            )
        if self.count_regularization < 0:
            raise InvalidSettings(
                "ease.count_regularization must not be negative",
                field="ease.count_regularization",
                limit=">= 0",
            )


@dataclass(frozen=True, slots=True)
class EASE:
    """weights: float32[n_items, n_items], row = item of the history, column = item scored; diagonal zero."""

    weights: Floats

    @classmethod
    def fit(cls, interactions: Interactions, config: EASEConfig) -> Self:
        """Solve in closed form, in float32.

        Raises InvalidSettings when the catalogue is larger than `max_items`, InvalidData without any pair.
        """
        n_items = interactions.n_items
        if n_items > config.max_items:
            raise InvalidSettings(
                f"EASE inverts an items x items matrix: {n_items} items are more than ease.max_items = "
                f"{config.max_items}; use iALS or the graph filter, or raise the limit if memory allows",
                field="ease.max_items",
                limit=f">= {n_items}",
            )
        if interactions.nnz == 0:
            raise InvalidData("EASE needs at least one pair", field="interactions")
        lengths = np.maximum(interactions.user_counts(), 1).astype(np.float64)
        scaled = interactions.scaled(user_factor=lengths ** (-config.listener_exponent / 2))
        diagonal = np.bincount(scaled.indices, weights=scaled.data**2, minlength=n_items)
        penalty = config.regularization + config.count_regularization * diagonal
        invert = _inverse_by_users if interactions.n_users < n_items // 2 else _inverse_by_items
        weights = invert(scaled, penalty.astype(np.float32))
        counts = np.maximum(interactions.item_counts(), 1).astype(np.float64)
        popularity: Floats = np.power(counts, config.popularity_exponent).astype(np.float32)
        np.multiply(weights, -popularity / np.diag(weights), out=weights)  # column by column
        np.fill_diagonal(weights, 0)
        return cls(weights)

    @classmethod
    def from_arrays(cls, arrays: dict[str, npt.NDArray[np.generic]]) -> Self:
        """The model saved as `arrays()`; a memory-mapped array stays so."""
        return cls(arrays["weights"])  # type: ignore[arg-type]

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """All there is to save."""
        return {"weights": self.weights}

    def scores(self, histories: Interactions) -> Floats:
        """float32[n, n_items]: every item for every listener."""
        return np.asarray(histories.to_scipy() @ self.weights)

    def neighbours(self, k: int) -> Neighbours:
        """The `k` largest positive weights of each item's row, for serving."""
        ids, weights = top_k(self.weights, k)
        ids[weights <= 0] = -1
        weights[ids < 0] = 0
        return Neighbours(ids, weights)


def _inverse_by_items(scaled: Interactions, penalty: Floats) -> Floats:
    """(X'X + diag(penalty))^-1 by Cholesky in place."""
    matrix = scaled.to_scipy()
    gram = (matrix.T @ matrix).toarray(order="F")
    gram[np.diag_indices_from(gram)] += penalty
    return _inverse(gram)


def _inverse_by_users(scaled: Interactions, penalty: Floats) -> Floats:
    """The same by Woodbury: D - D X' (I + X D X')^-1 X D with D = diag(1 / penalty)."""
    matrix = scaled.to_scipy()
    shrunk = matrix.multiply(1 / penalty[None, :]).tocsr().astype(np.float32)
    inner = (shrunk @ matrix.T).toarray(order="F")
    inner[np.diag_indices_from(inner)] += 1
    solved = shrunk.T @ _inverse(inner)
    weights = -(shrunk.T @ np.ascontiguousarray(solved.T)).T
    weights[np.diag_indices_from(weights)] += 1 / penalty
    return np.ascontiguousarray(weights)


def _inverse(matrix: Floats) -> Floats:
    """Inverse of a symmetric positive definite matrix in Fortran order, overwritten."""
    factor, info = lapack.spotrf(matrix, lower=1, overwrite_a=1)
    if info == 0:
        factor, info = lapack.spotri(factor, lower=1, overwrite_c=1)
    if info != 0:
        raise InvalidData(
            "the regularized item matrix is not positive definite in float32; raise ease.regularization",
            field="ease.regularization",
        )
    lower = np.asarray(factor, np.float32)
    _mirror(lower)
    return lower.T


def _mirror(lower: Floats) -> None:
    """Copy the lower triangle to the upper one, a block of columns at a time to spare memory."""
    size, step = len(lower), 1024
    for start in range(0, size, step):
        stop = min(start + step, size)
        lower[start:stop, stop:] = lower[stop:, start:stop].T
        block = lower[start:stop, start:stop]
        block[:] = np.tril(block) + np.tril(block, -1).T
