"""What counts on the hot path: histograms as arrays, and counts by a bounded number of labels."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import numpy as np
import numpy.typing as npt

OTHER: Final = "other"
"""The label of whatever came after the bound was reached."""

Counted = TypeVar("Counted")


class Histogram:
    """Counts of observations between bounds.

    Args:
        bounds: (n,), rising, in the unit that observations come in.
        unit: What that unit is in the one that is exported.
    """

    def __init__(self, bounds: npt.ArrayLike, unit: float = 1.0) -> None:
        self.bounds: npt.NDArray[np.generic] = np.asarray(bounds)
        self.unit = unit
        self._bounds: list[float] = self.bounds.tolist()
        self.counts: npt.NDArray[np.int64] = np.zeros(len(self._bounds) + 1, dtype=np.int64)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Add one observation, in the unit of the bounds."""
        self.counts[bisect.bisect_left(self._bounds, value)] += 1
        self.total += value

    def observe(self, values: npt.NDArray[np.generic]) -> None:
        """Add observations (n,), in the unit of the bounds."""
        places = np.searchsorted(self.bounds, values)
        self.counts += np.bincount(places, minlength=len(self.counts))
        self.total += float(values.sum())

    def samples(self) -> tuple[list[tuple[str, float]], float]:
        """Cumulative buckets and the sum, in the exported unit."""
        cumulative = np.cumsum(self.counts)
        labels = [repr(float(bound) * self.unit) for bound in self._bounds] + ["+Inf"]
        return (
            [(label, float(c)) for label, c in zip(labels, cumulative, strict=True)],
            self.total * self.unit,
        )


class ByLabels(Generic[Counted]):
    """What is counted for each of a bounded number of label values.

    Those that come first keep their own; all others share one whose labels say "other".

    Args:
        most: How many have their own.
        labels: How many labels there are.
        make: Makes what counts.

    >>> counts = ByLabels(2, 1, lambda: [0])
    >>> for version in ["1", "2", "3", "4", "1"]:
    ...     counts.of((version,))[0] += 1
    >>> counts.items
    {('1',): [2], ('2',): [1], ('other',): [2]}
    """

    def __init__(self, most: int, labels: int, make: Callable[[], Counted]) -> None:
        self.items: dict[tuple[str, ...], Counted] = {}
        self._most = most
        self._other = (OTHER,) * labels
        self._make = make

    def of(self, labels: tuple[str, ...]) -> Counted:
        """What counts for these labels."""
        found = self.items.get(labels)
        if found is None:
            if len(self.items) >= self._most:
                labels = self._other
            found = self.items.setdefault(labels, self._make())
        return found
