"""A random forest whose trees LightGBM grows, on bins.

Each tree is fitted on its own sample of payments, and each of its splits on a sample of features;
a score is the mean of the trees' log-odds. It is held as trees whose leaves are divided by their
number, so that the kernel sums them and its reasons add up, as those of a boosted model do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final

import lightgbm

from sentinel.models.booster import parse_lightgbm
from sentinel.models.ensemble import TreeEnsemble
from sentinel.models.families.lightgbm import data_of
from sentinel.models.families.trainer import Between, Task, Trainer
from sentinel.models.fitted import FittedModel, Floats, Matrix, shares
from sentinel.models.tree_kernel import Scorer

TREES: Final = 150
"""How many there are; a forest is not stopped early, since more of them do no harm."""


class LightGBMForestModel(FittedModel):
    """A forest that LightGBM has grown; scores are mean log-odds."""

    name = "lightgbm_forest"

    def __init__(
        self,
        booster: lightgbm.Booster,
        feature_names: tuple[str, ...],
        parameters: Mapping[str, Any],
    ) -> None:
        self.booster = booster
        self.feature_names = feature_names
        self.parameters = {**parameters, "rounds": booster.num_trees()}
        grown = parse_lightgbm(str(booster.model_to_string()))
        self._trees = replace(
            grown, leaf_value=grown.leaf_value / grown.n_trees, average_output=False
        )
        self._scorer = Scorer(self._trees)

    def raw_score(self, X: Matrix) -> Floats:
        return self._scorer.raw_many(X)

    def importance(self) -> Floats:
        return shares(self.booster.feature_importance(importance_type="gain"))

    def native(self) -> TreeEnsemble:
        return self._trees


class LightGBMForest(Trainer):
    """Many deep trees, each on its own sample of payments and features, grown on bins."""

    name = "lightgbm_forest"
    title = "Random forest by LightGBM"
    defaults: ClassVar[Mapping[str, Any]] = {
        "objective": "binary",
        "boosting": "rf",
        "rounds": TREES,
        "num_leaves": 1023,
        "min_data_in_leaf": 3,
        "min_sum_hessian_in_leaf": 0.001,
        "feature_fraction_bynode": 0.2,
        "bagging_fraction": 0.632,
        "bagging_freq": 1,
        "max_cat_to_onehot": 8,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    quick: ClassVar[Mapping[str, Any]] = {"rounds": 60, "num_leaves": 255}
    space: ClassVar[Mapping[str, Between]] = {
        "num_leaves": Between(127, 2047, 1023, log=True),
        "min_data_in_leaf": Between(1, 50, 3, log=True),
        "feature_fraction_bynode": Between(0.05, 0.5, 0.2, log=True),
        "bagging_fraction": Between(0.3, 0.9, 0.632),
    }

    def fit(self, task: Task) -> FittedModel:
        settings = {**self.defaults, "seed": task.seed, **task.parameters}
        trees = int(settings.pop("rounds"))
        booster = lightgbm.train(
            {**settings, "num_threads": task.threads},
            data_of(task, settings),
            num_boost_round=trees,
        )
        return LightGBMForestModel(booster, task.feature_names, settings)
