"""What can wait until a champion serves: baselines, lengths of history, and a refit.

`sentinel up` starts this beside the services of a first run. If recent data alone proves better on
validation folds, a candidate of that length is trained, and promoted if the gate lets it through.
So is a refit of the first champion, which has not learnt from what it was measured on.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from sentinel.domain import GateRefused, SentinelError
from sentinel.models.artifact import ModelManifest, load_manifest
from sentinel.models.champion import champion_of
from sentinel.pipeline.baselines import measure_baselines
from sentinel.pipeline.dataset_folder import DatasetManifest, load_dataset
from sentinel.pipeline.model_report import report
from sentinel.pipeline.promotion import promote
from sentinel.pipeline.training import choose_window, train
from sentinel.private_files import keep_files_private
from sentinel.settings import Settings, load_settings
from sentinel.telemetry.log_setup import set_up_as_child

_NICE = 15


def measure_champion(settings: Settings, *, threads: int | None = None) -> str:
    """Measure the champion's baselines, compare lengths of history, and refit it.

    Args:
        settings: The deployment.
        threads: Default: the cores of this machine.

    Returns:
        What was found, in a few sentences.
    """
    champion = champion_of(settings)
    if champion is None:
        return "Nothing was promoted yet."
    manifest = load_manifest(settings.models_dir / champion.folder)
    folder = _dataset_of(settings, manifest)
    if folder is None:
        return f"The dataset of version {champion.version} is gone; `sentinel train` makes another."
    about = load_dataset(folder).manifest
    beside = measure_baselines(settings, manifest.run_id, load_dataset(folder), threads=threads)
    said = [f"Version {champion.version} {_precision(manifest)}."]
    with suppress(SentinelError):  # what is said of it can wait, what it is cannot
        said.append(f"Its report is {report(settings, champion.version).page}.")
    for name, figures in beside.items():
        figure = figures.metrics.get("average_precision")
        said.append(f"{name}: {figure or figures.not_measured.get('average_precision', '')}.")
    if manifest.provisional:
        return " ".join(said)
    better = manifest.refit is None
    if settings.training.window_days == "auto":
        window = choose_window(settings, threads=threads)
        said.append(window.words)
        better = better or window.differs_from(about.window_days)
    if better:
        trained = train(settings, baselines=False, search=False, threads=threads)
        if trained.manifest.refit is not None:
            said.append(trained.manifest.refit.words)
        try:
            promoted = promote(settings, trained.version)
            said.append(f"Version {promoted.version} is the champion now.")
        except GateRefused as error:
            said.append(str(error))
    return " ".join(said)


def _precision(manifest: ModelManifest) -> str:
    figure = manifest.metrics.get("average_precision")
    return f"has an average precision of {figure}" if figure else "could not be measured"


def _dataset_of(settings: Settings, manifest: ModelManifest) -> Path | None:
    """The dataset that a model was trained on, if it is still there."""
    for path in (settings.offline_dir / "datasets").glob("*/manifest.json"):
        with suppress(OSError, msgspec.DecodeError):
            about = msgspec.json.decode(path.read_bytes(), type=DatasetManifest)
            if about.data_hash == manifest.data_hash:
                return path.parent
    return None


def main() -> int:
    """Entry point of ``python -m sentinel.pipeline.afterwards``; returns the exit status."""
    keep_files_private()
    set_up_as_child("afterwards")
    os.nice(_NICE)  # whoever scores goes first
    try:
        said, status = measure_champion(load_settings()), 0
    except SentinelError as error:
        said, status = str(error), 1
    sys.stdout.write(f"{said}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
