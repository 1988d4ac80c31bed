"""A dataset into a candidate: fitted, calibrated, measured, tracked and registered.

The candidate is registered before anything is measured beside it (`sentinel.pipeline.baselines`).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from sentinel.domain import ConfigurationError
from sentinel.features.plan.plan import DAY_US
from sentinel.models.artifact import ModelManifest
from sentinel.models.curves import draw_curves
from sentinel.models.evaluation import CERTAIN_FRAUDS, Figures, compare, undecided
from sentinel.models.families.installed import families, trainer_of
from sentinel.models.families.trainer import Trainer
from sentinel.models.intervals import Estimate
from sentinel.models.registry import Registry
from sentinel.models.registry_place import mlflow_place
from sentinel.models.registry_view import PROVISIONAL_TAG
from sentinel.pipeline.at_lines import stored_costs
from sentinel.pipeline.baselines import measure_baselines
from sentinel.pipeline.candidate_folder import save_candidate
from sentinel.pipeline.dataset_folder import Dataset, DatasetManifest, load_dataset
from sentinel.pipeline.datasets import build_dataset, split_of
from sentinel.pipeline.drift_reference import reference_of
from sentinel.pipeline.fitting import Result, fit_and_measure
from sentinel.pipeline.found_parameters import go_back, remembered_parameters
from sentinel.pipeline.labelled_payments import (
    LabelledPayments,
    labelled_payments,
    served_over,
)
from sentinel.pipeline.last_training import ASKED_FOR, LastTraining, keep_training
from sentinel.pipeline.procedures import procedure_of
from sentinel.pipeline.refitting import Refit, refit
from sentinel.pipeline.tracking import TrackedRun, register_candidate, tracked_run
from sentinel.pipeline.trials import Trials
from sentinel.pipeline.validation_folds import Material
from sentinel.pipeline.window_search import ChosenWindow, remember, search_window
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback, no_progress

Metrics = dict[str, Estimate]


@dataclass(frozen=True)
class Trained:
    """A candidate.

    Attributes:
        version: In the registry.
        run_id: The tracked run.
        run_url: Where to look at it.
        tracked: Where it is, in a sentence.
        manifest: What the model says of itself.
        metrics: Of the candidate on the test rows.
        baselines: The figures of each baseline on the same rows, by its name.
        dataset: What it was trained and measured on.
        folder: Where that is.
        seconds: How long it took, without the baselines.
        parts: What took how long, in seconds.
        window: What a search for the length of history found; None if none was made.
    """

    version: str
    run_id: str
    run_url: str
    manifest: ModelManifest
    metrics: Metrics
    baselines: dict[str, Figures]
    dataset: DatasetManifest
    folder: Path
    seconds: float
    parts: dict[str, float] = field(default_factory=dict)
    window: ChosenWindow | None = None
    tracked: str = ""


def train(
    settings: Settings,
    dataset: Path | None = None,
    *,
    now_us: int | None = None,
    baselines: bool = True,
    search: bool = True,
    refitted: bool = True,
    parameters: Mapping[str, Any] | None = None,
    threads: int | None = None,
    why: str = ASKED_FOR,
    counts: bool = True,
    progress: ProgressCallback = no_progress,
) -> Trained:
    """Train a model on what was known at a moment, and register it as the newest candidate.

    Args:
        settings: The deployment.
        dataset: Folder of a dataset that `build_dataset` made; default: build one.
        now_us: The moment of knowledge of the one that is built, microseconds UTC; default: the
            end of the log.
        baselines: Whether the baselines are trained and reported, once the candidate is there.
        search: Whether lengths of history are compared then, where ``training.window_days`` is
            "auto". If another one proves better, a candidate of that length is trained as well.
        refitted: Whether what was held out is learnt from as well, once the candidate is measured.
        parameters: Changes to the trainer's own settings, such as ``num_leaves``; default: what
            the last search over its family found.
        threads: Default: the cores of this machine.
        why: What made it due, for the tracked run (tag ``retraining``).
        counts: Whether it is the last training from now on. That of a dry run is not: nobody will
            promote its candidate, so that another one stays due.
        progress: Told of the stages "labels", "backfill", "vectors", "fit", "refit", "track",
            "lengths" and "baselines".

    Raises:
        Unavailable: MLflow does not answer; asked before anything else is done.
        InvalidQuery: No payment is known to be fraud, or none to be anything else.
        ConfigurationError: The trainer that is set makes models that are not served.
    """
    mlflow_place(settings)
    clock, began_us = Clock(), time.time_ns() // 1_000
    if dataset is None:
        built = build_dataset(settings, now_us=now_us, progress=progress)
        folder, data, known = built.folder, built.dataset, built.known
    else:
        folder, data = dataset, load_dataset(dataset)
        known = labelled_payments(settings, plan=data.plan, progress=progress)
    clock.lap("dataset")
    if parameters is None:
        parameters = held_parameters(settings, data.manifest)
    options = _Options(parameters, threads, progress, clock, refitted, why)
    trained = _candidate(settings, folder, data, known, options)
    window = None
    if search and settings.training.window_days == "auto" and not trained.manifest.provisional:
        window = choose_window(settings, now_us=now_us, threads=threads, progress=progress)
        if window.differs_from(trained.dataset.window_days):
            better = build_dataset(settings, now_us=now_us, progress=progress)
            folder, data = better.folder, better.dataset
            trained = _candidate(settings, folder, data, better.known, options)
    if counts:
        keep_training(
            settings,
            LastTraining(
                version=trained.version,
                known_until_us=_known_until(trained.dataset),
                at_us=began_us,
                why=why,
            ),
        )
    if baselines:
        found = measure_baselines(
            settings, trained.run_id, data, threads=threads, progress=progress
        )
        trained = replace(trained, baselines=found)
    return replace(trained, window=window)


def _known_until(about: DatasetManifest) -> int:
    return max(part.cutoff_us for part in (about.fit, about.tail, about.test))


def held_parameters(settings: Settings, about: DatasetManifest) -> Mapping[str, Any] | None:
    """Changes to a family's own settings that a training takes; None if there are none.

    They are what the last search found. If the gate has refused a procedure with them, those that
    held before hold again.

    Args:
        settings: The deployment.
        about: What is trained on.
    """
    found = remembered_parameters(settings)
    if found is None:
        return None
    trials = Trials(settings)
    while (found.parameters or found.before) and trials.refused(
        procedure_of(settings, about, found.parameters)
    ):
        found = go_back(settings, found)
    return found.parameters or None


def choose_window(
    settings: Settings,
    *,
    now_us: int | None = None,
    threads: int | None = None,
    progress: ProgressCallback = no_progress,
) -> ChosenWindow:
    """Compare lengths of history, and keep what is found for this training and the next ones.

    Args:
        settings: The deployment.
        now_us: The moment of knowledge, microseconds UTC; default: the end of the log.
        threads: Default: the cores of this machine.
        progress: Told of the stages "labels", "backfill" and "lengths".
    """
    known = labelled_payments(settings, progress=progress)
    split = split_of(settings, known, now_us)
    chosen = search_window(settings, Material.of(known), split, threads=threads, progress=progress)
    remember(settings, chosen)
    return chosen


@dataclass(frozen=True)
class _Options:
    parameters: Mapping[str, Any] | None
    threads: int | None
    progress: ProgressCallback
    clock: Clock
    refitted: bool
    why: str


def _candidate(
    settings: Settings, folder: Path, data: Dataset, known: LabelledPayments, options: _Options
) -> Trained:
    """Fit, measure, refit on what was held out as well, track and register."""
    clock, progress = options.clock, options.progress
    name = served_trainer(settings).name
    about = data.manifest
    tags = {"plan_hash": about.plan_hash, "data_hash": about.data_hash, "trainer": name}
    tags["retraining"] = options.why
    with tracked_run(settings, _run_name(name), tags=tags) as run:
        run.parameters(_parameters(settings, data))
        run.data(
            name="transaction-log",
            digest=about.data_hash,
            source={"plan_hash": about.plan_hash, "through": about.log_through},
            rows=about.fit.rows + about.tail.rows,
        )
        progress("fit", 0, 1)
        result = fit_and_measure(
            settings, name, data, parameters=options.parameters, threads=options.threads
        )
        progress("fit", 1, 1)
        clock.lap("fit")
        again = _refit(settings, data, result, known, options) if options.refitted else None
        progress("track", 0, 1)
        version, manifest = _track(settings, run, data, result, again, options)
        progress("track", 1, 1)
        clock.lap("track")
    return Trained(
        version=version,
        run_id=run.run_id,
        run_url=run.url,
        manifest=manifest,
        metrics=result.figures.metrics,
        baselines={},
        dataset=about,
        folder=folder,
        seconds=sum(clock.parts.values()),
        parts=dict(clock.parts),
        tracked=run.where,
    )


def served_trainer(settings: Settings) -> Trainer:
    """The family that candidates are of.

    Raises:
        ConfigurationError: It is not installed, or its models are not served.
    """
    trainer = trainer_of(settings.training.trainer)
    if not trainer.served:
        others = [name for name in families() if trainer_of(name).served]
        raise ConfigurationError(
            f"{trainer.name} is a baseline to compare with, and is not served. Train "
            f"{' or '.join(others)} (`--model`, or training.trainer of the settings). `--search` "
            "with a number of trials finds parameters of the baseline, too."
        )
    return trainer


def _refit(
    settings: Settings, data: Dataset, result: Result, known: LabelledPayments, options: _Options
) -> Refit | None:
    options.progress("refit", 0, 1)
    again = refit(
        settings,
        settings.training.trainer,
        data,
        result,
        known,
        costs=stored_costs(settings),
        vectors=partial(served_over, settings, known),
        parameters=options.parameters,
        threads=options.threads,
    )
    options.progress("refit", 1, 1)
    options.clock.lap("refit")
    return again


class Clock:
    """How long each part took, in seconds."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self._since = time.monotonic()

    def lap(self, part: str) -> None:
        now = time.monotonic()
        self.parts[part] = self.parts.get(part, 0.0) + now - self._since
        self._since = now


