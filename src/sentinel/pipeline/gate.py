"""Is a candidate at least as good as the champion? Decided on payments that neither has seen.

Both models score the same payments, each from the vectors of its own plan, and the difference of
their average precision is bootstrapped by card on the same draws. A candidate is refused if the
whole 95 % interval lies below zero: worse, and not by chance. Where there is no champion yet, it
must beat knowing nothing, whose average precision is the share of fraud: there the whole
interval has to lie above zero.

Where too little truth is known to compare anything, a candidate passes as *provisional* if nothing
better is in charge: no champion at all, or one that is provisional itself. The same holds where
there is no champion, and too few frauds to tell the candidate from knowing nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from sentinel.domain import GateRefused, WorkspaceError
from sentinel.features.plan.plan import DAY_US, Plan
from sentinel.models.artifact import ModelManifest, load_manifest, load_plan, load_trees
from sentinel.models.dataset import Sample, sample, unclipped_column, weight_column
from sentinel.models.evaluation import Figures, HeldOut, average_precision, compare, undecided
from sentinel.models.intervals import Estimate
from sentinel.models.registry import CHAMPION, Registry
from sentinel.models.registry_view import PROVISIONAL_TAG
from sentinel.models.splitting import too_little_to_judge
from sentinel.models.tree_kernel import Scorer
from sentinel.pipeline.fitting import measure
from sentinel.pipeline.follow import fetch_version
from sentinel.pipeline.labelled_payments import (
    LabelledPayments,
    labelled_payments,
    shown_maturity_us,
)
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback, no_progress


class GateReport(msgspec.Struct, frozen=True, kw_only=True):
    """How a candidate and the champion compare.

    Attributes:
        version: The candidate.
        champion: What it was compared with; None if with knowing nothing.
        rows, frauds: Payments they were compared on, all with matured labels.
        start_us, end_us: Their event times, the end exclusive.
        candidate_ap: The candidate's average precision; None where it cannot be had.
        champion_ap: The champion's, or the share of fraud; likewise.
        difference: Candidate minus champion. This is what the gate looks at; likewise.
        candidate_metrics, champion_metrics: All figures of both on the same payments, to look at;
            none of a champion that is not there.
        candidate_not_measured, champion_not_measured: Why others are missing, by name.
        provisional: Why there is too little truth to judge it; empty if there is enough.
    """

    version: str
    champion: str | None
    rows: int
    frauds: int
    start_us: int
    end_us: int
    candidate_ap: float | None
    champion_ap: float | None
    difference: Estimate | None
    candidate_metrics: dict[str, Estimate] = {}
    champion_metrics: dict[str, Estimate] = {}
    candidate_not_measured: dict[str, str] = {}
    champion_not_measured: dict[str, str] = {}
    provisional: str = ""

    @classmethod
    def load(cls, path: Path) -> GateReport:
        """Read a report that `evaluate` wrote.

        Raises:
            WorkspaceError: It is not there, or is not one.
        """
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except (FileNotFoundError, msgspec.DecodeError) as error:
            raise WorkspaceError(
                f"{path} is not the report of an evaluation ({error}). Make one with "
                "`sentinel evaluate`."
            ) from None

    @property
    def words(self) -> str:
        """The verdict in a sentence."""
        if self.provisional:
            return f"version {self.version} may serve provisionally: {self.provisional}"
        if self.passed:
            return f"version {self.version} is not worse than {self._other}"
        if self.champion is None:
            return "its average precision is not above that of knowing nothing"
        return f"its average precision is worse than that of champion {self.champion}"

    @property
    def passed(self) -> bool:
        """Whether the candidate may become champion."""
        if self.difference is None or self.provisional:
            return bool(self.provisional)
        if self.champion is None:
            return self.difference.low > 0
        return self.difference.high >= 0

    @property
    def verdict(self) -> str:
        """Passed, provisional or refused."""
        if self.provisional:
            return "provisional"
        return "passed" if self.passed else "refused"

    @property
    def _other(self) -> str:
        return "no model" if self.champion is None else f"champion {self.champion}"

    def __str__(self) -> str:
        rows = f"on {self.rows:,} payments with {self.frauds:,} frauds"
        difference = self.difference
        if difference is None:
            return f"candidate {self.version}: {self.provisional} ({rows})"
        return (
            f"candidate {self.version}: average precision {self.candidate_ap:.3f}, {self._other}: "
            f"{self.champion_ap:.3f}, difference {difference.value:+.3f} "
            f"[{difference.low:+.3f}, {difference.high:+.3f}] {rows}"
            + (f": {self.provisional}" if self.provisional else "")
        )


def judge(settings: Settings, report: GateReport) -> None:
    """Let a candidate through the gate, or refuse it; the registry notes which.

    Args:
        settings: The deployment.
        report: What `evaluate` found.

    Raises:
        GateRefused: It is worse.
        Unavailable: MLflow does not answer.
    """
    registry = Registry.of(settings)
    registry.note(report.version, "gate", f"{report.verdict}: {report}")
    if report.provisional or PROVISIONAL_TAG in registry.version(report.version).tags:
        registry.note(report.version, PROVISIONAL_TAG, report.provisional)
    if not report.passed:
        raise GateRefused(_refusal(report))


def evaluate(
    settings: Settings,
    version: str | None = None,
    *,
    now_us: int | None = None,
    progress: ProgressCallback = no_progress,
) -> GateReport:
    """Compare a candidate with the champion; changes nothing but the file with the report.

    Args:
        settings: The deployment.
        version: The candidate, in the registry; default: the one that was trained last.
        now_us: The clock for the maturity of labels, microseconds UTC; default: the end of the
            log.
        progress: Told of the stages "labels", "backfill" and "gate".

    Raises:
        GateRefused: There are too few matured labels to tell, and a champion that was judged.
        PlanMismatch: It was trained with another plan than the one that was applied last.
        NoModel: There is no such version.
        Unavailable: MLflow does not answer.
    """
    registry = Registry.of(settings)
    version = version or registry.candidate().version
    candidate = _Contestant.fetch(settings, version, Plan.load(settings.plan_path).hash)
    present = registry.by_alias(CHAMPION)
    champion = None if present is None else _Contestant.fetch(settings, present.version)
    ends = [c.manifest.training.end_us for c in (candidate, champion) if c is not None]
    known = labelled_payments(settings, plan=candidate.plan, progress=progress)
    gap_us = candidate.manifest.training.gap_us
    rows = held_out(settings, known, start_us=max(ends), now_us=now_us, gap_us=gap_us)
    progress("gate", 0, 1)
    too_little = too_little_to_judge(rows)
    if too_little:
        judged = champion is not None and not champion.manifest.provisional
        if judged:
            raise GateRefused(
                f"Version {version} cannot be judged: of the {len(rows):,} payments that no "
                "contestant was trained on and whose labels are mature, "
                f"{rows.frauds} are known frauds: {too_little}. Wait for labels, or hold out more "
                "with training.test_days and train anew."
            )
        report = GateReport(
            version=version,
            champion=None if present is None else present.version,
            rows=len(rows),
            frauds=rows.frauds,
            start_us=rows.start_us,
            end_us=rows.end_us,
            candidate_ap=None,
            champion_ap=None,
            difference=None,
            candidate_not_measured=measure(settings, None).not_measured,
            provisional=too_little,
        )
        progress("gate", 1, 1)
        return _write(settings, report)
    own = candidate.score(known, rows)
    if champion is None:
        other, theirs = np.zeros(len(rows)), Figures({}, {})
    else:
        if champion.plan.hash != candidate.plan.hash:
            known = labelled_payments(settings, plan=champion.plan, progress=progress)
        against = champion.score(known, rows)
        other, theirs = against.score, measure(settings, against)
    ours = measure(settings, own)
    options = settings.training
    difference = compare(
        rows.fraud,
        own.score,
        other,
        own.card,
        rounds=options.bootstrap_rounds,
        seed=options.seed,
    )
    report = GateReport(
        version=version,
        champion=None if present is None else present.version,
        rows=len(rows),
        frauds=rows.frauds,
        start_us=rows.start_us,
        end_us=rows.end_us,
        candidate_ap=average_precision(rows.fraud, own.score),
        champion_ap=average_precision(rows.fraud, other),
        difference=difference,
        candidate_metrics=ours.metrics,
        champion_metrics=theirs.metrics,
        candidate_not_measured=ours.not_measured,
        champion_not_measured=theirs.not_measured,
        provisional=undecided(difference, rows.frauds) if champion is None else "",
    )
    progress("gate", 1, 1)
    return _write(settings, report)


def _write(settings: Settings, report: GateReport) -> GateReport:
    path = report_path(settings, report.version)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))
    return report


def report_path(settings: Settings, version: str) -> Path:
    """Where the newest report on a candidate is."""
    return settings.workspace / "evaluations" / f"{version}.json"


def held_out(
    settings: Settings,
    known: LabelledPayments,
    *,
    start_us: int,
    now_us: int | None = None,
    gap_us: int | None = None,
) -> Sample:
    """The payments from a moment on whose labels are mature.

    Args:
        settings: Give the maturity.
        known: The log.
        start_us: Where training ended.
        now_us: The clock; default: the end of the log.
        gap_us: The maturity that training went by, where that was shorter.
    """
    now = known.end_us if now_us is None else now_us
    mature = shown_maturity_us(settings, known, now)
    if gap_us is not None:
        mature = min(mature, gap_us)
    return sample(
        known.payments,
        known.labels,
        start_us=start_us,
        end_us=now - mature,
        cutoff_us=now,
        maturity_us=mature,
    )


@dataclass(frozen=True, eq=False)
class _Contestant:
    folder: Path
    manifest: ModelManifest
    plan: Plan

    @classmethod
    def fetch(cls, settings: Settings, version: str, plan_hash: str | None = None) -> _Contestant:
        folder = fetch_version(settings, version)
        manifest = load_manifest(folder, plan_hash=plan_hash)
        return cls(folder, manifest, load_plan(folder, manifest))

    def score(self, known: LabelledPayments, rows: Sample) -> HeldOut:
        """What it says of rows from the vectors of its own plan."""
        payments, places = known.payments, rows.rows
        raw = Scorer(load_trees(self.folder, self.manifest)).raw_many(known.vectors(places))
        return HeldOut(
            fraud=rows.fraud,
            score=raw,
            probability=self.manifest.calibrator().apply(raw),
            card=payments.card[places],
            event_time_us=payments.event_time_us[places],
            amount_minor=payments.amount_minor[places],
            weight=weight_column(rows.weight),
            unclipped=unclipped_column(rows),
        )


def _refusal(report: GateReport) -> str:
    days = (report.end_us - report.start_us) / DAY_US
    stays = "Nothing serves yet" if report.champion is None else "The champion stays"
    return (
        f"Version {report.version} is refused: {report.words}. {report} of {days:.0f} days. "
        f"{stays}. Look at the runs in MLflow; more history, or the features that the candidate "
        "lacks, may help."
    )
