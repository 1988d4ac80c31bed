"""A tree of depth three on one column, and how well it ranks frauds."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_BINS: Final = 256
_DEPTH: Final = 3
_LEAST_LEAF: Final = 5


def tree_scores(x: Floats, fraud: Flags, fitted: Flags) -> Floats:
    """Fit a tree on some rows and score all of them.

    Args:
        x: float64 (n,), NaN = not given, which is a value of its own below all others.
        fraud: bool (n,).
        fitted: bool (n,), the rows to fit on.

    Returns:
        float64 (n,): the share of frauds in the leaf of each row.
    """
    known = np.isfinite(x)
    edges = (
        np.unique(np.quantile(x[known & fitted], np.linspace(0, 1, _BINS)[1:-1]))
        if (known & fitted).any()
        else np.empty(0)
    )
    bins = np.where(known, np.searchsorted(edges, x, side="right") + 1, 0)
    size = len(edges) + 2
    rows = np.bincount(bins[fitted], minlength=size).astype(np.float64)
    frauds = np.bincount(bins[fitted & fraud], minlength=size).astype(np.float64)
    of_bin = np.zeros(size)
    _grow(rows, frauds, 0, size, _DEPTH, of_bin)
    return of_bin[bins]


def _grow(rows: Floats, frauds: Floats, first: int, end: int, depth: int, out: Floats) -> None:
    """Split the bins from ``first`` to ``end`` where impurity falls most."""
    total, bad = rows[first:end].sum(), frauds[first:end].sum()
    out[first:end] = bad / total if total else 0.0
    if depth == 0 or end - first < 2 or total < 2 * _LEAST_LEAF or bad in (0, total):
        return
    left, left_bad = np.cumsum(rows[first : end - 1]), np.cumsum(frauds[first : end - 1])
    right, right_bad = total - left, bad - left_bad
    with np.errstate(divide="ignore", invalid="ignore"):
        impurity = left_bad * (1 - left_bad / left) + right_bad * (1 - right_bad / right)
    impurity[(left < _LEAST_LEAF) | (right < _LEAST_LEAF)] = np.inf
    best = int(np.argmin(impurity))
    if not np.isfinite(impurity[best]):
        return
    middle = first + best + 1
    _grow(rows, frauds, first, middle, depth - 1, out)
    _grow(rows, frauds, middle, end, depth - 1, out)


def auc_with_bound(scores: Floats, fraud: Flags) -> tuple[float, float]:
    """Area under the ROC curve, and the lower end of its 95 % interval.

    The standard error is that of Hanley and McNeil (1982).

    >>> auc_with_bound(np.arange(1000.0), np.arange(1000) >= 500)
    (1.0, 1.0)
    """
    positives, negatives = int(fraud.sum()), int((~fraud).sum())
    if not positives or not negatives:
        return 0.5, 0.0
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    area = (ranks[place][fraud].sum() - positives * (positives + 1) / 2) / (positives * negatives)
    a = float(area)
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    variance = a * (1 - a) + (positives - 1) * (q1 - a * a) + (negatives - 1) * (q2 - a * a)
    error = np.sqrt(max(variance, 0.0) / (positives * negatives))
    return a, float(a - 1.96 * error)
