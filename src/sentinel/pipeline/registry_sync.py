"""What serves here made what the registry and the line-up want: the champion, and experiments.

Serving reads ``<models>/champion.json`` and the folder next to it that it names, and nothing
else; see `sentinel.pipeline.served`. A rollback that was made while the registry was away is told
to it first.
"""

from __future__ import annotations

import logging
from pathlib import Path

from sentinel.domain import ModelNotSigned, SentinelError, Unavailable
from sentinel.experiments.lineup import NO_LINE_UP
from sentinel.experiments.store import open_line_ups
from sentinel.models.artifact import MANIFEST
from sentinel.models.champion import champion_of
from sentinel.models.serving import serving_stamp
from sentinel.models.signature import SIGNATURE_FILE, read_signature
from sentinel.pipeline.registry_fetch import bring, take_approval
from sentinel.pipeline.registry_files import RegistryReader, open_registry
from sentinel.pipeline.registry_http import RegisteredVersion
from sentinel.pipeline.registry_look import look
from sentinel.pipeline.retired import note_line_up
from sentinel.pipeline.served import (
    changing,
    check_approved,
    crown,
    folder_of,
    forget_rollback,
    is_signed,
    run_of,
    untold_rollback,
)
from sentinel.pipeline.workspace import unless_promoting
from sentinel.settings import Settings

log = logging.getLogger(__name__)

Stamp = tuple[int, ...]
"""When what tells of all files of a folder was written; see `bring_line_up`."""


def sync_champion(settings: Settings, *, promoting: bool = False) -> str | None:
    """Fetch the registry's champion and the line-up's versions once, and note what it holds.

    Args:
        settings: The deployment.
        promoting: Whether `only_promotion` is held.

    Returns:
        The version that serving reads after this; None if the registry has no champion.

    Raises:
        Unavailable: MLflow does not answer, or not to the end; what serves stays.
        ModelFormatError: The champion's files are not a model, or were changed.
    """
    with open_registry(settings) as server:
        version = bring_champion(settings, server, promoting=promoting)
        warn_of_experiments(bring_line_up(settings, server, {}))
        try:
            if untold := look(settings, server):
                log.warning("%s", untold)
        except Unavailable as error:  # the follower looks again soon
            log.warning("What the registry holds could not be noted. %s", error)
        return version


def settle(settings: Settings, server: RegistryReader) -> RegisteredVersion | None:
    """The registry's champion, once it knows of a rollback that was made while it was away.

    Only for who holds `only_promotion`: a champion that is made meanwhile would be undone.
    """
    name = settings.mlflow.model_name
    champion = server.champion(name)
    rollback = untold_rollback(settings)
    if rollback is None or champion is None:
        return champion
    if champion.version == rollback.instead_of:
        server.crown(name, list(rollback.champions))
        log.info("Told the registry of the rollback to version %s.", rollback.champions[-1])
        champion = server.champion(name)
    else:
        log.info("The registry has decided anew; the rollback is void.")
    with changing(settings):
        if untold_rollback(settings) == rollback:
            forget_rollback(settings)
    return champion


def _settle_beside(settings: Settings, server: RegistryReader) -> RegisteredVersion | None:
    """The registry's champion; it is told of a rollback unless who promotes does that now."""
    champion = server.champion(settings.mlflow.model_name)
    if untold_rollback(settings) is None:
        return champion
    with unless_promoting(settings) as free:
        return settle(settings, server) if free else champion


def bring_champion(
    settings: Settings, server: RegistryReader, *, promoting: bool = False
) -> str | None:
    """Fetch the registry's champion, if serving does not have it yet, and let it serve.

    Args:
        settings: The deployment.
        server: The registry.
        promoting: Whether `only_promotion` is held.

    Returns:
        The version that serving reads after this; None if there is none.
    """
    seen = serving_stamp(settings)
    champion = settle(settings, server) if promoting else _settle_beside(settings, server)
    serving = champion_of(settings)
    if champion is None:
        return None if serving is None else serving.version
    if serving is not None and serving.version == champion.version:
        folder = settings.models_dir / serving.folder
        here = read_signature(folder)
        if run_of(folder) == champion.run_id and here and champion.signature in ("", here):
            take_approval(settings, folder, champion)
            return champion.version
        if not bring(settings, server, champion, to_serve=True) and folder == folder_of(
            settings, champion.version
        ):
            return champion.version
    else:
        bring(settings, server, champion, to_serve=True)
    folder = folder_of(settings, champion.version)
    take_approval(settings, folder, champion)
    check_approved(settings, folder, champion.version)
    with changing(settings):
        rollback = untold_rollback(settings)
        if rollback is not None and rollback.instead_of == champion.version:
            return rollback.champions[-1]  # taken back while it was being fetched
        if not promoting and serving_stamp(settings) != seen:
            serving = champion_of(settings)  # by who knew more than the registry said at first
            return None if serving is None else serving.version
        crown(settings, champion.version)
    return champion.version


def bring_line_up(
    settings: Settings, server: RegistryReader, whole: dict[str, Stamp]
) -> dict[str, str]:
    """Fetch the versions of the line-up that are not here yet.

    A version that decides must be signed as a champion's is; a candidate will do for a shadow.

    Args:
        settings: The deployment.
        server: The registry.
        whole: Folders that were found whole and signed, as they were then; added to.

    Returns:
        Why a version cannot be fetched, by what wants it. Nothing else stops for it.
    """
    store = open_line_ups(settings)
    try:
        line_up = store.read() or NO_LINE_UP
    except SentinelError as error:
        return {"all experiments": str(error)}
    finally:
        store.close()
    problems: dict[str, str] = {}
    for experiment in line_up.experiments:
        version, to_serve = experiment.version, experiment.decides
        folder = folder_of(settings, version)
        note_line_up(folder)
        if whole.get(version) == _stamp_of(folder, to_serve=to_serve):
            continue
        try:
            if not is_signed(settings, folder, version, None, to_serve=to_serve):
                wanted = server.version(settings.mlflow.model_name, version)
                bring(settings, server, wanted, to_serve=to_serve)
                log.info("Version %s is here for experiment %s.", version, experiment.name)
            if experiment.decides_on_most:
                _require_approval_here(settings, server, version)
            whole[version] = _stamp_of(folder, to_serve=to_serve)
        except (SentinelError, OSError) as error:
            problems[f"experiment {experiment.name}"] = str(error)
    for version in whole.keys() - {one.version for one in line_up.experiments}:
        del whole[version]
    return problems


def _require_approval_here(settings: Settings, server: RegistryReader, version: str) -> None:
    """See that a version of the line-up is approved here; the registry may have what is missing."""
    folder = folder_of(settings, version)
    try:
        check_approved(settings, folder, version)
    except ModelNotSigned:
        take_approval(settings, folder, server.version(settings.mlflow.model_name, version))
        check_approved(settings, folder, version)


def warn_of_experiments(problems: dict[str, str]) -> None:
    """Log what `bring_line_up` could not fetch."""
    for name, problem in problems.items():
        log.warning("The model of %s cannot be fetched. %s", name, problem)


def _stamp_of(folder: Path, *, to_serve: bool) -> Stamp:
    """Changes when what tells of all files of a folder is replaced."""
    found: Stamp = (int(to_serve),)
    for name in (MANIFEST, SIGNATURE_FILE):
        try:
            found += ((folder / name).stat().st_mtime_ns,)
        except OSError:
            found += (0,)
    return found
