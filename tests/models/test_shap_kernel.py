"""Contributions are exact Shapley values: those of a brute-force oracle, LightGBM and the sum."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations
from math import factorial
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier

from sentinel.models.booster import from_sklearn_forest, parse_lightgbm
from sentinel.models.ensemble import (
    CATEGORICAL,
    DEFAULT_LEFT,
    MISSING_MASK,
    MISSING_NAN,
    MISSING_ZERO,
    ZERO_THRESHOLD,
    TreeEnsemble,
)
from sentinel.models.shap_kernel import Explainer
from sentinel.models.tree_kernel import Scorer

BASE = {"verbose": -1, "num_threads": 1, "deterministic": True, "min_data_in_leaf": 2}
MODELS: dict[str, dict[str, Any]] = {
    "binary": {"objective": "binary"},
    "cross_entropy": {"objective": "cross_entropy"},
    "scale_pos_weight": {"objective": "binary", "scale_pos_weight": 9},
    "zero_as_missing": {"objective": "binary", "zero_as_missing": True},
    "no_missing": {"objective": "binary", "use_missing": False},
    "deep": {"objective": "binary", "num_leaves": 255, "min_data_in_leaf": 1},
    "stumps": {"objective": "binary", "num_leaves": 2},
    "bagged": {"objective": "binary", "bagging_freq": 1, "bagging_fraction": 0.5},
    "forest": {
        "objective": "binary", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6
    },
}  # fmt: skip


def predict(booster: lgb.Booster, X: np.ndarray, **options: Any) -> np.ndarray:
    return np.asarray(booster.predict(X, **options))


def make_rows(rng: np.random.Generator, n_rows: int, n_features: int) -> np.ndarray:
    """Continuous columns with unknowns and zeros; the last one is a category."""
    X = rng.normal(size=(n_rows, n_features))
    X[rng.random(X.shape) < 0.1] = 0
    X[:, -1] = rng.integers(0, 12, n_rows)
    X[rng.random(X.shape) < 0.1] = np.nan
    return X.astype(np.float32)


def train(
    seed: int, parameters: dict[str, Any], n_trees: int, n_features: int, n_rows: int = 300
) -> lgb.Booster:
    rng = np.random.default_rng(seed)
    X = make_rows(rng, n_rows, n_features)
    signal = np.nan_to_num(X)[:, :-1].sum(axis=1) + np.nan_to_num(X[:, -1] % 2)
    y = (signal + rng.normal(size=n_rows) > 1).astype(float)
    data = lgb.Dataset(X, y, categorical_feature=[n_features - 1], params={"verbose": -1})
    full = {"num_leaves": 12, "cat_smooth": 1, "min_data_per_group": 2, **BASE, **parameters}
    return lgb.train(full, data, n_trees)


def goes_left(e: TreeEnsemble, node: int, x: float) -> bool:
    """The split rules in plain words, apart from the kernels'."""
    missing, left = e.decision[node] & MISSING_MASK, bool(e.decision[node] & DEFAULT_LEFT)
    if e.decision[node] & CATEGORICAL:
        start, end = e.category_offset[e.category_set[node] :][:2]
        bits = "".join(f"{int(word):032b}"[::-1] for word in e.category_bits[start:end])
        return not np.isnan(x) and 0 <= x < len(bits) and bits[int(x)] == "1"
    if np.isnan(x) and missing == MISSING_NAN:
        return left
    x = 0.0 if np.isnan(x) else x
    if missing == MISSING_ZERO and abs(x) <= ZERO_THRESHOLD:
        return left
    return bool(x <= e.threshold[node])


def expectation(e: TreeEnsemble, x: np.ndarray, known: tuple[int, ...]) -> float:
    """The summed output when only `known` features are: other splits average by cover."""

    def walk(tree: int, child: int) -> float:
        if child < 0:
            return float(e.leaf_value[e.leaf_offset[tree] + ~child])
        node = e.node_offset[tree] + child
        sides = (int(e.left[node]), int(e.right[node]))
        if e.feature[node] in known:
            return walk(tree, sides[0 if goes_left(e, node, float(x[e.feature[node]])) else 1])
        cover = [
            e.node_cover[e.node_offset[tree] + c]
            if c >= 0
            else e.leaf_cover[e.leaf_offset[tree] + ~c]
            for c in sides
        ]
        return float(sum(w * walk(tree, c) for w, c in zip(cover, sides, strict=True)) / sum(cover))

    has_nodes = np.diff(e.node_offset) > 0
    return sum(walk(t, 0 if has_nodes[t] else -1) for t in range(e.n_trees))


