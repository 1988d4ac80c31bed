"""XGBoost, held back for rare fraud as LightGBM is, and served by the same kernel.

A category code that XGBoost has no place for (it is negative, or beyond `MOST_CATEGORIES`) is
missing to the model, both here and where it serves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import xgboost

from sentinel.domain import ModelError
from sentinel.models.ensemble import TreeEnsemble
from sentinel.models.families.trainer import Between, Task, Trainer, curvature, least_rounds
from sentinel.models.fitted import FittedModel, Floats, Matrix, shares
from sentinel.models.tree_kernel import Scorer
from sentinel.models.xgboost_format import MOST_CATEGORIES, parse_xgboost

MAX_ROUNDS: Final = 600
PATIENCE: Final = 50
FIXED_ROUNDS: Final = 200
_COMPARED: Final = 256  # rows on which the kernel is held against the library after each fit


class XGBoostModel(FittedModel):
    """An XGBoost booster; scores are log-odds."""

    name = "xgboost"

    def __init__(
        self,
        booster: xgboost.Booster,
        feature_names: tuple[str, ...],
        parameters: Mapping[str, Any],
    ) -> None:
        self.booster = booster
        self.feature_names = feature_names
        self.parameters = {**parameters, "rounds": booster.num_boosted_rounds()}
        self._trees = parse_xgboost(bytes(booster.save_raw("json")), feature_names)
        self._scorer = Scorer(self._trees)

    def raw_score(self, X: Matrix) -> Floats:
        return self._scorer.raw_many(X)

    def importance(self) -> Floats:
        gain = self.booster.get_score(importance_type="total_gain")
        return shares([gain.get(f"f{i}", 0.0) for i in range(len(self.feature_names))])

    def native(self) -> TreeEnsemble:
        return self._trees


class XGBoost(Trainer):
    """Gradient-boosted trees, grown level by level."""

    name = "xgboost"
    title = "XGBoost"
    defaults: ClassVar[Mapping[str, Any]] = {
        "objective": "binary:logistic",
        "eval_metric": "logloss",
        "tree_method": "hist",
        "learning_rate": 0.05,
        "max_depth": 6,
        "reg_lambda": 20.0,
        "min_child_weight": 5.0,
        "colsample_bytree": 0.5,
        "subsample": 0.8,
        "max_cat_to_onehot": 8,
    }
    quick: ClassVar[Mapping[str, Any]] = {"rounds": 120, "learning_rate": 0.1}
    space: ClassVar[Mapping[str, Between]] = {
        "learning_rate": Between(0.02, 0.15, 0.05, log=True),
        "max_depth": Between(3, 10, 6),
        "min_child_weight": Between(0.5, 20.0, 5.0, log=True),
        "reg_lambda": Between(1.0, 200.0, 20.0, log=True),
        "gamma": Between(0.0, 2.0, 0.0),
        "colsample_bytree": Between(0.2, 1.0, 0.5),
        "subsample": Between(0.5, 1.0, 0.8),
    }

    def fit(self, task: Task) -> FittedModel:
        settings = {**self.defaults, **_scaled_to(task), "seed": task.seed, **task.parameters}
        rounds = int(settings.pop("rounds", MAX_ROUNDS if task.validation else FIXED_ROUNDS))
        places = [task.feature_names.index(name) for name in task.categorical]
        data = _matrix(task.X, places, task.y, task.weight)
        watched, callbacks = [], []
        if task.validation is not None:
            given = task.validation
            watched = [(_matrix(given.X, places, given.y, given.weight), "later")]
            callbacks = [_FromRound(least_rounds(given, float(settings["learning_rate"])))]
        booster = xgboost.train(
            {**settings, "nthread": task.threads, "verbosity": 0},
            data,
            num_boost_round=rounds,
            evals=watched,
            callbacks=callbacks,
            verbose_eval=False,
        )
        if watched and booster.attr("best_iteration") is not None:
            booster = booster[: booster.best_iteration + 1]
        model = XGBoostModel(booster, task.feature_names, settings)
        some = np.ascontiguousarray(task.X[:_COMPARED])
        theirs = booster.predict(_matrix(some, places), output_margin=True)
        if not np.array_equal(model.raw_score(some).astype(np.float32), theirs):
            raise ModelError(
                "The model scores otherwise here than in XGBoost, so it will not serve. This "
                f"version of XGBoost ({xgboost.__version__}) is not known: install the locked one "
                "with `make install`."
            )
        return model


class _FromRound(xgboost.callback.EarlyStopping):
    """Early stopping that only sees a round and what follows it; before, nothing can stop.

    Args:
        first: Counted from 1; up to 1 it sees all.
    """

    def __init__(self, first: int) -> None:
        super().__init__(rounds=PATIENCE)
        self._first = first

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        return epoch >= self._first - 1 and super().after_iteration(model, epoch, evals_log)


def _matrix(
    X: Matrix,
    places: Sequence[int],
    y: npt.NDArray[Any] | None = None,
    weight: Floats | None = None,
) -> xgboost.DMatrix:
    """Rows as XGBoost takes them: no infinity, and no code that it has no place for."""
    largest = np.finfo(np.float32).max
    given = np.clip(X, -largest, largest)  # NaN stays
    for place in places:
        column = given[:, place]
        column[~((column >= 0) & (column < MOST_CATEGORIES))] = np.nan
    kinds = ["c" if i in places else "q" for i in range(X.shape[1])]
    return xgboost.DMatrix(
        given, label=y, weight=weight, feature_types=kinds, enable_categorical=True
    )


def _scaled_to(task: Task) -> dict[str, float]:
    """Restraints loosened where there are fewer than fifty frauds to learn from."""
    there_is = curvature(task.y, task.weight)
    if there_is >= 50.0:
        return {}
    return {"min_child_weight": there_is / 10.0, "reg_lambda": there_is / 2.5}
