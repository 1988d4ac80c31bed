"""Search for parameters of a family on folds before the test, and keep what was found.

Each trial fits a model for each fold as a training does, with early stopping on the later part of
what it learns from, and is given up once it is worse than the median of the trials before it. The
first trial is the family's own settings, the second what an earlier search found; the best one is
held against what trainings take now, paired on the same payments. Only what is better there is
kept. What was found makes another procedure, and goes to the gate like any candidate.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import xxhash

from sentinel.features.plan.plan import DAY_US
from sentinel.models.families.installed import trainer_of
from sentinel.models.families.trainer import Between
from sentinel.models.intervals import Estimate
from sentinel.models.splitting import Split
from sentinel.pipeline.datasets import split_of
from sentinel.pipeline.found_parameters import (
    FoundParameters,
    Parameters,
    keep_found,
    remembered_parameters,
)
from sentinel.pipeline.labelled_payments import labelled_payments
from sentinel.pipeline.search_report import track_search
from sentinel.pipeline.search_study import (
    JOURNAL,
    UNFINISHED,
    Study,
    Values,
    open_study,
    values_of,
)
from sentinel.pipeline.validation_folds import Floats, Fold, Material, ValidationFolds
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback, no_progress

MOST_ROWS: Final = 60_000
"""Payments of the sample that every trial and fold is cut from."""


class _Begun(msgspec.Struct, frozen=True, omit_defaults=True):
    """A search that has not ended: what it is about, and the moment of knowledge that it has."""

    trainer: str
    plan_hash: str
    seed: int
    now_us: int
    held: Parameters = {}

    @property
    def name(self) -> str:
        """Of its journal."""
        key = xxhash.xxh3_64(msgspec.json.encode(self, order="deterministic")).hexdigest()
        return f"{self.trainer}-{key}"


def search_parameters(
    settings: Settings,
    trials: int,
    *,
    now_us: int | None = None,
    threads: int | None = None,
    progress: ProgressCallback = no_progress,
) -> FoundParameters:
    """Search over the log of a deployment, track the search and keep what it found.

    A search that was interrupted goes on, at the moment of knowledge that it began with. Each says
    so in a file of its own, beside its journal, so that others in the workspace take nothing from
    it.

    Args:
        settings: Give the family, the seed and where things are.
        trials: How many there are to be, those of an interrupted search included.
        now_us: The moment of knowledge, microseconds UTC; default: the end of the log.
        threads: Default: the cores of this machine.
        progress: Told of the stages "labels", "backfill" and "search".

    Raises:
        Unavailable: MLflow does not answer.
        WorkspaceError: Another process is at this search.
    """
    known = labelled_payments(settings, progress=progress)
    material = Material.of(known)
    about = _Begun(
        trainer_of(settings.training.trainer).name,
        material.plan.hash,
        settings.training.seed,
        known.end_us if now_us is None else now_us,
        {} if (held := remembered_parameters(settings)) is None else held.parameters,
    )
    folder = settings.workspace / "searches"
    about = _unfinished(folder, about) if now_us is None else about
    split = split_of(settings, known, about.now_us)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{about.name}{UNFINISHED}"
    partial = folder / f"{unfinished.name}.{os.getpid()}.partial"
    partial.write_bytes(msgspec.json.encode(about))
    partial.replace(unfinished)
    found = search_over(
        settings,
        material,
        split,
        trials,
        folder,
        about.name,
        held=about.held,
        threads=threads,
        progress=progress,
    )
    unfinished.unlink(missing_ok=True)
    return keep_found(settings, found)


def search_over(
    settings: Settings,
    material: Material,
    split: Split,
    trials: int,
    folder: Path,
    name: str,
    *,
    held: Parameters | None = None,
    tracked: bool = True,
    threads: int | None = None,
    progress: ProgressCallback = no_progress,
) -> FoundParameters:
    """Search on folds before the test of a split.

    Args:
        settings: Give the family, the seed, bootstrap rounds and MLflow.
        material: The log.
        split: Its test is not looked at.
        trials: How many there are to be, those in the journal included.
        folder: Where the journal is.
        name: Of the search.
        held: Changes to the family's own settings that trainings take now; what is found must be
            better than these.
        tracked: Whether it becomes a run in MLflow.
        threads: Default: the cores of this machine.
        progress: Told of the stage "search".
    """
    began = time.monotonic()
    trainer = trainer_of(settings.training.trainer)
    folds = ValidationFolds(settings, material, split, most_rows=MOST_ROWS, threads=threads)
    spans = folds.folds()
    nothing = FoundParameters(
        trainer=trainer.name,
        parameters={},
        plan_hash=material.plan.hash,
        log_through=material.log_through,
        rows=len(folds.rows),
    )
    if not spans or not trainer.space:
        return nothing

    def scores(values: Values, fold: Fold) -> Floats:
        changes = _changes(values, trainer.space)
        return folds.score(trainer.name, fold, parameters=changes, stops_early=True)

    def measure(values: Values, step: int) -> float:
        return folds.average_precision(spans[step], scores(values, spans[step]))

    serves = _serves(held or {}, trainer.space)
    seed = settings.training.seed
    with open_study(folder, name, trainer.space, seed=seed, held=serves) as study:
        while (done := len(study.ended)) < trials:
            progress("search", done, trials)
            study.next(len(spans), measure)
        progress("search", trials, trials)
        best, first = study.best, study.completed[0]
        second = study.completed[1] if serves is not None and len(study.completed) > 1 else None
        now = first if second is None else second
        found = msgspec.structs.replace(
            nothing,
            average_precision=now.value,
            usual=first.value,
            held=None if second is None else second.value,
            trials=len(study.ended),
            pruned=len(study.ended) - len(study.completed),
            folds=len(spans),
            fold_days=folds.fold_us / DAY_US,
        )
        if best.number != now.number:
            both = {
                trial.number: np.concatenate([scores(values_of(trial), fold) for fold in spans])
                for trial in (now, first, best)
            }
            found = better_than_now(
                found, folds.better_by(spans, both), now, first, best, trainer.space
            )
        found = msgspec.structs.replace(found, seconds=time.monotonic() - began)
        if tracked:
            run_id = track_search(settings, found, _trials(study), study.importances())
            found = msgspec.structs.replace(found, run_id=run_id)
    return found


def better_than_now(
    found: FoundParameters,
    compared: Mapping[int, tuple[float, Estimate | None]],
    now: Any,
    first: Any,
    best: Any,
    space: Mapping[str, Between],
) -> FoundParameters:
    """What was found, once the best trial was held against what trainings take now.

    The best by the mean of the folds may be no better on all their payments together; then nothing
    was found.

    Args:
        found: Without it.
        compared: Average precision on all payments by trial, and how much better than ``now``.
        now: The trial of what trainings take now.
        first: That of the family's own settings.
        best: The best one by the mean of the folds.
        space: Of the family.
    """
    value, better_by = compared[best.number]
    found = msgspec.structs.replace(
        found,
        average_precision=compared[now.number][0],
        usual=compared[first.number][0],
        held=None if found.held is None else compared[now.number][0],
    )
    if better_by is None or better_by.value <= 0:
        return msgspec.structs.replace(found, parameters={}, better_by=None)
    return msgspec.structs.replace(
        found,
        parameters=_changes(values_of(best), space),
        average_precision=value,
        better_by=better_by,
    )


def _serves(held: Parameters, space: Mapping[str, Between]) -> Values | None:
    """What trainings take now, as a point of the space; None if the family's own settings hold."""
    inside = all(  # another version may have searched another space
        name in space and space[name].low <= value <= space[name].high
        for name, value in held.items()
    )
    if not held or not inside:
        return None
    return {name: one.usual for name, one in space.items()} | held


def _changes(values: Values, space: Mapping[str, Between]) -> Values:
    """What is not as the family usually has it."""
    return {name: value for name, value in values.items() if value != space[name].usual}


def _trials(study: Study) -> list[dict[str, object]]:
    """A row for each trial."""
    return [
        {
            "trial": number,
            "average_precision": trial.value if trial.value is not None else float("nan"),
            "given_up": trial.state.name == "PRUNED",
            "seconds": None if trial.duration is None else trial.duration.total_seconds(),
            **values_of(trial),
        }
        for number, trial in enumerate(study.ended)
    ]


def _unfinished(folder: Path, about: _Begun) -> _Begun:
    """The latest search over the same that was interrupted; the given one if there is none."""
    interrupted = []
    for path in folder.glob(f"*{UNFINISHED}"):
        try:
            begun = msgspec.json.decode(path.read_bytes(), type=_Begun)
        except (FileNotFoundError, msgspec.DecodeError):
            continue
        has_journal = (folder / f"{begun.name}{JOURNAL}").exists()
        if has_journal and msgspec.structs.replace(begun, now_us=about.now_us) == about:
            interrupted.append(begun)
    return max(interrupted, key=lambda one: one.now_us, default=about)
