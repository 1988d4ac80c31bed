"""Confidence sequences by betting: intervals that hold at every look, however many there are.

A gambler bets that the mean of observations in [0, 1] is above ``m``. If it is not, the bets are
fair or worse, and the chance that the capital ever grows to ``k`` times its start is at most
``1 / k`` (Ville, 1939). So a mean against which the capital once reached ``2 / alpha`` is
excluded, from above or from below, and all means that are not excluded hold the true one at all
times with probability ``1 - alpha`` (Waudby-Smith and Ramdas, "Estimating means of bounded random
variables by betting", 2024: the hedged capital, theorem 3).

The bets are a mixture: the capital is split over fixed fractions, each of which stakes the same
part of what it has on every observation. Such a capital does not depend on the order of the
observations, only on how many there were of each kind, so that thousands of experiments are
judged at once and a look costs the same however long an experiment runs.

Observations may have weights, where some are seen less often than others. The mean is then the
weighted one, and a stake is scaled so that the greatest weight can lose no more than all of it.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

FRACTIONS: Final[Floats] = np.geomspace(0.05, 0.9, 16)
"""Fractions of the capital that are staked; each begins with the same part of it."""

CANDIDATES: Final[Floats] = np.linspace(0.0, 1.0, 1001)[1:-1]
"""Means that are asked about, unless others are given."""


class Interval(NamedTuple):
    """Ends of intervals: float64 of one shape, one for each look."""

    low: Floats
    high: Floats


def log_capital(gains: Floats, counts: npt.NDArray[np.int64] | Floats | None = None) -> Floats:
    """Logarithm of what one unit of capital has become.

    Args:
        gains: float64 (kinds, ...): what an observation of this kind adds to a stake of one; at
            least -1. Further axes are bets against different means.
        counts: (looks, kinds): observations of each kind so far. None if there is one look
            with one of each.

    Returns:
        float64 (looks, ...), or (...) without counts.

    >>> float(log_capital(np.array([1.0, -1.0]), np.array([[0, 0]]))[0])
    0.0
    """
    number = np.ones(len(gains)) if counts is None else np.asarray(counts, np.float64)
    total: Floats | None = None
    for fraction in FRACTIONS:
        grown = np.tensordot(number, np.log1p(fraction * gains), axes=(-1, 0))
        total = grown if total is None else np.logaddexp(total, grown)
    assert total is not None
    return np.asarray(total - math.log(len(FRACTIONS)), np.float64)


def gains_above(values: Floats, weights: Floats, means: Floats) -> Floats:
    """Gains of a bet that the weighted mean is above each of ``means``.

    Args:
        values: float64 (kinds,) in [0, 1].
        weights: float64 (kinds,), positive. The greatest weight of a kind that can lose bounds
            the stake.
        means: float64 (k,) in (0, 1).

    Returns:
        float64 (kinds, k), at least -1.

    >>> gains_above(np.array([0.0, 1.0]), np.ones(2), np.array([0.25])).tolist()
    [[-1.0], [3.0]]
    """
    losing = weights[values < 1.0]
    bound = float(losing.max()) if losing.size else 1.0
    scaled = (weights / bound)[:, None]
    return np.asarray(scaled * (values[:, None] - means) / means, np.float64)


def gains_below(values: Floats, weights: Floats, means: Floats) -> Floats:
    """Gains of a bet that the weighted mean is below each of ``means``; as `gains_above`."""
    return gains_above(1.0 - values, weights, 1.0 - means)


def mean_interval(
    values: Floats,
    counts: npt.NDArray[np.int64],
    alpha: float,
    *,
    weights: Floats | None = None,
    candidates: Floats = CANDIDATES,
) -> Interval:
    """Interval of the weighted mean at each look.

    Args:
        values: float64 (kinds,) in [0, 1].
        counts: int64 (looks, kinds): observations of each kind until each look.
        alpha: Chance that the true mean is ever outside, over all looks.
        weights: float64 (kinds,), positive; None if all are 1.
        candidates: float64 (k,): rising means that are asked about. An end of the interval is
            the neighbour outside, so that the spacing never makes an interval too short.

    Returns:
        (looks,) each; [0, 1] where nothing is excluded.

    >>> seen = mean_interval(np.array([0.0, 1.0]), np.array([[0, 0], [40, 60]]), 0.05)
    >>> [(round(float(low), 2), round(float(high), 2)) for low, high in zip(*seen)]
    [(0.0, 1.0), (0.44, 0.74)]
    """
    given = np.ones(len(values)) if weights is None else weights
    return not_excluded(
        gains_above(values, given, candidates),
        gains_below(values, given, candidates),
        counts,
        alpha,
        candidates,
    )


def not_excluded(
    above: Floats,
    below: Floats,
    counts: npt.NDArray[np.int64],
    alpha: float,
    candidates: Floats = CANDIDATES,
) -> Interval:
    """Interval of the means against which neither bet has won enough; as `mean_interval`.

    Args:
        above, below: float64 (kinds, k): gains of bets that the mean is above, or below, each of
            ``candidates``.
        counts: int64 (looks, kinds).
        alpha: Chance that the true mean is ever outside.
        candidates: float64 (k,), rising.
    """
    threshold = math.log(2.0 / alpha)
    edges = np.concatenate([[0.0], candidates, [1.0]])
    # Capital against a mean falls as the mean rises, so that what is excluded is a range.
    low = (log_capital(above, counts) >= threshold).sum(axis=-1)
    high = (log_capital(below, counts) >= threshold).sum(axis=-1)
    return Interval(edges[low], edges[len(edges) - 1 - high])


def mean_sequence(values: Floats, alpha: float, *, weights: Floats | None = None) -> Interval:
    """Interval after each observation, (n,) each; the intersection of all until then.

    >>> after = mean_sequence(np.tile([0.2, 0.4], 50), 0.05)
    >>> bool(after.low[-1] < 0.3 < after.high[-1]), bool((np.diff(after.low) >= 0).all())
    (True, True)
    """
    kinds, of_kind = np.unique(
        np.column_stack([values, np.ones(len(values)) if weights is None else weights]),
        axis=0,
        return_inverse=True,
    )
    counts = np.zeros((len(values), len(kinds)), dtype=np.int64)
    counts[np.arange(len(values)), of_kind.ravel()] = 1
    seen = mean_interval(kinds[:, 0], counts.cumsum(axis=0), alpha, weights=kinds[:, 1])
    return Interval(np.maximum.accumulate(seen.low), np.minimum.accumulate(seen.high))