def brute_force(e: TreeEnsemble, x: np.ndarray) -> np.ndarray:
    """Shapley's sum over all subsets, then the expected value."""
    n = e.n_features
    subsets = [s for size in range(n + 1) for s in combinations(range(n), size)]
    value = {s: expectation(e, x, s) for s in subsets}
    phi = [
        sum(
            factorial(len(s)) * factorial(n - len(s) - 1) / factorial(n)
            * (value[tuple(sorted((*s, i)))] - value[s])
            for s in subsets if i not in s
        )
        for i in range(n)
    ]  # fmt: skip
    return np.array([*phi, value[()]])


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(sorted(MODELS)),
    seed=st.integers(0, 2**16),
    n_features=st.integers(1, 5),
    n_trees=st.integers(1, 3),
)
def test_contributions_are_the_shapley_values(
    name: str, seed: int, n_features: int, n_trees: int
) -> None:
    booster = train(seed, MODELS[name] | {"num_leaves": 8}, n_trees, n_features, n_rows=80)
    ensemble = parse_lightgbm(booster.model_to_string())
    X = make_rows(np.random.default_rng(seed), 3, n_features)
    expected = [brute_force(ensemble, x) for x in X]
    np.testing.assert_allclose(Explainer(ensemble).contributions(X), expected, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(sorted(MODELS)),
    seed=st.integers(0, 2**16),
    n_features=st.integers(1, 40),
    n_rows=st.integers(1, 40),
)
def test_contributions_are_lightgbms_on_random_models(
    name: str, seed: int, n_features: int, n_rows: int
) -> None:
    booster = train(seed, MODELS[name], 8, n_features)
    X = make_rows(np.random.default_rng(seed), n_rows, n_features)
    expected = predict(booster, X, pred_contrib=True)
    got = Explainer(parse_lightgbm(booster.model_to_string())).contributions(X)
    np.testing.assert_allclose(got, expected, atol=1e-10)


@pytest.mark.parametrize("n_features", [3, 12, 30])
def test_a_row_is_explained_alike_in_every_batch(n_features: int) -> None:
    booster = train(1, MODELS["deep"], 10, n_features, n_rows=1500)
    explainer = Explainer(parse_lightgbm(booster.model_to_string()))
    X = make_rows(np.random.default_rng(2), 50, n_features)
    together = explainer.contributions(X)
    for size in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 23):
        parts = [explainer.contributions(X[i : i + size]) for i in range(0, len(X), size)]
        np.testing.assert_array_equal(np.concatenate(parts), together)


def test_the_top_reasons_are_lightgbms_on_ten_thousand_rows() -> None:
    booster = train(3, {"objective": "binary", "num_leaves": 31}, 40, 20, n_rows=5000)
    explainer = Explainer(parse_lightgbm(booster.model_to_string()))
    X = make_rows(np.random.default_rng(4), 10_000, 20)
    expected = predict(booster, X, pred_contrib=True, num_threads=1)
    assert np.abs(explainer.contributions(X) - expected).max() < 1e-12
    features, values = explainer.top_k(X, 4)
    order = np.argsort(-expected[:, :-1], axis=1, kind="stable")[:, :4]
    np.testing.assert_array_equal(features, order)
    np.testing.assert_array_equal(
        values, np.take_along_axis(expected, order, axis=1).astype(np.float32)
    )
    assert features.dtype == np.int16
    assert values.dtype == np.float32


def test_reasons_descend_and_ties_go_to_the_lower_feature() -> None:
    """Features no tree uses contribute exactly zero, and so tie."""
    X = np.zeros((200, 6), np.float32)
    X[:, 4] = np.arange(200) % 2
    y = np.arange(200) % 2
    booster = lgb.train({**BASE, "objective": "binary"}, lgb.Dataset(X, y), 5)
    explainer = Explainer(parse_lightgbm(booster.model_to_string()))
    features, values = explainer.top_k(X[:2], 4)
    assert features[1].tolist() == [4, 0, 1, 2]
    assert features[0].tolist() == [0, 1, 2, 3]
    assert values[1, 0] > 0
    assert values[1, 1:].tolist() == [0, 0, 0]
    features, values = explainer.top_k(X[:1], 8)
    assert features[0].tolist() == [0, 1, 2, 3, 5, 4, -1, -1]
    assert values[0, 6:].tolist() == [0, 0]


def chain(n_features: int) -> str:
    """A model whose single path holds every feature once: a leaf hangs off each split."""
    rng = np.random.default_rng(5)
    nodes = range(n_features)
    leaf_count = rng.integers(1, 100, n_features + 1)
    below = leaf_count[::-1].cumsum()[::-1]

    def line(key: str, values: Any) -> str:
        return f"{key}={' '.join(str(v) for v in values)}\n"

    tree = (
        f"Tree=0\nnum_leaves={n_features + 1}\nnum_cat=0\n"
        + line("split_feature", nodes)
        + line("split_gain", [1] * n_features)
        + line("threshold", [0.5] * n_features)
        + line("decision_type", [8] * n_features)
        + line("left_child", [~i for i in nodes])
        + line("right_child", [*nodes[1:], ~n_features])
        + line("leaf_value", rng.normal(size=n_features + 1))
        + line("leaf_weight", leaf_count)
        + line("leaf_count", leaf_count)
        + line("internal_value", [0] * n_features)
        + line("internal_weight", below[:-1])
        + line("internal_count", below[:-1])
        + "is_linear=0\nshrinkage=1\n\n\n"
    )
    names = " ".join(f"f{i}" for i in nodes)
    ranges = " ".join("[0:1]" for _ in nodes)
    return (
        f"tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\n"
        f"max_feature_idx={n_features - 1}\nobjective=regression\nfeature_names={names}\n"
        f"feature_infos={ranges}\ntree_sizes={len(tree)}\n\n{tree}end of trees\n"
    )


