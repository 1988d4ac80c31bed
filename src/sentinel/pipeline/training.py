"""Vectors and labels into a candidate: fitted, calibrated, evaluated, tracked and registered."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sentinel.domain import ConfigurationError
from sentinel.features.plan import DAY_US
from sentinel.models.artifact import ModelManifest, TrainingWindow, save_artifact
from sentinel.models.calibration import Calibration, fit_calibration
from sentinel.models.curves import draw_curves
from sentinel.models.dataset import Sample, Split, data_hash, time_split
from sentinel.models.evaluation import HeldOut, evaluate
from sentinel.models.intervals import Estimate
from sentinel.models.registry import mlflow_client
from sentinel.models.thresholds import Thresholds, choose_thresholds
from sentinel.models.trainers import FittedModel, TrainerName, Validation
from sentinel.models.trainers import train as fit
from sentinel.pipeline.labelled_history import LabelledHistory, labelled_history, maturity_us
from sentinel.pipeline.tracking import TrackedRun, register_candidate, tracked_run
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback, no_progress

SERVED: Final[tuple[TrainerName, ...]] = ("lightgbm", "random_forest")
BASELINES: Final[tuple[TrainerName, ...]] = ("random_forest", "logistic_regression")

Metrics = dict[str, Estimate]
Matrix = npt.NDArray[np.float32]


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
        fit, tail, test: The rows that it was fitted on, stopped and calibrated with, and
            measured on.
        seconds: How long it took.
    """

    version: str
    run_id: str
    run_url: str
    manifest: ModelManifest
    metrics: Metrics
    baselines: dict[str, Metrics]
    fit: Sample
    tail: Sample
    test: Sample
    seconds: float


