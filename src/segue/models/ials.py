"""Weighted matrix factorization for implicit feedback (iALS), with fold-in of a listener's latest plays.

Objective (Hu, Koren, Volinsky: Collaborative Filtering for Implicit Feedback Datasets, ICDM 2008, in the form
of Rendle, Krichene, Zhang, Koren: Revisiting the Performance of iALS on Item Recommendation Benchmarks,
RecSys 2022):

    sum over observed (u, i) of w_ui (1 - x_u.y_i)^2  +  alpha * sum over all (u, i) of (x_u.y_i)^2
      +  lambda * (sum_u (n_u + alpha * items)^nu |x_u|^2  +  sum_i (n_i + alpha * users)^nu |y_i|^2)

where n_u and n_i are sums of weights. With one side fixed each row of the other solves

    (alpha * Y'Y + sum_i w_ui y_i y_i' + reg_u I) x_u = sum_i w_ui y_i.

The half-step does not build that matrix. It takes a few conjugate gradient steps with a Jacobi preconditioner
from the row's previous value (Takacs, Pilaszy, Tikk: Applications of the Conjugate Gradient Method for
Implicit Feedback Collaborative Filtering, RecSys 2011), in the principal axes of Y: scores do not change when both
sides are turned by one orthogonal matrix, so before each half-step both are turned by the eigenvectors of Y'Y. In
those axes alpha * Y'Y is diagonal. The part of the product that costs d^2 a row is gone, and the preconditioner
holds it exactly, which saves a step as well. What is left is the row's own items: their factors are gathered once,
lie in the nearest cache, and serve all steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt
from numba import njit, prange

from segue.contracts.errors import InvalidData, InvalidSettings
from segue.contracts.ports import Factorization, Factorizer
from segue.models.interactions import Interactions

Floats = npt.NDArray[np.float32]

CHUNK_PAIRS = 65_536
"""Pairs that one thread solves before it takes more; its scratch is as long as the longest row among them."""
TURN_ROWS = 65_536
"""Rows that are turned at once, so that no second copy of all factors is needed."""
FOLD_IN_STEPS = 32
"""Most steps for a listener who is folded in from nothing; a handful suffices until CONVERGED."""
CONVERGED = np.float32(1e-13)
"""A row is solved, as far as float32 can tell, when its preconditioned squared residual has shrunk to this share."""
SOLVED = np.float32(1e-16)
"""A row that starts with less than this has nothing left to improve."""


class IALSConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of weighted matrix factorization; the names follow the objective in the module's docstring."""

    factors: int = 64
    epochs: int = 16
    unobserved_weight: float = 0.1
    """alpha: the weight of all pairs against the weights of the observed ones."""
    regularization: float = 0.003
    """lambda."""
    regularization_exponent: float = 1.0
    """nu: 1 regularizes a row by how much is known of it, 0 all rows alike."""
    cg_steps: int = 2
    init_scale: float = 0.1
    """Standard deviation of the initial dot products' factors, before division by sqrt(factors)."""
    seed: int = 0
    threads: int = 1
    """Rows are solved by this many threads; the result does not depend on it."""

    def __post_init__(self) -> None:
        for field in ("factors", "epochs", "cg_steps", "threads"):
            if getattr(self, field) < 1:
                raise InvalidSettings(f"ials.{field} must be at least 1", field=f"ials.{field}", limit=">= 1")
        for field in ("unobserved_weight", "regularization", "init_scale"):
            if not getattr(self, field) > 0:
                raise InvalidSettings(f"ials.{field} must be above 0", field=f"ials.{field}", limit="> 0")


