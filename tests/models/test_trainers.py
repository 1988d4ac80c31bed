"""Trainers: deterministic, safe where fraud is rare, and exact outside the library that trained."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from sentinel.domain import ConfigurationError, ModelError
from sentinel.models import trainers
from sentinel.models.booster import parse_lightgbm
from sentinel.models.ensemble import TreeEnsemble
from sentinel.models.evaluation import average_precision
from sentinel.models.trainers import TrainerName, Validation
from sentinel.models.tree_kernel import Scorer

NAMES = ("amount", "count_1h", "rate", "noise", "channel")
train = partial(trainers.train, threads=1)
ALL: tuple[TrainerName, ...] = ("lightgbm", "xgboost", "random_forest", "logistic_regression")


def world(
    n_rows: int, seed: int, rate: float = -5.5
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Payments with missing values and a category, and rare frauds."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(n_rows, 5)).astype(np.float32)
    X[:, 4] = random.integers(0, 4, n_rows)
    margin = rate + 1.2 * X[:, 0] + 1.0 * X[:, 1] + 1.5 * (X[:, 4] == 2) + X[:, 2]
    X[random.random((n_rows, 5)) < 0.05] = np.nan
    return X, random.random(n_rows) < 1.0 / (1.0 + np.exp(-margin))


@pytest.fixture(scope="module")
def rows() -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    return world(8_000, 1)


@pytest.mark.parametrize("name", ALL)
def test_the_same_data_and_seed_give_the_same_model(
    name: TrainerName, rows: tuple[NDArray[np.float32], NDArray[np.bool_]]
) -> None:
    X, y = rows
    first, second = (
        train(name, X, y, feature_names=NAMES, categorical=["channel"], seed=3) for _ in range(2)
    )
    assert first.raw_score(X).tobytes() == second.raw_score(X).tobytes()


@pytest.mark.parametrize("name", ALL)
def test_every_trainer_learns_and_says_what_it_used(
    name: TrainerName, rows: tuple[NDArray[np.float32], NDArray[np.bool_]]
) -> None:
    model = train(name, *rows, feature_names=NAMES, categorical=["channel"])
    X, y = world(20_000, 2)
    assert average_precision(y, model.raw_score(X)) > 6 * y.mean()
    importance = model.importance()
    assert importance.shape == (5,)
    assert importance.sum() == pytest.approx(1.0)
    assert importance[0] > importance[3], "the amount is used more than noise"
    assert model.parameters


def test_a_lightgbm_model_is_its_text(
    rows: tuple[NDArray[np.float32], NDArray[np.bool_]],
) -> None:
    model = train("lightgbm", *rows, feature_names=NAMES, categorical=["channel"])
    text = model.native()
    assert isinstance(text, str)
    ensemble = parse_lightgbm(text)
    assert ensemble.feature_names == NAMES
    X, _ = world(500, 3)
    assert Scorer(ensemble).raw_many(X).tobytes() == model.raw_score(X).tobytes()


def test_a_forest_is_flat_arrays_under_the_plans_names(
    rows: tuple[NDArray[np.float32], NDArray[np.bool_]],
) -> None:
    model = train("random_forest", *rows, feature_names=NAMES)
    ensemble = model.native()
    assert isinstance(ensemble, TreeEnsemble)
    assert ensemble.feature_names == NAMES
    assert ensemble.n_trees == 100
    X, _ = world(500, 3)
    assert np.allclose(Scorer(ensemble).score_many(X), model.raw_score(X), rtol=0, atol=1e-12)


def test_a_logistic_regression_is_not_served(
    rows: tuple[NDArray[np.float32], NDArray[np.bool_]],
) -> None:
    model = train("logistic_regression", *rows, feature_names=NAMES)
    with pytest.raises(ModelError, match=r"baseline.*training\.trainer"):
        model.native()


def test_boosting_stops_when_later_rows_stop_getting_better(
    rows: tuple[NDArray[np.float32], NDArray[np.bool_]],
) -> None:
    later_X, later_y = world(10_000, 4)
    model = train(
        "lightgbm", *rows, feature_names=NAMES, validation=Validation(X=later_X, y=later_y)
    )
    assert 5 < float(model.parameters["rounds"]) < 600
    text = model.native()
    assert isinstance(text, str)
    assert parse_lightgbm(text).n_trees == model.parameters["rounds"]


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
@pytest.mark.parametrize(("rate", "least"), [(0.05, 300), (0.1, 150)])
def test_a_few_later_frauds_do_not_stop_boosting_early(
    name: TrainerName, rate: float, least: int, rows: tuple[NDArray[np.float32], NDArray[np.bool_]]
) -> None:
    """The loss of later rows whose frauds are chance rises from the first rounds on."""
    later_X, _ = world(10_000, 5)
    chance = np.random.default_rng(5).permutation(10_000)

    def rounds(frauds: int) -> float:
        model = train(
            name,
            *rows,
            feature_names=NAMES,
            validation=Validation(X=later_X, y=chance < frauds),
            parameters={"learning_rate": rate},
        )
        return float(model.parameters["rounds"])

    assert least <= rounds(99) < least + 20  # what is left is chance, too
    assert rounds(100) < least / 2


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_boosting_that_is_shorter_than_the_least_is_not_made_longer(
    name: TrainerName, rows: tuple[NDArray[np.float32], NDArray[np.bool_]]
) -> None:
    later_X, later_y = world(400, 4)
    model = train(
        name,
        *rows,
        feature_names=NAMES,
        validation=Validation(X=later_X, y=later_y),
        parameters={"rounds": 30},
    )
    assert model.parameters["rounds"] == 30


def test_scores_start_from_the_base_rate_and_stay_log_odds() -> None:
    X, y = world(20_000, 5)
    model = train("lightgbm", X, y, feature_names=NAMES)
    fresh, truth = world(50_000, 6)
    probability = 1.0 / (1.0 + np.exp(-model.raw_score(fresh)))
    assert probability.mean() == pytest.approx(truth.mean(), rel=0.15)


def test_rare_fraud_does_not_make_leaves_explode() -> None:
    """With a few dozen frauds in 30,000 the library's defaults are certain of what is chance."""
    X, y = world(30_000, 7, rate=-9.5)
    assert 10 < y.sum() < 100
    fresh, truth = world(100_000, 8, rate=-9.5)

    def log_loss(**parameters: float) -> float:
        raw = train("lightgbm", X, y, feature_names=NAMES, parameters=parameters).raw_score(fresh)
        return float((np.logaddexp(0.0, raw) - truth * raw).mean())

    ours = log_loss()
    defaults = log_loss(lambda_l2=0.0, min_sum_hessian_in_leaf=1e-3, min_data_in_leaf=20)
    assert ours < 0.8 * defaults


def test_an_unknown_trainer_is_named_with_those_that_there_are() -> None:
    X, y = world(100, 9, rate=-1.0)
    with pytest.raises(ConfigurationError, match="lightgbm, xgboost, random_forest"):
        train("catboost", X, y, feature_names=NAMES)


def test_rows_of_one_class_teach_nothing() -> None:
    X, _ = world(100, 10)
    with pytest.raises(ModelError, match="one class"):
        train("lightgbm", X, np.zeros(100), feature_names=NAMES)


def test_columns_without_names_are_refused() -> None:
    X, y = world(100, 11, rate=-1.0)
    with pytest.raises(ModelError, match="for 100 targets and 4 feature names"):
        train("lightgbm", X, y, feature_names=NAMES[:4])
