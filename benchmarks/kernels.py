"""Scores and reasons of one row and of small batches, against LightGBM in the same process.

Two LightGBM models are trained on made-up data: 200 trees of 31 leaves, and 300 of 64. Each
measurement alternates with its baseline, so that whatever else the machine does strikes both, and
a ratio is the median of the ratios of neighbours. Every call sees another row, as serving does.
Others who score and explain the same trees stand beside: ONNX Runtime, SHAP, scikit-learn's forest.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from sentinel.models.booster import parse_lightgbm
from sentinel.models.shap_kernel import Explainer
from sentinel.models.tree_kernel import Scorer

Call = Callable[[NDArray[np.float32]], Any]

N_FEATURES = 50
SHAPES = {"200x31": (200, 31), "300x64": (300, 64)}
REFERENCE = "300x64"
BATCH = 16


def make_rows(rng: np.random.Generator, n_rows: int) -> NDArray[np.float32]:
    """Heavy-tailed and normal features, a tenth unknown."""
    X = rng.normal(size=(n_rows, N_FEATURES))
    X[:, :10] = np.exp(2 * X[:, :10])
    X[rng.random(X.shape) < 0.1] = np.nan
    return X.astype(np.float32)


def train(n_trees: int, n_leaves: int, n_rows: int) -> lgb.Booster:
    rng = np.random.default_rng(0)
    X = make_rows(rng, n_rows)
    known = np.nan_to_num(X)
    signal = known[:, 10:20].sum(axis=1) / 2 + np.log1p(known[:, 0]) * known[:, 20] - 3
    y = (rng.random(n_rows) < 1 / (1 + np.exp(-signal))).astype(float)
    parameters = {"objective": "binary", "num_leaves": n_leaves, "learning_rate": 0.05}
    return lgb.train({**parameters, "verbose": -1}, lgb.Dataset(X, y), n_trees)


def interleave(
    ours: Call, baseline: Call, inputs: Sequence[NDArray[np.float32]], inner: int
) -> tuple[float, float, float]:
    """Median seconds of both, and the median ratio of neighbouring measurements.

    Args:
        ours: Timed `inner` times per call of the baseline, on as many inputs.
        baseline: What it is compared with.
        inputs: Called in turn.
        inner: Calls of `ours` per measurement, whose mean is taken.
    """
    ours(inputs[0])
    baseline(inputs[0])
    a, b = [], []
    for i, rows in enumerate(inputs):
        start = time.perf_counter()
        for k in range(inner):
            ours(inputs[(i + k) % len(inputs)])
        middle = time.perf_counter()
        baseline(rows)
        b.append(time.perf_counter() - middle)
        a.append((middle - start) / inner)
    ratios = np.array(b) / np.array(a)
    return float(np.median(a)), float(np.median(b)), float(np.median(ratios))


def measure(booster: lgb.Booster, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Ratios to LightGBM, and µs per row of both sides."""
    ensemble = parse_lightgbm(booster.model_to_string())
    scorer, explainer = Scorer(ensemble), Explainer(ensemble)
    X = make_rows(np.random.default_rng(1), rounds * BATCH)
    ones = [X[i : i + 1] for i in range(len(X))]
    batches = [X[i : i + BATCH] for i in range(0, len(X), BATCH)]
    one: dict[str, Any] = {"num_threads": 1}
    cases: dict[str, tuple[Call, Call, list[NDArray[np.float32]], int]] = {
        "score_one_vs_predict": (
            lambda x: scorer.score_one(x[0]),
            lambda x: booster.predict(x, **one),
            ones[: 10 * rounds],
            8,
        ),
        "score_batch_vs_predict": (
            scorer.score_many,
            lambda x: booster.predict(x, **one),
            batches,
            4,
        ),
        "reasons_one_vs_pred_contrib": (
            explainer.top_k,
            lambda x: booster.predict(x, pred_contrib=True, **one),
            ones[:rounds],
            4,
        ),
        "reasons_batch_vs_pred_contrib": (
            explainer.top_k,
            lambda x: booster.predict(x, pred_contrib=True, **one),
            batches[: max(rounds // 4, 3)],
            4,
        ),
    }
    ratios, raw = {}, {}
    for name, (ours, baseline, inputs, inner) in cases.items():
        mine, theirs, ratio = interleave(ours, baseline, inputs, inner)
        per_row = 1e6 / len(inputs[0])
        what, rival = name.split("_vs_")
        raw[what], raw[f"{what}_{rival}"] = mine * per_row, theirs * per_row
        ratios[name] = ratio
    return ratios, raw


def check(booster: lgb.Booster, n_rows: int) -> dict[str, float | bool]:
    """That the speed is not bought: differences to LightGBM on fresh rows."""
    ensemble = parse_lightgbm(booster.model_to_string())
    X = make_rows(np.random.default_rng(2), n_rows)
    expected = np.asarray(booster.predict(X, pred_contrib=True))
    order = np.argsort(-expected[:, :-1], axis=1, kind="stable")[:, :4]
    scores = np.asarray(booster.predict(X, raw_score=True))
    explainer = Explainer(ensemble)
    return {
        "max_abs_error": float(np.abs(explainer.contributions(X) - expected).max()),
        "same_top4": bool(np.array_equal(explainer.top_k(X)[0], order)),
        "scores_bit_equal": bool(np.array_equal(Scorer(ensemble).raw_many(X), scores)),
        "rows": n_rows,
    }


def others(booster: lgb.Booster, rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Figures of others who score and explain the same trees; see `kernel_rivals`."""
    from benchmarks.kernel_rivals import beside_a_forest, beside_boosters

    X = make_rows(np.random.default_rng(3), 2_000)
    return {
        REFERENCE: beside_boosters(booster, X, rounds),
        "forest": beside_a_forest(X, np.nan_to_num(X[:, 10]) > 0.5, rounds),
    }


def run(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure; see the module. `--quick` takes seconds and is rough, `--json` only prints more."""
    parser = argparse.ArgumentParser(prog="kernels", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object as last line")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and rows")
    options = parser.parse_args(argv)
    rounds, n_train, n_check = (12, 5_000, 300) if options.quick else (60, 40_000, 10_000)
    before = os.getloadavg()
    result: dict[str, Any] = {"ratios": {}, "raw": {}, "checks": {}}
    for shape, (n_trees, n_leaves) in SHAPES.items():
        booster = train(n_trees, n_leaves, n_train)
        ratios, raw = measure(booster, rounds)
        if shape == REFERENCE:
            result["ratios"] |= ratios
            result["checks"] = check(booster, n_check)
            result["others"] = others(booster, rounds)
        else:
            result["ratios"] |= {f"{name}_{shape}": ratio for name, ratio in ratios.items()}
        result["raw"][shape] = raw
    result["machine"] = {
        "loadavg_before": list(before),
        "loadavg_after": list(os.getloadavg()),
        "cpu_count": os.cpu_count(),
    }
    return result


def main(argv: Sequence[str] | None = None) -> int:
    result = run(argv)
    print(f"{'model':8} {'what':15} {'µs/row':>9} {'LightGBM':>9} {'times':>7}")
    for shape, raw in result["raw"].items():
        for what, rival in (
            ("score_one", "predict"),
            ("score_batch", "predict"),
            ("reasons_one", "pred_contrib"),
            ("reasons_batch", "pred_contrib"),
        ):
            suffix = "" if shape == REFERENCE else f"_{shape}"
            ratio = result["ratios"][f"{what}_vs_{rival}{suffix}"]
            line = f"{shape:8} {what:15} {raw[what]:9.2f} {raw[f'{what}_{rival}']:9.1f}"
            print(f"{line} {ratio:7.1f}")
    print("checks:", ", ".join(f"{name}={value}" for name, value in result["checks"].items()))
    print(f"\n{'others':8} {'what':30} {'one, µs':>9} {'batch, µs':>10} {'error':>9}")
    for shape, figures in result["others"].items():
        for what, raw in figures.items():
            numbers = f"{raw['one_us']:9.1f} {raw['batch_us']:10.1f} {raw['max_abs_error']:9.1g}"
            print(f"{shape:8} {what:30} {numbers}")
    if "--json" in (argv or ()):
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    import sys

    raise SystemExit(main(sys.argv[1:]))
