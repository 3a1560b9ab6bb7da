"""The one data type every collaborative model fits on: a sparse listeners x items matrix, by rows.

Kept apart from `scipy.sparse` so that its dtypes are a promise (int64 offsets, int32 columns, float32
weights): the Numba kernels are compiled once for them, and a memory-mapped file has them too. `to_scipy` is a
view of the same weights where SciPy's own algorithms are wanted.

`top_k` is the other half of offline work with dense scores: the best items of each row, some of them
excluded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from numba import njit

from segue.contracts.errors import InvalidData

if TYPE_CHECKING:
    import scipy.sparse as sp

INT32_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Interactions:
    """A sparse matrix of `n_users` rows and `n_items` columns; columns are ascending and unique in each row.

    indptr: int64[n_users + 1], indices: int32[nnz] item indexes, data: float32[nnz] weights (plays, likes,
    ones).
    """

    indptr: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int32]
    data: npt.NDArray[np.float32]
    n_items: int

    @classmethod
    def from_pairs(
        cls,
        users: npt.NDArray[np.integer],
        items: npt.NDArray[np.integer],
        weights: npt.NDArray[np.floating] | None = None,
        *,
        n_users: int,
        n_items: int,
    ) -> Interactions:
        """Build from parallel arrays of (user, item, weight); weights of a repeated pair are added up.

        Raises InvalidData for lengths that differ, an index outside its range or a weight that is not finite.
        """
        values = np.ones(len(users), np.float32) if weights is None else np.asarray(weights, np.float32)
        if not len(users) == len(items) == len(values):
            raise InvalidData(
                f"users, items, weights must be equally long, not {len(users)}, {len(items)}, {len(values)}",
                field="weights",
            )
        _check_range("users", users, n_users)
        _check_range("items", items, n_items)
        if not np.isfinite(values).all():
            raise InvalidData("weights hold a value that is not finite; drop or repair it", field="weights")
        order = np.lexsort((items, users))
        rows, columns, values = users[order], items[order], values[order]
        first = np.ones(len(rows), np.bool_)
        first[1:] = (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1])
        starts = np.flatnonzero(first)
        summed = np.add.reduceat(values, starts) if len(starts) else values
        return cls(
            _offsets(rows[starts], n_users),
            columns[starts].astype(np.int32),
            summed.astype(np.float32, copy=False),
            n_items,
        )

    @property
    def n_users(self) -> int:
        """Number of rows."""
        return len(self.indptr) - 1

    @property
    def nnz(self) -> int:
        """Number of stored (user, item) pairs."""
        return len(self.indices)

    def to_scipy(self) -> sp.csr_matrix:
        """The same matrix for SciPy (float32), which only offline work loads."""
        import scipy.sparse as sp

        return sp.csr_matrix((self.data, self.indices, self.indptr), shape=(self.n_users, self.n_items))

    def transpose(self) -> Interactions:
        """Items x users, rows again ascending: the half-step of the items, the listeners of an item."""
        indptr, indices, data = _transpose(self.indptr, self.indices, self.data, self.n_items)
        return Interactions(indptr, indices, data, self.n_users)

    def user_counts(self) -> npt.NDArray[np.int64]:
        """int64[n_users]: how many items each user has."""
        return np.diff(self.indptr)

    def item_counts(self) -> npt.NDArray[np.int64]:
        """int64[n_items]: how many users each item has."""
        return np.bincount(self.indices, minlength=self.n_items)

    def row(self, user: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """(items int32[n], weights float32[n]) of one user, as views."""
        start, stop = self.indptr[user], self.indptr[user + 1]
        return self.indices[start:stop], self.data[start:stop]

    def rows(self, start: int, stop: int) -> Interactions:
        """The users `start:stop` as their own matrix; items and weights are views."""
        low, high = self.indptr[start], self.indptr[min(stop, self.n_users)]
        indptr = self.indptr[start : stop + 1] - low
        return Interactions(indptr, self.indices[low:high], self.data[low:high], self.n_items)

    def select(self, users: npt.NDArray[np.integer]) -> Interactions:
        """The given users' rows, in the given order."""
        counts = self.indptr[users + 1] - self.indptr[users]
        indptr = np.zeros(len(users) + 1, np.int64)
        np.cumsum(counts, out=indptr[1:])
        source = np.repeat(self.indptr[users] - indptr[:-1], counts) + np.arange(indptr[-1])
        return Interactions(indptr, self.indices[source], self.data[source], self.n_items)

    def batches(self, size: int) -> Iterator[tuple[int, Interactions]]:
        """(first user, rows) of `size` users at a time: what bounds the memory of full-catalogue scoring."""
        for start in range(0, self.n_users, size):
            yield start, self.rows(start, start + size)

    def scaled(
        self,
        user_factor: npt.NDArray[np.floating] | None = None,
        item_factor: npt.NDArray[np.floating] | None = None,
    ) -> Interactions:
        """The matrix with each weight multiplied by its user's and its item's factor."""
        data = self.data.astype(np.float32, copy=True)
        if user_factor is not None:
            data *= np.repeat(user_factor.astype(np.float32), self.user_counts())
        if item_factor is not None:
            data *= item_factor.astype(np.float32)[self.indices]
        return Interactions(self.indptr, self.indices, data, self.n_items)

    def binary(self) -> Interactions:
        """The same pairs with weight one."""
        return Interactions(self.indptr, self.indices, np.ones(self.nnz, np.float32), self.n_items)


