"""A logistic regression that learns payment by payment, from River.

Numbers are compressed by a logarithm and standardised by running moments; a category has a weight
for each code, folded to 32; what is unknown says nothing. Its state is JSON: floats survive that
exactly and keys keep their order, so a learner that was saved and loaded goes on bit for bit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from river import linear_model, optim, preprocessing, utils

from sentinel.models.fitted import Floats, Matrix

CODES: Final = 32
"""Weights that a category has; codes are folded to so many."""
LEARNING_RATE: Final = 0.05
L2: Final = 1e-6


class RiverLearner:
    """The learner.

    Args:
        feature_names: In column order.
        categorical: Names of the features that hold category codes.
        intercept: Log-odds to start at.
    """

    def __init__(
        self,
        feature_names: Sequence[str],
        categorical: Sequence[str] = (),
        *,
        intercept: float = 0.0,
    ) -> None:
        self._names = tuple(feature_names)
        self._codes = [name in set(categorical) for name in self._names]
        self._scaler: Any = preprocessing.StandardScaler()  # River's types stop here
        self._model = linear_model.LogisticRegression(
            optimizer=optim.AdaGrad(LEARNING_RATE), l2=L2, intercept_init=intercept
        )

    def score(self, X: Matrix) -> Floats:
        """Log-odds of fraud.

        Args:
            X: float32 (n_rows, n_features), NaN = unknown.

        Returns:
            float64 (n_rows,).
        """
        weights, bias = self._model.weights, self._model.intercept
        found = np.empty(len(X))
        for place, row in enumerate(X.tolist()):
            numbers, codes = self._split(row)
            x = self._scaler.transform_one(numbers) | codes
            found[place] = bias + sum(weights.get(name, 0.0) * value for name, value in x.items())
        return found

    def learn(self, X: Matrix, fraud: npt.NDArray[np.bool_], weight: Floats | None = None) -> None:
        """Learn from rows, one after another.

        Args:
            X: float32 (n_rows, n_features), NaN = unknown.
            fraud: bool (n_rows,).
            weight: float64 (n_rows,), how many rows each stands for; None if each is one.
        """
        counts = np.ones(len(X)) if weight is None else weight
        for row, target, times in zip(X.tolist(), fraud.tolist(), counts.tolist(), strict=True):
            numbers, codes = self._split(row)
            self._scaler.learn_one(numbers)
            x = self._scaler.transform_one(numbers) | codes
            self._model.learn_one(x, target, w=times)

    def state(self) -> bytes:
        """All that it knows, as JSON."""
        model, scaler = self._model, self._scaler
        return json.dumps(
            {
                "weights": model.weights,
                "intercept": model.intercept,
                "steps": model.optimizer.n_iterations,
                "g2": model.optimizer.g2,
                "counts": scaler.counts,
                "means": scaler.means,
                "vars": scaler.vars,
            },
            separators=(",", ":"),
        ).encode()

    def restore(self, state: bytes) -> None:
        """Go on from what `state` gave.

        Raises:
            ValueError, KeyError: It is no such thing.
        """
        known: dict[str, Any] = json.loads(state)
        model, scaler = self._model, self._scaler
        model._weights = utils.VectorDict(known["weights"])
        model.intercept = known["intercept"]
        model.optimizer.n_iterations = known["steps"]
        model.optimizer.g2.update(known["g2"])
        scaler.counts.update(known["counts"])
        scaler.means.update(known["means"])
        scaler.vars.update(known["vars"])

    def _split(self, row: list[float]) -> tuple[dict[str, float], dict[str, float]]:
        """Numbers and category codes of a row, without what is unknown."""
        numbers: dict[str, float] = {}
        codes: dict[str, float] = {}
        for name, is_code, value in zip(self._names, self._codes, row, strict=True):
            if not math.isfinite(value):
                continue
            if is_code:
                codes[f"{name}={int(value) % CODES}"] = 1.0
            else:
                numbers[name] = math.copysign(math.log1p(abs(value)), value)
        return numbers, codes
