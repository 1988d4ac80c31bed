"""Is a candidate at least as good as the champion? Decided on payments that neither has seen.

Both models score the same payments, each from the vectors of its own plan, and the difference of
their average precision is bootstrapped by card on the same draws. A candidate is refused if the
whole 95 % interval lies below zero: worse, and not by chance. Where there is no champion yet, it
must beat knowing nothing, whose average precision is the share of fraud: there the whole
interval has to lie above zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from sentinel.domain import GateRefused, WorkspaceError
from sentinel.features.plan import DAY_US, Plan
from sentinel.models.artifact import ModelManifest, load_manifest, load_plan, load_trees
from sentinel.models.dataset import Sample, sample
from sentinel.models.evaluation import HeldOut, average_precision, compare
from sentinel.models.evaluation import evaluate as figures_of
from sentinel.models.intervals import Estimate
from sentinel.models.registry import CHAMPION, Registry
from sentinel.models.tree_kernel import Scorer
from sentinel.pipeline.follow import fetch_version
from sentinel.pipeline.labelled_history import LabelledHistory, labelled_history, maturity_us
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback, no_progress

MIN_FRAUDS: Final = 10
"""With fewer known frauds nothing can be said of a model."""


class GateReport(msgspec.Struct, frozen=True, kw_only=True):
    """How a candidate and the champion compare.

    Attributes:
        version: The candidate.
        champion: What it was compared with; None: with knowing nothing.
        rows, frauds: Payments they were compared on, all with matured labels.
        start_us, end_us: Their event times, the end exclusive.
        candidate_ap: The candidate's average precision.
        champion_ap: The champion's, or the share of fraud.
        difference: Candidate minus champion. This is what the gate looks at.
        candidate_metrics, champion_metrics: All figures of both on the same payments, to look at;
            none of a champion that is not there.
    """

    version: str
    champion: str | None
    rows: int
    frauds: int
    start_us: int
    end_us: int
    candidate_ap: float
    champion_ap: float
    difference: Estimate
    candidate_metrics: dict[str, Estimate] = {}
    champion_metrics: dict[str, Estimate] = {}

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
        if self.passed:
            other = "no model" if self.champion is None else f"champion {self.champion}"
            return f"version {self.version} is not worse than {other}"
        if self.champion is None:
            return "its average precision is not above that of knowing nothing"
        return f"its average precision is worse than that of champion {self.champion}"

    @property
    def passed(self) -> bool:
        """Whether the candidate may become champion."""
        if self.champion is None:
            return self.difference.low > 0
        return self.difference.high >= 0

    def __str__(self) -> str:
        other = "no model" if self.champion is None else f"champion {self.champion}"
        return (
            f"candidate {self.version}: average precision {self.candidate_ap:.3f}, {other}: "
            f"{self.champion_ap:.3f}, difference {self.difference.value:+.3f} "
            f"[{self.difference.low:+.3f}, {self.difference.high:+.3f}] on {self.rows:,} payments "
            f"with {self.frauds:,} frauds"
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
    verdict = "passed" if report.passed else "refused"
    Registry.of(settings).note(report.version, "gate", f"{verdict}: {report}")
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
        GateRefused: There are too few matured labels to tell.
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
    known = labelled_history(settings, plan=candidate.plan, progress=progress)
    rows = held_out(settings, known, start_us=max(ends), now_us=now_us)
    progress("gate", 0, 1)
    if rows.frauds < MIN_FRAUDS or rows.frauds == len(rows):
        raise GateRefused(
            f"Version {version} cannot be judged: of the {len(rows):,} payments that no "
            f"contestant was trained on and whose labels are mature, {rows.frauds} are known "
            f"frauds; {MIN_FRAUDS} are needed. Wait for labels, or hold out more with "
            "training.test_days and train anew."
        )
    own = candidate.score(known, rows)
    if champion is None:
        other, theirs = np.zeros(len(rows)), dict[str, Estimate]()
    else:
        if champion.plan.hash != candidate.plan.hash:
            known = labelled_history(settings, plan=champion.plan, progress=progress)
        against = champion.score(known, rows)
        other, theirs = against.score, _figures(settings, against)
    options = settings.training
    report = GateReport(
        version=version,
        champion=None if present is None else present.version,
        rows=len(rows),
        frauds=rows.frauds,
        start_us=rows.start_us,
        end_us=rows.end_us,
        candidate_ap=average_precision(rows.fraud, own.score),
        champion_ap=average_precision(rows.fraud, other),
        difference=compare(
            rows.fraud,
            own.score,
            other,
            own.card,
            rounds=options.bootstrap_rounds,
            seed=options.seed,
        ),
        candidate_metrics=_figures(settings, own),
        champion_metrics=theirs,
    )
    progress("gate", 1, 1)
    path = report_path(settings, version)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))
    return report


def report_path(settings: Settings, version: str) -> Path:
    """Where the newest report on a candidate is."""
    return settings.workspace / "evaluations" / f"{version}.json"


def held_out(
    settings: Settings, known: LabelledHistory, *, start_us: int, now_us: int | None = None
) -> Sample:
    """The payments from a moment on whose labels are mature.

    Args:
        settings: Give the maturity.
        known: The log.
        start_us: Where training ended.
        now_us: The clock; default: the end of the log.
    """
    now = known.end_us if now_us is None else now_us
    return sample(
        known.history,
        known.labels,
        start_us=start_us,
        end_us=now - maturity_us(settings),
        cutoff_us=now,
        maturity_us=maturity_us(settings),
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

    def score(self, known: LabelledHistory, rows: Sample) -> HeldOut:
        """What it says of rows from the vectors of its own plan."""
        history, places = known.history, rows.rows
        raw = Scorer(load_trees(self.folder, self.manifest)).raw_many(known.vectors(places))
        return HeldOut(
            fraud=rows.fraud,
            score=raw,
            probability=self.manifest.calibrator().apply(raw),
            card=history.card[places],
            event_time_us=history.event_time_us[places],
            amount_minor=history.amount_minor[places],
        )


def _figures(settings: Settings, rows: HeldOut) -> dict[str, Estimate]:
    options = settings.training
    return figures_of(
        rows,
        alerts_per_1000=options.alert_budget_per_1000,
        rounds=options.bootstrap_rounds,
        seed=options.seed,
    )


def _refusal(report: GateReport) -> str:
    days = (report.end_us - report.start_us) / DAY_US
    return (
        f"Version {report.version} is refused: {report.words}. {report} of {days:.0f} days. "
        "The champion stays. Look at the runs in MLflow; more history, or the features that the "
        "candidate lacks, may help."
    )
