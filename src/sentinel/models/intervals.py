"""An estimate with its interval, and the bootstrap that gives it.

Rows of one card rise and fall together, so whole cards are resampled, not rows (cluster
bootstrap; Field and Welsh, 2007). Two models are compared on the same draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int32]

_CHUNK_CELLS = 4_000_000

if TYPE_CHECKING:
    _Figure = float
else:
    _Figure = float | None  # JSON has no NaN: null stands for it, and is read back as NaN


class Estimate(msgspec.Struct, frozen=True):
    """A measured value and its 95 % confidence interval.

    Attributes:
        value: Measured on the rows as they are; NaN = unknown, null in JSON.
        low, high: 2.5 % and 97.5 % quantiles of its bootstrap distribution.

    >>> str(Estimate(0.7, 0.65, 0.75)), str(Estimate(math.nan, math.nan, math.nan))
    ('0.700 [0.650, 0.750]', 'unknown')
    """

    value: _Figure
    low: _Figure
    high: _Figure

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if getattr(self, name) is None:
                msgspec.structs.force_setattr(self, name, math.nan)

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "unknown"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    @classmethod
    def of(cls, value: float, samples: npt.NDArray[np.float64]) -> Estimate:
        """An estimate from its bootstrap samples; draws in which it has no value don't count."""
        known = samples[np.isfinite(samples)]
        if len(known) == 0:
            return cls(value, value, value)
        low, high = np.quantile(known, [0.025, 0.975])
        return cls(float(value), float(low), float(high))


def cluster_codes(clusters: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], int]:
    """Number clusters from 0 on; a negative code is a row of unknown owner, alone in its own.

    Args:
        clusters: int (n_rows,), any codes.

    Returns:
        int64 (n_rows,) and the number of clusters.

    >>> cluster_codes([7, 7, -1, -1, 3])
    (array([1, 1, 2, 3, 0]), 4)
    """
    given = np.asarray(clusters, dtype=np.int64)
    alone = given < 0
    codes = np.empty(len(given), dtype=np.int64)
    known, inverse = np.unique(given[~alone], return_inverse=True)
    codes[~alone] = inverse
    codes[alone] = len(known) + np.arange(int(alone.sum()))
    return codes, len(known) + int(alone.sum())


def resamples(n_clusters: int, rounds: int, seed: int, *, n_rows: int) -> Iterator[Counts]:
    """Bootstrap draws: how often each cluster was drawn, in chunks of rounds.

    Args:
        n_clusters: Clusters to draw from; each round draws as many, with replacement.
        rounds: Rounds in all.
        seed: The same seed gives the same draws.
        n_rows: Rows the counts will be spread over; chunks are made so that they fit in memory.

    Yields:
        int32 (n_rounds, n_clusters).
    """
    random = np.random.default_rng(seed)
    size = max(1, _CHUNK_CELLS // max(n_rows, n_clusters, 1))
    for start in range(0, rounds, size):
        chunk = np.empty((min(size, rounds - start), n_clusters), dtype=np.int32)
        for row in chunk:
            row[:] = np.bincount(random.integers(n_clusters, size=n_clusters), minlength=n_clusters)
        yield chunk