def _track(
    settings: Settings,
    run: TrackedRun,
    data: Dataset,
    result: Result,
    again: Refit | None,
    options: _Options,
) -> tuple[str, ModelManifest]:
    """Log everything there is to say of a result, and register it as the candidate.

    Figures, pictures and importances are of the model that was measured.
    """
    about, model = data.manifest, result.model
    serves = again if again is not None and not again.note.refused else result
    provisional = about.provisional or _undecided(settings, result)
    if provisional:
        run.tag(PROVISIONAL_TAG, provisional)
    run.parameters({f"model.{key}": value for key, value in model.parameters.items()})
    run.metrics(
        {
            "threshold_review": serves.thresholds.review,
            "threshold_decline": serves.thresholds.decline,
            "test_fraud_share": about.test.frauds / max(about.test.rows, 1),
        }
    )
    importance = dict(
        sorted(
            zip(data.plan.feature_names, model.importance().tolist(), strict=True),
            key=lambda item: -item[1],
        )
    )
    run.document("feature_importance.json", importance)
    run.document("dataset.json", msgspec.to_builtins(about))
    if again is not None:
        run.tag("refit", again.note.words)
    if result.figures.not_measured:
        run.document("not_measured.json", result.figures.not_measured)
    with tempfile.TemporaryDirectory(prefix="sentinel-training-") as place:
        pictures, folder = Path(place, "pictures"), Path(place, "model")
        if result.held_out is not None:
            draw_curves(
                result.held_out,
                pictures,
                feature_names=data.plan.feature_names,
                importance=model.importance(),
                fraud_threshold=result.thresholds.fraud,
            )
            run.files(pictures, below="pictures")
        manifest = save_candidate(
            folder,
            data,
            result,
            again,
            name=settings.mlflow.model_name,
            run_id=run.run_id,
            provisional=provisional,
            procedure=procedure_of(settings, about, options.parameters),
            parent=next(iter(Registry.of(settings).champions()[-1:]), ""),
            reference=reference_of(settings, data, result),
        )
        logged = run.model(folder, manifest, categorical=data.plan.categorical)
        run.metrics(result.figures.metrics, model_id=logged.model_id)
        version = register_candidate(settings, run, logged, manifest)
    return version.version, manifest


def _undecided(settings: Settings, result: Result) -> str:
    """Why the test rows cannot tell the model from knowing nothing; empty if they can."""
    rows, options = result.held_out, settings.training
    if rows is None or np.count_nonzero(rows.fraud) >= CERTAIN_FRAUDS:
        return ""
    nothing = np.zeros(len(rows.fraud))
    difference = compare(
        rows.fraud,
        rows.score,
        nothing,
        rows.card,
        rounds=options.bootstrap_rounds,
        seed=options.seed,
    )
    return undecided(difference, int(np.count_nonzero(rows.fraud)))


def _parameters(settings: Settings, data: Dataset) -> dict[str, object]:
    about = data.manifest
    values: dict[str, object] = {
        **settings.training.model_dump(),
        "maturity_days": settings.labels.maturity_days,
        "gap_days": None if about.gap_us is None else about.gap_us / DAY_US,
        "left_out": about.left_out,
        "notes": " ".join(about.notes),
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
