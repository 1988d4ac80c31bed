"""SHAP values of a few rows side by side: the rows are the lanes of a vector."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sentinel.models.shap_layout import (
    AT_NODES,
    COLUMN,
    DIFFERENCE,
    FACTORS,
    FEATURE,
    FIRST,
    HANGS_ON,
    LANES,
    LEAF_SLOTS,
    LEFT,
    MAX_PLANES,
    MAX_SLOTS,
    MEAN,
    N_FEATURES,
    N_INNER,
    N_LEAF_SLOTS,
    N_NODES,
    N_TREES,
    NODE_INTS,
    NODE_REALS,
    POINTS,
    RIGHT,
    RULE,
    SHARE,
    THRESHOLD,
    TREE_INTS,
    TREES,
)
from sentinel.models.shap_one import special_left
from sentinel.models.simd import aligned, at_most, fill, load, njit, store
from sentinel.models.tree_kernel import widen

_U = np.uintp


def _pass_over_tree(rows: int, fixed_points: int) -> Callable[..., None]:
    """The kernel for one tree; a number of points that is known beforehand makes it faster."""

    @njit
    def explain_tree(
        tree: int,
        ints: NDArray[np.int32],
        thresholds: NDArray[np.float32],
        reals: NDArray[np.float64],
        wide: NDArray[np.float32],
        follows: NDArray[np.float64],
        centred: NDArray[np.float64],
        above: NDArray[np.float64],
        below: NDArray[np.float64],
        phi: NDArray[np.float64],
    ) -> None:
        # above and below are by node, quadrature point and row; behind the latter come leaves.
        first, n_nodes, n_inner = ints[tree + FIRST], ints[tree + N_NODES], ints[tree + N_INNER]
        points = fixed_points or ints[tree + POINTS]
        lanes, n_columns = ints[tree + LANES], 2 * ints[N_FEATURES]
        plane = points * rows
        leaves = n_nodes * (plane - rows)
        for k in range(ints[tree + N_LEAF_SLOTS]):
            value = fill(reals[_U(ints[tree + LEAF_SLOTS] + k)], rows)
            store(below, _U(leaves + (n_nodes + k) * rows), value)
        for q in range(points):
            store(above, _U(q * rows), fill(reals[_U(ints[tree + RULE] + 2 * lanes + q)], rows))
        for k in range(n_nodes):
            node = _U(ints[AT_NODES] + (first + k) * NODE_INTS)
            real = _U((first + k) * NODE_REALS)
            column = ints[node + _U(COLUMN)]
            if column < n_columns:
                bound = thresholds[node + _U(THRESHOLD)]
                left = at_most(wide, _U(column * rows), bound, rows)
            else:
                at = k * rows
                for r in range(rows):
                    centred[at + r] = special_left(ints, thresholds, wide, node, rows, r)
                left = load(centred, _U(at), rows)
            # 1.0 as long as the row satisfies all earlier splits of the path on this feature.
            alive = load(follows, _U(ints[node + _U(HANGS_ON)] * rows), rows)
            taken = alive * left
            store(follows, _U((2 * k + 2) * rows), taken)
            store(follows, _U((2 * k + 3) * rows), alive - taken)
            share = fill(reals[real + _U(SHARE)], rows)
            c = alive * (left - share)
            factors = ints[node + _U(FACTORS)]
            here = k * plane
            if k < n_inner:
                store(centred, _U(k * rows), c)
                # All leaves share one place that is never read.
                to_left = min(ints[node + _U(LEFT)], n_nodes) * plane
                to_right = min(ints[node + _U(RIGHT)], n_nodes) * plane
                for q in range(points):
                    at = q * rows
                    g = load(above, _U(here + at), rows)
                    g_left = g * (share + c * reals[_U(factors + q)])
                    store(above, _U(to_left + at), g_left)
                    store(above, _U(to_right + at), g - g_left)
            else:
                p = c * reals[real + _U(DIFFERENCE)]
                mean = fill(reals[real + _U(MEAN)], rows)
                weight = fill(0.0, rows)
                for q in range(points):
                    at = here + q * rows
                    store(below, _U(at), mean + p * reals[_U(factors + q)])
                    weight = weight + load(above, _U(at), rows) * reals[_U(factors + lanes + q)]
                feature = _U(ints[node + _U(FEATURE)] * rows)
                store(phi, feature, load(phi, feature, rows) + weight * p)
        for k in range(n_inner - 1, -1, -1):
            node = _U(ints[AT_NODES] + (first + k) * NODE_INTS)
            share = fill(reals[_U((first + k) * NODE_REALS + SHARE)], rows)
            factors = ints[node + _U(FACTORS)]
            c = load(centred, _U(k * rows), rows)
            here = k * plane
            # A leaf has one value for all points.
            left, right = ints[node + _U(LEFT)], ints[node + _U(RIGHT)]
            left_step = rows if left < n_nodes else 0
            right_step = rows if right < n_nodes else 0
            from_left = left * plane if left < n_nodes else leaves + left * rows
            from_right = right * plane if right < n_nodes else leaves + right * rows
            gain = fill(0.0, rows)
            for q in range(points):
                b_right = load(below, _U(from_right + q * right_step), rows)
                d = load(below, _U(from_left + q * left_step), rows) - b_right
                factor = share + c * reals[_U(factors + q)]
                store(below, _U(here + q * rows), b_right + factor * d)
                g = load(above, _U(here + q * rows), rows) * reals[_U(factors + lanes + q)]
                gain = gain + g * d
            feature = _U(ints[node + _U(FEATURE)] * rows)
            store(phi, feature, load(phi, feature, rows) + gain * c)

    return explain_tree


def explain_rows(rows: int) -> Callable[..., None]:
    """The kernel for up to `rows` rows at once, a power of two.

    Each row goes through the same operations in the same order whatever their number.
    """
    tree_of_4, tree_of_5, tree_of_6 = (_pass_over_tree(rows, points) for points in (4, 5, 6))
    tree_of_any = _pass_over_tree(rows, 0)

    @njit
    def explain(
        X: NDArray[np.float32],
        ints: NDArray[np.int32],
        reals: NDArray[np.float64],
        out: NDArray[np.float64],
    ) -> None:
        """Explain up to `rows` rows; idle lanes repeat the last one."""
        n_rows, n_features = X.shape
        slots, planes = ints[MAX_SLOTS], ints[MAX_PLANES]
        row = np.empty(2 * n_features, np.float32)
        wide = np.empty(2 * n_features * rows, np.float32)
        for r in range(rows):
            widen(X[min(r, n_rows - 1)], row)
            for i in range(2 * n_features):
                wide[i * rows + r] = row[i]
        thresholds = ints.view(np.float32)
        follows, centred = aligned((2 * slots + 2) * rows), aligned(slots * rows)
        follows[:rows] = 1.0
        above, below = aligned(planes * rows), aligned((planes + slots) * rows)
        phi = aligned(n_features * rows)
        phi[:] = 0.0
        for i in range(ints[N_TREES]):
            tree = TREES + i * TREE_INTS
            points = ints[tree + POINTS]
            if points == 4:
                tree_of_4(tree, ints, thresholds, reals, wide, follows, centred, above, below, phi)
            elif points == 5:
                tree_of_5(tree, ints, thresholds, reals, wide, follows, centred, above, below, phi)
            elif points == 6:
                tree_of_6(tree, ints, thresholds, reals, wide, follows, centred, above, below, phi)
            else:
                tree_of_any(
                    tree, ints, thresholds, reals, wide, follows, centred, above, below, phi
                )
        for r in range(n_rows):
            for i in range(n_features):
                out[r, i] = phi[i * rows + r]

    return explain
