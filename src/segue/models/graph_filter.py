"""A linear graph filter: collaborative filtering with nothing to train but a few exponents.

With listeners x items R (n_i listeners of item i, n_u items of listener u), the score of item j for history r is

    s_j = n_j^-c  sum_u  n_u^-b R_uj  sum_i  n_i^-a R_ui r_i

two hops on the listener-item graph, from the history's items to the listeners who share them and on to what
those have: r times an item-item matrix that is never built. With a = c = 1/2 and b = 1 it is the linear filter
of Shen et al.: How Powerful is Graph Convolution for Recommendation?, CIKM 2021 (GF-CF). Freeing the exponents,
as LinkProp does (Fu et al.: Revisiting Neighborhood-based Link Prediction for Collaborative Filtering, WWW
2022), is worth more than GF-CF's second, ideal low-pass filter, which is therefore left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt
from numba import njit

from segue.contracts.errors import InvalidData, InvalidSettings
from segue.models.interactions import Interactions
from segue.models.item_knn import Neighbours, top_neighbours

Floats = npt.NDArray[np.float32]


class GraphFilterConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of the filter; the exponents follow the module's docstring."""

    history_exponent: float = 0.6
    """a: how little a popular item of the history says."""
    listener_exponent: float = 0.7
    """b: how little a listener of many items says."""
    target_exponent: float = 0.1
    """c: how much popularity of the scored item is taken back."""

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            if not -2 <= getattr(self, field) <= 2:
                name = f"graph_filter.{field}"
                raise InvalidSettings(f"{name} must be between -2 and 2", field=name, limit="-2 to 2")


@dataclass(frozen=True, slots=True)
class GraphFilter:
    """The graph itself, both ways, and one factor for each node.

    listeners: users x items; items: the same, transposed; history_factor, target_factor: float32[n_items];
    listener_factor: float32[n_users].
    """

    listeners: Interactions
    items: Interactions
    history_factor: Floats
    listener_factor: Floats
    target_factor: Floats

    @classmethod
    def fit(cls, interactions: Interactions, config: GraphFilterConfig) -> Self:
        """Count degrees. Raises InvalidData without any pair."""
        if interactions.nnz == 0:
            raise InvalidData("the graph filter needs at least one pair", field="interactions")
        n_listeners = np.maximum(interactions.item_counts(), 1)
        n_items = np.maximum(interactions.user_counts(), 1)
        return cls(
            interactions,
            interactions.transpose(),
            _power(n_listeners, -config.history_exponent),
            _power(n_items, -config.listener_exponent),
            _power(n_listeners, -config.target_exponent),
        )

    def scores(self, histories: Interactions) -> Floats:
        """float32[n, n_items]: every item for every listener, exactly, by two hops on the graph."""
        out = np.zeros((histories.n_users, self.listeners.n_items), np.float32)
        _two_hops(
            histories.indptr,
            histories.indices,
            histories.scaled(item_factor=self.history_factor).data,
            self.items.indptr,
            self.items.indices,
            self.items.data,
            self.listeners.indptr,
            self.listeners.indices,
            self.listeners.scaled(user_factor=self.listener_factor).data,
            out,
        )
        out *= self.target_factor
        return out

    def neighbours(self, k: int) -> Neighbours:
        """The `k` strongest items of each item's row of the filter, itself among them, for serving: what was played says
        most for itself.
        """
        half = np.sqrt(self.listener_factor)
        rows, columns = self.listeners.scaled(user_factor=half), self.items.scaled(item_factor=half)
        # `top_neighbours` divides by norms_i norms_j: the row's own norm, wrong here, changes no order and is undone.
        norms = np.float32(1) / self.target_factor
        ids, weights = top_neighbours(rows, columns, norms, np.float32(0), k, itself=True)
        return Neighbours(ids, weights * (self.history_factor / self.target_factor)[:, None])


def _power(counts: npt.NDArray[np.int64], exponent: float) -> Floats:
    return np.power(counts.astype(np.float64), exponent).astype(np.float32)


@njit(cache=True, nogil=True)
def _two_hops(
    history_indptr: npt.NDArray[np.int64],
    history_items: npt.NDArray[np.int32],
    history_weights: Floats,
    item_indptr: npt.NDArray[np.int64],
    item_listeners: npt.NDArray[np.int32],
    item_weights: Floats,
    listener_indptr: npt.NDArray[np.int64],
    listener_items: npt.NDArray[np.int32],
    listener_weights: Floats,
    out: Floats,
) -> None:
    n_listeners = len(listener_indptr) - 1
    reached = np.zeros(n_listeners, np.float32)
    touched = np.empty(n_listeners, np.int32)
    for row in range(len(history_indptr) - 1):
        count = 0
        for position in range(history_indptr[row], history_indptr[row + 1]):
            item, weight = history_items[position], history_weights[position]
            for link in range(item_indptr[item], item_indptr[item + 1]):
                listener = item_listeners[link]
                value = weight * item_weights[link]
                if value == 0:
                    continue
                if reached[listener] == 0:
                    touched[count] = listener
                    count += 1
                reached[listener] += value
        for n in range(count):
            listener = touched[n]
            amount = reached[listener]
            reached[listener] = 0
            for link in range(listener_indptr[listener], listener_indptr[listener + 1]):
                out[row, listener_items[link]] += amount * listener_weights[link]
