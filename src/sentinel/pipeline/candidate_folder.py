"""A candidate's folder: what would serve, and its twin that was measured where that is a refit."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from sentinel.drift.reference import DriftReference
from sentinel.models.artifact import (
    JUDGED,
    MeasuredOn,
    ModelManifest,
    RefitNote,
    TrainingWindow,
    save_artifact,
)
from sentinel.models.code_version import this_code
from sentinel.models.procedure import Procedure
from sentinel.pipeline.dataset_folder import Dataset, DatasetManifest
from sentinel.pipeline.fitting import Result
from sentinel.pipeline.refitting import Refit


def save_candidate(
    folder: Path,
    data: Dataset,
    result: Result,
    again: Refit | None,
    *,
    name: str,
    run_id: str = "",
    provisional: str = "",
    procedure: Procedure | None = None,
    parent: str = "",
    reference: DriftReference | None = None,
) -> ModelManifest:
    """Write a candidate's folder: what would serve, and its twin where that is a refit.

    Args:
        folder: Made if missing.
        data: What the measured model was fitted and measured on.
        result: That model.
        again: Its refit, which serves unless it was refused; None where none was made.
        name: In the registry.
        run_id, provisional, procedure, parent: See `ModelManifest`.
        reference: What its payments looked like; None leaves it without, and its drift unseen.

    Returns:
        The manifest of what would serve.
    """
    about = data.manifest
    measured = measured_window(about)
    refitted = again if again is not None and not again.note.refused else None
    note = None if again is None else again.note

    def save(
        place: Path,
        which: Result | Refit,
        training: TrainingWindow,
        note: RefitNote | None,
        beside: Sequence[str] = (),
    ) -> ModelManifest:
        return save_artifact(
            place,
            name=name,
            plan=data.plan,
            model=which.model.native(),
            kind=which.model.name,
            calibration=which.calibration,
            thresholds=which.thresholds,
            metrics=result.figures.metrics,
            training=training,
            data_hash=about.data_hash,
            created_at_us=time.time_ns() // 1000,
            run_id=run_id,
            provisional=provisional,
            not_measured=result.figures.not_measured,
            notes=about.notes,
            procedure=procedure,
            refit=note,
            code=this_code(),
            parent=parent,
            measured_on=MeasuredOn(rows=about.test.rows, frauds=about.test.frauds),
            beside=beside,
        )

    beside = []
    if reference is not None:
        folder.mkdir(parents=True, exist_ok=True)
        beside.append(reference.save(folder).name)

    if refitted is None:
        return save(folder, result, measured, note, beside)
    save(folder / JUDGED, result, measured, None)
    return save(folder, refitted, refitted.training, note, beside)


def measured_window(about: DatasetManifest) -> TrainingWindow:
    """What a model learns from that is measured on the test of a dataset."""
    return TrainingWindow(
        start_us=about.fit.start_us,
        end_us=about.tail.end_us if about.tail.rows else about.fit.end_us,
        cutoff_us=about.fit.cutoff_us,
        rows=about.fit.rows + about.tail.rows,
        frauds=about.fit.frauds + about.tail.frauds,
        gap_us=about.gap_us,
    )