def _check_range(field: str, values: npt.NDArray[np.integer], size: int) -> None:
    if len(values) and (int(values.min()) < 0 or int(values.max()) >= size):
        raise InvalidData(
            f"{field} must be between 0 and {size - 1}, found {int(values.min())} to {int(values.max())}",
            field=field,
            limit=f"0 <= {field} < {size}",
        )
    if size > INT32_MAX:
        raise InvalidData(f"{field}: {size} indexes do not fit in 32 bits; shard the matrix", field=field)


def _offsets(sorted_rows: npt.NDArray[np.integer], n_rows: int) -> npt.NDArray[np.int64]:
    indptr = np.zeros(n_rows + 1, np.int64)
    np.cumsum(np.bincount(sorted_rows, minlength=n_rows), out=indptr[1:])
    return indptr


@njit(cache=True, nogil=True)
def _transpose(
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    data: npt.NDArray[np.float32],
    n_items: int,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    out_indptr = np.zeros(n_items + 1, np.int64)
    for item in indices:
        out_indptr[item + 1] += 1
    for item in range(n_items):
        out_indptr[item + 1] += out_indptr[item]
    cursor = out_indptr[:-1].copy()
    out_indices = np.empty(len(indices), np.int32)
    out_data = np.empty(len(indices), np.float32)
    for user in range(len(indptr) - 1):
        for position in range(indptr[user], indptr[user + 1]):
            item = indices[position]
            out_indices[cursor[item]] = user
            out_data[cursor[item]] = data[position]
            cursor[item] += 1
    return out_indptr, out_indices, out_data


def top_k(
    scores: npt.NDArray[np.float32], k: int, exclude: Interactions | None = None
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """The `k` best items of each row of dense `scores` (float32[n, n_items]), best first.

    `exclude` holds the items each row must not get (usually its history). Returns (items int32[n, k], scores
    float32[n, k]); rows with fewer than `k` items end in -1 and -inf. Equal scores go to the lower item
    index, NaN and -inf never rank.
    """
    n_rows = len(scores)
    if exclude is None:
        exclude = Interactions(
            np.zeros(n_rows + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32), scores.shape[1]
        )
    if exclude.n_users != n_rows:
        raise InvalidData(f"exclude has {exclude.n_users} rows for {n_rows} rows of scores", field="exclude")
    items, values = _top_k(scores, k, exclude.indptr, exclude.indices)
    return items, values


@njit(cache=True, nogil=True)
def _sift_down(heap_items: npt.NDArray[np.int32], heap_scores: npt.NDArray[np.float32], size: int) -> None:
    """Restore a heap whose root is the worst kept item (lowest score, then highest index)."""
    node = 0
    while True:
        child = 2 * node + 1
        if child >= size:
            return
        right = child + 1
        if right < size and (
            heap_scores[right] < heap_scores[child]
            or (heap_scores[right] == heap_scores[child] and heap_items[right] > heap_items[child])
        ):
            child = right
        if heap_scores[node] < heap_scores[child] or (
            heap_scores[node] == heap_scores[child] and heap_items[node] > heap_items[child]
        ):
            return
        heap_items[node], heap_items[child] = heap_items[child], heap_items[node]
        heap_scores[node], heap_scores[child] = heap_scores[child], heap_scores[node]
        node = child


@njit(cache=True, nogil=True)
def _sort_heap(heap_items: npt.NDArray[np.int32], heap_scores: npt.NDArray[np.float32]) -> None:
    for size in range(len(heap_items) - 1, 0, -1):
        heap_items[0], heap_items[size] = heap_items[size], heap_items[0]
        heap_scores[0], heap_scores[size] = heap_scores[size], heap_scores[0]
        _sift_down(heap_items, heap_scores, size)


@njit(cache=True, nogil=True)
def _top_k(
    scores: npt.NDArray[np.float32],
    k: int,
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    n_rows, n_items = scores.shape
    items = np.full((n_rows, k), -1, np.int32)
    values = np.full((n_rows, k), -np.inf, np.float32)
    if k == 0:
        return items, values
    for row in range(n_rows):
        # Empty slots hold index -1 at -inf: the heap's root until k real items are in, and never beaten by
        # -inf.
        skip = indptr[row]
        for item in range(n_items):
            if skip < indptr[row + 1] and indices[skip] == item:
                skip += 1
                continue
            if scores[row, item] > values[row, 0]:
                items[row, 0] = item
                values[row, 0] = scores[row, item]
                _sift_down(items[row], values[row], k)
        _sort_heap(items[row], values[row])
    return items, values
