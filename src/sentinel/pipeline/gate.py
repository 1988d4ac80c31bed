"""May a candidate become champion? Decided on payments that it has not seen.

What is judged is a procedure: how a model is made (`sentinel.models.procedure`).

- A model of the champion's own procedure is a refit. The procedure was approved, so it needs no
  proof; it is refused only if payments that neither has seen show it to be worse. A model with the
  trainer and the features of a champion that was made before procedures were noted counts as one.
- Any other procedure is held against the last approved one. A model of that one is fitted to the
  candidate's cut-off, both score the payments after it, and the candidate passes once its average
  precision is shown to be no more than the margin lower (`sentinel.models.noninferiority`), and it
  is not worse at its lines. Until there is enough truth it waits (`sentinel.pipeline.trials`).
- Where there is no champion, a candidate must beat knowing nothing, whose average precision is the
  share of fraud: the whole 95 % interval of the difference has to lie above zero.
- While a challenger is judged against the champion, a candidate that passes waits for that
  experiment, since another champion would begin the comparison anew.
- A champion that no gate could judge for want of truth is replaced by whatever is not shown to be
  worse.

Where too little truth is known to compare anything, a candidate passes as *provisional* if nothing
better is in charge: no champion at all, or one that is provisional itself. The same holds where
there is no champion, and too few frauds to tell the candidate from knowing nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from sentinel.domain import GateRefused, GateWaits
from sentinel.experiments.store import judged_against_champion
from sentinel.features.plan.plan import DAY_US, Plan
from sentinel.models.evaluation import Figures, HeldOut, average_precision, compare, undecided
from sentinel.models.registry import CHAMPION, Registry
from sentinel.models.registry_view import PROVISIONAL_TAG
from sentinel.models.splitting import too_little_to_judge
from sentinel.pipeline.contestants import Contestant, held_out, vectors_of
from sentinel.pipeline.fitting import measure
from sentinel.pipeline.gate_report import GateReport
from sentinel.pipeline.gate_trial import Pair, in_trial
from sentinel.pipeline.labelled_payments import LabelledPayments, labelled_payments
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback, no_progress

__all__ = ["REFERENCE_TAG", "GateReport", "evaluate", "judge", "report_path"]

REFERENCE_TAG: Final = "reference"
"""Of a version in the registry: the version whose procedure candidates are held against."""


def judge(settings: Settings, report: GateReport) -> None:
    """Let a candidate through the gate, or refuse it; the registry notes which.

    Args:
        settings: The deployment.
        report: What `evaluate` found.

    Raises:
        GateWaits: Too little truth has matured to tell, or an experiment is judged against the
            champion.
        GateRefused: It is worse.
        Unavailable: MLflow does not answer.
    """
    registry = Registry.of(settings)
    registry.note(report.version, "gate", f"{report.verdict}: {report}")
    if report.provisional or PROVISIONAL_TAG in registry.version(report.version).tags:
        registry.note(report.version, PROVISIONAL_TAG, report.provisional)
    if report.held:
        raise GateWaits(_held(settings, report))
    if report.state == "waits":
        raise GateWaits(_waiting(report))
    if not report.passed:
        raise GateRefused(_refusal(report))


def evaluate(
    settings: Settings,
    version: str | None = None,
    *,
    now_us: int | None = None,
    progress: ProgressCallback = no_progress,
) -> GateReport:
    """Judge a candidate by what has matured; changes nothing but its trial and the report's file.

    Args:
        settings: The deployment.
        version: The candidate, in the registry; default: the one that was trained last.
        now_us: The clock for the maturity of labels, microseconds UTC; default: the end of the
            log.
        progress: Told of the stages "labels", "backfill", "reference" and "gate".

    Raises:
        PlanMismatch: It was trained with another plan than the one that was applied last.
        NoModel: There is no such version.
        Unavailable: MLflow does not answer.
    """
    registry = Registry.of(settings)
    version = version or registry.candidate().version
    candidate = Contestant.fetch(settings, version, Plan.load(settings.plan_path).hash)
    present = registry.by_alias(CHAMPION)
    champion = None if present is None else Contestant.fetch(settings, present.version)
    known = labelled_payments(settings, plan=candidate.plan, progress=progress)
    now = known.end_us if now_us is None else now_us
    if champion is None or champion.manifest.provisional:
        report = _first(settings, candidate, champion, known, now, progress)
    elif candidate.is_refit_of(champion):
        report = _refit(settings, candidate, champion, known, now, progress)
    else:
        tags = {} if present is None else present.tags
        reference = champion
        if tags.get(REFERENCE_TAG, champion.version) != champion.version:
            reference = Contestant.fetch(settings, tags[REFERENCE_TAG])
        pair = Pair(candidate, champion, reference)
        report = in_trial(settings, pair, known, now, progress)
    progress("gate", 1, 1)
    if champion is not None and not champion.manifest.provisional:
        held_by = judged_against_champion(settings, version)
        report = msgspec.structs.replace(report, held_by=held_by)
    return _write(settings, report)


def _first(
    settings: Settings,
    candidate: Contestant,
    champion: Contestant | None,
    known: LabelledPayments,
    now_us: int,
    progress: ProgressCallback,
) -> GateReport:
    """A first candidate, or one after a champion that no gate could judge."""
    both = [one for one in (candidate, champion) if one is not None]
    rows = held_out(
        settings,
        known,
        start_us=max(one.judged.training.end_us for one in both),
        now_us=now_us,
        gap_us=candidate.judged.training.gap_us,
    )
    progress("gate", 0, 1)
    about = GateReport(
        version=candidate.version,
        champion=None if champion is None else champion.version,
        rows=len(rows),
        frauds=rows.frauds,
        start_us=rows.start_us,
        end_us=rows.end_us,
        candidate_ap=None,
        champion_ap=None,
        difference=None,
    )
    too_little = too_little_to_judge(rows)
    if too_little:
        return msgspec.structs.replace(
            about,
            candidate_not_measured=measure(settings, None).not_measured,
            provisional=too_little,
        )
    own = candidate.score(known, rows)
    if champion is None:
        report = _beside(settings, about, own, None)
        assert report.difference is not None
        doubt = undecided(report.difference, rows.frauds)
        return msgspec.structs.replace(report, provisional=doubt)
    theirs = champion.score(vectors_of(settings, known, champion, progress), rows)
    return _beside(settings, about, own, theirs)


def _refit(
    settings: Settings,
    candidate: Contestant,
    champion: Contestant,
    known: LabelledPayments,
    now_us: int,
    progress: ProgressCallback,
) -> GateReport:
    """Another model of the champion's procedure: refused only if it is shown to be worse.

    The procedure was approved, the data of this model were not: wrong labels spoil it as well.
    """
    training = candidate.judged.training
    start_us = max(training.end_us, champion.judged.training.end_us)
    rows = held_out(settings, known, start_us=start_us, now_us=now_us, gap_us=training.gap_us)
    progress("gate", 0, 1)
    about = GateReport(
        version=candidate.version,
        champion=champion.version,
        rows=len(rows),
        frauds=rows.frauds,
        start_us=rows.start_us,
        end_us=rows.end_us,
        candidate_ap=None,
        champion_ap=None,
        difference=None,
        refit=True,
        unnoted=champion.manifest.procedure is None,
    )
    if too_little_to_judge(rows):
        none = measure(settings, None).not_measured
        return msgspec.structs.replace(about, candidate_not_measured=none)
    own = candidate.score(known, rows)
    return _beside(settings, about, own, champion.score(known, rows))


def _beside(
    settings: Settings, report: GateReport, own: HeldOut, other: HeldOut | None
) -> GateReport:
    """A report with the figures of a candidate, and of the champion on the same payments.

    Args:
        settings: Give the rounds and the seed of intervals.
        report: What is known without them.
        own: Payments with the candidate's scores.
        other: The same with the champion's; None if there is none.
    """
    theirs = Figures({}, {}) if other is None else measure(settings, other)
    against = np.zeros(len(own.fraud)) if other is None else other.score
    ours, options = measure(settings, own), settings.training
    difference = compare(
        own.fraud,
        own.score,
        against,
        own.card,
        rounds=options.bootstrap_rounds,
        seed=options.seed,
    )
    return msgspec.structs.replace(
        report,
        candidate_ap=average_precision(own.fraud, own.score),
        champion_ap=average_precision(own.fraud, against),
        difference=difference,
        candidate_metrics=ours.metrics,
        champion_metrics=theirs.metrics,
        candidate_not_measured=ours.not_measured,
        champion_not_measured=theirs.not_measured,
    )


def _write(settings: Settings, report: GateReport) -> GateReport:
    path = report_path(settings, report.version)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))
    return report


def report_path(settings: Settings, version: str) -> Path:
    """Where the newest report on a candidate is."""
    return settings.workspace / "evaluations" / f"{version}.json"


def _waiting(report: GateReport) -> str:
    return (
        f"Version {report.version} waits: {report}. The champion stays. Train and evaluate again "
        "when more labels have matured; its wait goes on."
    )


def _held(settings: Settings, report: GateReport) -> str:
    first = report.held_by[0]
    ends = "nothing ends the experiment by itself, since experiments.stop is false"
    if settings.experiments.stop:
        ends = (
            "`sentinel experiment settle` ends the experiment after experiments.most_days of "
            "mature payments at the latest"
        )
    return (
        f"Version {report.version} waits: {report}. Another champion would begin the comparison "
        f"anew. The nightly run goes on training, and {ends}. "
        f"`sentinel experiment stop {first}` ends it now; `sentinel "
        f"promote {report.version} --despite-experiments` does not wait, nor does any promotion "
        "with experiments.hold_promotion = false."
    )


def _refusal(report: GateReport) -> str:
    days = (report.end_us - report.start_us) / DAY_US
    stays = "Nothing serves yet" if report.champion is None else "The champion stays"
    return (
        f"Version {report.version} is refused: {report.words}. {report} of {days:.0f} days. "
        f"{stays}. Look at the runs in MLflow; more history, or the features that the candidate "
        "lacks, may help."
    )
