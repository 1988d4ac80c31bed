"""Others who score and explain the same models, for `kernels`: ONNX Runtime, SHAP, scikit-learn.

Asked for LightGBM's path-dependent values, SHAP calls LightGBM's `pred_contrib`. So it is timed as
users call it, and with its own code on the same trees. scikit-learn's forest in ONNX does not know
unknown values, so the forest's rows have none.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import lightgbm as lgb
import numpy as np
import onnxruntime
import shap
import skl2onnx
from numpy.typing import NDArray
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn.ensemble import RandomForestClassifier

from sentinel.models.booster import from_sklearn_forest, parse_lightgbm
from sentinel.models.shap_kernel import Explainer
from sentinel.models.tree_kernel import Scorer

Rows = NDArray[np.float32]
Figures = dict[str, dict[str, float]]

BATCH = 16
FOREST = {"n_estimators": 100, "max_depth": 10}


def beside_boosters(booster: lgb.Booster, X: Rows, rounds: int) -> Figures:
    """µs per row of everyone who can score or explain a booster, and errors against LightGBM.

    Args:
        booster: The model.
        X: float32 (n_rows, n_features), called for in turn.
        rounds: Calls of each; the median counts.
    """
    ensemble = parse_lightgbm(booster.model_to_string())
    scorer, explainer = Scorer(ensemble), Explainer(ensemble)
    inputs = [("x", FloatTensorType([None, X.shape[1]]))]
    onnx = _onnx_session(convert_lightgbm(booster, initial_types=inputs, zipmap=False))
    explained = {
        "sentinel": explainer.contributions,
        "lightgbm": lambda x: booster.predict(x, pred_contrib=True, num_threads=1),
        "shap": shap.TreeExplainer(booster).shap_values,
        "shap, its own code": _shap_by_itself(booster),
    }
    scored: dict[str, Callable[[Rows], Any]] = {
        "sentinel": scorer.score_many,
        "lightgbm": lambda x: booster.predict(x, num_threads=1),
        "onnxruntime": onnx,
    }
    expected = np.asarray(booster.predict(X[:BATCH], pred_contrib=True))[:, :-1]
    figures = _timed("score", scored, X, rounds, np.asarray(booster.predict(X[:BATCH])))
    return figures | _timed("reasons", explained, X, max(rounds // 4, 3), expected)


def beside_a_forest(X: Rows, y: NDArray[np.bool_], rounds: int) -> Figures:
    """µs per row of everyone who can score a scikit-learn forest, and errors against it."""
    X = np.nan_to_num(X)
    forest = RandomForestClassifier(**FOREST, random_state=0).fit(X, y)
    scored: dict[str, Callable[[Rows], Any]] = {
        "sentinel": Scorer(from_sklearn_forest(forest)).score_many,
        "scikit-learn": lambda x: forest.predict_proba(x)[:, 1],
        "onnxruntime": _onnx_session(
            skl2onnx.to_onnx(forest, X[:1], options={"zipmap": False}, target_opset=17)
        ),
    }
    return _timed("score", scored, X, rounds, forest.predict_proba(X[:BATCH])[:, 1])


def _onnx_session(model: Any) -> Callable[[Rows], Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return lambda x: session.run(["probabilities"], {name: x})[0][:, 1]


def _shap_by_itself(booster: lgb.Booster) -> Callable[[Rows], Any]:
    explainer = shap.TreeExplainer(booster)
    explainer.model.model_type = "internal"
    return lambda x: explainer.shap_values(x, check_additivity=False)


def _timed(
    what: str,
    calls: dict[str, Callable[[Rows], Any]],
    X: Rows,
    rounds: int,
    expected: NDArray[np.float64],
) -> Figures:
    """For one row and for a batch: all calls in turn, so that a busy moment strikes all."""
    figures: Figures = {}
    for name, call in calls.items():
        answer = np.asarray(call(X[:BATCH]))
        if expected.ndim == 2:
            answer = answer[:, : expected.shape[1]]  # the last column is the expected value
        figures[f"{what}, {name}"] = {"max_abs_error": float(np.abs(answer - expected).max())}
    for size, column in ((1, "one_us"), (BATCH, "batch_us")):
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        for i in range(rounds):
            start = i * size % (len(X) - size)
            rows = X[start : start + size]
            for name, call in calls.items():
                began = time.perf_counter()
                call(rows)
                seconds[name].append(time.perf_counter() - began)
        for name, several in seconds.items():
            figures[f"{what}, {name}"][column] = median(several) / size * 1e6
    return figures
