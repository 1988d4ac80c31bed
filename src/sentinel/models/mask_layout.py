"""Lay small trees out so that their leaves are found by masks; docs/decisions/011 has the reasons.

The idea is that of QuickScorer (Lucchese et al., 2015): each leaf of a tree is a bit, the leftmost
the lowest. A split whose answer is "right" rules out the leaves on its left, and the lowest bit
that is left once all such splits have had their say is the leaf that a walk would have found.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentinel.models.ensemble import TreeEnsemble

MOST_LEAVES: Final = 64
"""Of a tree; one bit each. Larger trees are walked."""
SPLIT_WORDS: Final = 4
"""Of a split: the bits of its threshold, its tree, the lower and the upper half of its mask."""


class Masks(NamedTuple):
    """Trees as masks.

    Attributes:
        words: int32 words that a tree's leaves take: 1 or 2; 0: the trees are walked.
        columns: int32 (c,): columns that splits read, rising.
        starts: int32 (c + 1,): the first split of each column, and the end.
        splits: int32 (s * SPLIT_WORDS,): by column, then by threshold, both rising.
        first_leaves: int32 (n_trees,): where a tree's leaves begin in `values`.
        values: float64 (n_leaves,): the values of leaves, each tree's from left to right.
    """

    words: int
    columns: NDArray[np.int32]
    starts: NDArray[np.int32]
    splits: NDArray[np.int32]
    first_leaves: NDArray[np.int32]
    values: NDArray[np.float64]


def masks_of(
    ensemble: TreeEnsemble, columns: NDArray[np.int64], thresholds: NDArray[np.float32]
) -> Masks:
    """Lay the trees out; no masks where one of them has too many leaves.

    Args:
        ensemble: The trees.
        columns: int64 (n_nodes,): what each split reads.
        thresholds: float32 (n_nodes,): `x <= threshold` goes left.
    """
    most = int(np.diff(ensemble.leaf_offset).max(initial=0))
    if most > MOST_LEAVES:
        none = np.empty(0, dtype=np.int32)
        return Masks(0, none, none, none, none, np.empty(0))
    masks = np.zeros(len(columns), dtype=np.uint64)
    trees = np.zeros(len(columns), dtype=np.int32)
    values = np.empty(len(ensemble.leaf_value))
    for tree in range(ensemble.n_trees):
        node, leaf = int(ensemble.node_offset[tree]), int(ensemble.leaf_offset[tree])
        beyond = int(ensemble.node_offset[tree + 1])
        order, mask = _of_tree(
            ensemble.left[node:beyond].tolist(), ensemble.right[node:beyond].tolist()
        )
        masks[node:beyond] = mask
        trees[node:beyond] = tree
        values[leaf : leaf + len(order)] = ensemble.leaf_value[leaf + np.array(order)]
    by_column = np.lexsort((thresholds, columns))
    used, starts = np.unique(columns[by_column], return_index=True)
    splits = np.empty((len(columns), SPLIT_WORDS), dtype=np.int32)
    splits[:, 0] = thresholds[by_column].view(np.int32)
    splits[:, 1] = trees[by_column]
    splits[:, 2:] = masks[by_column].astype("<u8").view("<i4").reshape(-1, 2)
    return Masks(
        1 if most <= MOST_LEAVES // 2 else 2,
        used.astype(np.int32),
        np.append(starts, len(columns)).astype(np.int32),
        splits.ravel(),
        ensemble.leaf_offset[:-1].astype(np.int32),
        values,
    )


def _of_tree(left: list[int], right: list[int]) -> tuple[list[int], list[int]]:
    """The leaves of a tree from left to right, and the mask of each node.

    >>> _of_tree([1, -1], [-3, -2])  # leaves 0 and 1 are left of the root, leaf 2 is right of it
    ([0, 1, 2], [18446744073709551612, 18446744073709551614])
    """
    if not left:
        return [0], []
    leaves = [0] * len(left)
    for node in reversed(range(len(left))):  # a child comes after its parent
        leaves[node] = sum(
            leaves[child] if child >= 0 else 1 for child in (left[node], right[node])
        )
    order = [0] * leaves[0]
    masks = [0] * len(left)
    first = [0] * len(left)
    for node, begin in enumerate(first):  # written before it is read: parents come first
        middle = begin + (leaves[left[node]] if left[node] >= 0 else 1)
        masks[node] = ((1 << 64) - 1) ^ ((1 << middle) - (1 << begin))
        for child, at in ((left[node], begin), (right[node], middle)):
            if child >= 0:
                first[child] = at
            else:
                order[at] = ~child
    return order, masks
