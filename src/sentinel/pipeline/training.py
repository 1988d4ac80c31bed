"""A dataset into a candidate: fitted, calibrated, measured, tracked and registered."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sentinel.domain import ConfigurationError
from sentinel.models.artifact import ModelManifest, TrainingWindow, save_artifact
from sentinel.models.calibration import Calibration, fit_calibration
from sentinel.models.curves import draw_curves
from sentinel.models.evaluation import HeldOut, evaluate
from sentinel.models.intervals import Estimate
from sentinel.models.registry import mlflow_client
from sentinel.models.thresholds import Thresholds, choose_thresholds
from sentinel.models.trainers import FittedModel, TrainerName, Validation
from sentinel.models.trainers import train as fit
from sentinel.pipeline.datasets import Dataset, DatasetManifest, build_dataset, load_dataset
from sentinel.pipeline.tracking import TrackedRun, register_candidate, tracked_run
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback, no_progress

SERVED: Final[tuple[TrainerName, ...]] = ("lightgbm", "random_forest")
BASELINES: Final[tuple[TrainerName, ...]] = ("random_forest", "logistic_regression")

Metrics = dict[str, Estimate]


@dataclass(frozen=True)
class Trained:
    """A candidate.

    Attributes:
        version: In the registry.
        run_id: The tracked run.
        run_url: Where to look at it.
        manifest: What the model says of itself.
        metrics: Of the candidate on the test rows.
        baselines: The same of each baseline, by its name.
        dataset: What it was trained and measured on.
        seconds: How long it took.
    """

    version: str
    run_id: str
    run_url: str
    manifest: ModelManifest
    metrics: Metrics
    baselines: dict[str, Metrics]
    dataset: DatasetManifest
    seconds: float


def train(
    settings: Settings,
    dataset: Path | None = None,
    *,
    now_us: int | None = None,
    baselines: bool = True,
    parameters: Mapping[str, Any] | None = None,
    threads: int | None = None,
    progress: ProgressCallback = no_progress,
) -> Trained:
    """Train a model on what was known at a moment, and register it as the newest candidate.

    Args:
        settings: The deployment.
        dataset: Folder of a dataset that `build_dataset` made; default: build one.
        now_us: The moment of knowledge of the one that is built, microseconds UTC; default: the
            end of the log.
        baselines: Whether the baselines are trained and reported beside it.
        parameters: Changes to the trainer's own settings, such as ``num_leaves``.
        threads: Default: the cores of this machine.
        progress: Told of the stages "labels", "backfill", "vectors", "fit", "evaluate" and
            "track".

    Raises:
        Unavailable: MLflow does not answer; asked before anything else is done.
        InvalidQuery: The history is too short, or a part of it has no known fraud.
        ConfigurationError: The trainer that is set makes models that are not served.
    """
    started = time.monotonic()
    name = settings.training.trainer
    if name not in SERVED:
        raise ConfigurationError(
            f"{name} is a baseline to compare with; it is not served. Set training.trainer to "
            f"{' or '.join(SERVED)}."
        )
    mlflow_client(settings.tracking_uri)
    if dataset is None:
        dataset = build_dataset(settings, now_us=now_us, progress=progress).folder
    data = load_dataset(dataset)
    about = data.manifest
    others = [other for other in BASELINES if baselines and other != name]
    tags = {"plan_hash": about.plan_hash, "data_hash": about.data_hash, "trainer": name}
    with tracked_run(settings, _run_name(name), tags=tags) as run:
        run.parameters(_parameters(settings, data))
        run.data(
            name="transaction-log",
            digest=about.data_hash,
            source={"plan_hash": about.plan_hash, "through": about.log_through},
            rows=about.fit.rows + about.tail.rows,
        )
        results: dict[str, _Result] = {}
        for number, trainer in enumerate([name, *others]):
            progress("fit", number, 1 + len(others))
            changes = parameters if trainer == name else None
            results[trainer] = _fit(settings, trainer, data, changes, threads)
        progress("fit", len(results), len(results))
        for number, result in enumerate(results.values()):
            progress("evaluate", number, len(results))
            result.metrics = _evaluate(settings, result.held_out)
        progress("evaluate", len(results), len(results))
        progress("track", 0, 1)
        candidate = results[name]
        version, manifest = _track(settings, run, data, results, name)
        progress("track", 1, 1)
    return Trained(
        version=version,
        run_id=run.run_id,
        run_url=run.url,
        manifest=manifest,
        metrics=candidate.metrics,
        baselines={other: results[other].metrics for other in others},
        dataset=about,
        seconds=time.monotonic() - started,
    )


@dataclass
class _Result:
    """A fitted model and what it says of the test rows."""

    model: FittedModel
    calibration: Calibration
    thresholds: Thresholds
    held_out: HeldOut
    metrics: Metrics


def _fit(
    settings: Settings,
    name: TrainerName,
    data: Dataset,
    parameters: Mapping[str, Any] | None,
    threads: int | None,
) -> _Result:
    plan, tail_rows, test = data.plan, data.tail, data.test
    model = fit(
        name,
        data.fit.X,
        data.fit.fraud,
        feature_names=plan.feature_names,
        categorical=plan.categorical,
        seed=settings.training.seed,
        validation=Validation(X=tail_rows.X, y=tail_rows.fraud),
        threads=threads,
        parameters=parameters,
    )
    tail = model.raw_score(tail_rows.X)
    calibration = fit_calibration(tail, tail_rows.fraud)
    thresholds = choose_thresholds(
        calibration.apply(tail),
        tail_rows.fraud,
        alerts_per_1000=settings.training.alert_budget_per_1000,
        decline_precision=settings.training.decline_precision,
    )
    raw = model.raw_score(test.X)
    held_out = HeldOut(
        fraud=test.fraud,
        score=raw,
        probability=calibration.apply(raw),
        card=test.card,
        event_time_us=test.event_time_us,
        amount_minor=test.amount_minor,
    )
    return _Result(model, calibration, thresholds, held_out, {})


def _evaluate(settings: Settings, rows: HeldOut) -> Metrics:
    options = settings.training
    return evaluate(
        rows,
        alerts_per_1000=options.alert_budget_per_1000,
        rounds=options.bootstrap_rounds,
        seed=options.seed,
    )


def _track(
    settings: Settings,
    run: TrackedRun,
    data: Dataset,
    results: Mapping[str, _Result],
    name: str,
) -> tuple[str, ModelManifest]:
    """Log everything there is to say of the results, and register the candidate."""
    candidate, about = results[name], data.manifest
    run.parameters({f"model.{key}": value for key, value in candidate.model.parameters.items()})
    run.metrics(
        {
            "threshold_review": candidate.thresholds.review,
            "threshold_decline": candidate.thresholds.decline,
            "test_fraud_share": about.test.frauds / about.test.rows,
        }
    )
    for other, result in results.items():
        if other != name:
            run.metrics(result.metrics, prefix=f"baselines/{other}/")
    importance = dict(
        sorted(
            zip(data.plan.feature_names, candidate.model.importance().tolist(), strict=True),
            key=lambda item: -item[1],
        )
    )
    run.document("feature_importance.json", importance)
    with tempfile.TemporaryDirectory(prefix="sentinel-training-") as place:
        pictures, folder = Path(place, "pictures"), Path(place, "model")
        for other, result in results.items():
            draw_curves(
                result.held_out,
                pictures if other == name else pictures / other,
                feature_names=data.plan.feature_names,
                importance=candidate.model.importance() if other == name else (),
                fraud_threshold=result.thresholds.fraud,
            )
        run.files(pictures, below="pictures")
        manifest = save_artifact(
            folder,
            name=settings.mlflow.model_name,
            plan=data.plan,
            model=candidate.model.native(),
            calibration=candidate.calibration,
            thresholds=candidate.thresholds,
            metrics=candidate.metrics,
            training=TrainingWindow(
                start_us=about.fit.start_us,
                end_us=about.tail.end_us,
                cutoff_us=about.fit.cutoff_us,
                rows=about.fit.rows + about.tail.rows,
                frauds=about.fit.frauds + about.tail.frauds,
            ),
            data_hash=about.data_hash,
            created_at_us=time.time_ns() // 1000,
            run_id=run.run_id,
        )
        logged = run.model(folder, manifest, categorical=data.plan.categorical)
        run.metrics(candidate.metrics, model_id=logged.model_id)
        version = register_candidate(settings, run, logged, manifest)
    return version.version, manifest


def _parameters(settings: Settings, data: Dataset) -> dict[str, object]:
    about = data.manifest
    values: dict[str, object] = {
        **settings.training.model_dump(),
        "maturity_days": settings.labels.maturity_days,
        "plan_hash": about.plan_hash,
        "data_hash": about.data_hash,
        "dataset": about.name,
        "features": len(data.plan.feature_names),
        "log_through": about.log_through,
    }
    for name, part in (("fit", about.fit), ("tail", about.tail), ("test", about.test)):
        values |= {
            f"{name}.rows": part.rows,
            f"{name}.frauds": part.frauds,
            f"{name}.from": _day(part.start_us),
            f"{name}.to": _day(part.end_us),
        }
    return values


def _day(time_us: int) -> str:
    return f"{datetime.fromtimestamp(time_us / 1e6, UTC):%Y-%m-%d %H:%M}"


def _run_name(trainer: str) -> str:
    return f"{trainer} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