def train(
    settings: Settings,
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
        now_us: The moment of knowledge, microseconds UTC; default: the end of the log.
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
    known = labelled_history(settings, progress=progress)
    split = _split(settings, known, now_us)
    progress("vectors", 0, 3)
    data = _Data(known, split)
    progress("vectors", 3, 3)
    others = [other for other in BASELINES if baselines and other != name]
    tags = {"plan_hash": known.plan.hash, "data_hash": data.hash, "trainer": name}
    with tracked_run(settings, _run_name(name), tags=tags) as run:
        run.parameters(_parameters(settings, known, data))
        run.data(
            name="transaction-log",
            digest=data.hash,
            source={"plan_hash": known.plan.hash, "through": known.parts.manifest.sequence},
            rows=len(split.fit) + len(split.tail),
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
        version, manifest = _track(settings, run, known, data, results, name)
        progress("track", 1, 1)
    return Trained(
        version=version,
        run_id=run.run_id,
        run_url=run.url,
        manifest=manifest,
        metrics=candidate.metrics,
        baselines={other: results[other].metrics for other in others},
        fit=split.fit,
        tail=split.tail,
        test=split.test,
        seconds=time.monotonic() - started,
    )


class _Data:
    """The rows of a split with their vectors."""

    def __init__(self, known: LabelledHistory, split: Split) -> None:
        self.known = known
        self.split = split
        self.fit: Matrix = known.vectors(split.fit.rows)
        self.tail: Matrix = known.vectors(split.tail.rows)
        self.test: Matrix = known.vectors(split.test.rows)
        self.hash = data_hash(self.fit, split.fit.fraud, self.tail, split.tail.fraud)


@dataclass
class _Result:
    """A fitted model and what it says of the test rows."""

    model: FittedModel
    calibration: Calibration
    thresholds: Thresholds
    held_out: HeldOut
    metrics: Metrics


def _split(settings: Settings, known: LabelledHistory, now_us: int | None) -> Split:
    return time_split(
        known.history,
        known.labels,
        now_us=known.end_us if now_us is None else now_us,
        window_us=round(settings.training.window_days * DAY_US),
        test_us=round(settings.training.test_days * DAY_US),
        maturity_us=maturity_us(settings),
    )


def _fit(
    settings: Settings,
    name: TrainerName,
    data: _Data,
    parameters: Mapping[str, Any] | None,
    threads: int | None,
) -> _Result:
    plan, split = data.known.plan, data.split
    model = fit(
        name,
        data.fit,
        split.fit.fraud,
        feature_names=plan.feature_names,
        categorical=plan.categorical,
        seed=settings.training.seed,
        validation=Validation(X=data.tail, y=split.tail.fraud),
        threads=threads,
        parameters=parameters,
    )
    tail = model.raw_score(data.tail)
    calibration = fit_calibration(tail, split.tail.fraud)
    thresholds = choose_thresholds(
        calibration.apply(tail),
        split.tail.fraud,
        alerts_per_1000=settings.training.alert_budget_per_1000,
        decline_precision=settings.training.decline_precision,
    )
    raw, history, rows = model.raw_score(data.test), data.known.history, split.test.rows
    held_out = HeldOut(
        fraud=split.test.fraud,
        score=raw,
        probability=calibration.apply(raw),
        card=history.card[rows],
        event_time_us=history.event_time_us[rows],
        amount_minor=history.amount_minor[rows],
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
    known: LabelledHistory,
    data: _Data,
    results: Mapping[str, _Result],
    name: str,
) -> tuple[str, ModelManifest]:
    """Log everything there is to say of the results, and register the candidate."""
    candidate, split = results[name], data.split
    run.parameters({f"model.{key}": value for key, value in candidate.model.parameters.items()})
    run.metrics(
        {
            "threshold_review": candidate.thresholds.review,
            "threshold_decline": candidate.thresholds.decline,
            "test_fraud_share": split.test.frauds / len(split.test),
        }
    )
    for other, result in results.items():
        if other != name:
            run.metrics(result.metrics, prefix=f"baselines/{other}/")
    importance = dict(
        sorted(
            zip(known.plan.feature_names, candidate.model.importance().tolist(), strict=True),
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
                feature_names=known.plan.feature_names,
                importance=candidate.model.importance() if other == name else (),
                fraud_threshold=result.thresholds.fraud,
            )
        run.files(pictures, below="pictures")
        manifest = save_artifact(
            folder,
            name=settings.mlflow.model_name,
            plan=known.plan,
            model=candidate.model.native(),
            calibration=candidate.calibration,
            thresholds=candidate.thresholds,
            metrics=candidate.metrics,
            training=TrainingWindow(
                start_us=split.fit.start_us,
                end_us=split.tail.end_us,
                cutoff_us=split.fit.cutoff_us,
                rows=len(split.fit) + len(split.tail),
                frauds=split.fit.frauds + split.tail.frauds,
            ),
            data_hash=data.hash,
            created_at_us=time.time_ns() // 1000,
            run_id=run.run_id,
        )
        logged = run.model(folder, manifest, categorical=known.plan.categorical)
        run.metrics(candidate.metrics, model_id=logged.model_id)
        version = register_candidate(settings, run, logged, manifest)
    return version.version, manifest


def _parameters(settings: Settings, known: LabelledHistory, data: _Data) -> dict[str, object]:
    split = data.split
    values: dict[str, object] = {
        **settings.training.model_dump(),
        "maturity_days": settings.labels.maturity_days,
        "plan_hash": known.plan.hash,
        "data_hash": data.hash,
        "features": len(known.plan.feature_names),
        "log_through": known.parts.manifest.sequence,
    }
    for name, part in (("fit", split.fit), ("tail", split.tail), ("test", split.test)):
        values |= {
            f"{name}.rows": len(part),
            f"{name}.frauds": part.frauds,
            f"{name}.from": _day(part.start_us),
            f"{name}.to": _day(part.end_us),
        }
    return values


def _day(time_us: int) -> str:
    return f"{datetime.fromtimestamp(time_us / 1e6, UTC):%Y-%m-%d %H:%M}"


def _run_name(trainer: str) -> str:
    return f"{trainer} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
