"""Fit a model of any installed family: LightGBM by default, see `sentinel.models.families`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sentinel.domain import ModelError
from sentinel.models.families.installed import trainer_of
from sentinel.models.families.lightgbm import LIGHTGBM_PARAMETERS
from sentinel.models.families.trainer import Task, Validation
from sentinel.models.fitted import FittedModel, Floats, Matrix, TrainerName

__all__ = ["LIGHTGBM_PARAMETERS", "FittedModel", "TrainerName", "Validation", "train"]


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
        name: The family: ``lightgbm``, ``xgboost``, ``random_forest``, ``lightgbm_forest``,
            ``logistic_regression``, or what another package adds.
        X: float32 (n_rows, n_features), NaN = unknown.
        y: (n_rows,), 1 = fraud.
        feature_names: In column order.
        categorical: Names of the features that hold category codes.
        seed: Of everything random; the same data and seed give the same model.
        validation: Later rows for early stopping; without them boosting has a fixed length.
        weight: float64 (n_rows,), how many rows each stands for.
        threads: Default: the cores this process may use.
        parameters: Changes to the family's own settings.

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
    trainer = trainer_of(name)
    if X.shape != (len(y), len(names)):
        raise ModelError(
            f"The rows are {X.shape}, for {len(y)} targets and {len(names)} feature names."
        )
    target = np.asarray(y, dtype=np.int8)
    if target.min(initial=1) == target.max(initial=0):
        raise ModelError("All rows are of one class; there is nothing to learn.")
    return trainer.fit(
        Task(
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
    )


def _own_cores() -> int:
    """Cores this process may use: in a container or under `taskset` fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
