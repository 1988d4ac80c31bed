"""From raw scores to probabilities, and the values behind reasons, for a few rows in one call."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sentinel.models.simd import njit


@njit
def interpolate(x: float, xs: NDArray[np.float64], ys: NDArray[np.float64]) -> float:
    """`numpy.interp` of one number, to the last bit.

    Args:
        x: Where.
        xs, ys: float64 (n_points,), the curve's points, `xs` strictly rising.
    """
    last = len(xs) - 1
    if np.isnan(x):
        return x
    if x < xs[0]:
        return float(ys[0])
    if x >= xs[last]:
        return float(ys[last])
    below, above = 0, last
    while above - below > 1:
        middle = (below + above) // 2
        if xs[middle] <= x:
            below = middle
        else:
            above = middle
    if xs[below] == x:
        return float(ys[below])
    slope = (ys[below + 1] - ys[below]) / (xs[below + 1] - xs[below])
    return float(slope * (x - xs[below]) + ys[below])


@njit
def calibrate(
    scores: NDArray[np.float64],
    xs: NDArray[np.float64],
    ys: NDArray[np.float64],
    probabilities: NDArray[np.float64],
) -> None:
    """Calibrate raw scores.

    Args:
        scores: float64 (n,), raw.
        xs, ys: float64 (n_points,), the calibration.
        probabilities: float64 (n,), written.
    """
    for row in range(len(scores)):
        probabilities[row] = interpolate(scores[row], xs, ys)


@njit
def pick(
    vectors: NDArray[np.float32], features: NDArray[np.int16], values: NDArray[np.float32]
) -> bool:
    """Copy the values of each row's features; returns whether every row names all of them.

    Args:
        vectors: float32 (n, n_features).
        features: int16 (n, k), -1 = none.
        values: float32 (n, k), written; 0 where there is none.
    """
    whole = True
    for row in range(len(features)):
        for i in range(features.shape[1]):
            at = features[row, i]
            whole = whole and at >= 0
            values[row, i] = vectors[row, at] if at >= 0 else np.float32(0.0)
    return whole
