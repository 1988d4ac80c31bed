"""Score sixteen rows at a time by the masks of small trees; docs/decisions/011 has the reasons.

The splits of a column come by rising threshold, so the first one that all sixteen rows answer with
"left" ends the column: those behind it rule out nothing. A split is one comparison, one selection
and one conjunction of sixteen lanes, and no row has a path of its own, so nothing is mispredicted
and few cache lines are read.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba.cpython.unsafe.numbers import trailing_zeros
from numpy.typing import NDArray

from sentinel.models.mask_layout import SPLIT_WORDS
from sentinel.models.simd import njit, rule_out
from sentinel.models.tree_layout import (
    FIRST_LEAVES,
    FLOAT32_SUMS,
    MASK_COLUMNS,
    MASK_STARTS,
    MASK_WORDS,
    N_MASK_COLUMNS,
    N_TREES,
    SPLITS,
    WALKS,
)

FEWEST_ROWS: Final = 4
"""So many rows are quicker together, though sixteen are computed, than walking alone."""


@njit
def has_masks(plan: NDArray[np.int32]) -> bool:
    """Whether the trees of a plan are laid out as masks, too."""
    return bool(plan[MASK_WORDS] > 0)


@njit
def _find_leaves(
    lanes: NDArray[np.float32], plan: NDArray[np.int32], left: NDArray[np.signedinteger]
) -> None:
    """Rule out the leaves on the left of splits that are answered with "right".

    Args:
        lanes: float32 (n_mask_columns * 16,): the columns that splits read, of sixteen rows each.
        plan: See `tree_layout`.
        left: int32 or int64 (n_trees * 16,), all ones; written: the leaves that are left.
    """
    bounds = plan.view(np.float32)
    for column in range(plan[N_MASK_COLUMNS]):
        lane = np.uintp(column * WALKS)
        split = np.uintp(plan[SPLITS] + plan[plan[MASK_STARTS] + column] * SPLIT_WORDS)
        end = np.uintp(plan[SPLITS] + plan[plan[MASK_STARTS] + column + 1] * SPLIT_WORDS)
        while split < end:
            low = np.uint64(np.uint32(plan[split + np.uintp(2)]))
            high = np.uint64(np.uint32(plan[split + np.uintp(3)]))
            tree = np.uintp(plan[split + np.uintp(1)]) * np.uintp(WALKS)
            mask = (high << np.uint64(32)) | low
            if rule_out(lanes, lane, bounds[split], left, tree, mask) == 0:
                break
            split += np.uintp(SPLIT_WORDS)


@njit
def _add_leaves(
    left: NDArray[np.signedinteger],
    values: NDArray[np.float64],
    plan: NDArray[np.int32],
    sums: NDArray[np.float64],
) -> None:
    """Add the values of the leaves, tree by tree: sums depend on the order, which is the file's."""
    for k in range(WALKS):
        sums[k] = 0.0
    for tree in range(plan[N_TREES]):
        first = np.uintp(plan[plan[FIRST_LEAVES] + tree])
        lane = np.uintp(tree * WALKS)
        if plan[FLOAT32_SUMS]:
            for k in range(WALKS):
                value = values[first + np.uintp(trailing_zeros(left[lane + np.uintp(k)]))]
                sums[k] = np.float64(np.float32(sums[k] + value))
        else:
            for k in range(WALKS):
                sums[k] += values[first + np.uintp(trailing_zeros(left[lane + np.uintp(k)]))]


@njit
def score_lanes(
    lanes: NDArray[np.float32],
    values: NDArray[np.float64],
    plan: NDArray[np.int32],
    sums: NDArray[np.float64],
) -> None:
    """Raw scores of sixteen rows.

    Args:
        lanes: float32 (n_mask_columns * 16,), see `to_lane`.
        values, plan: See `tree_layout.lay_out`.
        sums: float64 (16,), written.
    """
    if plan[MASK_WORDS] == 1:
        narrow = np.full(plan[N_TREES] * WALKS, -1, np.int32)
        _find_leaves(lanes, plan, narrow)
        _add_leaves(narrow, values, plan, sums)
    else:
        wide = np.full(plan[N_TREES] * WALKS, -1, np.int64)
        _find_leaves(lanes, plan, wide)
        _add_leaves(wide, values, plan, sums)


@njit
def to_lane(
    wide: NDArray[np.float32], plan: NDArray[np.int32], lanes: NDArray[np.float32], k: int
) -> None:
    """Put a widened row into lane `k`: only the columns that splits read."""
    for column in range(plan[N_MASK_COLUMNS]):
        lanes[np.uintp(column * WALKS + k)] = wide[np.uintp(plan[plan[MASK_COLUMNS] + column])]
