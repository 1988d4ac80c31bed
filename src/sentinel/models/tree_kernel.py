"""Score tree ensembles, bit for bit as the library that trained them.

The reasons for this layout and its measurements are in docs/decisions/010-tree-and-shap-kernels.md.
In short: a row is float32, so `x <= threshold` is decided by the largest float32 not above the
threshold, and a node fits in eight bytes. Sixteen walks advance together, so that the loads of one
hide the latency of the others, and no step branches: a walk that has arrived stays on its leaf.
Groups of rows find their leaves in small trees by masks instead (`mask_kernel`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba.np.unsafe.ndarray import to_fixed_tuple
from numpy.typing import NDArray

from sentinel.models.ensemble import ZERO_THRESHOLD, TreeEnsemble
from sentinel.models.mask_kernel import FEWEST_ROWS, has_masks, score_lanes, to_lane
from sentinel.models.simd import njit
from sentinel.models.tree_layout import (
    AVERAGE,
    BITS,
    BOUNDS,
    DEPTHS,
    FLOAT32_SUMS,
    GROUP_DEPTHS,
    LINK,
    N_GROUPS,
    N_MASK_COLUMNS,
    N_SPECIAL,
    N_TREES,
    ORDER,
    ROOTS,
    SHIFT,
    SPECIAL,
    WALKS,
    lay_out,
)

_ZERO32 = np.float32(ZERO_THRESHOLD)

_Sixteen = tuple[np.uintp, ...]
_SAME_ROW = (np.uintp(0),) * WALKS


@njit
def special_goes_left(
    x: float, threshold: float, start: int, extent: int, words: NDArray[np.int32], first: int
) -> bool:
    """Decide a special split: `start`, `extent` are its row of the table `split_columns` returns.

    The bitsets begin at `words[first]`; no slice, for a view costs a reference count.
    """
    if start >= 0:
        # A category is the integer part; NaN, negative and unseen ones go right.
        if not (x > np.float32(-1.0) and x < np.float32(2147483648.0)):
            return False
        category = np.int64(x)
        word = category >> 5
        return bool(word < extent and (words[first + start + word] >> (category & 31)) & 1)
    if math.isnan(x) or abs(x) <= _ZERO32:
        return extent == 1
    return x <= threshold


@njit
def widen(x: NDArray[np.float32], wide: NDArray[np.float32]) -> None:
    """Write a row as it is, then with NaN as -inf. wide: float32 (2 * n_features)."""
    n_features = x.shape[0]
    for i in range(n_features):
        value = x[i]
        wide[i] = value
        wide[n_features + i] = np.float32(-np.inf) if math.isnan(value) else value


@njit
def _widen_all(x: NDArray[np.float32], plan: NDArray[np.int32], wide: NDArray[np.float32]) -> None:
    """`widen`, then decide every special split: -inf goes left, +inf right.

    Deciding them all, once a row, is cheaper than asking at each step whether a split is special.
    """
    widen(x, wide)
    bounds = plan.view(np.float32)
    first = 2 * x.shape[0]
    feature = -1
    value = np.float32(0)
    word = np.int64(-1)
    bit = np.int64(0)
    for i in range(plan[N_SPECIAL]):
        row = plan[SPECIAL] + 3 * i
        if plan[row] != feature:
            feature = plan[row]
            value = x[feature]
            # A category is the integer part; NaN, negative and unseen ones go right.
            known = value > np.float32(-1.0) and value < np.float32(2147483648.0)
            category = np.int64(value) if known else np.int64(-1)
            word = category >> 5
            bit = category & 31
        start = np.int64(plan[row + 1])
        if start >= 0:
            left = word >= 0 and word < plan[row + 2]
            if left:
                left = ((plan[plan[BITS] + start + word] >> bit) & 1) != 0
        elif math.isnan(value) or abs(value) <= _ZERO32:
            left = plan[row + 2] == 1
        else:
            left = value <= bounds[plan[BOUNDS] + i]
        wide[first + i] = np.float32(-np.inf) if left else np.float32(np.inf)


@njit
def _step(
    nodes: NDArray[np.int32],
    thresholds: NDArray[np.float32],
    wide: NDArray[np.float32],
    base: np.uintp,
    n: np.uintp,
    shift: np.uintp,
    mask: np.uintp,
) -> np.uintp:
    """One step down: unsigned indices keep Python's negative indexing out of the inner loop."""
    link = np.uintp(np.uint32(nodes[np.uintp(2) * n + np.uintp(1)]))
    column = link >> shift
    child = n + (link & mask)
    threshold = thresholds[np.uintp(2) * n]
    return child + np.uintp(not (wide[base + column] <= threshold))


