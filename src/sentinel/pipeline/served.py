"""The folder that serving reads: who serves, and what may serve at once.

    <models>/serving.json        roles, plan and policy; see `sentinel.models.serving`
    <models>/champion.json       {"version": "3", "folder": "sentinel-fraud-3"}, for older versions
    <models>/sentinel-fraud-3/   what serves
    <models>/sentinel-fraud-2/   what served before, for a rollback that fetches nothing and for
                                 the explanation of what it decided; see `sentinel.pipeline.retired`
    <models>/plans/              unions of plans that served; see `sentinel.models.plans`
    <models>/rollback.json       a rollback that the registry has not been told of

A folder has its name only once it is whole and verified. What serves and what is in the line-up is
never deleted.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
from filelock import FileLock

from sentinel.domain import ModelNotSigned, SentinelError
from sentinel.models.approval import check_approval, read_approval
from sentinel.models.artifact import MANIFEST, load_manifest
from sentinel.models.serving import (
    CHAMPION_ROLE,
    ServedModel,
    Serving,
    model_folder,
    write_durably,
    write_serving,
)
from sentinel.models.signature import (
    Statement,
    check_files,
    check_folder,
    hashes_of,
    read_signature,
    verify,
)
from sentinel.models.signing_keys import approvers_of, trusted_keys_of
from sentinel.pipeline.retired import drop_retired, note_use
from sentinel.settings import Settings

PARTIAL: Final = ".fetching-"

_ROLLBACK: Final = "rollback.json"


class Rollback(msgspec.Struct, frozen=True):
    """A step back that the registry has not been told of.

    Attributes:
        champions: What its history of champions is to be; the last one serves.
        instead_of: Its champion when the step was taken. Is it another one by the time it
            answers, then somebody decided anew, and this is void.
    """

    champions: tuple[str, ...]
    instead_of: str


def folder_of(settings: Settings, version: str) -> Path:
    """Where a version's folder is, or would be."""
    return model_folder(settings, version)


def is_whole(folder: Path, run_id: str | None) -> bool:
    """Whether a folder holds the model of a training run, with every file as it was trained.

    Args:
        folder: The folder.
        run_id: The run; None for any. Another registry may use the same version numbers.
    """
    try:
        manifest = load_manifest(folder)
    except SentinelError:
        return False
    return run_id is None or manifest.run_id == run_id


def run_of(folder: Path) -> str | None:
    """The training run that a folder's model came from; None if it holds none."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes())
    except (OSError, msgspec.DecodeError):
        return None
    return str(manifest.get("run_id", ""))


def is_signed(
    settings: Settings, folder: Path, version: str, run_id: str | None, *, to_serve: bool
) -> bool:
    """Whether a folder holds exactly what a trusted key signed as a version.

    Args:
        settings: Say which keys are trusted.
        folder: The folder.
        version, run_id, to_serve: See `check_statement`.
    """
    keys = trusted_keys_of(settings)
    try:
        check_folder(folder, keys, version=version, run_id=run_id, to_serve=to_serve)
    except ModelNotSigned:
        return False
    return True


def check_approved(settings: Settings, folder: Path, version: str) -> None:
    """See that a folder's model may be champion; nothing where no approval is asked for.

    Args:
        settings: Say which keys approve.
        folder: Signed to serve.
        version: What it holds.

    Raises:
        ModelNotSigned: Approval is asked for, and it has none.
    """
    approvers = approvers_of(settings)
    if approvers:
        keys, what = trusted_keys_of(settings), f"Version {version} in {folder}"
        signed = verify(read_signature(folder), keys, what)
        check_approval(read_approval(folder), approvers, signed)


def holds(folder: Path, statement: Statement) -> bool:
    """Whether a folder holds the files of a statement, and no others."""
    try:
        check_files(folder, statement)
    except ModelNotSigned:
        return False
    return True


def give_name(partial: Path, target: Path) -> None:
    """Give a verified folder its name."""
    try:
        partial.rename(target)
    except OSError:
        if _same(partial, target):  # someone else was quicker
            return
        # Damaged by hand, or of another registry.
        aside = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=target.parent))
        target.rename(aside / "old")
        partial.rename(target)
        shutil.rmtree(aside, ignore_errors=True)


def _same(one: Path, other: Path) -> bool:
    try:
        return hashes_of(one) == hashes_of(other) and read_signature(one) == read_signature(other)
    except (ModelNotSigned, OSError):
        return False


@contextmanager
def changing(settings: Settings) -> Iterator[None]:
    """Hold this while deciding who serves, so that a follower does not undo a rollback."""
    settings.models_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(settings.models_dir / "champion.lock", timeout=60):
        yield


def crown(settings: Settings, version: str) -> None:
    """Let serving read a version's folder from now on, and drop those not used for long."""
    folder = model_folder(settings, version)
    note_use(settings, folder)
    champion = ServedModel(version=version, folder=folder.name)
    plan_hash = load_manifest(folder).plan_hash
    write_serving(settings, Serving(roles={CHAMPION_ROLE: champion}, plan_hash=plan_hash))
    drop_retired(settings)


def untold_rollback(settings: Settings) -> Rollback | None:
    """The rollback that the registry has not been told of, if there is one."""
    try:
        return msgspec.json.decode((settings.models_dir / _ROLLBACK).read_bytes(), type=Rollback)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def remember_rollback(settings: Settings, rollback: Rollback) -> None:
    """Keep a rollback until the registry knows of it."""
    write_durably(settings.models_dir / _ROLLBACK, rollback)


def forget_rollback(settings: Settings) -> None:
    """The registry knows, or decided anew."""
    (settings.models_dir / _ROLLBACK).unlink(missing_ok=True)
