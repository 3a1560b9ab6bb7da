"""Kernels of `trees`: rows become codes, 64 rows at a time walk down trees as bits of a word, and paths are credited.

None of them checks bounds: `TreeScorer` has checked every index once when it was made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES: Final = 64
_ALL: Final = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_ZERO: Final = np.float32(1e-35)  # LightGBM's kZeroThreshold: what counts as zero where zeros are missing
_FEW: Final = 64  # thresholds that are counted one by one

# How a column treats missing values. A missing value goes the same way at every node of a column.
NAN_IS_ZERO: Final = 0
NAN_LEFT: Final = 1
NAN_RIGHT: Final = 2
ZERO_LEFT: Final = 3  # zeros and NaN are missing
ZERO_RIGHT: Final = 4

Array = npt.NDArray[Any]


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any = None) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return data if offset is None else builder.gep(data, [offset])


def _splat(builder: Any, value: Any, lanes: ir.VectorType) -> Any:
    first = builder.insert_element(ir.Constant(lanes, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(lanes, ir.Undefined), zeros)


def _at_most_ir(typingctx: Any, codes: Any, offset: Any, cut: Any) -> tuple[Any, Callable[..., Any]]:
    """uint64 whose bit i says `codes[offset + i] <= cut`, for 64 codes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = ir.VectorType(ir.IntType(signature.args[0].dtype.bitwidth), LANES)
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1])
        values = builder.load(builder.bitcast(pointer, lanes.as_pointer()))
        values.align = 1
        mask = builder.icmp_unsigned("<=", values, _splat(builder, args[2], lanes))
        return builder.bitcast(mask, ir.IntType(64))

    return types.uint64(codes, types.intp, codes.dtype), codegen


_at_most: Any = intrinsic(_at_most_ir)


def _leaf_numbers_ir(
    typingctx: Any, reach: Any, first: Any, count: Any, out: Any
) -> tuple[Any, Callable[..., Any]]:
    """out[i] = the leaf in 0..count-1 whose word `reach[first + leaf]` has bit i, for 64 bits."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        number = ir.IntType(signature.args[3].dtype.bitwidth)
        lanes = ir.VectorType(number, LANES)
        words = _pointer(context, builder, signature.args[0], args[0], args[1])
        # LLVM keeps this variable in registers.
        found = cgutils.alloca_once_value(builder, ir.Constant(lanes, [0] * LANES))
        with cgutils.for_range(builder, args[2]) as loop:
            word = builder.load(builder.gep(words, [loop.index]))
            mask = builder.bitcast(word, ir.VectorType(ir.IntType(1), LANES))
            leaf = _splat(builder, builder.trunc(loop.index, number), lanes)
            builder.store(builder.select(mask, leaf, builder.load(found)), found)
        target = builder.bitcast(_pointer(context, builder, signature.args[3], args[3]), lanes.as_pointer())
        builder.store(builder.load(found), target).align = 1
        return context.get_dummy_value()

    return types.void(reach, types.intp, types.intp, out), codegen


_leaf_numbers: Any = intrinsic(_leaf_numbers_ir)


@njit(cache=True, nogil=True)
def encode(
    x: Array,
    feature: Array,
    missing: Array,
    start: Array,
    count: Array,
    thresholds: Array,
    codes: Array,
) -> Array:
    """codes[block, column * 64 + i] = number of the column's thresholds below row i of the block."""
    n = x.shape[0]
    value = np.zeros(LANES, np.float32)
    position = np.empty(LANES, np.uint32)
    for block in range(codes.shape[0]):
        first = block * LANES
        rows = min(LANES, n - first)
        for column in range(feature.size):
            f = feature[column]
            same = True
            for i in range(rows):
                v = x[first + i, f]
                value[i] = np.float32(0) if np.isnan(v) else v
                same &= value[i] == value[0]
            offset = column * LANES
            base = np.uint32(start[column])
            if same:  # as what is known of the listener is in every row
                below = np.searchsorted(thresholds[base : base + np.uint32(count[column])], value[0])
                for i in range(LANES):
                    codes[block, offset + i] = below
            elif count[column] <= _FEW:  # comparing with every threshold beats searching
                position[:] = np.uint32(0)
                for t in range(base, base + np.uint32(count[column])):
                    cut = thresholds[t]
                    for i in range(LANES):
                        position[i] += np.uint32(cut < value[i])
                for i in range(LANES):
                    codes[block, offset + i] = position[i]
            else:
                position[:] = base
                step = np.uint32(start[column + 1] - start[column]) >> np.uint32(1)
                while step > 0:
                    for i in range(LANES):  # 64 binary searches in step: LLVM turns them into gathers
                        below = thresholds[np.intp(position[i] + step - np.uint32(1))] < value[i]
                        position[i] += step if below else np.uint32(0)
                    step >>= np.uint32(1)
                for i in range(LANES):
                    codes[block, offset + i] = position[i] - base
            if missing[column] != NAN_IS_ZERO:
                zero_too = missing[column] >= ZERO_LEFT
                goes_left = missing[column] == NAN_LEFT or missing[column] == ZERO_LEFT
                for i in range(rows):
                    v = x[first + i, f]
                    if np.isnan(v) or (zero_too and abs(v) <= _ZERO):
                        codes[block, offset + i] = 0 if goes_left else count[column]
    return codes