@njit
def _walk(
    nodes: NDArray[np.int32],
    plan: NDArray[np.int32],
    wide: NDArray[np.float32],
    walks: NDArray[np.uintp],
    bases: _Sixteen,
    depth: int,
) -> None:
    """Advance sixteen walks by `depth` steps, in place; `bases` are their rows in `wide`."""
    t = nodes.view(np.float32)
    shift = np.uintp(plan[SHIFT])
    mask = (np.uintp(1) << shift) - np.uintp(1)
    n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, n10, n11, n12, n13, n14, n15 = to_fixed_tuple(walks, 16)
    b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15 = bases
    for _ in range(depth):
        n0 = _step(nodes, t, wide, b0, n0, shift, mask)
        n1 = _step(nodes, t, wide, b1, n1, shift, mask)
        n2 = _step(nodes, t, wide, b2, n2, shift, mask)
        n3 = _step(nodes, t, wide, b3, n3, shift, mask)
        n4 = _step(nodes, t, wide, b4, n4, shift, mask)
        n5 = _step(nodes, t, wide, b5, n5, shift, mask)
        n6 = _step(nodes, t, wide, b6, n6, shift, mask)
        n7 = _step(nodes, t, wide, b7, n7, shift, mask)
        n8 = _step(nodes, t, wide, b8, n8, shift, mask)
        n9 = _step(nodes, t, wide, b9, n9, shift, mask)
        n10 = _step(nodes, t, wide, b10, n10, shift, mask)
        n11 = _step(nodes, t, wide, b11, n11, shift, mask)
        n12 = _step(nodes, t, wide, b12, n12, shift, mask)
        n13 = _step(nodes, t, wide, b13, n13, shift, mask)
        n14 = _step(nodes, t, wide, b14, n14, shift, mask)
        n15 = _step(nodes, t, wide, b15, n15, shift, mask)
    leaves = (n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, n10, n11, n12, n13, n14, n15)
    for k in range(WALKS):
        walks[k] = leaves[k]


@njit
def _respond(raw: float, plan: NDArray[np.int32], slope: float) -> float:
    """The response to a raw score, computed as LightGBM's objectives do."""
    link = plan[LINK]
    if plan[AVERAGE]:
        raw /= plan[N_TREES]
    if link == 1:
        return 1.0 / (1.0 + math.exp(-slope * raw))
    if link == 2:
        return math.exp(raw)
    if link == 3:
        return math.log1p(math.exp(raw))
    if link == 4:
        return math.copysign(raw * raw, raw)
    return raw


@njit
def _score_row(
    x: NDArray[np.float32],
    nodes: NDArray[np.int32],
    values: NDArray[np.float64],
    plan: NDArray[np.int32],
) -> float:
    """Walk sixteen trees at a time; trees of like depth walk together."""
    wide = np.empty(2 * x.shape[0] + plan[N_SPECIAL], np.float32)
    _widen_all(x, plan, wide)
    walks = np.empty(WALKS, np.uintp)
    leaf = np.empty(plan[N_TREES], np.int32)
    for group in range(plan[N_GROUPS]):
        order = plan[ORDER] + group * WALKS
        for k in range(WALKS):
            walks[k] = np.uintp(plan[plan[ROOTS] + plan[order + k]])
        depth = plan[plan[GROUP_DEPTHS] + group]
        _walk(nodes, plan, wide, walks, _SAME_ROW, depth)
        for k in range(WALKS):
            leaf[plan[order + k]] = walks[k]
    # Floating-point sums depend on their order, and the order is the file's.
    total = 0.0
    if plan[FLOAT32_SUMS]:
        for tree in range(plan[N_TREES]):
            total = np.float64(np.float32(total + values[np.uintp(leaf[tree])]))
        return total
    for tree in range(plan[N_TREES]):
        total += values[np.uintp(leaf[tree])]
    return total


@njit
def _score_one(
    x: NDArray[np.float32],
    nodes: NDArray[np.int32],
    values: NDArray[np.float64],
    plan: NDArray[np.int32],
    respond: bool,
) -> float:
    raw = _score_row(x, nodes, values, plan)
    return _respond(raw, plan, values[-1]) if respond else raw


@njit
def _score_by_masks(
    X: NDArray[np.float32],
    values: NDArray[np.float64],
    plan: NDArray[np.int32],
    out: NDArray[np.float64],
) -> int:
    """Score rows but for a few at the end by masks of leaves; returns how many."""
    n_rows, n_features = X.shape
    wide = np.empty(2 * n_features + plan[N_SPECIAL], np.float32)
    lanes = np.zeros(plan[N_MASK_COLUMNS] * WALKS, np.float32)
    sums = np.empty(WALKS)
    first = 0
    while n_rows - first >= FEWEST_ROWS:
        rows = min(n_rows - first, WALKS)
        for k in range(rows):  # lanes beyond them hold what they held, and nobody asks
            _widen_all(X[first + k], plan, wide)
            to_lane(wide, plan, lanes, k)
        score_lanes(lanes, values, plan, sums)
        for k in range(rows):
            out[first + k] = sums[k]
        first += rows
    return first


