"""Lay tree ensembles out for the SHAP kernels; docs/decisions/010 has the derivation."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentinel.models.ensemble import TreeEnsemble
from sentinel.models.simd import aligned
from sentinel.models.tree_layout import floor_float32, split_columns

MAX_POINTS = 16
# Per node, int32: the bits of the float32 threshold, column, feature, which earlier decision the
# node hangs on, slots of its children, offset of its quadrature factors.
NODE_INTS = 7
THRESHOLD, COLUMN, FEATURE, HANGS_ON, LEFT, RIGHT, FACTORS = range(NODE_INTS)
# Per node, float64: cover share of the left child; for a split of two leaves, the difference of
# their values and their mean.
NODE_REALS = 4
SHARE, DIFFERENCE, MEAN = range(3)
# Per tree, int32.
TREE_INTS = 8
POINTS, LANES, FIRST, N_INNER, N_NODES, N_LEAF_SLOTS, LEAF_SLOTS, RULE = range(TREE_INTS)
# Head of the int32 block: sizes, then the offsets of the tables in it.
N_FEATURES, N_TREES, MAX_SLOTS, MAX_PLANES, AT_NODES, AT_SPECIAL, AT_BITS, TREES = range(8)


@dataclass(frozen=True, slots=True)
class ShapLayout:
    """What the SHAP kernels read: `ints` int32, `reals` float64, both one-dimensional.

    `reals` ends with the scale of the contributions and the expected value.
    """

    ints: NDArray[np.int32]
    reals: NDArray[np.float64]
    expected_value: float


class _Split(NamedTuple):
    """The nearest split on a feature along a path, seen from the side the path takes."""

    node: int
    goes_right: int
    share: float


def gauss_legendre(points: int, lanes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes and weights on [0, 1], exact for polynomials of degree `2 * points - 1`.

    Padded to `lanes` with points of no weight.
    """
    nodes, weights = np.polynomial.legendre.leggauss(points)
    padding = (0, lanes - points)
    return (
        np.pad((nodes + 1) / 2, padding, constant_values=0.5),
        np.pad(weights / 2, padding),
    )


def lay_out(ensemble: TreeEnsemble) -> ShapLayout:
    """Precompute, for every node, all that does not depend on the row."""
    columns, special, bits = split_columns(ensemble)
    layout = _Builder(ensemble, columns, floor_float32(ensemble.threshold).view(np.int32))
    for tree in range(ensemble.n_trees):
        layout.add(tree)
    heads, nodes = np.array(layout.heads, np.int32), np.array(layout.ints, np.int32)
    parts = [heads.ravel(), nodes.ravel(), special.ravel(), bits]
    offsets = TREES + np.cumsum([len(part) for part in parts[:-1]])
    facts = [ensemble.n_features, len(layout.heads), layout.max_slots, layout.max_planes]
    ints = np.concatenate([facts, offsets, *parts]).astype(np.int32)
    # A forest's response is the mean of its trees, so its contributions are scaled like it;
    # LightGBM leaves those of its own forests (boosting=rf) on the scale of the sum.
    scale = 1 / ensemble.n_trees if ensemble.objective == "probability" else 1.0
    expected_value = layout.expected_value * scale
    reals = aligned(len(layout.reals) + 2)
    reals[:] = [*layout.reals, scale, expected_value]
    return ShapLayout(ints, reals, expected_value)


