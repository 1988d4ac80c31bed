"""A candidate into the champion, and one step back.

The alias in the registry is what makes a champion. It moves last: before that, the candidate has
passed the gate, its files are here and verified, the history has its scores, and what the gate said
is signed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from sentinel.domain import (
    GateWaits,
    ModelFormatError,
    ModelNotSigned,
    NoModel,
    SentinelError,
    Unavailable,
    WorkspaceError,
)
from sentinel.ledger.history_scores import HistoryScores, Scored
from sentinel.models.artifact import load_manifest, load_plan
from sentinel.models.registry import Registry
from sentinel.models.registry_view import read_view
from sentinel.models.signature import SIGNATURE_TAG, check_folder
from sentinel.models.signing_keys import trusted_keys_of
from sentinel.pipeline.approvals import ApprovalRequest, require_approval
from sentinel.pipeline.backfill import backfill
from sentinel.pipeline.feature_parts import FeatureParts
from sentinel.pipeline.gate import REFERENCE_TAG, GateReport, evaluate, judge
from sentinel.pipeline.registry_fetch import fetch_version
from sentinel.pipeline.registry_files import RegistryReader, open_registry
from sentinel.pipeline.registry_look import look
from sentinel.pipeline.registry_sync import settle, sync_champion
from sentinel.pipeline.retirement import require_not_retired
from sentinel.pipeline.scored_payments import ROWS, BulkScorer
from sentinel.pipeline.served import (
    Rollback,
    changing,
    check_approved,
    crown,
    folder_of,
    is_signed,
    is_whole,
    remember_rollback,
    untold_rollback,
)
from sentinel.pipeline.signing import sign_what_passed
from sentinel.pipeline.trials import Trials
from sentinel.pipeline.workspace import only_promotion
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback, no_progress


@dataclass(frozen=True)
class Promoted:
    """What is in charge after a promotion or a rollback.

    Attributes:
        version: The champion.
        replaced: The champion before; None if there was none.
        gate: What the gate said; None for a rollback, which does not ask it.
        scored: Historic transactions that have an answer of the champion now.
        folder: What serving reads.
        seconds: How long it took.
        dry_run: Whether all this only would be so.
        untold: Why the registry does not know of it yet; empty if it does.
        unscored: Why the history has no answers of the champion; empty if it has.
    """

    version: str
    replaced: str | None
    gate: GateReport | None
    scored: int
    folder: Path
    seconds: float
    dry_run: bool = False
    untold: str = ""
    unscored: str = ""


def promote(
    settings: Settings,
    version: str | None = None,
    *,
    report: GateReport | None = None,
    dry_run: bool = False,
    despite_experiments: bool = False,
    now_us: int | None = None,
    by: str = "",
    progress: ProgressCallback = no_progress,
) -> Promoted:
    """Make a candidate the champion, if the gate lets it through.

    Args:
        settings: The deployment.
        version: In the registry; default: the candidate that was trained last.
        report: Of its evaluation; default, and where it compares with another champion than the
            present one, or its trial says something else by now: evaluate now.
        dry_run: Ask the gate and say what would be done, and do nothing of it.
        despite_experiments: Whether it waits for no experiment; those that run begin anew.
        now_us: The clock for the maturity of labels, microseconds UTC; default: the end of the
            log.
        by: Who asks for it; where approval is asked for, somebody else has to give it.
        progress: Told of the stages "labels", "backfill", "gate" and "history".

    Raises:
        GateRefused: It is worse than the champion, or no better than chance.
        GateWaits: Too little truth has matured to tell, an experiment is judged against the
            champion, or it awaits approval.
        NoModel: There is no such version, or no candidate at all.
        ModelError: It is retired.
        ModelNotSigned: It was not trained by this deployment.
        PlanMismatch: It was trained with another plan than the one that was applied last.
        Unavailable: MLflow does not answer; nothing has changed.
    """
    started = time.monotonic()
    with only_promotion(settings):
        _settle(settings)
        registry = Registry.of(settings)
        wanted = version or registry.candidate().version
        require_not_retired(wanted, registry.version(wanted).tags)
        champions = registry.champions()
        present = champions[-1] if champions else None
        if report is None or not _still_holds(settings, report, wanted, present):
            report = evaluate(settings, wanted, now_us=now_us, progress=progress)
        if despite_experiments:
            report = msgspec.structs.replace(report, held_by=())
        judge(settings, report)
        if dry_run:
            folder = fetch_version(settings, wanted)
            parts = FeatureParts.open(settings, load_manifest(folder).plan_hash)
            rows = parts.manifest.rows
            seconds = time.monotonic() - started
            return Promoted(wanted, present, report, rows, folder, seconds, dry_run=True)
        if present != wanted:
            champions = [*champions, wanted]
        return _install(settings, registry, champions, report, started, by, progress)


def promote_challenger(
    settings: Settings,
    version: str,
    *,
    instead_of: str | None = None,
    by: str = "",
    why: str = "",
    experiment: str = "",
    reference: str = "",
    require_wanted: Callable[[], None] = lambda: None,
    progress: ProgressCallback = no_progress,
) -> Promoted:
    """Make a version the champion that has decided beside it and was shown to be better.

    The gate let it through before it decided on its first payment, and is not asked again: frauds
    that came to light say more than rows of the past.

    Args:
        settings: The deployment.
        version: In the registry.
        instead_of: The champion that it was judged against, empty if there was none; None for
            whichever there is.
        by, why, experiment: See `sentinel.pipeline.approvals.ApprovalRequest`.
        reference: The version whose procedure later candidates are held against; empty: this one.
        require_wanted: Raises what speaks against it by now. It is asked once the history is
            scored, which takes minutes: what it raises leaves the champion and the history as they
            are.
        progress: Told of the stages "labels", "backfill" and "history".

    Raises:
        GateWaits: The registry has another champion than the one it was judged against, or it
            awaits approval.
        ModelNotSigned: No gate let it through.
        ModelError: It is retired.
        NoModel: There is no such version.
        Unavailable: MLflow does not answer; nothing has changed.
    """
    started = time.monotonic()
    with only_promotion(settings):
        _settle(settings)
        registry = Registry.of(settings)
        champions = registry.champions()
        replaced = champions[-1] if champions else None
        if instead_of == "" and replaced is not None:
            raise GateWaits(
                f"Version {version} was to be the first champion, and version {replaced} has "
                f"become that meanwhile. `sentinel promote {version}` asks the gate which one is "
                "better."
            )
        if instead_of and replaced != instead_of:
            raise GateWaits(
                f"Version {version} was judged against champion {instead_of}, and the registry's "
                f"champion is {replaced or 'none'} by now. It is judged against that one from here "
                "on."
            )
        require_not_retired(version, registry.version(version).tags)
        folder = fetch_version(settings, version, to_serve=True)
        check_folder(folder, trusted_keys_of(settings), version=version, to_serve=True)
        request = ApprovalRequest(
            by=by,
            why=why,
            at_us=time.time_ns() // 1000,
            instead_of=replaced,
            reference=reference or version,
            experiment=experiment,
        )
        require_approval(settings, registry, version, folder, request)
        scored = score_history(settings, folder, before_kept=require_wanted, progress=progress)
        require_wanted()
        if replaced != version:
            registry.note(version, REFERENCE_TAG, request.reference)
            registry.crown([*champions, version])
        sync_champion(settings, promoting=True)
    seconds = time.monotonic() - started
    return Promoted(version, replaced, None, scored, folder, seconds)


def rollback(settings: Settings, *, progress: ProgressCallback = no_progress) -> Promoted:
    """Put the champion before the present one back in charge. Asks no gate.

    The wait that let the present one through lets no other model of its procedure through.

    Serving changes first, from the folder that is here; then the registry is told; then the
    history gets its answers. Where the registry is away, the follower tells it later. Where the
    ledger is away, the history keeps the answers that it has.

    Args:
        settings: The deployment.
        progress: Told of the stages "labels", "backfill" and "history".

    Raises:
        NoModel: There was no champion before.
        ModelNotSigned: Its folder is not what was signed; nothing has changed.
        Unavailable: MLflow does not answer, and the model is not here; nothing has changed.
    """
    started = time.monotonic()
    with only_promotion(settings):
        with open_registry(settings) as server:
            champions, run_id, away = _champions(settings, server)
            if len(champions) < 2:
                raise NoModel(
                    "There is no earlier champion to go back to. `sentinel promote VERSION` puts "
                    "any version of the registry in charge that passes the gate."
                )
            version = champions[-2]
            folder = folder_of(settings, version)
            if not is_whole(folder, run_id):
                if away is not None:
                    raise away
                _fetch_earlier(settings, version)
            elif not is_signed(settings, folder, version, run_id, to_serve=True):
                if away is None:
                    _fetch_earlier(settings, version)
            # Says what is wrong where the folder alone has to do.
            check_folder(folder, trusted_keys_of(settings), version=version, to_serve=True)
            try:
                check_approved(settings, folder, version)
            except ModelNotSigned:  # it may have been approved elsewhere since it served here
                if away is not None:
                    raise
                _fetch_earlier(settings, version)
                check_approved(settings, folder, version)
            _step_back(settings, champions)
            _withdraw_trials(settings, champions[-1])
            if away is None:
                away = _tell(settings, server)
        scored, unscored = 0, ""
        try:
            scored = score_history(settings, folder, progress=progress)
        except (Unavailable, WorkspaceError) as error:
            unscored = str(error)
    return Promoted(
        version=version,
        replaced=champions[-1],
        gate=None,
        scored=scored,
        folder=folder,
        seconds=time.monotonic() - started,
        untold="" if away is None else str(away),
        unscored=unscored,
    )


def _fetch_earlier(settings: Settings, version: str) -> None:
    """Fetch the champion before, which may be damaged for good."""
    try:
        fetch_version(settings, version, to_serve=True)
    except ModelFormatError as error:
        raise ModelFormatError(
            f"{error} That one goes back to this version. `sentinel models retire {version} --why "
            "TEXT` takes it out of use; a rollback then goes to the champion before it."
        ) from error


def _still_holds(
    settings: Settings, report: GateReport, version: str, champion: str | None
) -> bool:
    """Whether nothing that a report rests on has changed since."""
    if (report.version, report.champion) != (version, champion):
        return False
    if not report.reference:
        return True
    procedure = load_manifest(fetch_version(settings, version)).procedure
    return Trials(settings).stands(version, procedure, report.reference, report.state)


def _settle(settings: Settings) -> None:
    """Let a rollback that the registry has not been told of count before anything is added."""
    with open_registry(settings) as server:
        settle(settings, server)


def _champions(
    settings: Settings, server: RegistryReader
) -> tuple[list[str], str | None, Unavailable | None]:
    """Who was champion, oldest first; the run of the last but one; why the registry is away."""
    away: Unavailable | None = None
    try:
        settle(settings, server)
        look(settings, server)
    except Unavailable as error:
        away = error
    view = read_view(settings.models_dir)
    untold = untold_rollback(settings)
    if view is None and away is not None:
        raise away
    champions = list(view.champions) if view is not None else []
    if untold is not None:
        champions = list(untold.champions)
    known = view.find(champions[-2]) if view is not None and len(champions) > 1 else None
    return champions, None if known is None else known.run_id, away


def _step_back(settings: Settings, champions: list[str]) -> None:
    with changing(settings):
        untold = untold_rollback(settings)
        instead_of = champions[-1] if untold is None else untold.instead_of
        remember_rollback(settings, Rollback(tuple(champions[:-1]), instead_of))
        crown(settings, champions[-2])


def _withdraw_trials(settings: Settings, version: str) -> None:
    """Let the next model of a version's procedure prove it anew."""
    try:
        procedure = load_manifest(folder_of(settings, version)).procedure
    except (SentinelError, OSError):  # its folder is not here; its number has to do
        procedure = None
    Trials(settings).withdraw(version, procedure)


