"""Scores equal LightGBM's and scikit-learn's bit for bit, and damaged models are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier

from sentinel.models.booster import (
    ModelFormatError,
    TreeEnsemble,
    from_sklearn_forest,
    load_lightgbm,
    load_npz,
    parse_lightgbm,
    save_npz,
)
from sentinel.models.tree_kernel import Scorer
from sentinel.models.tree_layout import MASK_WORDS

CATEGORICAL = [3, 4]
N_FEATURES = 6
BASE = {"verbose": -1, "num_threads": 1, "deterministic": True, "min_data_in_leaf": 2}
BAGGED = {"bagging_freq": 1, "bagging_fraction": 0.6}
LEAVES_OF_ONE = {"min_data_in_leaf": 1, "min_sum_hessian_in_leaf": 0.0}
MODELS: dict[str, dict[str, Any]] = {
    "binary": {"objective": "binary"},
    "scale_pos_weight": {"objective": "binary", "scale_pos_weight": 7.5, "sigmoid": 0.7},
    "no_initial_score": {"objective": "binary", "boost_from_average": False},
    "cross_entropy": {"objective": "cross_entropy"},
    "cross_entropy_lambda": {"objective": "cross_entropy_lambda"},
    "regression": {"objective": "regression"},
    "regression_sqrt": {"objective": "regression", "reg_sqrt": True},
    "poisson": {"objective": "poisson"},
    "zero_as_missing": {"objective": "binary", "zero_as_missing": True},
    "no_missing": {"objective": "binary", "use_missing": False},
    "deep": {"objective": "binary", "num_leaves": 255, "min_data_in_leaf": 1, "max_depth": -1},
    "leaves_32": {"objective": "binary", "num_leaves": 32, **LEAVES_OF_ONE},
    "leaves_33": {"objective": "binary", "num_leaves": 33, **LEAVES_OF_ONE},
    "leaves_64": {"objective": "binary", "num_leaves": 64, **LEAVES_OF_ONE},
    "leaves_65": {"objective": "binary", "num_leaves": 65, **LEAVES_OF_ONE},
    "stumps": {"objective": "binary", "num_leaves": 2},
    "forest": {"objective": "binary", "boosting": "rf", **BAGGED},
    "dart": {"objective": "binary", "boosting": "dart"},
    "goss": {"objective": "binary", "data_sample_strategy": "goss"},
}


def predict(booster: lgb.Booster, X: np.ndarray, **options: Any) -> np.ndarray:
    return np.asarray(booster.predict(X, **options))


def make_rows(rng: np.random.Generator, n_rows: int) -> np.ndarray:
    """Continuous, integer, zero-heavy and categorical columns with unknowns."""
    X = rng.normal(size=(n_rows, N_FEATURES))
    X[:, 1] = rng.integers(-3, 4, n_rows)
    X[:, 2] *= rng.random(n_rows) < 0.5
    X[:, 3] = rng.integers(0, 40, n_rows)
    X[:, 4] = rng.integers(0, 5, n_rows)
    X[:, 5] = np.exp(10 * X[:, 5])
    X[rng.random(X.shape) < 0.1] = np.nan
    return X.astype(np.float32)


def make_odd_rows(rng: np.random.Generator, n_rows: int, ensemble: TreeEnsemble) -> np.ndarray:
    """Rows of borders: thresholds and their float32 neighbours, zeros, tiny, huge, unseen."""
    X = make_rows(rng, n_rows)
    odd = np.array(
        [
            *(0.0, -0.0, 1e-35, -1e-35, 9e-36, 2e-35, -2e-35, 1e-45, 3e38, -3e38, np.inf, -np.inf),
            *(np.nan, -1, -0.5, 0.5, 3.99, 31, 32, 1000, 2**31, 2**33, 5e9),
        ],
        dtype=np.float32,
    )
    with np.errstate(over="ignore"):
        borders = ensemble.threshold.astype(np.float32)
        borders = np.concatenate(
            [borders, np.nextafter(borders, -np.inf), np.nextafter(borders, np.inf)]
        )
    X = np.where(rng.random(X.shape) < 0.3, rng.choice(odd, X.shape), X)
    if len(borders):
        X = np.where(rng.random(X.shape) < 0.3, rng.choice(borders, X.shape), X)
    return np.ascontiguousarray(X, np.float32)


def train(
    seed: int, parameters: dict[str, Any], n_trees: int = 12, n_rows: int = 400
) -> lgb.Booster:
    rng = np.random.default_rng(seed)
    X = make_rows(rng, n_rows)
    signal = np.nan_to_num(X[:, 0]) + np.nan_to_num(X[:, 3] % 3) + 0.5 * rng.normal(size=n_rows)
    y = (signal > 1).astype(float)
    data = lgb.Dataset(X, y, categorical_feature=CATEGORICAL, params={"verbose": -1})
    return lgb.train(
        {"num_leaves": 15, "cat_smooth": 1, "min_data_per_group": 2, **BASE, **parameters},
        data,
        n_trees,
    )


def assert_scores_equal(booster: lgb.Booster, X: np.ndarray) -> None:
    scorer = Scorer(parse_lightgbm(booster.model_to_string()))
    raw, response = predict(booster, X, raw_score=True), predict(booster, X)
    np.testing.assert_array_equal(scorer.raw_many(X), raw)
    np.testing.assert_array_equal(scorer.score_many(X), response)
    assert [scorer.raw_one(x) for x in X[:20]] == raw[:20].tolist()
    assert [scorer.score_one(x) for x in X[:20]] == response[:20].tolist()


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_bit_equal_to_lightgbm(name: str) -> None:
    booster = train(1, MODELS[name])
    rng = np.random.default_rng(2)
    ensemble = parse_lightgbm(booster.model_to_string())
    assert_scores_equal(booster, make_rows(rng, 500))
    assert_scores_equal(booster, make_odd_rows(rng, 500, ensemble))


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(sorted(MODELS)),
    seed=st.integers(0, 2**16),
    n_trees=st.integers(1, 40),
    n_rows=st.integers(1, 40),
)
def test_scores_are_bit_equal_on_random_models(
    name: str, seed: int, n_trees: int, n_rows: int
) -> None:
    booster = train(seed, MODELS[name], n_trees, n_rows=150)
    ensemble = parse_lightgbm(booster.model_to_string())
    assert_scores_equal(booster, make_odd_rows(np.random.default_rng(seed), n_rows, ensemble))


def test_the_models_under_test_use_every_kind_of_split() -> None:
    decisions = np.concatenate(
        [
            parse_lightgbm(train(1, parameters).model_to_string()).decision
            for parameters in MODELS.values()
        ]
    )
    missing = decisions & 12
    assert set(missing.tolist()) == {0, 4, 8}
    assert {0, 2} <= set((decisions[missing == 4] & 2).tolist())
    assert (decisions & 1).any()


def test_a_model_without_splits_scores_its_constant() -> None:
    X = np.random.default_rng(0).normal(size=(50, N_FEATURES)).astype(np.float32)
    parameters = {**BASE, "objective": "regression"}
    booster = lgb.train(parameters, lgb.Dataset(X, np.full(50, 3.25)), 3)
    assert_scores_equal(booster, X)


@pytest.mark.parametrize(
    ("name", "words"), [("leaves_32", 1), ("leaves_33", 2), ("leaves_64", 2), ("leaves_65", 0)]
)
def test_trees_of_few_leaves_have_masks(name: str, words: int) -> None:
    ensemble = parse_lightgbm(train(1, MODELS[name]).model_to_string())
    assert np.diff(ensemble.leaf_offset).max() == MODELS[name]["num_leaves"]
    _, _, plan = Scorer(ensemble).laid_out
    assert plan[MASK_WORDS] == words


@pytest.mark.parametrize("name", ["binary", "leaves_64", "deep"])
def test_every_batch_size_scores_a_row_alike(name: str) -> None:
    booster = train(4, MODELS[name], n_trees=37)
    scorer = Scorer(parse_lightgbm(booster.model_to_string()))
    X = make_rows(np.random.default_rng(5), 70)
    together = scorer.score_many(X)
    np.testing.assert_array_equal(together, [scorer.score_one(x) for x in X])
    for size in (1, 2, 3, 4, 5, 6, 15, 16, 17, 19, 20, 31, 33, 64):
        parts = [scorer.score_many(X[i : i + size]) for i in range(0, len(X), size)]
        np.testing.assert_array_equal(np.concatenate(parts), together)
    out = np.empty(70)
    assert scorer.score_many(X, out) is out
    np.testing.assert_array_equal(out, together)


@pytest.mark.parametrize("with_missing", [False, True])
@pytest.mark.parametrize("max_depth", [1, 10, None])
def test_a_forest_scores_as_scikit_learn(with_missing: bool, max_depth: int | None) -> None:
    rng = np.random.default_rng(6)
    X = make_rows(rng, 600)
    if not with_missing:
        X = np.nan_to_num(X)
    y = rng.random(600) < 1 / (1 + np.exp(-np.nan_to_num(X[:, 0]) * 2))
    forest = RandomForestClassifier(30, max_depth=max_depth, random_state=0).fit(X, y)
    ensemble = from_sklearn_forest(forest)
    fresh = make_rows(rng, 600)
    if not with_missing:
        fresh[np.isnan(fresh)] = 0
    expected = forest.predict_proba(fresh)[:, 1]
    np.testing.assert_array_equal(Scorer(ensemble).score_many(fresh), expected)
    assert ensemble.feature_names[0] == "Column_0"


@pytest.mark.parametrize("name", ["binary", "forest", "zero_as_missing"])
def test_an_ensemble_survives_its_files(name: str, tmp_path: Path) -> None:
    booster = train(7, MODELS[name])
    booster.save_model(tmp_path / "model.txt")
    ensemble = load_lightgbm(tmp_path / "model.txt")
    save_npz(ensemble, tmp_path / "model.npz")
    loaded = load_npz(tmp_path / "model.npz")
    for field in TreeEnsemble.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(loaded, field), getattr(ensemble, field))
    assert ensemble.feature_names == tuple(booster.feature_name())
    X = make_rows(np.random.default_rng(8), 100)
    np.testing.assert_array_equal(Scorer(loaded).score_many(X), predict(booster, X))


def test_rows_of_another_shape_or_type_are_refused() -> None:
    scorer = Scorer(parse_lightgbm(train(9, MODELS["binary"], 2).model_to_string()))
    with pytest.raises(ValueError, match="float32 with 6 features"):
        scorer.score_one(np.zeros(5, np.float32))
    with pytest.raises(ValueError, match="float64"):
        scorer.score_many(np.zeros((2, N_FEATURES)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="out must be"):
        scorer.score_many(np.zeros((2, N_FEATURES), np.float32), np.zeros(3))


def text() -> str:
    return train(10, MODELS["binary"], 3).model_to_string()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t[: len(t) // 3], "truncated"),
        (lambda t: t.replace("version=v4", "version=v3"), "only 'v4'"),
        (lambda _: "not a model", "not a LightGBM text model"),
        (lambda t: t.replace("Tree=1", "Bush=1"), "announces 3 trees"),
        (lambda t: t.replace("is_linear=0", "is_linear=1"), "Linear trees"),
        (lambda t: t.replace("num_class=1", "num_class=3"), "Multiclass"),
        (lambda t: t.replace("objective=binary", "objective=mystery"), "Served objectives"),
        (lambda t: t.replace("left_child=1 ", "left_child=0 ", 1), "do not form a tree"),
        (lambda t: t.replace("split_feature=3", "split_feature=77", 1), "outside the 6"),
        (lambda t: t.replace("leaf_value=", "leaf_value=1 ", 1), "leaf_value has"),
        (lambda t: t.replace("leaf_value=", "leaf_value=x", 1), "damaged"),
    ],
)
def test_a_damaged_or_foreign_model_is_refused(damage: Any, message: str) -> None:
    damaged = damage(text())
    assert damaged != text()
    with pytest.raises(ModelFormatError, match=message):
        parse_lightgbm(damaged)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_no_cut_of_a_model_is_accepted(data: st.DataObject) -> None:
    whole = text()
    trees = whole[: whole.index("end of trees")]
    with pytest.raises(ModelFormatError):
        parse_lightgbm(trees[: data.draw(st.integers(0, len(trees)))])


def test_an_archive_that_is_no_ensemble_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    (tmp_path / "text.npz").write_text("hello")
    for name in ("other.npz", "text.npz"):
        with pytest.raises(ModelFormatError, match="not a saved tree ensemble"):
            load_npz(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load_npz(tmp_path / "absent.npz")


def test_a_multiclass_forest_is_refused() -> None:
    X = np.zeros((9, 2))
    forest = RandomForestClassifier(2).fit(X, np.arange(9) % 3)
    with pytest.raises(ModelFormatError, match="two classes"):
        from_sklearn_forest(forest)
