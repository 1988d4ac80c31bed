"""Lay tree ensembles out for the scoring kernel; docs/decisions/010 has the reasons."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sentinel.models.ensemble import (
    CATEGORICAL,
    DEFAULT_LEFT,
    MISSING_MASK,
    MISSING_NAN,
    MISSING_ZERO,
    ModelFormatError,
    TreeEnsemble,
)
from sentinel.models.mask_layout import masks_of

# How many walks the scoring kernel advances together.
WALKS = 16
# The response functions, by their code in the plan.
LINK_CODES = ("identity", "sigmoid", "exp", "softplus", "signed_square")
# The int32 plan: this header, then what the offsets in it point to.
N_FEATURES, SHIFT, N_TREES, N_GROUPS, N_SPECIAL, LINK, AVERAGE, FLOAT32_SUMS = range(8)
MASK_WORDS, N_MASK_COLUMNS = 8, 9
ROOTS, DEPTHS, ORDER, GROUP_DEPTHS, SPECIAL, BOUNDS, BITS = range(10, 17)
MASK_COLUMNS, MASK_STARTS, SPLITS, FIRST_LEAVES, HEADER = range(17, 22)


def floor_float32(threshold: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 not above each threshold: the same split for every float32 input.

    >>> float(floor_float32(np.array([0.1]))[0]) <= 0.1 < float(np.float32(0.1))
    True
    """
    with np.errstate(over="ignore"):
        rounded = threshold.astype(np.float32)
    above = rounded > threshold
    rounded[above] = np.nextafter(rounded[above], np.float32(-np.inf))
    return rounded


def split_columns(
    ensemble: TreeEnsemble,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """Where each split reads its value, with its missing-value rule folded in.

    The kernels widen a row to twice its columns: as it is, where NaN fails every `x <= threshold`
    and goes right, then with NaN replaced by -inf, which goes left. Only splits on category sets,
    and splits where zero counts as missing but does not go where zero would, need code of their
    own: their column is `2 * n_features +` their index among those special splits.

    Returns:
        The column of each node; the special splits (n_special, 3) as (feature, first word of the
        category bitset or -1, number of words or whether missing goes left); the bitsets.
    """
    missing = ensemble.decision & MISSING_MASK
    default_left = (ensemble.decision & DEFAULT_LEFT) > 0
    categorical = (ensemble.decision & CATEGORICAL) > 0
    zero_left = ensemble.threshold >= 0
    zero_jumps = (missing == MISSING_ZERO) & (default_left != zero_left)
    nan_left = np.where(missing == MISSING_NAN, default_left, zero_left)
    columns = ensemble.feature.astype(np.int64) + np.where(nan_left, ensemble.n_features, 0)
    special = np.flatnonzero(categorical | zero_jumps)
    columns[special] = 2 * ensemble.n_features + np.arange(len(special))
    table = np.zeros((len(special), 3), np.int32)
    table[:, 0] = ensemble.feature[special]
    table[:, 1] = -1
    table[:, 2] = default_left[special]
    is_set = categorical[special]
    sets = ensemble.category_set[special][is_set]
    table[is_set, 1] = ensemble.category_offset[sets]
    table[is_set, 2] = np.diff(ensemble.category_offset)[sets]
    return columns, table, ensemble.category_bits.view(np.int32)


def lay_out(
    ensemble: TreeEnsemble,
) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.int32]]:
    """Lay the trees out for `tree_kernel`.

    Returns:
        nodes: int32 (2 * n_slots): per slot the bits of a float32 threshold, then the column and
            the distance to the left child; the right child follows the left one. A leaf is its
            own child and always goes left.
        values: float64: leaf values (n_slots), then those that masks find, then the slope of the
            response.
        plan: int32, the header and what it points to.
    """
    columns, special, bits = split_columns(ensemble)
    # Special splits of one feature side by side: the kernel makes its category once for all.
    first_special = 2 * ensemble.n_features
    by_feature = np.argsort(special[:, 0], kind="stable")
    is_special = columns >= first_special
    columns[is_special] = first_special + np.argsort(by_feature)
    special = special[by_feature]
    thresholds = floor_float32(ensemble.threshold)
    roots = (ensemble.node_offset[:-1] + ensemble.leaf_offset[:-1]).astype(np.int32)
    n_slots = len(columns) + len(ensemble.leaf_value)
    slot_threshold = np.full(n_slots, np.inf, np.float32)
    # A leaf reads a column that is never NaN, so that it always goes left: to itself.
    slot_column = np.full(n_slots, ensemble.n_features, np.int64)
    slot_child = np.zeros(n_slots, np.int64)
    values = np.zeros(n_slots)
    depths = np.zeros(ensemble.n_trees, np.int32)
    for tree, root in enumerate(roots.tolist()):
        first, first_leaf = int(ensemble.node_offset[tree]), int(ensemble.leaf_offset[tree])
        left = ensemble.left[first : ensemble.node_offset[tree + 1]].tolist()
        right = ensemble.right[first : ensemble.node_offset[tree + 1]].tolist()
        queue = [(0 if left else -1, 0)]
        slot = 0
        while slot < len(queue):  # breadth first: the top of a tree shares cache lines
            node, depth = queue[slot]
            if node >= 0:
                slot_threshold[root + slot] = thresholds[first + node]
                slot_column[root + slot] = columns[first + node]
                slot_child[root + slot] = len(queue) - slot
                queue += [(left[node], depth + 1), (right[node], depth + 1)]
            else:
                values[root + slot] = ensemble.leaf_value[first_leaf + ~node]
            slot += 1
        depths[tree] = queue[-1][1]
    n_columns = 2 * ensemble.n_features + len(special)
    shift = 32 - n_columns.bit_length()
    if slot_child.max(initial=0) >= 1 << max(shift, 0):
        raise ModelFormatError(
            f"A tree of this model is too large to serve with {n_columns} columns: limit its "
            "depth or its number of leaves."
        )
    nodes = np.empty((n_slots, 2), np.uint32)
    nodes[:, 0] = slot_threshold.view(np.uint32)
    nodes[:, 1] = (slot_column << shift) | slot_child
    kind, slope = ensemble.link
    order = np.argsort(depths, kind="stable").astype(np.int32)
    order = np.pad(order, (0, -len(order) % WALKS), mode="edge")
    parts = [roots, depths, order, depths[order].reshape(-1, WALKS).max(axis=1)]
    bounds = thresholds[is_special][by_feature]
    parts += [special.ravel(), bounds.view(np.int32), bits]
    masks = masks_of(ensemble, columns, thresholds)
    parts += [masks.columns, masks.starts, masks.splits, masks.first_leaves + n_slots]
    values = np.concatenate([values, masks.values, [slope]])
    # A special split reads a column of its own that says -inf for left and +inf for right.
    offsets = HEADER + np.cumsum([0] + [len(part) for part in parts[:-1]])
    facts = [ensemble.n_features, shift, ensemble.n_trees, len(parts[3]), len(special)]
    facts += [LINK_CODES.index(kind), int(ensemble.average_output), int(ensemble.float32_sums)]
    facts += [masks.words, len(masks.columns)]
    plan = np.concatenate([facts, offsets, *parts]).astype(np.int32)
    return nodes.reshape(-1).view(np.int32), values, plan
