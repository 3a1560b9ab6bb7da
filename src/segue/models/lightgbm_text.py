"""Reading LightGBM's text models, without LightGBM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from segue.contracts.errors import InvalidData
from segue.models.tree_kernels import NAN_IS_ZERO, NAN_LEFT, NAN_RIGHT, ZERO_LEFT, ZERO_RIGHT

_MAX_LEAVES: Final = 32_768


@dataclass(frozen=True)
class Tree:
    """One tree, as LightGBM numbers its nodes and leaves."""

    feature: npt.NDArray[np.int32]
    threshold: npt.NDArray[np.float32]
    missing: npt.NDArray[np.uint8]
    left: npt.NDArray[np.int64]  # >= 0 a node, else ~leaf
    right: npt.NDArray[np.int64]
    leaf_value: npt.NDArray[np.float64]
    node_value: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Model:
    """The trees of one model, in the order they are summed."""

    n_features: int
    trees: list[Tree]


def parse(text: str) -> Model:
    """The trees in `booster.model_to_string()`. Raises InvalidData for what trees here do not do, and for text that is none."""
    header, *bodies = text.split("\nTree=")
    head = _key_values(header)
    if not text.startswith("tree") or "max_feature_idx" not in head or "\nend of trees" not in text:
        raise InvalidData(
            "not a whole LightGBM text model; write one with booster.model_to_string()",
            field="model",
        )
    if head.get("num_tree_per_iteration") != "1":
        raise InvalidData(
            f"model has {head.get('num_tree_per_iteration')} trees per iteration; train one model per objective",
            field="num_tree_per_iteration",
            limit="1",
        )
    if "\naverage_output\n" in header:
        raise InvalidData(
            "random forest models are not scored; train with boosting=gbdt, dart or goss", field="boosting"
        )
    n_features = int(head["max_feature_idx"]) + 1
    return Model(n_features, [_parse_tree(_key_values(body), i, n_features) for i, body in enumerate(bodies)])


def _key_values(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.split("\nend of trees", 1)[0].splitlines())
    return {key: value for key, equals, value in pairs if equals}


def _parse_tree(body: Mapping[str, str], index: int, n_features: int) -> Tree:
    if body.get("num_cat", "0") != "0":
        raise InvalidData(
            f"tree {index} splits on categories; encode categorical features as numbers before training",
            field="num_cat",
            limit="0",
        )
    if body.get("is_linear", "0") != "0":
        raise InvalidData(
            f"tree {index} has linear leaves; train with linear_tree=false",
            field="is_linear",
            limit="0",
        )
    try:
        n_leaves = int(body["num_leaves"])
        nodes = n_leaves - 1
        numbers = {k: np.array(body[k].split(), np.float64) if nodes else np.empty(0) for k in _NODE_FIELDS}
        leaf_value = np.array(body["leaf_value"].split(), np.float64)
        leaf_count = np.array(body["leaf_count"].split(), np.float64) if nodes else np.ones(1)
    except (KeyError, ValueError) as error:
        raise InvalidData(
            f"tree {index} of the LightGBM text cannot be read: {error!r}",
            field="model",
        ) from error
    if n_leaves > _MAX_LEAVES:
        raise InvalidData(
            f"tree {index} has {n_leaves} leaves",
            field="num_leaves",
            limit=f"<= {_MAX_LEAVES}",
        )
    left, right = (numbers[k].astype(np.int64) for k in ("left_child", "right_child"))
    feature = numbers["split_feature"].astype(np.int32)
    children = np.sort(np.concatenate([left, right]))
    whole = (
        n_leaves >= 1
        and len(leaf_value) == len(leaf_count) == n_leaves
        and all(len(v) == nodes for v in numbers.values())
        # Every node but the root, and every leaf, is somebody's child once; parents come before children.
        and np.array_equal(
            children,
            np.concatenate([np.arange(-n_leaves, 0), np.arange(1, nodes)]) if nodes else [],
        )
        and bool(
            np.all((left < 0) | (left > np.arange(nodes)))
            and np.all((right < 0) | (right > np.arange(nodes)))
        )
        and bool(np.all((feature >= 0) & (feature < n_features)))
        and bool(np.all(~np.isnan(numbers["threshold"])))
    )
    if not whole:
        raise InvalidData(
            f"tree {index} of the LightGBM text is not a tree; the file is damaged",
            field="model",
        )
    missing = _missing_treatment(numbers["decision_type"].astype(np.int64))
    return Tree(
        feature,
        _float32_at_most(numbers["threshold"]),
        missing,
        left,
        right,
        leaf_value,
        _node_means(left, right, leaf_value, leaf_count),
    )


def _node_means(
    left: npt.NDArray[np.int64],
    right: npt.NDArray[np.int64],
    leaf_value: npt.NDArray[np.float64],
    leaf_count: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Mean of the leaves below each node, weighted by their training rows. Children come after their parents."""
    total, count = np.zeros(len(left)), np.zeros(len(left))
    for node in range(len(left) - 1, -1, -1):
        for child in (int(left[node]), int(right[node])):
            if child >= 0:
                total[node] += total[child]
                count[node] += count[child]
            else:
                total[node] += leaf_value[~child] * leaf_count[~child]
                count[node] += leaf_count[~child]
    return total / np.maximum(count, 1.0)


_NODE_FIELDS: Final = (
    "split_feature",
    "threshold",
    "decision_type",
    "left_child",
    "right_child",
)


def _missing_treatment(decision_type: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """LightGBM packs: bit 0 categorical, bit 1 missing goes left, bits 2-3 what is missing (none, zero, NaN)."""
    goes_left = (decision_type & 2) != 0
    kind = (decision_type >> 2) & 3
    treatment = np.where(
        kind == 2,
        np.where(goes_left, NAN_LEFT, NAN_RIGHT),
        np.where(kind == 1, np.where(goes_left, ZERO_LEFT, ZERO_RIGHT), NAN_IS_ZERO),
    )
    return treatment.astype(np.uint8)


def _float32_at_most(threshold: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The largest float32 <= threshold: for a float32 x, `x <= threshold` and `x <= this` are the same."""
    with np.errstate(over="ignore"):
        rounded = threshold.astype(np.float32)
    return np.where(rounded > threshold, np.nextafter(rounded, np.float32(-np.inf)), rounded)
