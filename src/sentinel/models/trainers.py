"""Fit a model: LightGBM by default, with a random forest and a logistic regression beside it.

Where fraud is rare, a booster's default settings cost a lot: a leaf of a handful of rows has
next to no curvature, so its step is huge. Here leaves are held back by L2 and by a minimum of
curvature, the base rate is the start, and classes are not reweighted, so that scores stay
log-odds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

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
from sentinel.models.booster import escaped
from sentinel.models.fitted import (
    FittedModel,
    Floats,
    ForestModel,
    LightGBMModel,
    LogisticModel,
    Matrix,
    TrainerName,
)

__all__ = ["FittedModel", "TrainerName", "Validation", "train"]

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
        weight: float64 (n_rows,), how many rows each stands for; None if each is one.
    """

    X: Matrix
    y: npt.NDArray[Any]
    weight: Floats | None = None


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
        ModelError: If the rows are of one class only, or there is no feature.
    """
    names = tuple(feature_names)
    if not names:
        raise ModelError(
            "The plan has no feature, so there is nothing to learn from. Define one in the "
            "feature store's definitions.py and run `sentinel features apply`."
        )
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


def scaled_to(y: npt.NDArray[Any], weight: Floats | None = None) -> dict[str, float]:
    """LightGBM's restraints, loosened where there is little to learn from.

    The defaults suit fifty frauds or more. What holds leaves back is the curvature of the
    loss, and all rows together have n p (1 - p) of it: with five frauds less than five, so that
    there would be no split at all.

    Args:
        y: (n_rows,), 1 = fraud.
        weight: (n_rows,), how many rows each stands for.

    Returns:
        Changes to `LIGHTGBM_PARAMETERS`; none where there is enough.
    """
    n_rows = float(len(y) if weight is None else weight.sum())
    frauds = float(y.sum() if weight is None else weight[np.asarray(y) == 1].sum())
    curvature = frauds * (1.0 - frauds / n_rows)
    changes: dict[str, float] = {}
    if curvature < 50.0:
        changes |= {
            "min_sum_hessian_in_leaf": curvature / 10.0,
            "lambda_l2": curvature / 2.5,
            "cat_l2": curvature / 2.5,
        }
    if len(y) < 1000:
        changes["min_data_in_leaf"] = max(1, len(y) // 20)
        changes["min_data_per_group"] = max(1, len(y) // 10)
    return changes


def _lightgbm(task: _Task) -> FittedModel:
    fitting = {**LIGHTGBM_PARAMETERS, **scaled_to(task.y, task.weight)}
    settings = {**fitting, "seed": task.seed, **task.parameters}
    rounds = int(settings.pop("rounds", MAX_ROUNDS if task.validation else FIXED_ROUNDS))
    data = lightgbm.Dataset(
        task.X,
        task.y,
        weight=task.weight,
        feature_name=[escaped(name) for name in task.feature_names],
        categorical_feature=[escaped(name) for name in task.categorical],
        free_raw_data=True,
    )
    watched: list[lightgbm.Dataset] = []
    callbacks: list[Callable[..., Any]] = []
    if task.validation is not None:
        given = task.validation
        watched = [data.create_valid(given.X, np.asarray(given.y, np.int8), weight=given.weight)]
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
    return LightGBMModel(booster, task.feature_names, settings)


def _random_forest(task: _Task) -> FittedModel:
    settings = {"n_estimators": 100, "max_depth": 10, **task.parameters}
    # The forest splits on missing values by itself; nothing is imputed.
    forest = RandomForestClassifier(**settings, random_state=task.seed, n_jobs=task.threads)
    forest.fit(task.X, task.y, sample_weight=task.weight)
    return ForestModel(forest, task.feature_names)


def _logistic_regression(task: _Task) -> FittedModel:
    settings = {"C": 1.0, "max_iter": 1000, **task.parameters}
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
    pipeline = Pipeline(
        [("prepare", prepare), ("fit", LogisticRegression(**settings, random_state=task.seed))]
    )
    pipeline.fit(task.X, task.y, fit__sample_weight=task.weight)
    return LogisticModel(pipeline, task.feature_names)


def _own_cores() -> int:
    """Cores this process may use: in a container or under `taskset` fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_TRAINERS: Final[dict[str, Callable[[_Task], FittedModel]]] = {
    "lightgbm": _lightgbm,
    "random_forest": _random_forest,
    "logistic_regression": _logistic_regression,
}
