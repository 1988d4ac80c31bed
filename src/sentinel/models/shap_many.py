"""SHAP values of many rows: the rows are the lanes of a vector."""

from __future__ import annotations

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
    POINTS,
    REPEATED,
    RIGHT,
    RULE,
    SHARE,
    THRESHOLD,
    TREE_INTS,
    TREES,
)
from sentinel.models.shap_one import special_left
from sentinel.models.simd import (
    aligned,
    at_most,
    fill,
    load,
    njit,
    store,
)
from sentinel.models.tree_kernel import widen

BLOCK_ROWS = _ROWS = 16
_U = np.uintp


@njit
def _explain_tree_rows(
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
    """Explain sixteen rows side by side, one quadrature point after the other."""
    first, n_nodes, n_inner = ints[tree + FIRST], ints[tree + N_NODES], ints[tree + N_INNER]
    leaves, lanes, n_features = ints[tree + LEAF_SLOTS], ints[tree + LANES], ints[N_FEATURES]
    for k in range(ints[tree + N_LEAF_SLOTS]):
        store(below, _U((n_nodes + k) * _ROWS), fill(reals[_U(leaves + k)], _ROWS))
    for k in range(n_nodes):
        node = _U(ints[AT_NODES] + (first + k) * NODE_INTS)
        real = _U((first + k) * NODE_REALS)
        column = ints[node + _U(COLUMN)]
        here = _U(k * _ROWS)
        if column < 2 * n_features:
            bound = thresholds[node + _U(THRESHOLD)]
            left = at_most(wide, _U(column * _ROWS), bound, _ROWS)
        else:
            for row in range(_ROWS):
                centred[here + _U(row)] = special_left(ints, thresholds, wide, node, _ROWS, row)
            left = load(centred, here, _ROWS)
        alive = load(follows, _U(ints[node + _U(HANGS_ON)] * _ROWS), _ROWS)
        store(follows, _U((2 * k + 2) * _ROWS), alive * left)
        store(follows, _U((2 * k + 3) * _ROWS), alive - alive * left)
        c = alive * (left - reals[real + _U(SHARE)])
        store(centred, here, c if k < n_inner else c * reals[real + _U(DIFFERENCE)])
    for q in range(ints[tree + POINTS]):
        store(above, _U(0), fill(reals[_U(ints[tree + RULE] + 2 * lanes + q)], _ROWS))
        plane = q * n_features
        for k in range(n_inner):
            node = _U(ints[AT_NODES] + (first + k) * NODE_INTS)
            share = reals[_U((first + k) * NODE_REALS + SHARE)]
            tau = reals[_U(ints[node + _U(FACTORS)] + q)]
            here = _U(k * _ROWS)
            g = load(above, here, _ROWS)
            g_left = g * (share + load(centred, here, _ROWS) * tau)
            # All leaves share one slot that is never read.
            left_slot = min(ints[node + _U(LEFT)], n_nodes)
            right_slot = min(ints[node + _U(RIGHT)], n_nodes)
            store(above, _U(left_slot * _ROWS), g_left)
            store(above, _U(right_slot * _ROWS), g - g_left)
        for k in range(n_inner, n_nodes):
            node = _U(ints[AT_NODES] + (first + k) * NODE_INTS)
            mean = reals[_U((first + k) * NODE_REALS + MEAN)]
            factors = _U(ints[node + _U(FACTORS)] + q)
            here = _U(k * _ROWS)
            p = load(centred, here, _ROWS)
            store(below, here, mean + reals[factors] * p)
            g = load(above, here, _ROWS)
            if ints[node + _U(REPEATED)]:
                g = g * reals[factors + _U(lanes)]
            at = _U((plane + ints[node + _U(FEATURE)]) * _ROWS)
            store(phi, at, load(phi, at, _ROWS) + g * p)
        for k in range(n_inner - 1, -1, -1):
            node = _U(ints[AT_NODES] + (first + k) * NODE_INTS)
            share = reals[_U((first + k) * NODE_REALS + SHARE)]
            factors = _U(ints[node + _U(FACTORS)] + q)
            here = _U(k * _ROWS)
            b_right = load(below, _U(ints[node + _U(RIGHT)] * _ROWS), _ROWS)
            d = load(below, _U(ints[node + _U(LEFT)] * _ROWS), _ROWS) - b_right
            p = load(centred, here, _ROWS) * d
            store(below, here, (b_right + share * d) + reals[factors] * p)
            g = load(above, here, _ROWS)
            if ints[node + _U(REPEATED)]:
                g = g * reals[factors + _U(lanes)]
            at = _U((plane + ints[node + _U(FEATURE)]) * _ROWS)
            store(phi, at, load(phi, at, _ROWS) + g * p)


@njit
def explain_block(
    X: NDArray[np.float32],
    ints: NDArray[np.int32],
    reals: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Explain up to sixteen rows; idle lanes repeat the last one."""
    n_rows, n_features = X.shape
    slots = ints[MAX_SLOTS]
    row = np.empty(2 * n_features, np.float32)
    wide = np.empty(2 * n_features * _ROWS, np.float32)
    for r in range(_ROWS):
        widen(X[min(r, n_rows - 1)], row)
        for i in range(2 * n_features):
            wide[i * _ROWS + r] = row[i]
    thresholds = ints.view(np.float32)
    follows, centred = aligned((2 * slots + 2) * _ROWS), aligned(slots * _ROWS)
    follows[:_ROWS] = 1.0
    above, below = aligned(slots * _ROWS), aligned(slots * _ROWS)
    phi = aligned(MAX_POINTS * n_features * _ROWS)
    phi[:] = 0.0
    for i in range(ints[N_TREES]):
        tree = TREES + i * TREE_INTS
        _explain_tree_rows(tree, ints, thresholds, reals, wide, follows, centred, above, below, phi)
    for r in range(n_rows):
        for i in range(n_features):
            total = 0.0
            for q in range(MAX_POINTS):
                total += phi[(q * n_features + i) * _ROWS + r]
            out[r, i] = total
