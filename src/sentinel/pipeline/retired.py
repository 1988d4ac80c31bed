"""Folders of models that serve no more: how long they stay.

The modification time of a folder is when its model last served: it is set when the model begins to
serve, every hour while it is in the line-up, and once more when another champion takes its place.
So a folder is kept while a decision of the last `mlflow.keep_days` days can be its model's, and
nobody has to read the log for that. What is dropped can be fetched from the registry again. The
model that drift is measured from (`sentinel.drift.anchor`) stays as long as it is that.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Final

from sentinel.domain import ModelNotSigned, SentinelError
from sentinel.drift.store import open_drift
from sentinel.experiments.lineup import NO_LINE_UP
from sentinel.experiments.store import open_line_ups
from sentinel.models.serving import model_folder, serving_of
from sentinel.models.signature import read_signature, verify
from sentinel.models.signing_keys import trusted_keys_of
from sentinel.settings import Settings

ALWAYS_KEPT: Final = 3
"""So many folders stay however long they have not served: a rollback fetches nothing."""
MOST_KEPT: Final = 256
"""Most folders that stay; beyond, those that served longest ago are dropped."""
_DAY_SECONDS: Final = 86_400.0
_NOTED_SECONDS: Final = 3_600.0


def note_use(settings: Settings, folder: Path) -> None:
    """Note that a folder's model begins to serve now, and that those before it served until now."""
    os.utime(folder)
    try:
        served = _serving(settings)
    except SentinelError:  # the file that says so is damaged, and is written anew now
        return
    for before in served:
        _touch(before)


def note_line_up(folder: Path) -> None:
    """Note once an hour that the model of a folder is in the line-up."""
    try:
        unnoted = time.time() - folder.stat().st_mtime > _NOTED_SECONDS
    except FileNotFoundError:
        return
    if unnoted:
        _touch(folder)


def drop_retired(settings: Settings) -> list[Path]:
    """Drop the folders of models that served too long ago, and of candidates that never did.

    What serves and what is in the line-up stays. Nothing is dropped while that cannot be read.

    Returns:
        The folders that were dropped.
    """
    try:
        stay = {*_serving(settings), *_line_up(settings), *_anchor(settings)}
    except SentinelError:
        return []  # the next promotion drops them
    models, now = settings.models_dir, time.time()
    folders = [p for p in models.glob(f"{settings.mlflow.model_name}-*") if p.is_dir()]
    folders.sort(key=lambda p: p.stat().st_mtime, reverse=True)
    dropped = []
    for place, folder in enumerate(folders):
        if folder in stay or place < ALWAYS_KEPT:
            continue
        days = (now - folder.stat().st_mtime) / _DAY_SECONDS
        old = days > settings.mlflow.keep_days or not _may_have_served(settings, folder)
        if old or place >= MOST_KEPT:
            shutil.rmtree(folder, ignore_errors=True)
            dropped.append(folder)
    return dropped


def _touch(folder: Path) -> None:
    try:
        os.utime(folder)
    except FileNotFoundError:
        return


def _serving(settings: Settings) -> list[Path]:
    serving = serving_of(settings)
    roles = {} if serving is None else serving.roles
    return [settings.models_dir / model.folder for model in roles.values()]


def _line_up(settings: Settings) -> list[Path]:
    store = open_line_ups(settings)
    try:
        line_up = store.read() or NO_LINE_UP
    finally:
        store.close()
    return [model_folder(settings, one.version) for one in line_up.experiments]


def _anchor(settings: Settings) -> list[Path]:
    """The model whose reference the features of live payments are held against."""
    store = open_drift(settings)
    try:
        anchor = store.anchor()
        streams = store.streams() if anchor is not None else []
    except SentinelError:
        return []  # the monitor says so, and goes on with the reference of a newer model
    finally:
        store.close()
    return [
        model_folder(settings, one.model_version)
        for one in streams
        if anchor is not None and one.id == anchor.stream
    ]


def _may_have_served(settings: Settings, folder: Path) -> bool:
    """Whether the signature of a folder lets it decide, or there is none that could tell."""
    try:
        signed = verify(read_signature(folder), trusted_keys_of(settings), str(folder))
    except (ModelNotSigned, OSError):
        return True
    return signed.statement.may_serve
