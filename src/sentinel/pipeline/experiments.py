"""Experiments from the command line: a version is fetched, judged if it decides, and starts."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from sentinel.domain import DefinitionError, ModelNotSigned, NoModel, PlanMismatch
from sentinel.experiments.lineup import (
    APPROVED_SHARE,
    NO_LINE_UP,
    Experiment,
    LineUp,
    require,
    started,
    stopped,
    with_share,
)
from sentinel.experiments.store import change_line_up, open_line_ups
from sentinel.features.plan.union import union_plan
from sentinel.models.artifact import load_manifest, load_plan
from sentinel.models.champion import champion_of
from sentinel.models.registry import Registry
from sentinel.models.signature import SIGNATURE_TAG
from sentinel.pipeline.gate import GateReport, evaluate, judge
from sentinel.pipeline.registry_fetch import fetch_version
from sentinel.pipeline.retirement import require_not_retired
from sentinel.pipeline.role_aliases import tell_roles
from sentinel.pipeline.served import check_approved, folder_of, is_signed
from sentinel.pipeline.signing import sign_what_passed
from sentinel.pipeline.workspace import only_promotion
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback, no_progress

START_WAIT_SECONDS: Final = 60.0
"""How long a start waits for a promotion, a rollback or a retirement that is under way."""


class Started(NamedTuple):
    """An experiment that began.

    Attributes:
        line_up: The version that holds from now on.
        experiment: It.
        gate: What the gate said of its model; None if it was not asked.
    """

    line_up: LineUp
    experiment: Experiment
    gate: GateReport | None


def line_up_of(settings: Settings) -> LineUp:
    """The line-up that holds.

    Raises:
        ConfigurationError, LedgerUnavailable, WorkspaceError: It cannot be read.
    """
    store = open_line_ups(settings)
    try:
        return store.read() or NO_LINE_UP
    finally:
        store.close()


def history(settings: Settings, most: int) -> list[LineUp]:
    """The latest versions of the line-up, newest first."""
    store = open_line_ups(settings)
    try:
        return store.history(most)
    finally:
        store.close()


def start(
    settings: Settings,
    experiment: Experiment,
    *,
    by: str,
    why: str,
    progress: ProgressCallback = no_progress,
) -> Started:
    """Start an experiment: scorers have it within a second of the return.

    A model that is to decide on payments passes the gate first, as a champion does; a candidate
    may be a shadow.

    Args:
        settings: The deployment.
        experiment: It; the time of its start and who starts it are filled in.
        by, why: Who starts it, and why.
        progress: Told of the stages of the gate.

    Raises:
        ConfigurationError: It cannot be.
        NoModel: The registry has no such version, or nothing serves.
        ModelError: The version is retired.
        GateRefused: Its model is to decide, and is worse than the champion.
        ModelNotSigned: It was not trained by this deployment, or is to decide on most payments and
            awaits approval by a second key.
        PlanMismatch: It takes features that cannot be computed beside the champion's.
        Unavailable: MLflow does not answer.
        WorkspaceError: A promotion, a rollback or a retirement took longer than
            `START_WAIT_SECONDS`.
    """
    now_us = time.time_ns() // 1000
    experiment = msgspec.structs.replace(experiment, started_at_us=now_us, by=by, why=why)
    started(line_up_of(settings), experiment)  # says what cannot be before any work
    _champion(settings)
    version, report = experiment.version, None
    require_not_retired(version, Registry.of(settings).version(version).tags)
    folder = fetch_version(settings, version)
    require_plan_beside(settings, version, folder)
    if experiment.decides and not is_signed(settings, folder, version, None, to_serve=True):
        # It becomes no champion now, so that it waits for no other experiment.
        report = msgspec.structs.replace(evaluate(settings, version, progress=progress), held_by=())
        judge(settings, report)
        with _while_nobody_promotes(settings):
            signature = sign_what_passed(settings, folder, version, report)
            Registry.of(settings).note(version, SIGNATURE_TAG, signature)
    if experiment.decides_on_most:
        _require_approval(settings, version)
    # The gate took its time: under the lock of `retire`, the version is still not retired.
    with _while_nobody_promotes(settings):
        require_not_retired(version, Registry.of(settings).version(version).tags)
        made = change_line_up(
            settings,
            lambda line_up: started(line_up, experiment),
            by=by,
            why=why,
            at_us=time.time_ns() // 1000,
        )
    tell_roles(settings)
    return Started(made, experiment, report)


def _while_nobody_promotes(settings: Settings) -> AbstractContextManager[None]:
    return only_promotion(settings, wait_seconds=START_WAIT_SECONDS)


def _champion(settings: Settings) -> Path:
    """The folder of what serves."""
    champion = champion_of(settings)
    if champion is None:
        raise NoModel(
            "An experiment runs beside a champion, and there is none. Promote one with `sentinel "
            "promote`."
        )
    return settings.models_dir / champion.folder


def require_plan_beside(settings: Settings, version: str, folder: Path) -> None:
    """See that a version's features can be computed beside the champion's.

    Args:
        settings: The deployment.
        version: For what is said.
        folder: Of the version, or of another one with its plan.

    Raises:
        NoModel: Nothing serves.
        PlanMismatch: They cannot.
    """
    champion = _champion(settings)
    own, served = (load_plan(one, load_manifest(one)) for one in (folder, champion))
    try:
        union = union_plan(served, own)
    except DefinitionError as error:
        raise PlanMismatch(
            f"Version {version} takes features that cannot be computed beside the champion's. "
            f"{error} Train it with the champion's plan, or promote it."
        ) from None
    if union is not served and settings.state.backend == "redis":
        raise PlanMismatch(
            f"Version {version} was trained with plan {own.hash}, which has features that the "
            f"champion's plan {served.hash} lacks, and records in Redis are of one plan. Train it "
            "with the champion's plan, or promote it."
        )


def stop(settings: Settings, name: str, *, by: str, why: str) -> tuple[LineUp, Experiment]:
    """Stop an experiment: the champion decides on its payments within a second.

    Returns:
        The line-up that holds from now on, and what was stopped.

    Raises:
        NotFound: None of that name runs.
    """
    found = require(line_up_of(settings), name)
    made = _change(settings, by, why, partial(stopped, name=name))
    tell_roles(settings)
    return made, found


def share(settings: Settings, name: str, share: float, *, by: str, why: str) -> LineUp:
    """Give a challenger another share, or a shadow another sample.

    Raises:
        NotFound: None of that name runs.
        ConfigurationError: It cannot be.
        ModelNotSigned: It would decide on most payments, and awaits approval by a second key.
        NoModel, Unavailable: See `sentinel.pipeline.registry_fetch.fetch_version`.
    """
    after = require(with_share(line_up_of(settings), name, share), name)
    if after.decides_on_most:
        fetch_version(settings, after.version)
        _require_approval(settings, after.version)
    return _change(settings, by, why, partial(with_share, name=name, share=share))


def _require_approval(settings: Settings, version: str) -> None:
    """See that a version may decide on most payments.

    Raises:
        ModelNotSigned: It awaits approval by a second key.
    """
    try:
        check_approved(settings, folder_of(settings, version), version)
    except ModelNotSigned as error:
        raise ModelNotSigned(
            f"{error} A segment model, and a challenger of more than {APPROVED_SHARE:.0%} of the "
            "payments, need it as a champion does."
        ) from None


def _change(settings: Settings, by: str, why: str, change: partial[LineUp]) -> LineUp:
    return change_line_up(settings, change, by=by, why=why, at_us=time.time_ns() // 1000)
