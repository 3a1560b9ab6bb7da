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
Implicit Feedback Collaborative Filtering, RecSys 2011). Rows advance together in blocks: the factors of a
block's observed items are gathered once and stay in cache for all steps, and the products with Y'Y become one
matrix product a step, so that the cost which does not depend on the data is bound by arithmetic, not by memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt
import scipy.linalg
from numba import njit, prange

from segue.contracts.errors import InvalidData, InvalidSettings
from segue.models.interactions import Interactions

Floats = npt.NDArray[np.float32]

BLOCK_ROWS = 64
"""Rows that advance together at most: enough for the product with the Gram matrix to run at full speed."""
BLOCK_BYTES = 512 * 1024
"""Gathered factors of one block, at most (a longer row is its own block): about half of a core's L2 cache."""


CONVERGED = np.float32(1e-16)
"""A row whose preconditioned squared residual is below this is solved, as far as float32 can tell."""


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
    cg_steps: int = 3
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

    item_factors: float32[n_items, d]; gram: float32[d, d], their Gram matrix times the unobserved weight.
    """

    item_factors: Floats
    gram: Floats
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
        if interactions.nnz == 0 or interactions.data.min() < 0:
            raise InvalidData("iALS needs at least one pair, and no negative weights", field="interactions")
        rng = np.random.default_rng(config.seed)
        transposed = interactions.transpose()
        users = _random_factors(rng, interactions.n_users, config)
        items = _random_factors(rng, interactions.n_items, config)
        user_reg = _regularization(interactions, config)
        item_reg = _regularization(transposed, config)
        # Rows by length: blocks stay full, and the threads' last blocks are short ones.
        user_blocks = _blocks(interactions.indptr, config.factors)
        item_blocks = _blocks(transposed.indptr, config.factors)
        for epoch in range(config.epochs):
            _half_step(users, interactions, items, user_reg, user_blocks, config)
            _half_step(items, transposed, users, item_reg, item_blocks, config)
            if after_epoch is not None and after_epoch(epoch, cls.of_items(items, config)):
                break
        return cls.of_items(items, config)

    @classmethod
    def of_items(cls, item_factors: Floats, config: IALSConfig) -> Self:
        """The model of given item factors (float32[n_items, d])."""
        return cls(item_factors, _gram(item_factors, config.unobserved_weight), config)

    @classmethod
    def from_arrays(cls, arrays: dict[str, npt.NDArray[np.generic]], config: IALSConfig) -> Self:
        """The model saved as `arrays()`; memory-mapped arrays stay so."""
        return cls(arrays["item_factors"], arrays["gram"], config)  # type: ignore[arg-type]

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """All there is to save."""
        return {"item_factors": self.item_factors, "gram": self.gram}

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.item_factors)

    def fold_in(self, items: npt.NDArray[np.int32], weights: Floats) -> Floats:
        """The factors float32[d] of one listener, exactly, from items (int32[n]) and weights (float32[n] >=
        0).

        No items gives zeros. Solved by Cholesky on d x d in float64. Raises InvalidData for an item outside
        the catalogue.
        """
        if len(items) == 0:
            return np.zeros(self.item_factors.shape[1], np.float32)
        if int(items.min()) < 0 or int(items.max()) >= self.n_items:
            raise InvalidData(
                "a listener's items must be indexes of the catalogue",
                field="items",
                limit=f"0 <= item < {self.n_items}",
            )
        known = self.item_factors[items].astype(np.float64)
        reg = _row_regularization(float(weights.sum()), self.n_items, self.config)
        matrix = self.gram.astype(np.float64)
        matrix += known.T @ (known * weights[:, None])
        matrix.flat[:: len(matrix) + 1] += reg
        factor = scipy.linalg.cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
        solution = scipy.linalg.cho_solve(factor, known.T @ weights.astype(np.float64), check_finite=False)
        return np.asarray(solution, np.float32)

    def fold_in_batch(self, histories: Interactions, steps: int = 16) -> Floats:
        """Factors float32[n, d] of many listeners at once, by `steps` conjugate gradient steps from zero."""
        users = np.zeros((histories.n_users, self.item_factors.shape[1]), np.float32)
        _solve(
            users,
            histories.indptr,
            histories.indices,
            histories.data,
            self.item_factors,
            self.gram,
            _regularization(histories, self.config),
            *_blocks(histories.indptr, self.item_factors.shape[1]),
            steps,
        )
        return users

    def scores(self, histories: Interactions) -> Floats:
        """float32[n, n_items]: every item for every listener, folded in."""
        return self.fold_in_batch(histories) @ self.item_factors.T


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


def _gram(factors: Floats, weight: float) -> Floats:
    return (factors.T @ factors) * np.float32(weight)


def _blocks(
    indptr: npt.NDArray[np.int64], factors: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(rows by falling length, block offsets) for blocks of at most BLOCK_ROWS rows and BLOCK_BYTES."""
    lengths = np.diff(indptr)
    order = np.argsort(-lengths, kind="stable")
    return order, _block_offsets(lengths[order], max(1, BLOCK_BYTES // (4 * factors)))


@njit(cache=True, nogil=True)
def _block_offsets(lengths: npt.NDArray[np.int64], budget: int) -> npt.NDArray[np.int64]:
    offsets = np.empty(len(lengths) + 1, np.int64)
    offsets[0] = 0
    n_blocks, filled, start = 0, 0, 0
    for row in range(len(lengths)):
        if row > start and (filled + lengths[row] > budget or row - start >= BLOCK_ROWS):
            n_blocks += 1
            offsets[n_blocks] = row
            filled, start = 0, row
        filled += lengths[row]
    if len(lengths):
        n_blocks += 1
        offsets[n_blocks] = len(lengths)
    return offsets[: n_blocks + 1].copy()


def _half_step(
    rows: Floats,
    matrix: Interactions,
    fixed: Floats,
    reg: Floats,
    blocks: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    config: IALSConfig,
) -> None:
    """Improve `rows` in place against `fixed`."""
    gram = _gram(fixed, config.unobserved_weight)
    solve = _solve if config.threads == 1 else _solve_parallel
    solve(rows, matrix.indptr, matrix.indices, matrix.data, fixed, gram, reg, *blocks, config.cg_steps)


def _solve_blocks(
    rows: Floats,
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    data: Floats,
    fixed: Floats,
    gram: Floats,
    reg: Floats,
    order: npt.NDArray[np.int64],
    offsets: npt.NDArray[np.int64],
    steps: int,
) -> None:
    for block in prange(len(offsets) - 1):
        _solve_block(
            rows, indptr, indices, data, fixed, gram, reg, order[offsets[block] : offsets[block + 1]], steps
        )


# Fastmath lets the compiler reorder the sums of the dot products, which is what vectorizes them; the tests
# bound the effect against a float64 solution.
@njit(cache=True, nogil=True, fastmath=True)
def _add_products(
    out: Floats, known: Floats, weights: Floats, start: int, stop: int, x: Floats, m: int, offset: np.float32
) -> None:
    """out[m] += sum over q in start:stop of weights[q] * (offset + known[q] . x[m]) * known[q].

    Four rows at a time: x and out are read once for four, and four sums hide the latency of each other.
    """
    d = known.shape[1]
    q = start
    while q + 4 <= stop:
        s0, s1, s2, s3 = offset, offset, offset, offset
        for f in range(d):
            value = x[m, f]
            s0 += known[q, f] * value
            s1 += known[q + 1, f] * value
            s2 += known[q + 2, f] * value
            s3 += known[q + 3, f] * value
        s0 *= weights[q]
        s1 *= weights[q + 1]
        s2 *= weights[q + 2]
        s3 *= weights[q + 3]
        for f in range(d):
            out[m, f] += (s0 * known[q, f] + s1 * known[q + 1, f]) + (
                s2 * known[q + 2, f] + s3 * known[q + 3, f]
            )
        q += 4
    while q < stop:
        s0 = offset
        for f in range(d):
            s0 += known[q, f] * x[m, f]
        s0 *= weights[q]
        for f in range(d):
            out[m, f] += s0 * known[q, f]
        q += 1


@njit(cache=True, nogil=True, fastmath=True)
def _multiply(rows: Floats, gram: Floats, out: Floats) -> None:
    """out = rows @ gram, four rows times four at a time.

    Not BLAS: its threads, spinning for products this small, cost more than they bring, and a library cannot
    know how many of them its caller left running.
    """
    n, d = rows.shape
    whole = d - d % 4
    out[:] = 0
    for m in range(0, n - n % 4, 4):
        for k in range(0, whole, 4):
            a0, a1, a2, a3 = rows[m, k], rows[m, k + 1], rows[m, k + 2], rows[m, k + 3]
            b0, b1, b2, b3 = rows[m + 1, k], rows[m + 1, k + 1], rows[m + 1, k + 2], rows[m + 1, k + 3]
            c0, c1, c2, c3 = rows[m + 2, k], rows[m + 2, k + 1], rows[m + 2, k + 2], rows[m + 2, k + 3]
            e0, e1, e2, e3 = rows[m + 3, k], rows[m + 3, k + 1], rows[m + 3, k + 2], rows[m + 3, k + 3]
            for f in range(d):
                g0, g1, g2, g3 = gram[k, f], gram[k + 1, f], gram[k + 2, f], gram[k + 3, f]
                out[m, f] += (a0 * g0 + a1 * g1) + (a2 * g2 + a3 * g3)
                out[m + 1, f] += (b0 * g0 + b1 * g1) + (b2 * g2 + b3 * g3)
                out[m + 2, f] += (c0 * g0 + c1 * g1) + (c2 * g2 + c3 * g3)
                out[m + 3, f] += (e0 * g0 + e1 * g1) + (e2 * g2 + e3 * g3)
        for k in range(whole, d):
            for f in range(d):
                out[m, f] += rows[m, k] * gram[k, f]
                out[m + 1, f] += rows[m + 1, k] * gram[k, f]
                out[m + 2, f] += rows[m + 2, k] * gram[k, f]
                out[m + 3, f] += rows[m + 3, k] * gram[k, f]
    for m in range(n - n % 4, n):
        for k in range(d):
            for f in range(d):
                out[m, f] += rows[m, k] * gram[k, f]


@njit(cache=True, nogil=True, fastmath=True)
def _gather(
    known: Floats,
    weights: Floats,
    diagonal: Floats,
    m: int,
    start: int,
    indices: npt.NDArray[np.int32],
    data: Floats,
    low: int,
    high: int,
    fixed: Floats,
) -> None:
    d = known.shape[1]
    for position in range(low, high):
        q = start + position - low
        item, weight = indices[position], data[position]
        weights[q] = weight
        for f in range(d):
            value = fixed[item, f]
            known[q, f] = value
            diagonal[m, f] += weight * value * value


@njit(cache=True, nogil=True, fastmath=True)
def _solve_block(
    rows: Floats,
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    data: Floats,
    fixed: Floats,
    gram: Floats,
    reg: Floats,
    members: npt.NDArray[np.int64],
    steps: int,
) -> None:
    n, d = len(members), rows.shape[1]
    starts = np.zeros(n + 1, np.int64)
    for m in range(n):
        starts[m + 1] = starts[m] + indptr[members[m] + 1] - indptr[members[m]]
    known = np.empty((starts[n], d), np.float32)
    weights = np.empty(starts[n], np.float32)
    x = np.empty((n, d), np.float32)
    diagonal = np.empty((n, d), np.float32)
    for m in range(n):
        row = members[m]
        for f in range(d):
            x[m, f] = rows[row, f]
            diagonal[m, f] = gram[f, f] + reg[row]
        _gather(known, weights, diagonal, m, starts[m], indices, data, indptr[row], indptr[row + 1], fixed)
    # residual = b - A x, as -(A x - b): the observed part of A x - b is sum w (y.x - 1) y.
    residual = np.empty((n, d), np.float32)
    _multiply(x, gram, residual)
    direction = np.empty((n, d), np.float32)
    rho = np.zeros(n, np.float32)
    for m in range(n):
        if starts[m + 1] == starts[m]:  # nothing known: the solution is zero
            x[m] = 0
            direction[m] = 0
            continue
        _add_products(residual, known, weights, starts[m], starts[m + 1], x, m, np.float32(-1))
        regularization = reg[members[m]]
        for f in range(d):
            residual[m, f] = -residual[m, f] - regularization * x[m, f]
            diagonal[m, f] = np.float32(1) / diagonal[m, f]
            direction[m, f] = residual[m, f] * diagonal[m, f]
            rho[m] += residual[m, f] * direction[m, f]
    product = np.empty((n, d), np.float32)
    for step in range(steps):
        _multiply(direction, gram, product)
        for m in range(n):
            if not rho[m] > CONVERGED:
                continue
            regularization = reg[members[m]]
            for f in range(d):
                product[m, f] += regularization * direction[m, f]
            _add_products(product, known, weights, starts[m], starts[m + 1], direction, m, np.float32(0))
            curvature = np.float32(0)
            for f in range(d):
                curvature += direction[m, f] * product[m, f]
            length = rho[m] / curvature
            for f in range(d):
                x[m, f] += length * direction[m, f]
            if step + 1 == steps:
                continue
            new_rho = np.float32(0)
            for f in range(d):
                residual[m, f] -= length * product[m, f]
                new_rho += residual[m, f] * residual[m, f] * diagonal[m, f]
            momentum = new_rho / rho[m]
            for f in range(d):
                direction[m, f] = residual[m, f] * diagonal[m, f] + momentum * direction[m, f]
            rho[m] = new_rho
    for m in range(n):
        for f in range(d):
            rows[members[m], f] = x[m, f]


_solve = njit(cache=True, nogil=True)(_solve_blocks)
_solve_parallel = njit(cache=True, nogil=True, parallel=True)(_solve_blocks)
