"""How far two histograms of the same cells are apart.

All take counts or shares, float64 or integers (..., cells), and give float64 (...).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

_Z95: Final = 1.6448536
"""95 % quantile of the normal distribution."""
_LEAST: Final = 1e-4
"""Share that an empty cell counts for in the population stability index."""

Floats = npt.NDArray[np.float64]


def normalized(counts: npt.NDArray[Any]) -> Floats:
    """Shares of counts; zeros where there are none.

    >>> normalized(np.array([1, 3])).tolist()
    [0.25, 0.75]
    """
    counts = np.asarray(counts, np.float64)
    return np.asarray(counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1e-300))


def total_variation(was: npt.NDArray[Any], now: npt.NDArray[Any]) -> Floats:
    """The share of payments that have another value: half the sum of all differences.

    >>> float(total_variation(np.array([50, 50]), np.array([6, 2])))
    0.25
    """
    return np.asarray(np.abs(normalized(was) - normalized(now)).sum(axis=-1) / 2)


def stability_index(was: npt.NDArray[Any], now: npt.NDArray[Any]) -> Floats:
    """The population stability index: the symmetric Kullback-Leibler divergence, in nats.

    An empty cell counts for a share of 0.0001, so that the index stays finite.
    """
    p, q = np.maximum(normalized(was), _LEAST), np.maximum(normalized(now), _LEAST)
    return np.asarray(((q - p) * np.log(q / p)).sum(axis=-1))


def payments_to_tell(cells: int, distance: float) -> int:
    """So many payments of an unchanged distribution seldom lie so far away: once in twenty at most.

    The population stability index of n draws from the reference is about chi-squared with one
    degree of freedom less than there are cells, divided by n (Yurdakul, 2018). Cells of few
    payments make it larger, so half as many payments again are asked for.

    Args:
        cells: Of the histogram, those that the reference has payments in.
        distance: A population stability index.

    >>> [payments_to_tell(cells, 0.2) for cells in (1, 2, 20, 200)]
    [1, 29, 227, 1747]
    """
    if cells < 2:
        return 1
    free = cells - 1
    # The 95 % quantile of chi-squared, as Wilson and Hilferty (1931) have it.
    quantile = free * (1 - 2 / (9 * free) + _Z95 * (2 / (9 * free)) ** 0.5) ** 3
    return int(np.ceil(1.5 * quantile / distance))


def jensen_shannon(was: npt.NDArray[Any], now: npt.NDArray[Any]) -> Floats:
    """The Jensen-Shannon distance: the root of the divergence in bits, from 0 to 1.

    >>> float(jensen_shannon(np.array([1, 0]), np.array([0, 1])))
    1.0
    """
    p, q = normalized(was), normalized(now)
    middle = (p + q) / 2

    def divergence(of: Floats) -> Floats:
        ratio = np.where(of > 0, of / np.where(middle > 0, middle, 1.0), 1.0)
        return np.asarray((of * np.log2(ratio)).sum(axis=-1))

    return np.sqrt(np.clip((divergence(p) + divergence(q)) / 2, 0.0, 1.0))


def kolmogorov_smirnov(was: npt.NDArray[Any], now: npt.NDArray[Any]) -> Floats:
    """The largest difference of the two cumulative distributions at the edges of cells.

    >>> float(kolmogorov_smirnov(np.array([1, 1, 2]), np.array([2, 1, 1])))
    0.25
    """
    apart = np.cumsum(normalized(was), axis=-1) - np.cumsum(normalized(now), axis=-1)
    return np.asarray(np.abs(apart).max(axis=-1))