@dataclass(frozen=True, slots=True)
class IALS:
    """Item factors, and what is needed to place any listener among them.

    item_factors: float32[n_items, d], in their principal axes, the strongest last; spectrum: float32[d], the
    diagonal that their Gram matrix is in these axes, times the unobserved weight.
    """

    item_factors: Floats
    spectrum: Floats
    config: IALSConfig

    @classmethod
    def fit(
        cls,
        interactions: Interactions,
        config: IALSConfig,
        after_epoch: Callable[[int, IALS], bool] | None = None,
    ) -> Self:
        """Alternate until `config.epochs`; `after_epoch(epoch, model)` may return True to stop earlier.

        Deterministic for a seed. Raises InvalidData when there is nothing to learn from or a weight is
        negative.
        """
        _check(interactions)
        rng = np.random.default_rng(config.seed)
        transposed = interactions.transpose()
        users = _random_factors(rng, interactions.n_users, config)
        items = _random_factors(rng, interactions.n_items, config)
        user_reg = _regularization(interactions, config)
        item_reg = _regularization(transposed, config)
        spectrum = _turn_to_axes(items, users, config.unobserved_weight)
        for epoch in range(config.epochs):
            _half_step(users, interactions, items, spectrum, user_reg, config)
            spectrum = _turn_to_axes(users, items, config.unobserved_weight)
            _half_step(items, transposed, users, spectrum, item_reg, config)
            spectrum = _turn_to_axes(items, users, config.unobserved_weight)
            if after_epoch is not None and after_epoch(epoch, cls(items, spectrum, config)):
                break
        return cls(items, spectrum, config)

    @classmethod
    def fit_by(cls, factorizer: Factorizer, interactions: Interactions, config: IALSConfig) -> Self:
        """The model whose item factors are found elsewhere. It serves, folds in and is saved like any other.

        Raises InvalidData as `fit`.
        """
        _check(interactions)
        asked = Factorization(
            config.factors,
            config.epochs,
            config.unobserved_weight,
            config.regularization,
            config.regularization_exponent,
            config.seed,
        )
        found = factorizer.item_factors(
            interactions.indptr, interactions.indices, interactions.data, interactions.n_items, asked
        )
        return cls.of_items(found, config)

    @classmethod
    def of_items(cls, item_factors: Floats, config: IALSConfig) -> Self:
        """The model of given item factors (float32[n_items, d]), which are copied and turned to their principal axes."""
        items = np.array(item_factors, np.float32)
        return cls(items, _turn_to_axes(items, items[:0], config.unobserved_weight), config)

    @classmethod
    def from_arrays(cls, arrays: dict[str, npt.NDArray[np.generic]], config: IALSConfig) -> Self:
        """The model saved as `arrays()`; memory-mapped arrays stay so."""
        return cls(arrays["item_factors"], arrays["spectrum"], config)  # type: ignore[arg-type]

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """All there is to save."""
        return {"item_factors": self.item_factors, "spectrum": self.spectrum}

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.item_factors)

    def fold_in(self, items: npt.NDArray[np.int32], weights: Floats) -> Floats:
        """The factors float32[d] of one listener from items (int32[n]) and weights (float32[n] >= 0).

        As exact as float32 allows; no items gives zeros. Raises InvalidData for an item outside the catalogue.
        """
        if len(items) and (int(items.min()) < 0 or int(items.max()) >= self.n_items):
            raise InvalidData(
                "a listener's items must be indexes of the catalogue",
                field="items",
                limit=f"0 <= item < {self.n_items}",
            )
        reg = _row_regularization(float(weights.sum()), self.n_items, self.config)
        folded = self._solve_from_zero(
            np.array([0, len(items)], np.int64),
            np.ascontiguousarray(items, np.int32),
            np.ascontiguousarray(weights, np.float32),
            np.array([reg], np.float32),
            FOLD_IN_STEPS,
        )
        factors: Floats = folded[0]
        return factors

    def fold_in_batch(self, histories: Interactions, steps: int = FOLD_IN_STEPS) -> Floats:
        """Factors float32[n, d] of many listeners at once, by at most `steps` conjugate gradient steps from zero."""
        return self._solve_from_zero(
            histories.indptr,
            histories.indices,
            histories.data,
            _regularization(histories, self.config),
            steps,
        )

    def _solve_from_zero(
        self,
        indptr: npt.NDArray[np.int64],
        indices: npt.NDArray[np.int32],
        data: Floats,
        reg: Floats,
        steps: int,
    ) -> Floats:
        rows = np.zeros((len(indptr) - 1, self.item_factors.shape[1]), np.float32)
        _solve(rows, indptr, indices, data, self.item_factors, self.spectrum, reg, _chunks(indptr), steps)
        return rows

    def scores(self, histories: Interactions) -> Floats:
        """float32[n, n_items]: every item for every listener, folded in."""
        return self.fold_in_batch(histories) @ self.item_factors.T


