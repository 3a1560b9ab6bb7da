"""Item-item neighbour lists: classic item-kNN, and the kernels every list-shaped model shares.

Similarity (Sarwar, Karypis, Konstan, Riedl: Item-Based Collaborative Filtering Recommendation Algorithms, WWW
2001; shrinkage as in Bell and Koren, ICDM 2007): cosine with a constant in the denominator, so that two
tracks that share one listener are not neighbours for life:

    s_ij = sum_u x_ui x_uj / (|x_i| |x_j| + shrink)

Only the best `neighbours` of each item are kept: int32[n_items, K] and float32[n_items, K], best first, -1
and 0 at the end of short lists. A listener's score of j is the sum over the history of weight_i * s_ij, read
from i's list, so a request touches `len(history) * K` entries, of a long history fewer, and nothing else of the catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt
from numba import njit

from segue.contracts.errors import InvalidSettings
from segue.models.interactions import Interactions
from segue.models.order import best_first
from segue.models.sparse_sum import add, best, damp, empty_table, larger

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int32]

_NOTHING: Ids = np.empty(0, np.int32)
ADDITIONS = 10_000
"""A request adds up about so many neighbours at most: of a long history's lists only the heads, FEWEST of each or more."""
FEWEST = 50


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Lists of similar items: ids int32[n_items, K] (-1 = none), weights float32[n_items, K], best first."""

    ids: Ids
    weights: Floats

    @classmethod
    def from_arrays(cls, arrays: dict[str, npt.NDArray[np.generic]]) -> Self:
        """The lists saved as `arrays()`; memory-mapped arrays stay so."""
        return cls(arrays["ids"], arrays["weights"])  # type: ignore[arg-type]

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """All there is to save."""
        return {"ids": self.ids, "weights": self.weights}

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.ids)

    def score(self, items: Ids, weights: Floats, k: int) -> tuple[Ids, Floats]:
        """The `k` best items for a weighted set of items (int32[n], negative for unknown; float32[n]), which may come back.

        Returns (items int32[m], scores float32[m]), m <= k, best first, equal scores by item.
        """
        found: tuple[Ids, Floats] = score_lists(
            self.ids, self.weights, items, weights.astype(np.float64), _NOTHING, 1.0, k
        )
        return found

    def scores(self, histories: Interactions) -> Floats:
        """float32[n, n_items]: every item for every listener, zero where no list has it."""
        out = np.zeros((histories.n_users, self.n_items), np.float32)
        _accumulate_batch(self.ids, self.weights, histories.indptr, histories.indices, histories.data, out)
        return out


class ItemKNNConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of item-kNN."""

    neighbours: int = 100
    shrink: float = 10.0
    """Added to the denominator, in units of the squared weights of an item's listeners."""

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise InvalidSettings(
                "item_knn.neighbours must be at least 1", field="item_knn.neighbours", limit=">= 1"
            )
        if self.shrink < 0:
            raise InvalidSettings(
                "item_knn.shrink must not be negative", field="item_knn.shrink", limit=">= 0"
            )


def fit_item_knn(interactions: Interactions, config: ItemKNNConfig) -> Neighbours:
    """Neighbour lists by shrunk cosine."""
    columns = interactions.transpose()
    squares = np.add.reduceat(np.append(columns.data**2, np.float32(0)), columns.indptr[:-1])
    norms = np.sqrt(np.where(columns.user_counts() > 0, squares, 0)).astype(np.float32)
    ids, weights = top_neighbours(interactions, columns, norms, np.float32(config.shrink), config.neighbours)
    return Neighbours(ids, weights)


def top_neighbours(
    rows: Interactions,
    columns: Interactions,
    norms: Floats,
    shrink: np.float32,
    k: int,
    *,
    itself: bool = False,
) -> tuple[Ids, Floats]:
    """The `k` best j for each i by sum_u x_ui x_uj / (norms_i norms_j + shrink); j = i only if `itself`.

    rows: users x items; columns: the same, transposed; norms: float32[n_items].
    Cost: the sum over users of their squared history length; memory: the lists and one float per item.
    """
    ids, weights = _top_neighbours(
        rows.indptr,
        rows.indices,
        rows.data,
        columns.indptr,
        columns.indices,
        columns.data,
        norms,
        shrink,
        k,
        itself,
    )
    return ids, weights


@njit(cache=True, nogil=True)
def _top_neighbours(
    row_indptr: npt.NDArray[np.int64],
    row_indices: Ids,
    row_data: Floats,
    column_indptr: npt.NDArray[np.int64],
    column_indices: Ids,
    column_data: Floats,
    norms: Floats,
    shrink: np.float32,
    k: int,
    itself: bool,
) -> tuple[Ids, Floats]:
    n_items = len(norms)
    ids = np.full((n_items, k), -1, np.int32)
    weights = np.zeros((n_items, k), np.float32)
    sums = np.zeros(n_items, np.float32)
    touched = np.empty(n_items, np.int32)
    for item in range(n_items):
        count = 0
        for position in range(column_indptr[item], column_indptr[item + 1]):
            user, weight = column_indices[position], column_data[position]
            for other_position in range(row_indptr[user], row_indptr[user + 1]):
                other = row_indices[other_position]
                if sums[other] == 0:
                    touched[count] = other
                    count += 1
                sums[other] += weight * row_data[other_position]
        kept = touched[:count]
        similarity = np.empty(count, np.float32)
        for position in range(count):
            other = kept[position]
            similarity[position] = sums[other] / (norms[item] * norms[other] + shrink)
            sums[other] = 0
            if other == item and not itself:
                similarity[position] = -np.inf
        chosen = best_first(similarity, kept, k)
        for rank in range(len(chosen)):
            best = chosen[rank]
            if similarity[best] <= 0:
                break
            ids[item, rank] = kept[best]
            weights[item, rank] = similarity[best]
    return ids, weights


@njit(cache=True, nogil=True)
def score_lists(
    neighbours: Ids,
    weights: Floats,
    items: Ids,
    item_weights: npt.NDArray[np.float64],
    seen: Ids,
    seen_weight: float,
    k: int,
) -> tuple[Ids, Floats]:
    """Sum the neighbour lists of ``items``, each times its weight; items in ``seen`` get ``seen_weight`` of
    theirs.

    Returns the ``k`` best (ids int32[m], scores float32[m]). Cost is that of ADDITIONS, not of the catalogue.
    """
    length = min(neighbours.shape[1], max(FEWEST, ADDITIONS // max(len(items), 1)))
    keys, sums = empty_table(min(len(items) * length, 8192))
    known = 0
    for i in range(len(items)):
        source = items[i]
        if source < 0 or item_weights[i] <= 0.0:
            continue
        if 2 * (known + length) > len(keys):
            keys, sums = larger(keys, sums, 2 * (known + length))
        for place in range(length):
            target = neighbours[source, place]
            if target < 0:
                break
            known += add(keys, sums, target, item_weights[i] * weights[source, place])
    damp(keys, sums, seen, seen_weight)
    found: tuple[Ids, Floats] = best(keys, sums, k)
    return found


@njit(cache=True, nogil=True)
def _accumulate_batch(
    ids: Ids, weights: Floats, indptr: npt.NDArray[np.int64], indices: Ids, data: Floats, out: Floats
) -> None:
    for row in range(len(indptr) - 1):
        for n in range(indptr[row], indptr[row + 1]):
            item = indices[n]
            for position in range(ids.shape[1]):
                other = ids[item, position]
                if other < 0:
                    break
                out[row, other] += data[n] * weights[item, position]
