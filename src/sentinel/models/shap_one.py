"""SHAP values of one row: the quadrature points are the lanes of a vector."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sentinel.models.shap_layout import (
    AT_BITS,
    AT_NODES,
    AT_SPECIAL,
    COLUMN,
    DIFFERENCE,
    FACTORS,
    FEATURE,
    FIRST,
    HANGS_ON,
    LANES,
    LEAF_SLOTS,
    LEFT,
    MAX_POINTS,
    MAX_SLOTS,
    MEAN,
    N_FEATURES,
    N_INNER,
    N_LEAF_SLOTS,
    N_NODES,
    N_TREES,
    NODE_INTS,
    NODE_REALS,
    RIGHT,
    RULE,
    SHARE,
    THRESHOLD,
    TREE_INTS,
    TREES,
)
from sentinel.models.simd import (
    aligned,
    fill,
    load,
    njit,
    store,
    total,
)
from sentinel.models.tree_kernel import special_goes_left, widen

_U = np.uintp


@njit
def special_left(
    ints: NDArray[np.int32],
    thresholds: NDArray[np.float32],
    wide: NDArray[np.float32],
    node: np.uintp,
    stride: int,
    offset: int,
) -> np.float64:
    """Decide a split on a category set, or one where zero is missing, for one row of `wide`."""
    row = ints[AT_SPECIAL] + 3 * (ints[node + _U(COLUMN)] - 2 * ints[N_FEATURES])
    x = wide[ints[row] * stride + offset]
    bound = thresholds[node + _U(THRESHOLD)]
    left = special_goes_left(x, bound, ints[row + 1], ints[row + 2], ints, ints[AT_BITS])
    return np.float64(1.0) if left else np.float64(0.0)


def _one_row_pass(lanes: int) -> Callable[..., None]:
    """The kernel for trees that need up to `lanes` points, the points side by side."""

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
        first, n_nodes, n_inner = ints[tree + FIRST], ints[tree + N_NODES], ints[tree + N_INNER]
        leaves = ints[tree + LEAF_SLOTS]
        for k in range(ints[tree + N_LEAF_SLOTS]):
            store(below, _U((n_nodes + k) * lanes), fill(reals[_U(leaves + k)], lanes))
        store(above, _U(0), load(reals, _U(ints[tree + RULE] + 2 * lanes), lanes))
        for k in range(n_nodes):
            node = _U(ints[AT_NODES] + (first + k) * NODE_INTS)
            real = _U((first + k) * NODE_REALS)
            column = ints[node + _U(COLUMN)]
            if column < 2 * ints[N_FEATURES]:
                left = np.float64(wide[_U(column)] <= thresholds[node + _U(THRESHOLD)])
            else:
                left = special_left(ints, thresholds, wide, node, 1, 0)
            # 1.0 as long as the row satisfies all earlier splits of the path on this feature.
            alive = follows[_U(ints[node + _U(HANGS_ON)])]
            follows[_U(2 * k + 2)] = alive * left
            follows[_U(2 * k + 3)] = alive - alive * left
            share = reals[real + _U(SHARE)]
            c = alive * (left - share)
            factors = _U(ints[node + _U(FACTORS)])
            tau = load(reals, factors, lanes)
            g = load(above, _U(k * lanes), lanes)
            if k < n_inner:
                centred[_U(k)] = c
                g_left = g * (share + c * tau)
                store(above, _U(ints[node + _U(LEFT)] * lanes), g_left)
                store(above, _U(ints[node + _U(RIGHT)] * lanes), g - g_left)
            else:
                p = c * reals[real + _U(DIFFERENCE)]
                store(below, _U(k * lanes), reals[real + _U(MEAN)] + p * tau)
                weight = total(g * load(reals, factors + _U(lanes), lanes))
                phi[_U(ints[node + _U(FEATURE)])] += weight * p
        for k in range(n_inner - 1, -1, -1):
            node = _U(ints[AT_NODES] + (first + k) * NODE_INTS)
            share = reals[_U((first + k) * NODE_REALS + SHARE)]
            factors = _U(ints[node + _U(FACTORS)])
            c = centred[_U(k)]
            b_right = load(below, _U(ints[node + _U(RIGHT)] * lanes), lanes)
            d = load(below, _U(ints[node + _U(LEFT)] * lanes), lanes) - b_right
            factor = share + c * load(reals, factors, lanes)
            store(below, _U(k * lanes), b_right + factor * d)
            g = load(above, _U(k * lanes), lanes) * load(reals, factors + _U(lanes), lanes)
            phi[_U(ints[node + _U(FEATURE)])] += total(g * d) * c

    return explain_tree


_explain_tree_4 = _one_row_pass(4)
_explain_tree_8 = _one_row_pass(8)
_explain_tree_16 = _one_row_pass(16)


@njit
def explain_row(
    x: NDArray[np.float32],
    ints: NDArray[np.int32],
    reals: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Write the contributions to one row's raw score, before scaling, to `out`."""
    n_features, slots = ints[N_FEATURES], ints[MAX_SLOTS]
    wide = np.empty(2 * n_features, np.float32)
    widen(x, wide)
    thresholds = ints.view(np.float32)
    follows, centred = np.empty(2 * slots + 2), np.empty(slots)
    follows[0] = 1.0
    above, below = aligned(slots * MAX_POINTS), aligned(slots * MAX_POINTS)
    phi = out[:n_features]
    phi[:] = 0.0
    for i in range(ints[N_TREES]):
        tree = TREES + i * TREE_INTS
        lanes = ints[tree + LANES]
        if lanes == 4:
            _explain_tree_4(
                tree, ints, thresholds, reals, wide, follows, centred, above, below, phi
            )
        elif lanes == 8:
            _explain_tree_8(
                tree, ints, thresholds, reals, wide, follows, centred, above, below, phi
            )
        else:
            _explain_tree_16(
                tree, ints, thresholds, reals, wide, follows, centred, above, below, phi
            )
