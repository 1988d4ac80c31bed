"""What training gives: a model that scores, says what it uses, and leaves without a pickle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import lightgbm
import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline

from sentinel.domain import ModelError
from sentinel.models.booster import from_sklearn_forest
from sentinel.models.ensemble import TreeEnsemble
from sentinel.models.tree_kernel import Scorer

Matrix = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
TrainerName = Literal["lightgbm", "random_forest", "logistic_regression"]


class FittedModel(ABC):
    """A fitted model.

    Attributes:
        name: Which trainer made it.
        feature_names: In column order.
        parameters: What it was fitted with, for the record.
    """

    name: TrainerName
    feature_names: tuple[str, ...]
    parameters: dict[str, str | float]

    @abstractmethod
    def raw_score(self, X: Matrix) -> Floats:
        """Scores that rank: log-odds, or the forest's share of votes.

        Args:
            X: float32 (n_rows, n_features), NaN = unknown.

        Returns:
            float64 (n_rows,).
        """

    @abstractmethod
    def importance(self) -> Floats:
        """How much each feature is used: float64 (n_features,), summing to 1."""

    def native(self) -> str | TreeEnsemble:
        """The model as `save_artifact` takes it; never a pickle.

        Raises:
            ModelError: If this kind of model is not served.
        """
        raise ModelError(
            f"{self.name} is a baseline to compare with; it is not served. "
            "Set training.trainer to lightgbm or random_forest."
        )


class LightGBMModel(FittedModel):
    """A LightGBM booster; scores are log-odds."""

    name = "lightgbm"

    def __init__(
        self,
        booster: lightgbm.Booster,
        feature_names: tuple[str, ...],
        parameters: Mapping[str, Any],
    ) -> None:
        self.booster = booster
        self.feature_names = feature_names
        self.parameters = {**parameters, "rounds": booster.num_trees()}

    def raw_score(self, X: Matrix) -> Floats:
        return np.asarray(self.booster.predict(X, raw_score=True), dtype=np.float64)

    def importance(self) -> Floats:
        return _shares(self.booster.feature_importance(importance_type="gain"))

    def native(self) -> str:
        return str(self.booster.model_to_string())


class ForestModel(FittedModel):
    """A random forest; scores are the mean share of frauds in the leaves."""

    name = "random_forest"

    def __init__(self, forest: RandomForestClassifier, feature_names: tuple[str, ...]) -> None:
        self.forest = forest
        self.feature_names = feature_names
        self._scorer = Scorer(self.native())
        self.parameters = {
            "n_estimators": forest.n_estimators,
            "max_depth": forest.max_depth,
            "min_samples_leaf": forest.min_samples_leaf,
            "seed": forest.random_state,
        }

    def raw_score(self, X: Matrix) -> Floats:
        # Our own kernel: the library's sum over trees depends on how its threads were scheduled.
        return np.asarray(self._scorer.score_many(X), dtype=np.float64)

    def importance(self) -> Floats:
        return _shares(self.forest.feature_importances_)

    def native(self) -> TreeEnsemble:
        return replace(from_sklearn_forest(self.forest), feature_names=self.feature_names)


class LogisticModel(FittedModel):
    """A logistic regression after its preparation; scores are log-odds."""

    name = "logistic_regression"

    def __init__(self, pipeline: Pipeline, feature_names: tuple[str, ...]) -> None:
        self.pipeline = pipeline
        self.feature_names = feature_names
        self.parameters = {"C": pipeline[-1].C, "max_iter": pipeline[-1].max_iter}

    def raw_score(self, X: Matrix) -> Floats:
        return np.asarray(self.pipeline.decision_function(X), dtype=np.float64)

    def importance(self) -> Floats:
        """Size of the coefficients, those of a feature's categories summed."""
        weights = np.abs(self.pipeline[-1].coef_[0])
        sizes = np.zeros(len(self.feature_names))
        at = 0
        for kind, steps, places in self.pipeline[0].transformers_:
            if kind == "number":
                sizes[places] = weights[: len(places)]
                at = len(places)
            elif kind == "category":
                for place, known in zip(places, steps[-1].categories_, strict=True):
                    sizes[place] = weights[at : at + len(known)].sum()
                    at += len(known)
        return _shares(sizes)


def _shares(sizes: npt.ArrayLike) -> Floats:
    """Sizes as shares of their sum; zeros stay zeros."""
    given = np.asarray(sizes, dtype=np.float64)
    return given / max(float(given.sum()), 1e-300)
