"""A model directory: complete, verified, and readable without any training library."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from sentinel.domain import ModelFormatError, PlanMismatch
from sentinel.features.plan.parts import Aggregate, RequestFeature, View
from sentinel.features.plan.plan import DAY_US, HOUR_US, Plan
from sentinel.models.artifact import (
    MANIFEST,
    ModelManifest,
    TrainingWindow,
    load_manifest,
    load_plan,
    load_trees,
    save_artifact,
    stamp,
)
from sentinel.models.calibration import fit_calibration
from sentinel.models.intervals import Estimate
from sentinel.models.thresholds import Thresholds
from sentinel.models.trainers import FittedModel, TrainerName, train
from sentinel.models.tree_kernel import Scorer
from sentinel.scoring.serving_model import ServingModel
from sentinel.settings import MoneySettings

PLAN = Plan(
    views=(
        View("card", ("card_id",), (Aggregate("card_count_1d", "count", DAY_US, 2 * HOUR_US),)),
    ),
    request=(RequestFeature("amount", "amount"),),
)


def fitted(kind: TrainerName) -> tuple[FittedModel, NDArray[np.float32], NDArray[np.bool_]]:
    random = np.random.default_rng(1)
    X = random.normal(size=(3_000, 2)).astype(np.float32)
    y = X[:, 0] + random.normal(size=3_000) > 2
    small: dict[str, Any] = {"n_estimators": 5} if kind == "random_forest" else {"rounds": 20}
    return train(kind, X, y, feature_names=PLAN.feature_names, threads=1, parameters=small), X, y


def save(directory: Path, kind: TrainerName = "lightgbm", **changes: Any) -> ModelManifest:
    model, X, y = fitted(kind)
    given: dict[str, Any] = {
        "name": "sentinel-fraud",
        "plan": PLAN,
        "model": model.native(),
        "kind": kind,
        "calibration": fit_calibration(model.raw_score(X), y),
        "thresholds": Thresholds(fraud=0.5, review=0.3, decline=0.8),
        "metrics": {"average_precision": Estimate(0.5, 0.4, 0.6)},
        "training": TrainingWindow(start_us=0, end_us=9, cutoff_us=9, rows=3_000, frauds=9),
        "data_hash": "d" * 32,
        "created_at_us": 1,
    }
    return save_artifact(directory, **(given | changes))


@pytest.mark.parametrize("kind", ["lightgbm", "xgboost", "random_forest", "lightgbm_forest"])
def test_what_was_saved_is_what_is_loaded(tmp_path: Path, kind: TrainerName) -> None:
    saved = save(tmp_path / "model", kind)
    manifest = load_manifest(tmp_path / "model", plan_hash=PLAN.hash)
    assert manifest == saved
    assert manifest.kind == kind
    assert load_plan(tmp_path / "model", manifest) == PLAN
    trees = load_trees(tmp_path / "model", manifest)
    model, X, y = fitted(kind)
    scorer = Scorer(trees)
    raw = scorer.raw_many(X)
    assert raw.tobytes() == model.raw_score(X).tobytes(), "what calibration was fitted on"
    expected = fit_calibration(model.raw_score(X), y).apply(raw)
    assert manifest.calibrator().apply(raw).tobytes() == expected.tobytes()


def test_loading_imports_no_training_library(tmp_path: Path) -> None:
    save(tmp_path)
    program = f"""
import sys
from pathlib import Path
from sentinel.models.artifact import load_manifest, load_plan, load_trees
manifest = load_manifest(Path({str(tmp_path)!r}))
load_plan(Path({str(tmp_path)!r}), manifest)
load_trees(Path({str(tmp_path)!r}), manifest)
manifest.calibrator().apply_one(0.0)
heavy = {{"lightgbm", "xgboost", "sklearn", "scipy", "pandas", "mlflow", "matplotlib", "feast"}}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("file", ["model.txt", "plan.json"])
def test_a_changed_file_is_refused(tmp_path: Path, file: str) -> None:
    save(tmp_path)
    path = tmp_path / file
    path.write_bytes(path.read_bytes().replace(b"0", b"1", 1))
    with pytest.raises(ModelFormatError, match=rf"{file} was changed after training"):
        load_manifest(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    save(tmp_path)
    (tmp_path / "model.txt").unlink()
    with pytest.raises(ModelFormatError, match=r"lacks model\.txt"):
        load_manifest(tmp_path)


def test_a_directory_without_a_manifest_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match="sentinel train"):
        load_manifest(tmp_path)


@pytest.mark.parametrize("text", [b"", b"{", b"{}", b'{"kind": "pickle"}'])
def test_a_damaged_manifest_is_refused(tmp_path: Path, text: bytes) -> None:
    save(tmp_path)
    (tmp_path / MANIFEST).write_bytes(text)
    with pytest.raises(ModelFormatError, match="cannot be read"):
        load_manifest(tmp_path)


def test_a_manifest_of_another_format_is_refused(tmp_path: Path) -> None:
    manifest = save(tmp_path)
    newer = msgspec.structs.replace(manifest, format=99)
    (tmp_path / MANIFEST).write_bytes(msgspec.json.encode(newer))
    with pytest.raises(ModelFormatError, match="format 99"):
        load_manifest(tmp_path)


def test_trees_that_were_damaged_before_hashing_are_refused(tmp_path: Path) -> None:
    manifest = save(tmp_path)
    path = tmp_path / "model.txt"
    path.write_text(path.read_text()[:500])
    with pytest.raises(ModelFormatError):
        load_trees(tmp_path, manifest)


def test_another_plan_than_the_running_one_is_refused(tmp_path: Path) -> None:
    save(tmp_path)
    with pytest.raises(PlanMismatch, match=rf"{PLAN.hash}.*the running plan is 0123456789abcdef"):
        load_manifest(tmp_path, plan_hash="0123456789abcdef")


def test_a_model_of_other_features_than_the_plan_is_not_saved(tmp_path: Path) -> None:
    other = Plan(views=PLAN.views, request=(RequestFeature("hour", "hour_of_day"),))
    with pytest.raises(PlanMismatch, match="amount, hour"):
        save(tmp_path, plan=other)
    assert not (tmp_path / MANIFEST).exists()


def test_the_registry_stamps_the_version_and_nothing_else(tmp_path: Path) -> None:
    saved = save(tmp_path, run_id="run-1")
    stamped = stamp(tmp_path, version="7")
    assert stamped == msgspec.structs.replace(saved, version="7")
    assert load_manifest(tmp_path) == stamped


def test_a_figure_that_is_no_number_is_unknown_and_the_model_loads(tmp_path: Path) -> None:
    """Of held-out rows with one class, some figures have no value."""
    nothing = Estimate(math.nan, math.nan, math.nan)
    save(tmp_path, metrics={"recall": nothing, "average_precision": Estimate(0.5, 0.4, 0.6)})
    written = msgspec.json.decode((tmp_path / MANIFEST).read_bytes())["metrics"]
    assert written["recall"] == {"value": None, "low": None, "high": None}
    read = load_manifest(tmp_path).metrics
    assert math.isnan(read["recall"].value)
    assert str(read["recall"]) == "unknown"
    assert read["average_precision"] == Estimate(0.5, 0.4, 0.6)
    assert ServingModel.load(tmp_path, MoneySettings()).version == ""
    assert stamp(tmp_path, version="3").version == "3"
