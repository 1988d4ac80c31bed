"""Two rules by which others call a change, on the same counts as ours.

**PSI**: a day's payments are held against the reference, and a population stability index of 0.1
or more is drift. It is what Evidently's test ``psi`` does with its default threshold, here on our
cells and not by Evidently itself, whose bins are others.

**ADWIN** (Bifet and Gavalda, 2007) of River with its defaults: one value an hour of each stream,
the mean position of its payments among the cells.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from river.drift import ADWIN

from sentinel.drift.distances import stability_index

PSI_THRESHOLD: Final = 0.1

Counts = npt.NDArray[np.uint32]


class StabilityRule:
    """Population stability index of whole days, stream by stream."""

    def __init__(self, reference: npt.NDArray[Any], starts: npt.NDArray[np.int32]) -> None:
        self._reference, self._starts = reference, starts
        self._day = np.zeros(reference.shape, np.int64)

    def advance(self, hour: int, counts: Counts) -> npt.NDArray[np.bool_]:
        """Streams that drift: bool (segments, columns); all False but at the end of a day."""
        self._day += counts
        columns = len(self._starts) - 1
        found = np.zeros((len(self._day), columns), np.bool_)
        if hour % 24 == 23:
            for column in range(columns):
                cells = slice(self._starts[column], self._starts[column + 1])
                index = stability_index(self._reference[:, cells], self._day[:, cells])
                found[:, column] = (index >= PSI_THRESHOLD) & (self._day[:, cells].sum(axis=1) > 0)
            self._day[:] = 0
        return found


class AdwinRule:
    """ADWIN of the mean position among cells, an hour a value."""

    def __init__(self, segments: int, starts: npt.NDArray[np.int32]) -> None:
        self._starts = starts
        make: Any = ADWIN
        self._windows: list[list[Any]] = [
            [make() for _ in range(len(starts) - 1)] for _ in range(segments)
        ]
        self._position = np.concatenate(
            [np.linspace(0, 1, int(n)) for n in np.diff(starts).tolist()]
        )

    def advance(self, hour: int, counts: Counts) -> npt.NDArray[np.bool_]:
        """Streams that drift: bool (segments, columns)."""
        firsts = self._starts[:-1]
        events = np.add.reduceat(counts, firsts, axis=1)
        mean = np.add.reduceat(counts * self._position, firsts, axis=1) / np.maximum(events, 1)
        found = np.zeros(mean.shape, np.bool_)
        for segment, windows in enumerate(self._windows):
            for column, window in enumerate(windows):
                if events[segment, column]:
                    window.update(float(mean[segment, column]))
                    found[segment, column] = window.drift_detected
        return found
