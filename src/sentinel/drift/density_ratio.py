"""How much more often payments like a known one come now: weights that make old payments recent.

Under covariate shift the truth of a payment depends on its features as before, yet the payments of
one probability are others than they were. Known payments are weighted by the ratio of the two
densities of the features, which a logistic regression of "recent" on binned features estimates
(Sugiyama, Suzuki and Kanamori, 2012). What a probability means is then read off these weights.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MOST_FEATURES: Final = 16
"""Only so many features, those that moved most, are looked at."""
MOST_ROWS: Final = 40_000
"""Payments of either kind that the regression is fitted on at most, evenly spaced."""
MOST: Final = 20.0
"""Ratios are cut here: a few odd payments must not decide a figure."""

_BINS: Final = 6
_STEPS: Final = 12
_PENALTY: Final = 1.0
_PULL: Final = 1e-3


def density_ratio(known: npt.ArrayLike, recent: npt.ArrayLike) -> Floats:
    """Weights of known payments under which their features are distributed as recent ones are.

    Args:
        known: (n_known, n_features), NaN = unknown.
        recent: (n_recent, n_features).

    Returns:
        float64 (n_known,), with mean 1.
    """
    old, new = np.asarray(known), np.asarray(recent)
    old_codes, new_codes, moved = [], [], []
    for column in range(old.shape[1]):
        was, is_now = _codes(old[:, column], new[:, column])
        old_codes.append(was)
        new_codes.append(is_now)
        moved.append(_index(was, is_now))
    chosen = np.argsort(moved)[::-1][:MOST_FEATURES]
    before = _indicators([old_codes[one] for one in chosen])
    now = _indicators([new_codes[one] for one in chosen])
    step = [max(1, -(-len(rows) // MOST_ROWS)) for rows in (before, now)]
    slopes = _fit(before[:: step[0]], now[:: step[1]])
    ratio = np.exp(np.clip(before @ slopes, -20.0, 20.0)).astype(np.float64)
    ratio = np.minimum(ratio / ratio.mean(), MOST)
    return np.asarray(ratio / ratio.mean(), np.float64)


def _codes(was: npt.NDArray[np.generic], now: npt.NDArray[np.generic]) -> tuple[Floats, Floats]:
    """Bins of a feature that hold about equally many known payments, and one for unknown values."""
    old, new = np.asarray(was, np.float64), np.asarray(now, np.float64)
    present = old[~np.isnan(old)]
    if not len(present):
        present = np.zeros(1)
    edges = np.unique(np.quantile(present, np.linspace(0.0, 1.0, _BINS + 1)[1:-1]))
    coded = [
        np.searchsorted(edges, values, side="left").astype(np.float64) for values in (old, new)
    ]
    coded[0][np.isnan(old)] = coded[1][np.isnan(new)] = _BINS
    return coded[0], coded[1]


def _index(was: Floats, now: Floats) -> float:
    """The population stability index between two samples of bins."""
    shares = [
        (np.bincount(codes.astype(np.int64), minlength=_BINS + 1) + 0.5) / (len(codes) + 1.0)
        for codes in (was, now)
    ]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def _indicators(codes: list[Floats]) -> npt.NDArray[np.float32]:
    """A column for each bin of each feature, and one of ones: float32 (n, n_columns)."""
    n = len(codes[0])
    columns = np.zeros((n, len(codes) * (_BINS + 1) + 1), np.float32)
    columns[:, -1] = 1.0
    for place, one in enumerate(codes):
        columns[np.arange(n), place * (_BINS + 1) + one.astype(np.int64)] = 1.0
    return columns


def _fit(before: npt.NDArray[np.float32], now: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Slopes of a logistic regression, recent against known, each kind weighing the same."""
    weights = [0.5 * (len(before) + len(now)) / len(rows) for rows in (before, now)]
    slopes = np.zeros(before.shape[1], np.float64)
    penalty = np.full(len(slopes), _PENALTY)
    penalty[-1] = _PULL
    for _ in range(_STEPS):
        gradient, curvature = penalty * slopes, np.diag(penalty)
        for rows, target, weight in ((before, 0.0, weights[0]), (now, 1.0, weights[1])):
            fitted = 1.0 / (1.0 + np.exp(-(rows @ slopes.astype(np.float32))))
            gradient = gradient + rows.T @ (weight * (fitted - target))
            heavy = rows * np.sqrt(weight * fitted * (1.0 - fitted))[:, None]
            curvature = curvature + heavy.T @ heavy
        step = np.linalg.solve(curvature, gradient)
        slopes = slopes - step
        if np.abs(step).max() < 1e-4:
            break
    return slopes.astype(np.float32)
