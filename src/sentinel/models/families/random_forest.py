"""scikit-learn's random forest, served as flat arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from sklearn.ensemble import RandomForestClassifier

from sentinel.models.booster import from_sklearn_forest
from sentinel.models.ensemble import TreeEnsemble
from sentinel.models.families.trainer import Between, Task, Trainer
from sentinel.models.fitted import FittedModel, Floats, Matrix, shares
from sentinel.models.tree_kernel import Scorer


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
        return self._scorer.raw_many(X)

    def importance(self) -> Floats:
        return shares(self.forest.feature_importances_)

    def native(self) -> TreeEnsemble:
        return replace(from_sklearn_forest(self.forest), feature_names=self.feature_names)


class RandomForest(Trainer):
    """Many deep trees, each on its own sample of payments and features."""

    name = "random_forest"
    title = "Random forest"
    defaults: ClassVar[Mapping[str, Any]] = {"n_estimators": 100, "max_depth": 10}
    space: ClassVar[Mapping[str, Between]] = {
        "max_depth": Between(6, 20, 10),
        "min_samples_leaf": Between(1, 50, 1, log=True),
        "max_features": Between(0.05, 0.5, 0.1, log=True),
        "max_samples": Between(0.3, 0.95, 0.95),
    }

    def fit(self, task: Task) -> FittedModel:
        settings = {**self.defaults, **task.parameters}
        # The forest splits on missing values by itself; nothing is imputed.
        forest = RandomForestClassifier(**settings, random_state=task.seed, n_jobs=task.threads)
        forest.fit(task.X, task.y, sample_weight=task.weight)
        return ForestModel(forest, task.feature_names)
