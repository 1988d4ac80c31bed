"""Fit a model: LightGBM by default, with a random forest and a logistic regression beside it.

Where fraud is rare, a booster's default settings cost a lot: a leaf of a handful of rows has
next to no curvature, so its step is huge. Here leaves are held back by L2 and by a minimum of
curvature, the base rate is the start, and classes are not reweighted, so that scores stay
log-odds.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import lightgbm
import numpy as np
import numpy.typing as npt
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sentinel.domain import ConfigurationError, ModelError
from sentinel.models.booster import from_sklearn_forest
from sentinel.models.ensemble import TreeEnsemble
from sentinel.models.tree_kernel import Scorer

Matrix = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
TrainerName = Literal["lightgbm", "random_forest", "logistic_regression"]

MAX_ROUNDS: Final = 600
PATIENCE: Final = 50
FIXED_ROUNDS: Final = 200

LIGHTGBM_PARAMETERS: Final[Mapping[str, Any]] = {
    "objective": "binary",
    "metric": "binary_logloss",
    "boost_from_average": True,
    "learning_rate": 0.05,
    "num_leaves": 31,
    "lambda_l2": 20.0,
    "min_sum_hessian_in_leaf": 5.0,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "cat_l2": 20.0,
    "max_cat_to_onehot": 8,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Later rows than those fitted on, by which boosting decides when to stop.

    Attributes:
        X: float32 (n_rows, n_features), NaN = unknown.
        y: (n_rows,), 1 = fraud.
    """

    X: Matrix
    y: npt.NDArray[Any]


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


class _LightGBM(FittedModel):
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


class _Forest(FittedModel):
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


class _Logistic(FittedModel):
    name = "logistic_regression"

    def __init__(self, pipeline: Pipeline, feature_names: tuple[str, ...]) -> None:
        self.pipeline = pipeline
        self.feature_names = feature_names
        self.parameters = {"C": pipeline[-1].C, "max_iter": pipeline[-1].max_iter}

    def raw_score(self, X: Matrix) -> Floats:
        return np.asarray(self.pipeline.decision_function(X), dtype=np.float64)

    def importance(self) -> Floats:
        """Size of the coefficients, those of a feature's categories summed."""
        (_, _, numeric), (_, categories, places) = self.pipeline[0].transformers_[:2]
        weights = np.abs(self.pipeline[-1].coef_[0])
        sizes = np.zeros(len(self.feature_names))
        sizes[numeric] = weights[: len(numeric)]
        at = len(numeric)
        for place, known in zip(places, categories[-1].categories_ if places else (), strict=True):
            sizes[place] = weights[at : at + len(known)].sum()
            at += len(known)
        return _shares(sizes)


