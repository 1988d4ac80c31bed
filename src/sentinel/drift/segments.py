"""Segments: parts of the payments that are looked at by themselves.

A segment is a range, or some codes, of one column of the vector. So the same segments are made of
the rows of a training and of what is served, and nothing else of a payment is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.drift.bins import text_of

MOST_SEGMENTS: Final = 10
ALL: Final = "all payments"
_BANDS: Final = 3
_SMALLEST_SHARE: Final = 0.02


class Segment(msgspec.Struct, frozen=True):
    """Payments with some value.

    Attributes:
        name: In words.
        column: Of the vector; empty: all payments belong to it.
        low, high: The least value, and the first one beyond; None where there is no such end.
        codes: Those of a category; empty: the range counts.
    """

    name: str
    column: str = ""
    low: float | None = None
    high: float | None = None
    codes: tuple[float, ...] = ()


def members(
    segments: Sequence[Segment], X: npt.NDArray[np.float32], names: Sequence[str]
) -> npt.NDArray[np.bool_]:
    """Which payments belong to which segments.

    Args:
        segments: Of columns that ``names`` holds.
        X: float32 (n, columns), NaN = unknown, which belongs to no part.
        names: Of its columns.

    Returns:
        bool (n, segments).

    >>> amounts = np.array([[3.0], [30.0], [np.nan]], np.float32)
    >>> parts = (Segment("all payments"), Segment("amount below 10", "amount", high=10.0))
    >>> members(parts, amounts, ["amount"]).tolist()
    [[True, True], [True, False], [True, False]]
    """
    found = np.empty((len(X), len(segments)), np.bool_)
    for at, segment in enumerate(segments):
        if not segment.column:
            found[:, at] = True
            continue
        values = X[:, list(names).index(segment.column)]
        if segment.codes:
            found[:, at] = np.isin(values, np.array(segment.codes, np.float32))
        else:
            found[:, at] = ~np.isnan(values)
            if segment.low is not None:
                found[:, at] &= values >= np.float32(segment.low)
            if segment.high is not None:
                found[:, at] &= values < np.float32(segment.high)
    return found


def default_segments(
    X: npt.NDArray[np.float32],
    names: Sequence[str],
    *,
    amount: str | None,
    categories: Sequence[str] = (),
    dictionaries: Mapping[str, Sequence[str]] | None = None,
    most: int = MOST_SEGMENTS,
) -> tuple[Segment, ...]:
    """All payments, three bands of the amount, and the most frequent values of categories.

    Args:
        X: float32 (n, columns), the rows of a reference.
        names: Of its columns.
        amount: The column of the amount; None if there is none.
        categories: Columns that hold codes. Their most frequent values follow in turn.
        dictionaries: Of those, by name: code 1 is the first text.
        most: Segments altogether.
    """
    found = [Segment(ALL)]
    if amount is not None:
        found += _bands(X[:, list(names).index(amount)], amount)
    known = dictionaries or {}
    queues = [
        _values(X[:, list(names).index(name)], name, known.get(name, ())) for name in categories
    ]
    while any(queues) and len(found) < most:
        for queue in queues:
            if queue and len(found) < most:
                found.append(queue.pop(0))
    return tuple(found[:most])


def _bands(values: npt.NDArray[np.float32], name: str) -> list[Segment]:
    known = values[np.isfinite(values)]
    if not known.size:
        return []
    inner = np.unique(np.quantile(known, np.arange(1, _BANDS) / _BANDS).astype(np.float32))
    edges = [None, *map(float, inner), None]
    found = []
    for low, high in pairwise(edges):
        if low is None:
            words = f"{name} below {high:g}"
        elif high is None:
            words = f"{name} from {low:g}"
        else:
            words = f"{name} from {low:g} to {high:g}"
        found.append(Segment(words, name, low, high))
    return found


def _values(values: npt.NDArray[np.float32], name: str, dictionary: Sequence[str]) -> list[Segment]:
    codes, counts = np.unique(values[np.isfinite(values)], return_counts=True)
    enough = counts >= _SMALLEST_SHARE * max(len(values), 1)
    order = np.argsort(-counts, kind="stable")
    return [
        Segment(f"{name} is {text_of(codes[at], dictionary)}", name, codes=(float(codes[at]),))
        for at in order
        if enough[at]
    ]
