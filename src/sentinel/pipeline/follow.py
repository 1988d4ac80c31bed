"""The champion of the registry into the folder that serving reads.

Serving reads ``<models>/champion.json`` and the folder next to it that it names, and nothing
else. This fills them, in plain HTTP: no MLflow client, so that it is a small process.

    <models>/champion.json       {"version": "3", "folder": "sentinel-fraud-3"}
    <models>/sentinel-fraud-3/   what serves
    <models>/sentinel-fraud-2/   what served before, for a rollback that fetches nothing

A folder has its name only once it is whole and verified. What serves is never deleted.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

import msgspec

from sentinel.domain import ModelFormatError, SentinelError
from sentinel.models.artifact import MANIFEST, load_manifest, stamp
from sentinel.pipeline.registry_http import RegisteredVersion, RegistryOverHttp
from sentinel.settings import Settings, load_settings

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 2.0
_LONGEST_WAIT_SECONDS: Final = 10.0
_FOLDERS_KEPT: Final = 3
_PARTIAL: Final = ".fetching-"
_STALE_SECONDS: Final = 3600.0


class Champion(msgspec.Struct, frozen=True):
    """What ``champion.json`` says.

    Attributes:
        version: In the registry.
        folder: Next to the file.
    """

    version: str
    folder: str


def serving_champion(settings: Settings) -> Champion | None:
    """What serving reads now; None while nothing was promoted.

    Raises:
        ModelFormatError: ``champion.json`` is damaged.
    """
    path = settings.models_dir / "champion.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Champion)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise ModelFormatError(
            f"{path} cannot be read ({error}). Delete it; it is fetched again."
        ) from None


def sync_champion(settings: Settings) -> str | None:
    """Fetch the registry's champion, if serving does not have it yet.

    Args:
        settings: The deployment.

    Returns:
        The version that serving reads after this; None if the registry has no champion.

    Raises:
        Unavailable: MLflow does not answer, or not to the end; what serves stays.
        ModelFormatError: The champion's files are not a model, or were changed.
    """
    with RegistryOverHttp(settings.tracking_uri) as server:
        return _sync(settings, server)


def fetch_version(settings: Settings, version: str) -> Path:
    """The folder of a version, fetched unless it is there already.

    Args:
        settings: The deployment.
        version: In the registry.

    Raises:
        NoModel: The registry has no such version.
        Unavailable, ModelFormatError: See `sync_champion`.
    """
    with RegistryOverHttp(settings.tracking_uri) as server:
        return _fetch(settings, server, server.version(settings.mlflow.model_name, version))


def follow(settings: Settings, stop: threading.Event) -> None:
    """Keep the served champion that of the registry, until told to stop.

    Args:
        settings: The deployment.
        stop: Set it to end.
    """
    problem = ""
    wait = POLL_SECONDS
    serving: str | None = None
    # One connection for all questions: opening one costs more than a question.
    with RegistryOverHttp(settings.tracking_uri) as server:
        while not stop.is_set():
            try:
                version = _sync(settings, server)
            except (SentinelError, OSError) as error:
                wait = min(wait * 2, _LONGEST_WAIT_SECONDS)
                if str(error) != problem:
                    problem = str(error)
                    log.warning("The served model stays as it is. %s", problem)
            else:
                wait = POLL_SECONDS
                if problem:
                    log.info("The registry answers again.")
                    problem = ""
                if version != serving:
                    serving = version
                    log.info("Champion: version %s of %s.", version, settings.mlflow.model_name)
            stop.wait(wait)


def _sync(settings: Settings, server: RegistryOverHttp) -> str | None:
    champion = server.champion(settings.mlflow.model_name)
    serving = serving_champion(settings)
    if champion is None:
        return None if serving is None else serving.version
    if serving is not None and serving.version == champion.version:
        if _run_of(settings.models_dir / serving.folder) == champion.run_id:
            return champion.version
    folder = _fetch(settings, server, champion)
    _crown(settings, Champion(version=champion.version, folder=folder.name))
    return champion.version


def _fetch(settings: Settings, server: RegistryOverHttp, wanted: RegisteredVersion) -> Path:
    name, version = settings.mlflow.model_name, wanted.version
    models = settings.models_dir
    target = models / f"{name}-{version}"
    if _is_whole(target, wanted):
        return target
    location = server.location_of(name, version)
    models.mkdir(parents=True, exist_ok=True)
    _sweep(models)
    partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=models))
    try:
        for file in server.files(location):
            place = (partial / file).resolve()
            if not place.is_relative_to(partial.resolve()):
                raise ModelFormatError(f"Version {version} of {name} has a file named {file!r}.")
            place.parent.mkdir(parents=True, exist_ok=True)
            server.download(location, file, place)
        stamp(partial, version=version, run_id=wanted.run_id)
        partial.chmod(0o755)
        _name(partial, target, wanted)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _name(partial: Path, target: Path, wanted: RegisteredVersion) -> None:
    """Give a verified folder its name."""
    try:
        partial.rename(target)
    except OSError:
        if _is_whole(target, wanted):  # someone else was quicker
            return
        # Damaged by hand, or of another registry.
        aside = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=target.parent))
        target.rename(aside / "old")
        partial.rename(target)
        shutil.rmtree(aside, ignore_errors=True)


def _is_whole(folder: Path, wanted: RegisteredVersion) -> bool:
    try:
        load_manifest(folder)
    except SentinelError:
        return False
    return _run_of(folder) == wanted.run_id


def _run_of(folder: Path) -> str | None:
    """The training run that a folder's model came from; None if it holds none."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes())
    except (OSError, msgspec.DecodeError):
        return None
    return str(manifest.get("run_id", ""))


def _crown(settings: Settings, champion: Champion) -> None:
    """Let serving read another folder from now on, and drop those not used for long."""
    models = settings.models_dir
    os.utime(models / champion.folder)
    partial = models / f"champion.json.{os.getpid()}.partial"
    partial.write_bytes(msgspec.json.encode(champion))
    partial.replace(models / "champion.json")
    folders = [p for p in models.glob(f"{settings.mlflow.model_name}-*") if p.is_dir()]
    folders.sort(key=lambda p: p.stat().st_mtime, reverse=True)
    for folder in folders[_FOLDERS_KEPT:]:
        if folder.name != champion.folder:
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(models: Path) -> None:
    """Remove what an interrupted fetch left behind, unless it may still go on."""
    for left in models.glob(f"{_PARTIAL}*"):
        if time.time() - left.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)


def run_follower(settings: Settings) -> None:
    """Follow the registry until the process is told to end."""
    stop = threading.Event()
    for wanted in (signal.SIGINT, signal.SIGTERM):
        signal.signal(wanted, lambda *_: stop.set())
    follow(settings, stop)


def main() -> None:
    """Entry point of ``python -m sentinel.pipeline.follow``, without the command line's weight."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    run_follower(load_settings())


if __name__ == "__main__":
    main()