@pytest.mark.parametrize("n_features", [1, 2, 8, 9, 16, 17, 31, 32, 33])
def test_long_paths_are_exact(n_features: int) -> None:
    booster = lgb.Booster(model_str=chain(n_features))
    explainer = Explainer(parse_lightgbm(chain(n_features)))
    X = (np.random.default_rng(6).random((40, n_features)) < 0.1).astype(np.float32)
    X[0] = 1
    np.testing.assert_allclose(
        explainer.contributions(X), predict(booster, X, pred_contrib=True), atol=1e-10
    )


def test_paths_beyond_the_exact_degree_lose_nothing() -> None:
    """Sixteen points are exact up to 32 features on a path; 60 are right to rounding error.

    TreeSHAP itself has lost its digits there, so the integral is taken in rational numbers.
    """
    ensemble = parse_lightgbm(chain(60))
    x = np.ones((1, 60), np.float32)
    got = Explainer(ensemble).contributions(x)[0]
    assert got.sum() == pytest.approx(Scorer(ensemble).raw_one(x[0]), abs=1e-12)
    cover = [Fraction(int(c)) for c in [*ensemble.node_cover, ensemble.leaf_cover[-1]]]
    stays = [cover[i + 1] / cover[i] for i in range(60)]
    for feature in (0, 30, 59):
        phi = Fraction(0)
        # Leaf k is reached by staying on the path k times, then leaving it: the row never leaves.
        for k in range(feature, 61):
            ways = [(stays[j], 1) for j in range(k)]
            ways += [(1 - stays[k], 0)] if k < 60 else []
            polynomial = [Fraction(1)]
            for j, (zero, one) in enumerate(ways):
                if j != feature:
                    shifted = [Fraction(0), *((one - zero) * c for c in polynomial)]
                    polynomial = [
                        zero * a + b
                        for a, b in zip([*polynomial, Fraction(0)], shifted, strict=True)
                    ]
            integral = sum(c / (power + 1) for power, c in enumerate(polynomial))
            zero, one = ways[feature]
            phi += Fraction(float(ensemble.leaf_value[k])) * (one - zero) * integral
        assert got[feature] == pytest.approx(float(phi), abs=1e-12)


@pytest.mark.parametrize("with_missing", [False, True])
def test_a_forests_contributions_sum_to_its_probability(with_missing: bool) -> None:
    rng = np.random.default_rng(7)
    X = make_rows(rng, 400, 5)
    if not with_missing:
        X[np.isnan(X)] = 0
    forest = RandomForestClassifier(8, max_depth=6, random_state=0).fit(X, X[:, 1] > 0.1)
    ensemble = from_sklearn_forest(forest)
    contributions = Explainer(ensemble).contributions(X)
    np.testing.assert_allclose(contributions.sum(axis=1), forest.predict_proba(X)[:, 1], atol=1e-12)
    scorer = Scorer(ensemble)
    np.testing.assert_allclose(scorer.raw_many(X), forest.predict_proba(X)[:, 1], atol=1e-12)
    assert [scorer.raw_one(x) for x in X[:20]] == scorer.raw_many(X[:20]).tolist()
    expected = [brute_force(ensemble, x) / 8 for x in X[:3]]
    np.testing.assert_allclose(contributions[:3], expected, atol=1e-12)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_contributions_sum_to_the_raw_score(name: str) -> None:
    booster = train(8, MODELS[name], 30, 10)
    ensemble = parse_lightgbm(booster.model_to_string())
    X = make_rows(np.random.default_rng(9), 100, 10)
    sums = Explainer(ensemble).contributions(X).sum(axis=1)
    np.testing.assert_allclose(sums, Scorer(ensemble).raw_many(X), atol=1e-11)


def test_a_model_without_splits_has_nothing_to_explain() -> None:
    X = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    booster = lgb.train({**BASE, "objective": "regression"}, lgb.Dataset(X, np.full(50, 2.5)), 3)
    got = Explainer(parse_lightgbm(booster.model_to_string())).contributions(X)
    np.testing.assert_array_equal(got, np.tile([0, 0, 0, 2.5], (50, 1)))


def test_rows_of_another_shape_or_type_are_refused() -> None:
    explainer = Explainer(parse_lightgbm(chain(3)))
    with pytest.raises(ValueError, match="float32"):
        explainer.contributions(np.zeros((1, 3)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="n_rows, 3"):
        explainer.top_k(np.zeros((1, 4), np.float32))
    with pytest.raises(ValueError, match="at least one"):
        explainer.top_k(np.zeros((1, 3), np.float32), 0)