class _Builder:
    """Collects nodes, their reals and their quadrature factors tree by tree."""

    def __init__(
        self, ensemble: TreeEnsemble, columns: NDArray[np.int64], thresholds: NDArray[np.int32]
    ) -> None:
        self._ensemble = ensemble
        self._columns = columns
        self._thresholds = thresholds
        self.heads: list[list[int]] = []
        self.ints: list[list[int]] = []
        # Reals of all nodes come first, in whole cache lines; factors and leaf values follow.
        self.reals = [0.0] * (-(-len(columns) * NODE_REALS // 8) * 8)
        self.expected_value = 0.0
        self.max_slots = 1
        self.max_planes = 1
        self._rules: dict[tuple[int, int], int] = {}

    def add(self, tree: int) -> None:
        e = self._ensemble
        nodes = slice(e.node_offset[tree], e.node_offset[tree + 1])
        leaves = slice(e.leaf_offset[tree], e.leaf_offset[tree + 1])
        first = int(nodes.start)
        left, right = e.left[nodes].tolist(), e.right[nodes].tolist()
        values, leaf_cover = e.leaf_value[leaves].tolist(), e.leaf_cover[leaves].tolist()
        if not left:
            self.expected_value += values[0]
            return
        node_cover = e.node_cover[nodes].tolist()
        self.expected_value += sum(
            cover / node_cover[0] * value for cover, value in zip(leaf_cover, values, strict=True)
        )

        def cover(child: int) -> float:
            return float(node_cover[child] if child >= 0 else leaf_cover[~child])

        # Breadth first, so that neighbours are independent and the processor overlaps them.
        order: list[int] = []
        above: dict[int, _Split | None] = {}
        shares: dict[int, float] = {}
        queue: deque[tuple[int, dict[int, _Split]]] = deque([(0, {})])
        most_unique = 0
        while queue:
            node, path = queue.popleft()
            feature = int(e.feature[first + node])
            split = path.get(feature)
            together = cover(left[node]) + cover(right[node])
            share = cover(left[node]) / together if together else 0.5
            order.append(node)
            above[node], shares[node] = split, share
            so_far = split.share if split else 1.0
            for side, child in enumerate((left[node], right[node])):
                below = path | {feature: _Split(node, side, so_far * abs(side - share))}
                if child >= 0:
                    queue.append((child, below))
                most_unique = max(most_unique, len(below))
        inner = [n for n in order if left[n] >= 0 or right[n] >= 0]
        order = [*inner, *(n for n in order if left[n] < 0 and right[n] < 0)]
        slot = {node: k for k, node in enumerate(order)}
        points = min((most_unique + 1) // 2, MAX_POINTS)
        lanes = next(n for n in (4, 8, 16) if n >= points)
        t, _ = gauss_legendre(points, lanes)
        rule = self._rule(points, lanes)
        base = len(self.ints)
        leaf_slots: list[float] = []
        for node in order:
            split, share = above[node], shares[node]
            factors = rule if split is None else self._factors(t, split.share)
            children = []
            for child in (left[node], right[node]):
                if child < 0 and slot[node] < len(inner):
                    leaf_slots.append(values[~child])
                children.append(
                    slot[child] if child >= 0 else len(order) + max(len(leaf_slots) - 1, 0)
                )
            index = first + node
            hangs_on = 2 * (slot[split.node] + 1) + split.goes_right if split else 0
            row = [0] * NODE_INTS
            row[THRESHOLD], row[COLUMN] = int(self._thresholds[index]), int(self._columns[index])
            row[FEATURE], row[HANGS_ON] = int(e.feature[index]), hangs_on
            row[LEFT], row[RIGHT] = children
            row[FACTORS] = factors
            self.ints.append(row)
            if slot[node] >= len(inner):
                a, b = values[~left[node]], values[~right[node]]
                place = (base + slot[node]) * NODE_REALS
                self.reals[place + DIFFERENCE], self.reals[place + MEAN] = (
                    a - b,
                    b + share * (a - b),
                )
            self.reals[(base + slot[node]) * NODE_REALS + SHARE] = share
        self.heads.append(
            [points, lanes, base, len(inner), len(order), len(leaf_slots), len(self.reals), rule]
        )
        self.reals += leaf_slots + [0.0] * (-len(leaf_slots) % 8)
        self.max_slots = max(self.max_slots, len(order) + len(leaf_slots) + 1)
        self.max_planes = max(self.max_planes, (len(order) + 1) * points)

    def _rule(self, points: int, lanes: int) -> int:
        """The offset of `t, 1, weights`: factors of a feature's first split, and the weights."""
        key = (points, lanes)
        if key not in self._rules:
            t, weights = gauss_legendre(points, lanes)
            self._rules[key] = len(self.reals)
            self.reals += [*t.tolist(), *[1.0] * lanes, *weights.tolist()]
            self.reals += [0.0] * (-len(self.reals) % 8)
        return self._rules[key]

    def _factors(self, t: NDArray[np.float64], share: float) -> int:
        """The offset of `t / f, share / f**2` with `f = share + t * (1 - share)`."""
        offset = len(self.reals)
        f = share + t * (1 - share)
        self.reals += [*(t / f).tolist(), *(share / f**2).tolist()]
        return offset
