"""The champion of the registry into the folder that serving reads.

Serving reads ``<models>/champion.json`` and the folder next to it that it names, and nothing
else; see `sentinel.pipeline.served`. This fills them, in plain HTTP: no MLflow client, so that it
is a small process. What it sees in the registry it leaves in ``<models>/registry.json``.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from sentinel.domain import (
    ConfigurationError,
    ModelError,
    ModelFormatError,
    ModelNotSigned,
    SentinelError,
    Unavailable,
)
from sentinel.experiments.lineup import NO_LINE_UP
from sentinel.experiments.store import open_line_ups
from sentinel.models.approval import (
    APPROVAL_TAG,
    check_approval,
    read_approval,
    write_approval,
)
from sentinel.models.artifact import MANIFEST, load_manifest, stamp
from sentinel.models.champion import champion_of
from sentinel.models.registry_view import KnownVersion, RegistryView, read_view, write_view
from sentinel.models.signature import (
    SIGNATURE_FILE,
    SIGNATURE_TAG,
    Statement,
    check_files,
    check_statement,
    read_signature,
    verify,
    write_signature,
)
from sentinel.models.signing_keys import TrustedKeys, approvers_of, trusted_keys_of
from sentinel.monitoring.follower_metrics import FollowerMetrics
from sentinel.pipeline.monitor_server import MonitorServer, process_registry
from sentinel.pipeline.registry_files import RegistryReader, open_registry
from sentinel.pipeline.registry_http import RegisteredVersion, RegistryOverHttp
from sentinel.pipeline.retired import note_line_up
from sentinel.pipeline.role_aliases import follow_roles
from sentinel.pipeline.served import (
    PARTIAL,
    changing,
    check_approved,
    crown,
    folder_of,
    forget_rollback,
    give_name,
    holds,
    is_signed,
    is_whole,
    run_of,
    untold_rollback,
)
from sentinel.pipeline.watches import Health
from sentinel.private_files import keep_files_private
from sentinel.settings import Settings, load_settings
from sentinel.telemetry.log_setup import set_up_logs

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 2.0
_LONGEST_WAIT_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 10.0
_STALE_SECONDS: Final = 3600.0

Stamp = tuple[int, ...]


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
    with open_registry(settings) as server:
        version = _sync(settings, server)
        _warn_of_experiments(_sync_line_up(settings, server, {}))
        try:
            if untold := look(settings, server):
                log.warning("%s", untold)
        except Unavailable as error:  # the follower looks again soon
            log.warning("What the registry holds could not be noted. %s", error)
        return version


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
        Unavailable, ModelFormatError: See `sync_champion`.
    """
    with open_registry(settings) as server:
        wanted = server.version(settings.mlflow.model_name, version)
        _bring(settings, server, wanted, to_serve=to_serve, into=into)
        if into is None:
            _take_approval(settings, folder_of(settings, version), wanted)
    return (into or settings.models_dir) / folder_of(settings, version).name


def settle(settings: Settings, server: RegistryReader) -> RegisteredVersion | None:
    """The registry's champion, once it knows of a rollback that was made while it was away."""
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


def look(settings: Settings, server: RegistryReader) -> str:
    """Note what the registry holds, for serving and for a rollback without it.

    Returns:
        Why its aliases of roles do not follow the line-up; empty if they do.
    """
    untold = ""
    champions, versions = server.model(settings.mlflow.model_name)
    try:
        versions = follow_roles(settings, server, versions)
    except SentinelError as error:  # it may be read only from here
        untold = f"The registry's aliases do not follow the line-up. {error}"
    keys = trusted_keys_of(settings)
    view = RegistryView(
        name=settings.mlflow.model_name,
        answered_at_us=time.time_ns() // 1000,
        champions=tuple(champions),
        versions=tuple(
            _with_signature(version, keys, approvers_of(settings)) for version in versions
        ),
    )
    write_view(settings.models_dir, view)
    return untold


def _with_signature(known: KnownVersion, keys: TrustedKeys, approvers: TrustedKeys) -> KnownVersion:
    """A version as others see it: what signature and approval say in place of the two."""
    hidden = (SIGNATURE_TAG, APPROVAL_TAG)
    tags = {key: value for key, value in known.tags.items() if key not in hidden}
    signature, text = (known.tags.get(key, "") for key in hidden)
    known = msgspec.structs.replace(known, tags=tags)
    try:
        signed = verify(signature, keys, f"Version {known.version}")
        check_statement(signed.statement, version=known.version, to_serve=False)
    except ModelNotSigned:
        return known
    known = msgspec.structs.replace(known, signed=signed.statement.verdict, signed_by=signed.key_id)
    try:
        approval = check_approval(text, approvers, signed).approval
    except ModelNotSigned:
        return known
    return msgspec.structs.replace(known, approved=f"{approval.by}: {approval.why}")


