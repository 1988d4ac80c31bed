"""Versions of the registry, fetched into the folders that serving reads: whole and signed.

A folder gets its name only once every file of it was held against its hash, those of the registry
and those that were signed; see `sentinel.pipeline.served`.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sentinel.domain import ModelError, ModelFormatError, ModelNotSigned
from sentinel.models.approval import read_approval, write_approval
from sentinel.models.artifact import MANIFEST, load_manifest, stamp
from sentinel.models.signature import (
    Statement,
    check_files,
    check_statement,
    verify,
    write_signature,
)
from sentinel.models.signing_keys import approvers_of, trusted_keys_of
from sentinel.pipeline.registry_files import RegistryReader, open_registry
from sentinel.pipeline.registry_http import RegisteredVersion
from sentinel.pipeline.served import (
    PARTIAL,
    check_approved,
    folder_of,
    give_name,
    holds,
    is_signed,
    is_whole,
)
from sentinel.settings import Settings

_STALE_SECONDS: Final = 3600.0


def fetch_version(
    settings: Settings, version: str, *, to_serve: bool = False, into: Path | None = None
) -> Path:
    """The folder of a version, fetched unless it is there already.

    Args:
        settings: The deployment.
        version: In the registry.
        to_serve: Whether a gate must have let it through; otherwise a candidate will do.
        into: Where folders of models are; None for those that serving reads.

    Raises:
        NoModel: The registry has no such version.
        ModelNotSigned: Neither this deployment's training nor its gate vouches for it.
        Unavailable, ModelFormatError: See `sentinel.pipeline.registry_sync.sync_champion`.
    """
    with open_registry(settings) as server:
        wanted = server.version(settings.mlflow.model_name, version)
        bring(settings, server, wanted, to_serve=to_serve, into=into)
        if into is None:
            take_approval(settings, folder_of(settings, version), wanted)
    return (into or settings.models_dir) / folder_of(settings, version).name


def bring(
    settings: Settings,
    server: RegistryReader,
    wanted: RegisteredVersion,
    *,
    to_serve: bool,
    into: Path | None = None,
) -> bool:
    """See that a version's folder is here, whole and signed; returns whether it changed for that.

    What the registry says of a version is believed only if a trusted key signed it, and a folder
    that is here already needs no registry.
    """
    name, version = settings.mlflow.model_name, wanted.version
    models = into or settings.models_dir
    keys, target = trusted_keys_of(settings), models / folder_of(settings, version).name
    whole = is_whole(target, wanted.run_id)
    if whole and is_signed(settings, target, version, wanted.run_id, to_serve=to_serve):
        return False
    statement = verify(wanted.signature, keys, f"Version {version} of {name}").statement
    check_statement(statement, name=name, version=version, run_id=wanted.run_id, to_serve=to_serve)
    if whole and holds(target, statement):
        write_signature(target, wanted.signature)
        return True
    with _download(settings, server, wanted, models) as partial:
        _check(partial, name, wanted, statement)
        write_signature(partial, wanted.signature)
        give_name(partial, target)
    return True


def take_approval(settings: Settings, folder: Path, wanted: RegisteredVersion) -> None:
    """Put the registry's approval into a folder that is here; whoever needs one checks it.

    One that is here and good stays: the registry's may have been changed.
    """
    here = read_approval(folder)
    if not wanted.approval or here == wanted.approval:
        return
    if here and approvers_of(settings):
        try:
            check_approved(settings, folder, wanted.version)
        except ModelNotSigned:
            pass
        else:
            return
    write_approval(folder, wanted.approval)


def fetch_as_registered(
    settings: Settings, server: RegistryReader, wanted: RegisteredVersion
) -> Path:
    """The folder of a version as the registry holds it, signed or not, to be signed.

    Raises:
        ModelFormatError: It is not what was registered, or not what a folder of that version and
            run holds that is here.
        Unavailable: MLflow does not answer, or not to the end.
    """
    target = folder_of(settings, wanted.version)
    with _download(settings, server, wanted, settings.models_dir) as partial:
        _check(partial, settings.mlflow.model_name, wanted, None)
        if is_whole(target, wanted.run_id) and load_manifest(target) != load_manifest(partial):
            raise ModelFormatError(
                f"The registry holds another model as version {wanted.version} than {target} "
                "does. One of them was changed: restore it, or train anew."
            )
        give_name(partial, target)
    return target


@contextmanager
def _download(
    settings: Settings, server: RegistryReader, wanted: RegisteredVersion, models: Path
) -> Iterator[Path]:
    """A folder with the files of a version, which is gone after the block unless it was named."""
    name, version = settings.mlflow.model_name, wanted.version
    location = server.location_of(name, version)
    models.mkdir(parents=True, exist_ok=True)
    _sweep(models)
    partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=models))
    try:
        for file in server.files(location):
            place = (partial / file).resolve()
            if not place.is_relative_to(partial.resolve()):
                raise ModelFormatError(f"Version {version} of {name} has a file named {file!r}.")
            place.parent.mkdir(parents=True, exist_ok=True)
            server.download(location, file, place)
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check(
    partial: Path, name: str, wanted: RegisteredVersion, statement: Statement | None
) -> None:
    """Hold every file against its hash, those of the registry and those that were signed."""
    try:
        if wanted.manifest_sha256:
            manifest = (partial / MANIFEST).read_bytes()
            if hashlib.sha256(manifest).hexdigest() != wanted.manifest_sha256:
                raise ModelFormatError(
                    f"{MANIFEST} is not the one that was registered: its SHA-256 differs."
                )
        stamp(partial, version=wanted.version, run_id=wanted.run_id)
        if statement is not None:
            check_files(partial, statement)
    except (ModelError, FileNotFoundError) as error:
        said = str(error).replace(f"{partial}/", "").replace(str(partial), "its folder")
        raise ModelFormatError(
            f"Version {wanted.version} of {name} may not serve: as the registry holds it, it is "
            f"damaged. {said} Restore its files there, train anew, or run `sentinel rollback`."
        ) from error


def _sweep(models: Path) -> None:
    """Remove what an interrupted fetch left behind, unless it may still go on."""
    for left in models.glob(f"{PARTIAL}*"):
        if time.time() - left.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