@njit
def _walk_rows(
    X: NDArray[np.float32],
    nodes: NDArray[np.int32],
    values: NDArray[np.float64],
    plan: NDArray[np.int32],
    out: NDArray[np.float64],
) -> int:
    """Walk sixteen rows down one tree at a time; returns how many rows were scored."""
    n_rows, n_features = X.shape
    whole = n_rows // WALKS * WALKS
    width = 2 * n_features + plan[N_SPECIAL]
    wide = np.empty(WALKS * width, np.float32)
    walks = np.empty(WALKS, np.uintp)
    bases = np.empty(WALKS, np.uintp)
    for k in range(WALKS):
        bases[k] = np.uintp(width * k)
    for first in range(0, whole, WALKS):
        for k in range(WALKS):
            _widen_all(X[first + k], plan, wide[width * k : width * (k + 1)])
            out[first + k] = 0.0
        for tree in range(plan[N_TREES]):
            walks[:] = np.uintp(plan[plan[ROOTS] + tree])
            depth = plan[plan[DEPTHS] + tree]
            rows = to_fixed_tuple(bases, 16)
            _walk(nodes, plan, wide, walks, rows, depth)
            if plan[FLOAT32_SUMS]:
                for k in range(WALKS):
                    out[first + k] = np.float32(out[first + k] + values[walks[k]])
            else:
                for k in range(WALKS):
                    out[first + k] += values[walks[k]]
    return int(whole)


@njit
def score_rows(
    X: NDArray[np.float32],
    nodes: NDArray[np.int32],
    values: NDArray[np.float64],
    plan: NDArray[np.int32],
    respond: bool,
    out: NDArray[np.float64],
) -> None:
    """Score sixteen rows at a time; a few rows that are left over walk alone."""
    n_rows = len(X)
    if has_masks(plan):
        done = _score_by_masks(X, values, plan, out)
    else:
        done = _walk_rows(X, nodes, values, plan, out)
    for row in range(done, n_rows):
        out[row] = _score_row(X[row], nodes, values, plan)
    if respond:
        for row in range(n_rows):
            out[row] = _respond(out[row], plan, values[-1])


class Scorer:
    """Scores rows with one ensemble; immutable, so it may be shared between threads.

    Args:
        ensemble: The trees.

    Attributes:
        votes: Whether the raw score is the response: a forest's share of votes.
        n_trees: How many trees there are.

    Raises:
        ModelFormatError: If trees and columns are together too large for the node format (a tree
            of n nodes and a model of m columns need n * m < 2**30 or so).
    """

    def __init__(self, ensemble: TreeEnsemble) -> None:
        self.n_features = ensemble.n_features
        # The raw score of a forest is its share of votes, as its calibration and reasons have it.
        self.votes = ensemble.objective == "probability"
        self.n_trees = ensemble.n_trees
        self._nodes, self._values, self._plan = lay_out(ensemble)

    @property
    def laid_out(self) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.int32]]:
        """Nodes, values and plan; see `sentinel.models.tree_layout.lay_out`."""
        return self._nodes, self._values, self._plan

    def score_one(self, x: NDArray[np.float32]) -> float:
        """The response (e.g. fraud probability) for one row.

        Args:
            x: float32 (n_features,), contiguous; NaN = unknown.

        Raises:
            ValueError: If the row is of another shape or type.
        """
        if x.shape != (self.n_features,) or x.dtype != np.float32:
            raise self._misshapen(x)
        return _score_one(x, self._nodes, self._values, self._plan, True)

    def raw_one(self, x: NDArray[np.float32]) -> float:
        """The raw score (log-odds, or a forest's share of votes); arguments as `score_one`."""
        if x.shape != (self.n_features,) or x.dtype != np.float32:
            raise self._misshapen(x)
        return _score_one(x, self._nodes, self._values, self._plan, self.votes)

    def score_many(
        self, X: NDArray[np.float32], out: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """The responses for many rows; each equals `score_one` of its row bit for bit.

        Args:
            X: float32 (n_rows, n_features), C-contiguous; NaN = unknown.
            out: float64 (n_rows,), contiguous, written if given.

        Raises:
            ValueError: If `X` or `out` is of another shape or type.
        """
        return self._many(X, True, out)

    def raw_many(
        self, X: NDArray[np.float32], out: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """The raw scores for many rows; arguments as `score_many`."""
        return self._many(X, self.votes, out)

    def _many(
        self, X: NDArray[np.float32], respond: bool, out: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        if X.ndim != 2 or X.shape[1] != self.n_features or X.dtype != np.float32:
            raise self._misshapen(X)
        if out is None:
            out = np.empty(len(X))
        elif out.shape != (len(X),) or out.dtype != np.float64:
            raise ValueError(f"out must be float64 ({len(X)},), not {out.dtype} {out.shape}")
        score_rows(np.ascontiguousarray(X), self._nodes, self._values, self._plan, respond, out)
        return out

    def _misshapen(self, x: NDArray[Any]) -> ValueError:
        return ValueError(
            f"Rows must be float32 with {self.n_features} features, not {x.dtype} {x.shape}."
        )