def _check(interactions: Interactions) -> None:
    if interactions.nnz == 0 or interactions.data.min() < 0:
        raise InvalidData("iALS needs at least one pair, and no negative weights", field="interactions")


def _random_factors(rng: np.random.Generator, n_rows: int, config: IALSConfig) -> Floats:
    scale = np.float32(config.init_scale / np.sqrt(config.factors))
    return rng.standard_normal((n_rows, config.factors), np.float32) * scale


def _row_regularization(weight_sum: float, n_columns: int, config: IALSConfig) -> float:
    known = weight_sum + config.unobserved_weight * n_columns
    return float(config.regularization * known**config.regularization_exponent)


def _regularization(matrix: Interactions, config: IALSConfig) -> Floats:
    """float32[n_rows]: lambda * (sum of the row's weights + alpha * columns)^nu."""
    weight_sums = np.bincount(
        np.repeat(np.arange(matrix.n_users), matrix.user_counts()),
        weights=matrix.data,
        minlength=matrix.n_users,
    )
    known = weight_sums + config.unobserved_weight * matrix.n_items
    return (config.regularization * known**config.regularization_exponent).astype(np.float32)


def _turn_to_axes(factors: Floats, others: Floats, weight: float) -> Floats:
    """Turn both in place to the principal axes of `factors`; the diagonal of their Gram matrix there, times `weight`."""
    eigenvalues, axes = np.linalg.eigh((factors.T @ factors).astype(np.float64))
    turn = axes.astype(np.float32)
    for side in (factors, others):
        for first in range(0, len(side), TURN_ROWS):
            side[first : first + TURN_ROWS] = side[first : first + TURN_ROWS] @ turn
    spectrum: Floats = (np.maximum(eigenvalues, 0.0) * weight).astype(np.float32)
    return spectrum