@njit(cache=True, nogil=True)
def walk(
    codes: Array,
    node_column: Array,
    node_cut: Array,
    node_left: Array,
    node_right: Array,
    tree_nodes: Array,
    tree_leaves: Array,
    leaf_value: Array,
    model_trees: Array,
    leaf_slot: int,
    leaf: Array,
    out: Array,
) -> None:
    """Adds every tree of every model into out[model, row]; `leaf` is scratch for 64 leaf numbers."""
    n = out.shape[1]
    reach = np.zeros(2 * leaf_slot + 1, np.uint64)
    total = np.empty(LANES, np.float64)
    for block in range(codes.shape[0]):
        block_codes = codes[block]
        for model in range(out.shape[0]):
            total[:] = 0.0
            for tree in range(model_trees[model], model_trees[model + 1]):
                first, last = tree_nodes[tree], tree_nodes[tree + 1]
                reach[0] = (
                    _ALL  # a tree without nodes has leaf_slot's word or, if all trees are such, this one
                )
                if first == last:
                    reach[leaf_slot] = _ALL
                for node in range(first, last):
                    here = reach[node - first]
                    left = _at_most(block_codes, np.intp(node_column[node]) * LANES, node_cut[node])
                    reach[node_left[node]] = here & left
                    reach[node_right[node]] = here & ~left
                _leaf_numbers(reach, leaf_slot, last - first + 1, leaf)
                leaf_base = tree_leaves[tree]
                for i in range(LANES):
                    total[i] += leaf_value[leaf_base + leaf[i]]
            rows = min(LANES, n - block * LANES)
            for i in range(rows):
                out[model, block * LANES + i] = total[i]


@njit(cache=True, nogil=True)
def credit_paths(
    x: Array,
    column_feature: Array,
    column_missing: Array,
    column_start: Array,
    thresholds: Array,
    node_column: Array,
    node_cut: Array,
    node_left: Array,
    node_right: Array,
    node_value: Array,
    tree_nodes: Array,
    tree_leaves: Array,
    leaf_value: Array,
    first_tree: int,
    last_tree: int,
    leaf_slot: int,
    out: Array,
) -> None:
    """Adds to out[row, feature] every step of the row's paths, and to the last column the values of the roots."""
    bias = out.shape[1] - 1
    for row in range(x.shape[0]):
        for tree in range(first_tree, last_tree):
            first, leaf = tree_nodes[tree], tree_leaves[tree]
            if first == tree_nodes[tree + 1]:
                out[row, bias] += leaf_value[leaf]
                continue
            slot = np.intp(0)
            out[row, bias] += node_value[first]
            while slot < leaf_slot:
                node = first + slot
                column = np.intp(node_column[node])
                feature = column_feature[column]
                threshold = thresholds[column_start[column] + np.intp(node_cut[node])]
                left = _goes_left(x[row, feature], threshold, column_missing[column])
                slot = np.intp(node_left[node] if left else node_right[node])
                at_leaf = slot >= leaf_slot
                reached = leaf_value[leaf + slot - leaf_slot] if at_leaf else node_value[first + slot]
                out[row, feature] += reached - node_value[node]


@njit(cache=True, nogil=True)
def _goes_left(value: np.float32, threshold: np.float32, missing: int) -> bool:
    """One row at one node, by the column's treatment of what is missing."""
    absent = np.isnan(value) or (missing >= ZERO_LEFT and abs(value) <= _ZERO)
    if absent and missing != NAN_IS_ZERO:
        return bool(missing in (NAN_LEFT, ZERO_LEFT))
    return bool((np.float32(0) if np.isnan(value) else value) <= threshold)
