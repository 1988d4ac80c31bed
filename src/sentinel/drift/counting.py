"""Vectors into counts of cells: the only work of drift that is done for every payment."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sentinel.drift.bins import Bins
from sentinel.features.jit import kernel


def count_cells(
    bins: Bins,
    X: npt.NDArray[np.float32],
    member: npt.NDArray[np.bool_],
    out: npt.NDArray[np.uint32],
) -> None:
    """Add payments to counts.

    Args:
        bins: Of the columns.
        X: float32 (n, columns), NaN = unknown; the last column is the score.
        member: bool (n, segments): the segments that a payment belongs to.
        out: uint32 (segments, cells), added to.

    >>> from sentinel.drift.bins import ColumnBins
    >>> bins = Bins((ColumnBins("amount", "number", (5.0,)),))
    >>> counts = np.zeros((1, 3), np.uint32)
    >>> X = np.array([[1], [5], [np.nan], [9]], np.float32)
    >>> count_cells(bins, X, np.ones((4, 1), np.bool_), counts)
    >>> counts.tolist()
    [[1, 1, 2]]
    """
    if X.shape[1] != len(bins.columns) or out.shape != (member.shape[1], bins.cells):
        raise ValueError(
            f"{X.shape[1]} columns and counts of shape {out.shape} do not fit {len(bins.columns)} "
            f"columns of {bins.cells} cells and {member.shape[1]} segments."
        )
    if not len(X):
        return
    # Payments of the same segments are counted together and added up once.
    patterns, which = np.unique(member, axis=0, return_inverse=True)
    counted = np.zeros((len(patterns), bins.cells), np.uint32)
    _count(
        np.ascontiguousarray(X, np.float32),
        which.reshape(-1).astype(np.int32),
        bins.values,
        bins.starts,
        bins.is_category,
        counted,
    )
    for pattern, counts in zip(patterns, counted, strict=True):
        out[pattern] += counts


@kernel
def _count(
    X: npt.NDArray[np.float32],
    which: npt.NDArray[np.int32],
    values: npt.NDArray[np.float32],
    starts: npt.NDArray[np.int32],
    is_category: npt.NDArray[np.bool_],
    out: npt.NDArray[np.uint32],
) -> None:
    rows, columns = X.shape
    for row in range(rows):
        to = which[row]
        for column in range(columns):
            value = X[row, column]
            start = starts[column]
            if value != value:  # unknown
                out[to, start] += 1
                continue
            low, high = 0, starts[column + 1] - start - 2
            while low < high:  # how many of the values are not above it
                middle = (low + high) >> 1
                if values[column, middle] <= value:
                    low = middle + 1
                else:
                    high = middle
            if not is_category[column] or (low and values[column, low - 1] == value):
                out[to, start + 1 + low] += 1
            else:
                out[to, start + 1] += 1