def _tell(settings: Settings, server: RegistryReader) -> Unavailable | None:
    try:
        settle(settings, server)
        look(settings, server)
    except Unavailable as error:
        return error  # the follower tells it
    return None


def score_history(
    settings: Settings,
    folder: Path,
    *,
    before_kept: Callable[[], None] = lambda: None,
    progress: ProgressCallback = no_progress,
) -> int:
    """Give every transaction of the log an answer of a model, in place of the answers before.

    Args:
        settings: The deployment.
        folder: Of the model.
        before_kept: Called once all is scored. If it raises, the answers before stay.
        progress: Told of the stages "labels", "backfill" and "history".

    Returns:
        How many transactions have an answer.
    """
    model = BulkScorer(folder)
    plan = load_plan(folder, model.manifest)
    parts = backfill(settings, plan=plan, progress=progress).parts
    history = HistoryScores(settings.workspace / "scores.db")
    try:
        return history.replace(model.manifest.version, _scores(model, parts, before_kept, progress))
    finally:
        history.close()


def _scores(
    model: BulkScorer,
    parts: FeatureParts,
    before_end: Callable[[], None],
    progress: ProgressCallback,
) -> Iterator[Scored]:
    done, total = 0, parts.manifest.rows
    progress("history", 0, total)
    for table in parts.tables(["transaction_id", *model.manifest.feature_names]):
        for rows in table.to_batches(ROWS):
            vectors = np.column_stack([column.to_numpy() for column in rows.columns[1:]])
            probability, is_fraud = model.score(vectors)
            yield rows.column(0).to_pylist(), probability, is_fraud
            done += rows.num_rows
            progress("history", done, total)
    before_end()


