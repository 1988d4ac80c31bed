"""Models of a small plan, registered for real: enough to fetch, swap and roll back."""

from __future__ import annotations

from pathlib import Path

import lightgbm
import numpy as np

from sentinel.features.plan.parts import Aggregate, RequestFeature, View
from sentinel.features.plan.plan import DAY_US, HOUR_US, Plan
from sentinel.models.artifact import TrainingWindow, save_artifact
from sentinel.models.calibration import fit_calibration
from sentinel.models.intervals import Estimate
from sentinel.models.registry import ModelVersion
from sentinel.models.thresholds import Thresholds
from sentinel.pipeline.tracking import register_candidate, tracked_run
from sentinel.settings import Settings

PLAN = Plan(
    views=(
        View(
            name="card",
            keys=("card_id",),
            aggregates=(
                Aggregate(
                    name="card_count_1d", function="count", window_us=DAY_US, hop_us=2 * HOUR_US
                ),
            ),
        ),
    ),
    request=(RequestFeature(name="amount", kind="amount"),),
)


def register_small_model(settings: Settings, folder: Path, *, seed: int = 0) -> ModelVersion:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(2_000, 2)).astype(np.float32)
    fraud = (rows[:, 0] + random.normal(size=2_000) > 2).astype(np.int64)
    booster = lightgbm.train(
        {"objective": "binary", "verbose": -1, "num_threads": 1, "num_leaves": 7},
        lightgbm.Dataset(rows, fraud, feature_name=list(PLAN.feature_names)),
        num_boost_round=5,
    )
    with tracked_run(settings, "small", tags={}) as run:
        manifest = save_artifact(
            folder,
            name=settings.mlflow.model_name,
            plan=PLAN,
            model=booster.model_to_string(),
            calibration=fit_calibration(np.asarray(booster.predict(rows, raw_score=True)), fraud),
            thresholds=Thresholds(fraud=0.5, review=0.3, decline=0.8),
            metrics={"average_precision": Estimate(0.5, 0.4, 0.6)},
            training=TrainingWindow(start_us=0, end_us=1, cutoff_us=1, rows=2_000, frauds=9),
            data_hash=f"data-{seed}",
            created_at_us=1,
            run_id=run.run_id,
        )
        logged = run.model(folder, manifest)
        return register_candidate(settings, run, logged, manifest)
