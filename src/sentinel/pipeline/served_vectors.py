"""Learn from the vectors that were served, where the log has them.

A vector that is computed anew is what the log's order says. What a decision rested on can differ:
many scorers interleave, a record was out of reach, or state could not be read at all and the
decision was degraded. A model is asked about vectors as they are served, so datasets take those.
Feature parts, Feast and `parity` stay with what is computed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.log.entries import FLAG_DEGRADED, Group, decode_decisions
from sentinel.pipeline.served_columns import ServedColumns

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ServedGroups:
    """The groups of decisions whose vectors have the features of a plan.

    All arrays are int64 (n_groups,), rising.

    Attributes:
        first_sequence: Sequence of the first entry of each.
        first_row: Row of its first transaction, as `sentinel.models.dataset.PaymentLog` counts.
        rows: How many of its transactions there are.
    """

    first_sequence: Ints
    first_row: Ints
    rows: Ints


_NOTHING: Final = np.empty(0, dtype=np.int64)
NO_GROUPS: Final = ServedGroups(_NOTHING, _NOTHING, _NOTHING)


@dataclass(frozen=True)
class Overridden:
    """How many vectors were replaced.

    Attributes:
        served: Vectors that were served, and are learnt from.
        degraded: Of them, those of degraded decisions.
    """

    served: int = 0
    degraded: int = 0

    def __add__(self, other: Overridden) -> Overridden:
        return Overridden(self.served + other.served, self.degraded + other.degraded)


def put_served(
    groups: Iterable[Group],
    served: ServedGroups,
    rows: Ints,
    X: npt.NDArray[np.float32],
    columns: ServedColumns,
) -> Overridden:
    """Replace vectors by those that were served.

    Args:
        groups: Of the log, from the first of ``served`` on, in order.
        served: The groups whose vectors have the features.
        rows: int64 (n,), rows of the vectors, rising.
        X: float32 (n, n_features), changed.
        columns: Finds the features of their plan.
    """
    wanted = _wanted(served, rows)
    if not wanted:
        return Overridden()
    last, count, degraded = max(wanted), 0, 0
    for group in groups:
        if group.first_sequence > last:
            break
        if group.first_sequence not in wanted:
            continue
        first_row, start, stop = wanted[group.first_sequence]
        decided = decode_decisions(group.payload)
        vectors = columns.take(decided)
        if vectors is None or vectors.shape[1] != X.shape[1]:
            continue
        places = rows[start:stop] - first_row
        X[start:stop] = vectors[places]
        count += stop - start
        degraded += int(np.count_nonzero(decided.flag_array()[places] & FLAG_DEGRADED))
    return Overridden(count, degraded)


def _wanted(served: ServedGroups, rows: Ints) -> dict[int, tuple[int, int, int]]:
    """Groups that hold some of the rows: their first row, and the span of `rows` in them."""
    start = np.searchsorted(rows, served.first_row)
    stop = np.searchsorted(rows, served.first_row + served.rows)
    held = np.flatnonzero(start < stop)
    columns = (served.first_sequence, served.first_row, start, stop)
    first, *spans = (column[held].tolist() for column in columns)
    return dict(zip(first, zip(*spans, strict=True), strict=True))
