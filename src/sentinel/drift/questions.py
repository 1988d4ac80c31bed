"""Questions: each asks for the share of a segment's payments that fall into some cells of a column.

A number is asked for the share at or above each inner edge, and for the share of each cell; a
category for the share of each cell. A change of a distribution moves some of these shares, and a
share is a count of yes and no, whose evidence is simple (`sentinel.drift.evidence`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sentinel.drift.bins import Bins

Ints = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Questions:
    """All questions about one segment, column by column.

    Attributes:
        low, high: int32 (questions,): the share of cells ``low`` up to ``high - 1``.
        starts: int32 (columns + 1,): the questions of column c are ``starts[c]:starts[c + 1]``.
    """

    low: Ints
    high: Ints
    starts: Ints

    def __len__(self) -> int:
        return len(self.low)


def questions_of(bins: Bins) -> Questions:
    """The questions that cells allow.

    >>> from sentinel.drift.bins import ColumnBins
    >>> asked = questions_of(Bins((ColumnBins("amount", "number", (1.0, 2.0, 3.0)),)))
    >>> list(zip(asked.low.tolist(), asked.high.tolist()))
    [(3, 5), (0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]
    """
    low: list[int] = []
    high: list[int] = []
    starts = [0]
    for column, start in zip(bins.columns, bins.starts.tolist(), strict=False):
        end = start + column.cells
        if column.kind == "number":
            # The first and the last inner edge split off one cell, which is asked for anyway.
            for cell in range(start + 3, end - 1):
                low.append(cell)
                high.append(end)
        for cell in range(start, end):
            low.append(cell)
            high.append(cell + 1)
        starts.append(len(low))
    return Questions(np.array(low, np.int32), np.array(high, np.int32), np.array(starts, np.int32))


def words(bins: Bins, asked: Questions, question: int) -> str:
    """A question in words: of which column, and which values.

    >>> from sentinel.drift.bins import ColumnBins
    >>> bins = Bins((ColumnBins("amount", "number", (1.0, 2.0, 3.0)),))
    >>> words(bins, questions_of(bins), 0)
    'amount: 2 and above'
    """
    column = int(np.searchsorted(asked.starts, question, side="right")) - 1
    first = int(asked.low[question]) - int(bins.starts[column])
    described = bins.columns[column]
    if asked.high[question] - asked.low[question] == 1:
        return f"{described.name}: {described.label(first)}"
    return f"{described.name}: {described.values[first - 2]:g} and above"


def shares(counts: npt.NDArray[np.float64], asked: Questions) -> npt.NDArray[np.float64]:
    """Sums of cells for each question; float64 (..., questions) of (..., cells)."""
    before = np.zeros((*counts.shape[:-1], counts.shape[-1] + 1))
    np.cumsum(counts, axis=-1, out=before[..., 1:])
    return np.asarray(before[..., asked.high] - before[..., asked.low])
