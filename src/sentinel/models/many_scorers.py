"""Score rows with several models in one call.

A call of a kernel costs microseconds before its first tree, as much as a small group's trees
themselves. So the arrays of the models lie behind each other here, and one call walks them all, by
the very kernel that walks one (`tree_kernel`), and calibrates each: the bits are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentinel.models.calibration import Calibration
from sentinel.models.outcomes import interpolate
from sentinel.models.simd import njit
from sentinel.models.tree_kernel import Scorer, score_rows


@njit
def _score_models(
    X: NDArray[np.float32],
    nodes: NDArray[np.int32],
    values: NDArray[np.float64],
    plans: NDArray[np.int32],
    curves: NDArray[np.float64],
    models: NDArray[np.int64],
    out: NDArray[np.float64],
) -> None:
    """Score and calibrate rows with each model.

    Args:
        X: float32 (n_rows, n_features).
        nodes, values, plans: Those of the models, one after another.
        curves: float64, the points of each calibration: all of x, then all of y.
        models: int64 (n_models, 6): first word of each in the four arrays, points of the curve,
            whether its raw score is the response.
        out: float64 (2, n_models, n_rows), written: raw scores, then probabilities.
    """
    for m in range(len(models)):
        points = models[m, 4]
        x = models[m, 3]
        y = x + points
        scores = out[0, m]
        score_rows(
            X,
            nodes[models[m, 0] :],
            values[models[m, 1] : models[m + 1, 1] if m + 1 < len(models) else len(values)],
            plans[models[m, 2] :],
            models[m, 5] != 0,
            scores,
        )
        for row in range(len(scores)):
            out[1, m, row] = interpolate(scores[row], curves[x:y], curves[y : y + points])


class Model(NamedTuple):
    """A model of several.

    Attributes:
        scorer: Its trees.
        calibration: From raw scores to probabilities.
    """

    scorer: Scorer
    calibration: Calibration


class ManyScorers:
    """Scores rows with several models that take the same vectors; immutable.

    Args:
        models: At least one, all with the same number of features.

    Attributes:
        shares: The share of each in all trees.
    """

    def __init__(self, models: Sequence[Model]) -> None:
        self.n_features = models[0].scorer.n_features
        assert all(model.scorer.n_features == self.n_features for model in models)
        laid_out = [model.scorer.laid_out for model in models]
        curves = [np.concatenate([m.calibration.x, m.calibration.y]) for m in models]
        parts = [*zip(*laid_out, strict=True), tuple(curves)]
        table = np.zeros((len(models), 6), dtype=np.int64)
        for column, arrays in enumerate(parts):
            table[1:, column] = np.cumsum([len(array) for array in arrays[:-1]])
        table[:, 4] = [len(model.calibration.x) for model in models]
        table[:, 5] = [model.scorer.votes for model in models]
        self._models = table
        self._nodes, self._values, self._plans, self._curves = map(np.concatenate, parts)
        trees = [model.scorer.n_trees for model in models]
        self.shares = [number / max(sum(trees), 1) for number in trees]

    def score(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Raw scores and probabilities of rows by each model.

        Args:
            X: float32 (n_rows, n_features), C-contiguous; NaN = unknown.

        Returns:
            float64 (2, n_models, n_rows): raw scores, then calibrated probabilities.

        Raises:
            ValueError: `X` is of another shape or type.
        """
        if X.ndim != 2 or X.shape[1] != self.n_features or X.dtype != np.float32:
            raise ValueError(
                f"Rows must be float32 with {self.n_features} features, not {X.dtype} {X.shape}."
            )
        out = np.empty((2, len(self._models), len(X)))
        _score_models(
            np.ascontiguousarray(X),
            self._nodes,
            self._values,
            self._plans,
            self._curves,
            self._models,
            out,
        )
        return out
