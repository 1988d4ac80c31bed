"""A logistic regression: the baseline that every candidate is held against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from sklearn import linear_model
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sentinel.models.families.trainer import Between, Task, Trainer
from sentinel.models.fitted import FittedModel, Floats, Matrix, shares


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
        return shares(sizes)


class LogisticRegression(Trainer):
    """One weight per feature; medians stand in for missing numbers, categories get columns."""

    name = "logistic_regression"
    title = "Logistic regression"
    served = False
    defaults: ClassVar[Mapping[str, Any]] = {"C": 1.0, "max_iter": 1000}
    space: ClassVar[Mapping[str, Between]] = {"C": Between(0.001, 100.0, 1.0, log=True)}

    def fit(self, task: Task) -> FittedModel:
        settings = {**self.defaults, **task.parameters}
        places = [task.feature_names.index(name) for name in task.categorical]
        numeric = [i for i in range(len(task.feature_names)) if i not in places]
        number = make_pipeline(
            SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()
        )
        category = make_pipeline(
            SimpleImputer(strategy="constant", fill_value=-1, keep_empty_features=True),
            OneHotEncoder(handle_unknown="ignore"),
        )
        kinds = [("number", number, numeric), ("category", category, places)]
        # A transformer refuses to be fitted on no columns at all.
        prepare = ColumnTransformer([kind for kind in kinds if kind[2]])
        fit = linear_model.LogisticRegression(**settings, random_state=task.seed)
        pipeline = Pipeline([("prepare", prepare), ("fit", fit)])
        pipeline.fit(task.X, task.y, fit__sample_weight=task.weight)
        return LogisticModel(pipeline, task.feature_names)
