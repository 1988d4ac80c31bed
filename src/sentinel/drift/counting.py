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
    patterns, which = _patterns(member)
    counted = np.zeros((len(patterns), bins.cells), np.uint32)
    _count(
        np.ascontiguousarray(X, np.float32),
        which,
        bins.values,
        bins.starts,
        bins.is_category,
        counted,
    )
    for pattern, counts in zip(patterns, counted, strict=True):
        out[pattern] += counts


def _patterns(
    member: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int32]]:
    """The different rows of a table: themselves, and which one each row is."""
    if member.shape[1] <= 62:  # as numbers, which sort far faster than rows
        codes = member @ (np.int64(1) << np.arange(member.shape[1], dtype=np.int64))
        _, first, which = np.unique(codes, return_index=True, return_inverse=True)
        return member[first], which.astype(np.int32)
    patterns, which = np.unique(member, axis=0, return_inverse=True)
    return patterns, which.reshape(-1).astype(np.int32)


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
    # Nothing branches on a value: what a payment holds cannot be foreseen by the processor.
    for row in range(rows):
        to = which[row]
        for column in range(columns):
            value = X[row, column]
            start = starts[column]
            # How many of the values are not above it: 31 places, those beyond the last infinite.
            low = 16 * int(values[column, 15] <= value)
            low += 8 * int(values[column, low + 7] <= value)
            low += 4 * int(values[column, low + 3] <= value)
            low += 2 * int(values[column, low + 1] <= value)
            low += int(values[column, low] <= value)
            low = min(low, starts[column + 1] - start - 2)
            listed = values[column, max(low - 1, 0)] == value
            cell = 1 + low * int(listed or not is_category[column])
            out[to, start + cell * int(value == value)] += 1
