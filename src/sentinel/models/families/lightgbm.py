"""LightGBM, held back for rare fraud.

Where fraud is rare, a booster's default settings cost a lot: a leaf of a handful of rows has
next to no curvature, so its step is huge. Here leaves are held back by L2 and by a minimum of
curvature, the base rate is the start, and classes are not reweighted, so that scores stay
log-odds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

import lightgbm
import numpy as np
import numpy.typing as npt
from lightgbm.callback import CallbackEnv

from sentinel.models.booster import escaped
from sentinel.models.families.trainer import Between, Task, Trainer, curvature, least_rounds
from sentinel.models.fitted import FittedModel, Floats, Matrix, shares

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
        return shares(self.booster.feature_importance(importance_type="gain"))

    def native(self) -> str:
        return str(self.booster.model_to_string())


class LightGBM(Trainer):
    """Gradient-boosted trees, grown leaf by leaf; what a new deployment trains."""

    name = "lightgbm"
    title = "LightGBM"
    defaults = LIGHTGBM_PARAMETERS
    quick: ClassVar[Mapping[str, Any]] = {"rounds": 120, "learning_rate": 0.1}
    space: ClassVar[Mapping[str, Between]] = {
        "learning_rate": Between(0.02, 0.15, 0.05, log=True),
        "num_leaves": Between(7, 95, 31, log=True),
        "min_data_in_leaf": Between(20, 400, 50, log=True),
        "min_sum_hessian_in_leaf": Between(0.5, 20.0, 5.0, log=True),
        "lambda_l2": Between(1.0, 200.0, 20.0, log=True),
        "feature_fraction": Between(0.2, 1.0, 0.5),
        "bagging_fraction": Between(0.5, 1.0, 0.8),
        "max_bin": Between(63, 511, 255, log=True),
    }

    def fit(self, task: Task) -> FittedModel:
        fitting = {**LIGHTGBM_PARAMETERS, **scaled_to(task.y, task.weight)}
        settings = {**fitting, "seed": task.seed, **task.parameters}
        rounds = int(settings.pop("rounds", MAX_ROUNDS if task.validation else FIXED_ROUNDS))
        data = data_of(task, settings)
        watched: list[lightgbm.Dataset] = []
        callbacks: list[Callable[..., Any]] = []
        if task.validation is not None:
            given = task.validation
            target = np.asarray(given.y, np.int8)
            watched = [data.create_valid(given.X, target, weight=given.weight)]
            first = least_rounds(given, float(settings["learning_rate"]))
            callbacks = [_from_round(first, lightgbm.early_stopping(PATIENCE, verbose=False))]
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


def _from_round(first: int, stop: Any) -> Callable[[CallbackEnv], None]:
    """Early stopping that only sees a round and what follows it; before, nothing can stop.

    Args:
        first: Counted from 1; up to 1 it sees all.
        stop: The library's callback.
    """

    def watch(env: CallbackEnv) -> None:
        begin = max(env.begin_iteration, first - 1)
        if env.iteration >= begin:
            stop(dataclasses.replace(env, begin_iteration=begin))

    watch.order = stop.order  # type: ignore[attr-defined]
    return watch


def data_of(task: Task, settings: Mapping[str, Any]) -> lightgbm.Dataset:
    """The rows of a task, as LightGBM takes them.

    Args:
        task: What to fit.
        settings: Those of the fit: bins are made with the data, before there is a booster.
    """
    return lightgbm.Dataset(
        task.X,
        task.y,
        weight=task.weight,
        feature_name=[escaped(name) for name in task.feature_names],
        categorical_feature=[escaped(name) for name in task.categorical],
        params={"max_bin": settings["max_bin"]} if "max_bin" in settings else None,
        free_raw_data=True,
    )


def scaled_to(y: npt.NDArray[Any], weight: Floats | None = None) -> dict[str, float]:
    """LightGBM's restraints, loosened where there is little to learn from.

    The defaults suit fifty frauds or more. What holds leaves back is the curvature of the
    loss: with five frauds there is less than five, so that there would be no split at all.

    Args:
        y: (n_rows,), 1 = fraud.
        weight: (n_rows,), how many rows each stands for.

    Returns:
        Changes to `LIGHTGBM_PARAMETERS`; none where there is enough.
    """
    there_is = curvature(y, weight)
    changes: dict[str, float] = {}
    if there_is < 50.0:
        changes |= {
            "min_sum_hessian_in_leaf": there_is / 10.0,
            "lambda_l2": there_is / 2.5,
            "cat_l2": there_is / 2.5,
        }
    if len(y) < 1000:
        changes["min_data_in_leaf"] = max(1, len(y) // 20)
        changes["min_data_per_group"] = max(1, len(y) // 10)
    return changes
