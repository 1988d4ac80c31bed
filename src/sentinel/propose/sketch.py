"""How many different values a column has and how often they repeat, in bounded memory."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

EXACT_DISTINCT: Final = 1 << 14
"""So many different values of a column are counted exactly; more are estimated."""
_SPACE: Final = 2.0**64


class Sketch:
    """The smallest hashes of a column with their counts (k minimum values).

    Whether a value is kept depends on its hash alone, so the kept ones are a fair sample of the
    values, and each kept value's count is exact. Up to ``kept`` values everything is exact.

    Args:
        kept: Most values remembered.

    >>> sketch = Sketch()
    >>> sketch.add(np.array([3, 7], np.uint64), np.array([2, 1]))
    >>> sketch.add(np.array([3], np.uint64), np.array([4]))
    >>> sketch.distinct(), sketch.exact, sorted(sketch.counts.tolist())
    (2, True, [1, 6])
    """

    def __init__(self, kept: int = EXACT_DISTINCT) -> None:
        self._kept = kept
        self._limit = np.uint64(2**64 - 1)
        self._hashes = np.empty(0, np.uint64)
        self.counts: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self.exact = True

    def add(self, hashes: npt.NDArray[np.uint64], counts: npt.NDArray[np.int64]) -> None:
        """Take in different values by their hashes, each with how often it was seen."""
        low = hashes <= self._limit
        merged = np.concatenate([self._hashes, hashes[low]])
        weights = np.concatenate([self.counts, counts[low]])
        self._hashes, place = np.unique(merged, return_inverse=True)
        self.counts = np.bincount(place, weights, len(self._hashes)).astype(np.int64)
        if len(self._hashes) > self._kept:
            self.exact = False
            self._hashes, self.counts = self._hashes[: self._kept], self.counts[: self._kept]
            self._limit = self._hashes[-1]

    def distinct(self) -> int:
        """Number of different values; beyond the bound an estimate (about 1 % off)."""
        if self.exact:
            return len(self._hashes)
        return round((self._kept - 1) / (float(self._limit) / _SPACE))

    @property
    def repeats(self) -> bool:
        """Whether any of the sampled values was seen more than once."""
        return bool((self.counts > 1).any())

    def typical_count(self) -> float:
        """How often the value of a typical row is seen: the median over rows."""
        if not len(self.counts):
            return 0.0
        ordered = np.sort(self.counts)
        through = np.cumsum(ordered)
        return float(ordered[np.searchsorted(through, through[-1] / 2)])