def _chunks(indptr: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Offsets of runs of rows with about CHUNK_PAIRS pairs (a longer row is its own run). int64[chunks + 1]."""
    inner = np.searchsorted(indptr, np.arange(CHUNK_PAIRS, int(indptr[-1]), CHUNK_PAIRS))
    return np.unique(np.concatenate([[0], inner, [len(indptr) - 1]]))


def _half_step(
    rows: Floats, matrix: Interactions, fixed: Floats, spectrum: Floats, reg: Floats, config: IALSConfig
) -> None:
    """Improve `rows` in place against `fixed`, which stands in its principal axes."""
    solve = _solve if config.threads == 1 else _solve_parallel
    chunks = _chunks(matrix.indptr)
    solve(rows, matrix.indptr, matrix.indices, matrix.data, fixed, spectrum, reg, chunks, config.cg_steps)


def _solve_chunks(
    rows: Floats,
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    data: Floats,
    fixed: Floats,
    spectrum: Floats,
    reg: Floats,
    chunks: npt.NDArray[np.int64],
    steps: int,
) -> None:
    for chunk in prange(len(chunks) - 1):
        first, last = chunks[chunk], chunks[chunk + 1]
        _solve_rows(rows, indptr, indices, data, fixed, spectrum, reg, first, last, steps)


# Fastmath lets the compiler reorder the sums of the dot products, which is what vectorizes them; the tests
# bound the effect against a float64 solution.
@njit(cache=True, nogil=True, fastmath=True)
def _gather(
    known: Floats,
    weights: Floats,
    diagonal: Floats,
    indices: npt.NDArray[np.int32],
    data: Floats,
    low: int,
    high: int,
    fixed: Floats,
) -> None:
    """known[q], weights[q] = factors and weight of the row's pair q; diagonal += sum over q of weights[q] known[q]^2."""
    d = known.shape[1]
    for position in range(low, high):
        q = position - low
        item, weight = indices[position], data[position]
        weights[q] = weight
        for f in range(d):
            value = fixed[item, f]
            known[q, f] = value
            diagonal[f] += weight * value * value


@njit(cache=True, nogil=True, fastmath=True)
def _add_products(out: Floats, known: Floats, weights: Floats, n: int, x: Floats, offset: np.float32) -> None:
    """out += sum over q < n of weights[q] * (offset + known[q] . x) * known[q].

    Four pairs at a time: x and out are read once for four, and four sums hide the latency of each other.
    """
    d = known.shape[1]
    q = 0
    while q + 4 <= n:
        s0, s1, s2, s3 = offset, offset, offset, offset
        for f in range(d):
            value = x[f]
            s0 += known[q, f] * value
            s1 += known[q + 1, f] * value
            s2 += known[q + 2, f] * value
            s3 += known[q + 3, f] * value
        s0 *= weights[q]
        s1 *= weights[q + 1]
        s2 *= weights[q + 2]
        s3 *= weights[q + 3]
        for f in range(d):
            out[f] += (s0 * known[q, f] + s1 * known[q + 1, f]) + (
                s2 * known[q + 2, f] + s3 * known[q + 3, f]
            )
        q += 4
    while q < n:
        s0 = offset
        for f in range(d):
            s0 += known[q, f] * x[f]
        s0 *= weights[q]
        for f in range(d):
            out[f] += s0 * known[q, f]
        q += 1


@njit(cache=True, nogil=True, fastmath=True)
def _solve_rows(
    rows: Floats,
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    data: Floats,
    fixed: Floats,
    spectrum: Floats,
    reg: Floats,
    first: int,
    last: int,
    steps: int,
) -> None:
    """Rows first:last, one after the other: preconditioned conjugate gradients from their present value."""
    d = rows.shape[1]
    longest = 0
    for row in range(first, last):
        longest = max(longest, indptr[row + 1] - indptr[row])
    known = np.empty((longest, d), np.float32)
    weights = np.empty(longest, np.float32)
    fixed_part = np.empty(d, np.float32)  # alpha * Y'Y + reg I: a diagonal
    inverse = np.empty(d, np.float32)  # of the whole matrix' diagonal
    residual = np.empty(d, np.float32)
    direction = np.empty(d, np.float32)
    product = np.empty(d, np.float32)
    for row in range(first, last):
        low, high = indptr[row], indptr[row + 1]
        x = rows[row]
        if low == high:  # nothing known: the solution is zero
            x[:] = 0
            continue
        for f in range(d):
            fixed_part[f] = spectrum[f] + reg[row]
            inverse[f] = fixed_part[f]
            residual[f] = fixed_part[f] * x[f]
        _gather(known, weights, inverse, indices, data, low, high, fixed)
        # residual = b - A x, as -(A x - b): the observed part of A x - b is sum w (y.x - 1) y.
        _add_products(residual, known, weights, high - low, x, np.float32(-1))
        rho = np.float32(0)
        for f in range(d):
            inverse[f] = np.float32(1) / inverse[f]
            residual[f] = -residual[f]
            direction[f] = residual[f] * inverse[f]
            rho += residual[f] * direction[f]
        enough = max(SOLVED, CONVERGED * rho)
        for step in range(steps):
            if not rho > enough:
                break
            for f in range(d):
                product[f] = fixed_part[f] * direction[f]
            _add_products(product, known, weights, high - low, direction, np.float32(0))
            curvature = np.float32(0)
            for f in range(d):
                curvature += direction[f] * product[f]
            length = rho / curvature
            for f in range(d):
                x[f] += length * direction[f]
            if step + 1 == steps:
                break
            new_rho = np.float32(0)
            for f in range(d):
                residual[f] -= length * product[f]
                new_rho += residual[f] * residual[f] * inverse[f]
            momentum = new_rho / rho
            for f in range(d):
                direction[f] = residual[f] * inverse[f] + momentum * direction[f]
            rho = new_rho


_solve = njit(cache=True, nogil=True)(_solve_chunks)
_solve_parallel = njit(cache=True, nogil=True, parallel=True)(_solve_chunks)
