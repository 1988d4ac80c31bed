"""Exact reasons for a score: path-dependent TreeSHAP by Gauss-Legendre quadrature.

The Shapley value of feature i is the integral over t in [0, 1] of what i adds when every other
feature takes part with probability t. Along a path that is a polynomial, so a few points integrate
it exactly. One pass down a tree carries the product of the factors above each node at all points,
one pass up the expectation of the leaves below; at each split the difference between its two
sides, times the product above, goes to its feature. The derivation, with features that repeat on
a path, and the measurements are in docs/decisions/010-tree-and-shap-kernels.md. The idea is that of
Quadrature-TreeSHAP (arXiv 2605.04497); the values are those of TreeSHAP (arXiv 1706.06060).

For one row the points are the lanes of a vector; for several the rows are. Both do the same
operations in the same order, so a row's contributions never depend on its batch, to the last bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinel.models.ensemble import ModelFormatError, TreeEnsemble
from sentinel.models.shap_block import explain_rows
from sentinel.models.shap_layout import lay_out
from sentinel.models.shap_one import explain_row
from sentinel.models.simd import njit

_FEW, _MANY = 4, 8
_WORTH_A_BLOCK = 2  # No more rows than this are faster one at a time than with idle lanes.
_explain_few, _explain_many = explain_rows(_FEW), explain_rows(_MANY)


@njit
def _explain(
    X: NDArray[np.float32],
    ints: NDArray[np.int32],
    reals: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """out: float64 (n_rows, n_features + 1); `reals` ends with the scale and the expected value."""
    n_rows, n_features = X.shape
    row = 0
    while row < n_rows:
        left = n_rows - row
        if left > _FEW:
            end = min(row + _MANY, n_rows)
            _explain_many(X[row:end], ints, reals, out[row:end])
        elif left > _WORTH_A_BLOCK:
            end = n_rows
            _explain_few(X[row:end], ints, reals, out[row:end])
        else:
            end = row + 1
            explain_row(X[row], ints, reals, out[row])
        row = end
    scale, expected = reals[-2], reals[-1]
    for row in range(n_rows):
        for i in range(n_features):
            out[row, i] *= scale
        out[row, n_features] = expected


@njit
def _largest(
    contributions: NDArray[np.float64],
    features: NDArray[np.int16],
    values: NDArray[np.float32],
) -> None:
    """The largest contributions of each row, descending, ties by feature index."""
    n_rows, k = features.shape
    best = np.empty(k)
    for row in range(n_rows):
        best[:] = -np.inf
        features[row] = -1
        for i in range(contributions.shape[1] - 1):
            value = contributions[row, i]
            if not value > best[k - 1]:
                continue
            at = k - 1
            while at > 0 and value > best[at - 1]:
                best[at] = best[at - 1]
                features[row, at] = features[row, at - 1]
                at -= 1
            best[at] = value
            features[row, at] = i
        for at in range(k):
            values[row, at] = best[at] if features[row, at] >= 0 else 0.0


@njit
def _top_k(
    X: NDArray[np.float32],
    ints: NDArray[np.int32],
    reals: NDArray[np.float64],
    features: NDArray[np.int16],
    values: NDArray[np.float32],
) -> None:
    contributions = np.empty((X.shape[0], X.shape[1] + 1))
    _explain(X, ints, reals, contributions)
    _largest(contributions, features, values)


class Explainer:
    """Explains the scores of one ensemble; immutable, so it may be shared between threads.

    Contributions are on the scale of the raw score (log-odds for a binary objective), or of the
    probability for a scikit-learn forest, and sum with the expected value to that score.

    Args:
        ensemble: The trees, with their covers.

    Raises:
        ModelFormatError: If the ensemble has more features than an int16 can name.
    """

    def __init__(self, ensemble: TreeEnsemble) -> None:
        if ensemble.n_features > np.iinfo(np.int16).max:
            raise ModelFormatError(
                f"The model has {ensemble.n_features} features; at most 32767 can be told apart in "
                "the reasons of a decision."
            )
        self.n_features = ensemble.n_features
        layout = lay_out(ensemble)
        self.expected_value = layout.expected_value
        self._ints, self._reals = layout.ints, layout.reals

    def contributions(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """The Shapley value of every feature; a row's values don't depend on the other rows.

        Args:
            X: float32 (n_rows, n_features), NaN = unknown.

        Returns:
            float64 (n_rows, n_features + 1); the last column is the expected value, as in
            LightGBM's `predict(pred_contrib=True)`.

        Raises:
            ValueError: If `X` is of another shape or type.
        """
        X = self._checked(X)
        out = np.empty((len(X), self.n_features + 1))
        _explain(X, self._ints, self._reals, out)
        return out

    def top_k(
        self, X: NDArray[np.float32], k: int = 4
    ) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
        """What speaks most for fraud in each row: the `k` largest signed contributions.

        They descend, ties go to the lower feature index, and the last ones may be negative where
        little speaks for fraud. With fewer than `k` features the rest is -1 and 0.

        Args:
            X: float32 (n_rows, n_features), NaN = unknown. For one row `x`, pass `x[None]`.
            k: How many features to name, at least 1.

        Returns:
            The features, int16 (n_rows, k), and their contributions, float32 (n_rows, k).

        Raises:
            ValueError: If `X` is of another shape or type, or `k` is not positive.
        """
        X = self._checked(X)
        if k < 1:
            raise ValueError(f"k={k}: ask for at least one reason.")
        features = np.empty((len(X), k), np.int16)
        values = np.empty((len(X), k), np.float32)
        _top_k(X, self._ints, self._reals, features, values)
        return features, values

    def _checked(self, X: NDArray[Any]) -> NDArray[np.float32]:
        if X.ndim != 2 or X.shape[1] != self.n_features or X.dtype != np.float32:
            raise ValueError(
                f"Rows must be float32 (n_rows, {self.n_features}), not {X.dtype} {X.shape}."
            )
        return np.ascontiguousarray(X)
