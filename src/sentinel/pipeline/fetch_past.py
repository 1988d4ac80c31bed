"""`python -m sentinel.pipeline.fetch_past`: bring back a model that no longer serves.

A scorer runs it to explain what the model decided: reading a registry needs libraries that serving
does without. The request comes on standard input as JSON, the answer goes to standard output:
``{"ok": FOLDER}``, or ``{"error": ..., "code": ...}`` where it was refused.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final

import msgspec

from sentinel.domain import NoModel, SentinelError, Unavailable
from sentinel.models.registry_place import mlflow_place
from sentinel.pipeline.registry_fetch import fetch_version
from sentinel.scoring.past_models import fetched_models
from sentinel.settings import Settings, load_settings
from sentinel.telemetry.log_setup import set_up_as_child

MOST_FETCHED: Final = 16
"""Folders of fetched models that are kept; a further one takes the place of the oldest."""


class PastModel(msgspec.Struct, frozen=True):
    """What is asked for.

    Attributes:
        name: Of the model in the registry.
        version: Of it.
    """

    name: str
    version: str


def fetch(settings: Settings, wanted: PastModel) -> Path:
    """The folder of a version, fetched to where models of the past are kept.

    Raises:
        NoModel: The registry has no such version.
        ModelNotSigned: No trusted key vouches for it.
        Unavailable, ModelFormatError: See `sentinel.pipeline.registry_sync.sync_champion`.
    """
    if not _has_registry(settings):
        raise NoModel("This workspace has no registry: no model was trained in it.")
    named = settings.mlflow.model_copy(update={"model_name": wanted.name})
    place = fetched_models(settings)
    place.mkdir(parents=True, exist_ok=True)
    folder = fetch_version(
        settings.model_copy(update={"mlflow": named}), wanted.version, into=place
    )
    os.utime(folder)
    folders = sorted(
        (p for p in place.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime, reverse=True
    )
    for old in folders[MOST_FETCHED:]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def _has_registry(settings: Settings) -> bool:
    """Whether there is one to ask; asking one of a workspace that has none would make it."""
    try:
        place = mlflow_place(settings)
    except Unavailable:
        return True  # it is away
    return place.files is None or Path(place.uri.removeprefix("sqlite:///")).exists()


def main() -> int:
    """Entry point; returns the exit status."""
    set_up_as_child("fetch-past")
    wanted = msgspec.json.decode(sys.stdin.buffer.read(), type=PastModel)
    answer: dict[str, str]
    try:
        answer = {"ok": str(fetch(load_settings(), wanted))}
    except SentinelError as error:
        answer = {"error": str(error), "code": error.code}
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