def train(
    name: TrainerName,
    X: Matrix,
    y: npt.NDArray[Any],
    *,
    feature_names: Sequence[str],
    categorical: Sequence[str] = (),
    seed: int = 7,
    validation: Validation | None = None,
    weight: Floats | None = None,
    threads: int | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> FittedModel:
    """Fit a model.

    Args:
        name: ``lightgbm``, ``random_forest`` or ``logistic_regression``.
        X: float32 (n_rows, n_features), NaN = unknown.
        y: (n_rows,), 1 = fraud.
        feature_names: In column order.
        categorical: Names of the features that hold category codes.
        seed: Of everything random; the same data and seed give the same model.
        validation: Later rows for early stopping; without them LightGBM takes FIXED_ROUNDS.
        weight: float64 (n_rows,), how many rows each stands for.
        threads: Default: the cores this process may use.
        parameters: Changes to the trainer's own settings.

    Raises:
        ConfigurationError: If there is no such trainer.
        ModelError: If the rows are of one class only.
    """
    names = tuple(feature_names)
    if name not in _TRAINERS:
        raise ConfigurationError(f"There is no trainer {name!r}. There is: {', '.join(_TRAINERS)}.")
    if X.shape != (len(y), len(names)):
        raise ModelError(
            f"The rows are {X.shape}, for {len(y)} targets and {len(names)} feature names."
        )
    target = np.asarray(y, dtype=np.int8)
    if target.min(initial=1) == target.max(initial=0):
        raise ModelError("All rows are of one class; there is nothing to learn.")
    task = _Task(
        X=X,
        y=target,
        feature_names=names,
        categorical=tuple(categorical),
        seed=seed,
        validation=validation,
        weight=weight,
        threads=threads or _own_cores(),
        parameters=dict(parameters or {}),
    )
    return _TRAINERS[name](task)


@dataclass(frozen=True, kw_only=True)
class _Task:
    X: Matrix
    y: npt.NDArray[np.int8]
    feature_names: tuple[str, ...]
    categorical: tuple[str, ...]
    seed: int
    validation: Validation | None
    weight: Floats | None
    threads: int
    parameters: dict[str, Any]


def _lightgbm(task: _Task) -> FittedModel:
    settings = {**LIGHTGBM_PARAMETERS, "seed": task.seed, **task.parameters}
    rounds = int(settings.pop("rounds", MAX_ROUNDS if task.validation else FIXED_ROUNDS))
    data = lightgbm.Dataset(
        task.X,
        task.y,
        weight=task.weight,
        feature_name=list(task.feature_names),
        categorical_feature=list(task.categorical),
        free_raw_data=True,
    )
    watched: list[lightgbm.Dataset] = []
    callbacks: list[Callable[..., Any]] = []
    if task.validation is not None:
        watched = [data.create_valid(task.validation.X, np.asarray(task.validation.y, np.int8))]
        callbacks = [lightgbm.early_stopping(PATIENCE, verbose=False)]
    booster = lightgbm.train(
        {**settings, "num_threads": task.threads},
        data,
        num_boost_round=rounds,
        valid_sets=watched,
        callbacks=callbacks,
    )
    if task.validation is not None and 0 < booster.best_iteration < booster.num_trees():
        booster = lightgbm.Booster(
            model_str=booster.model_to_string(num_iteration=booster.best_iteration)
        )
    return _LightGBM(booster, task.feature_names, settings)


def _random_forest(task: _Task) -> FittedModel:
    settings = {"n_estimators": 100, "max_depth": 10, **task.parameters}
    # The forest splits on missing values by itself; nothing is imputed.
    forest = RandomForestClassifier(**settings, random_state=task.seed, n_jobs=task.threads)
    forest.fit(task.X, task.y, sample_weight=task.weight)
    return _Forest(forest, task.feature_names)


def _logistic_regression(task: _Task) -> FittedModel:
    settings = {"C": 1.0, "max_iter": 1000, **task.parameters}
    places = [task.feature_names.index(name) for name in task.categorical]
    numeric = [i for i in range(len(task.feature_names)) if i not in places]
    prepare = ColumnTransformer(
        [
            (
                "number",
                make_pipeline(
                    SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()
                ),
                numeric,
            ),
            (
                "category",
                make_pipeline(
                    SimpleImputer(strategy="constant", fill_value=-1),
                    OneHotEncoder(handle_unknown="ignore"),
                ),
                places,
            ),
        ]
    )
    pipeline = Pipeline(
        [("prepare", prepare), ("fit", LogisticRegression(**settings, random_state=task.seed))]
    )
    pipeline.fit(task.X, task.y, fit__sample_weight=task.weight)
    return _Logistic(pipeline, task.feature_names)


def _own_cores() -> int:
    """Cores this process may use: in a container or under `taskset` fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _shares(sizes: npt.ArrayLike) -> Floats:
    """Sizes as shares of their sum; zeros stay zeros."""
    given = np.asarray(sizes, dtype=np.float64)
    return given / max(float(given.sum()), 1e-300)


_TRAINERS: Final[dict[str, Callable[[_Task], FittedModel]]] = {
    "lightgbm": _lightgbm,
    "random_forest": _random_forest,
    "logistic_regression": _logistic_regression,
}