def follow(
    settings: Settings, stop: threading.Event, metrics: FollowerMetrics | None = None
) -> None:
    """Keep the served champion that of the registry, until told to stop.

    Args:
        settings: The deployment.
        stop: Set it to end.
        metrics: Counts looks; default: a count that nobody sees.
    """
    metrics = metrics or FollowerMetrics()
    problem = ""
    wait = POLL_SECONDS
    serving: str | None = None
    looked = 0.0
    whole: dict[str, Stamp] = {}
    warned: dict[str, str] = {}
    untold = ""
    # One connection for all questions: opening one costs more than a question.
    with RegistryOverHttp(settings.tracking_uri) as server:
        while not stop.is_set():
            began, wanting = time.perf_counter(), 1
            try:
                try:
                    version = _sync(settings, server)
                    wanting = 0
                finally:  # experiments do not wait for a champion that cannot be fetched
                    missing = _sync_line_up(settings, server, whole)
                    wanting += len(missing)
                    if missing != warned:
                        _warn_of_experiments(missing)
                        warned = missing
                if problem or version != serving or time.monotonic() - looked > _LOOK_SECONDS:
                    said = look(settings, server)
                    if said and said != untold:
                        log.warning("%s", said)
                    untold, looked = said, time.monotonic()
            except (SentinelError, OSError) as error:
                known = None if isinstance(error, Unavailable) else wanting
                metrics.looked(time.perf_counter() - began, well=False, missing=known)
                wait = min(wait * 2, _LONGEST_WAIT_SECONDS)
                if str(error) != problem:
                    problem = str(error)
                    log.warning("The served model stays as it is. %s", problem)
                    _note_problem(settings, server, error)
            else:
                metrics.looked(time.perf_counter() - began, well=True, missing=wanting)
                wait = POLL_SECONDS
                if problem:
                    log.info("The registry's champion can be followed again.")
                    problem = ""
                if version != serving:
                    serving = version
                    log.info("Champion: version %s of %s.", version, settings.mlflow.model_name)
            stop.wait(wait)


def _note_problem(
    settings: Settings, server: RegistryReader, error: SentinelError | OSError
) -> None:
    """Let serving show why it has not got the registry's champion."""
    refused = isinstance(error, ModelError)
    try:
        if refused:  # it answers, so others may as well see what it has
            look(settings, server)
        view = read_view(settings.models_dir) or RegistryView(name=settings.mlflow.model_name)
        write_view(settings.models_dir, _with_problem(view, str(error), refused=refused))
    except (SentinelError, OSError) as another:
        log.warning("What the registry holds could not be noted. %s", another)


def _with_problem(view: RegistryView, problem: str, *, refused: bool) -> RegistryView:
    return RegistryView(
        name=view.name,
        answered_at_us=view.answered_at_us,
        champions=view.champions,
        versions=view.versions,
        problem=problem,
        refused=refused,
    )


def _sync(settings: Settings, server: RegistryReader) -> str | None:
    champion = settle(settings, server)
    serving = champion_of(settings)
    if champion is None:
        return None if serving is None else serving.version
    if serving is not None and serving.version == champion.version:
        folder = settings.models_dir / serving.folder
        here = read_signature(folder)
        if run_of(folder) == champion.run_id and here and champion.signature in ("", here):
            _take_approval(settings, folder, champion)
            return champion.version
        if not _bring(settings, server, champion, to_serve=True) and folder == folder_of(
            settings, champion.version
        ):
            return champion.version
    else:
        _bring(settings, server, champion, to_serve=True)
    folder = folder_of(settings, champion.version)
    _take_approval(settings, folder, champion)
    check_approved(settings, folder, champion.version)
    with changing(settings):
        rollback = untold_rollback(settings)
        if rollback is not None and rollback.instead_of == champion.version:
            return rollback.champions[-1]  # taken back while it was being fetched
        crown(settings, champion.version)
    return champion.version


def _take_approval(settings: Settings, folder: Path, wanted: RegisteredVersion) -> None:
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


def _sync_line_up(
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
                _bring(settings, server, wanted, to_serve=to_serve)
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
        _take_approval(settings, folder, server.version(settings.mlflow.model_name, version))
        check_approved(settings, folder, version)


def _warn_of_experiments(problems: dict[str, str]) -> None:
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


def _bring(
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


def fetch_as_registered(
    settings: Settings, server: RegistryReader, wanted: RegisteredVersion
) -> Path:
    """The folder of a version as the registry holds it, signed or not, to be signed.

    Raises:
        ModelFormatError: It is not what was registered, or not what a folder of that version and
            run holds that is here.
        Unavailable: See `sync_champion`.
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


def run_follower(settings: Settings) -> None:
    """Follow the registry until the process is told to end.

    Raises:
        ConfigurationError: The address of `/metrics` cannot be listened on.
    """
    stop = threading.Event()
    for wanted in (signal.SIGINT, signal.SIGTERM):
        signal.signal(wanted, lambda *_: stop.set())
    metrics = FollowerMetrics()
    server = show_metrics(settings, metrics) if settings.follower.port else None
    try:
        follow(settings, stop, metrics)
    finally:
        if server is not None:
            server.close()


def show_metrics(settings: Settings, metrics: FollowerMetrics) -> MonitorServer:
    """Serve `/metrics` and `/healthz` of the follower, in threads beside it.

    Raises:
        ConfigurationError: The address cannot be listened on.
    """
    registry = process_registry()
    registry.register(metrics)
    return MonitorServer(
        settings.follower.host,
        settings.follower.port,
        registry,
        lambda: Health(not metrics.is_stuck, ()),
        whose="The follower",
        variables="SENTINEL_FOLLOWER__HOST and SENTINEL_FOLLOWER__PORT",
    )


def main() -> None:
    """Entry point of ``python -m sentinel.pipeline.follow``, without the command line's weight."""
    keep_files_private()
    settings = load_settings()
    set_up_logs(settings.logs, "follow")
    try:
        run_follower(settings)
    except ConfigurationError as error:
        raise SystemExit(f"sentinel.pipeline.follow: {error}") from None


if __name__ == "__main__":
    main()