def _install(
    settings: Settings,
    registry: Registry,
    champions: list[str],
    report: GateReport,
    started: float,
    by: str,
    progress: ProgressCallback,
) -> Promoted:
    """Fetch, sign what the gate said, score the history, and only then move the alias."""
    version = champions[-1]
    folder = fetch_version(settings, version)
    signature = sign_what_passed(settings, folder, version, report)
    registry.note(version, SIGNATURE_TAG, signature)
    reference = _reference(registry, report)
    request = ApprovalRequest(
        by=by,
        why=str(report),
        at_us=time.time_ns() // 1000,
        instead_of=report.champion,
        reference=reference,
    )
    require_approval(settings, registry, version, folder, request)
    scored = score_history(settings, folder, progress=progress)
    registry.note(version, REFERENCE_TAG, reference)
    registry.crown(champions)
    sync_champion(settings, promoting=True)
    replaced = champions[-2] if len(champions) > 1 else None
    return Promoted(version, replaced, report, scored, folder, time.monotonic() - started)


def _reference(registry: Registry, report: GateReport) -> str:
    """The version whose procedure the next candidates are held against.

    It stays where a candidate was only shown to be not much worse: else each could give away
    a little more. One that was made before procedures were noted could only be held against
    others as it is, older every night, so it does not stay.
    """
    before = report.champion
    if before is None or report.unnoted or not (report.refit or report.reference) or report.better:
        return report.version
    return registry.version(before).tags.get(REFERENCE_TAG, before)
