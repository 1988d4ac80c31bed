"""What the gate judges: a model, and the payments that it has not seen with their truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sentinel.features.plan.plan import Plan
from sentinel.models.artifact import (
    ModelManifest,
    judged_folder,
    load_manifest,
    load_plan,
    load_trees,
)
from sentinel.models.dataset import Sample, sample, unclipped_column, weight_column
from sentinel.models.evaluation import HeldOut
from sentinel.models.tree_kernel import Scorer
from sentinel.pipeline.labelled_payments import (
    LabelledPayments,
    labelled_payments,
    shown_maturity_us,
)
from sentinel.pipeline.registry_fetch import fetch_version
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback


@dataclass(frozen=True, eq=False)
class Contestant:
    """A model that is judged.

    Attributes:
        version: In the registry.
        manifest: Of what would serve.
        plan: Of its vectors.
        folder: Of the model that is judged: the twin of what would serve, or that itself.
        judged: The manifest there.
    """

    version: str
    manifest: ModelManifest
    plan: Plan
    folder: Path
    judged: ModelManifest

    @classmethod
    def fetch(cls, settings: Settings, version: str, plan_hash: str | None = None) -> Contestant:
        """A version of the registry."""
        return cls.at(fetch_version(settings, version), version, plan_hash)

    @classmethod
    def at(cls, folder: Path, version: str, plan_hash: str | None = None) -> Contestant:
        """The model of a folder."""
        manifest = load_manifest(folder, plan_hash=plan_hash)
        plan = load_plan(folder, manifest)
        twin = judged_folder(folder)
        if twin == folder:
            return cls(version, manifest, plan, folder, manifest)
        return cls(version, manifest, plan, twin, load_manifest(twin, plan_hash=plan.hash))

    def is_refit_of(self, other: Contestant) -> bool:
        """Whether both were made by one procedure.

        Where the other was made before procedures were noted, its trainer and its features are
        all that is known of it, and have to do.
        """
        mine, theirs = self.manifest.procedure, other.manifest.procedure
        if theirs is None:
            return (self.manifest.kind, self.plan.hash) == (other.manifest.kind, other.plan.hash)
        return mine is not None and mine.is_that_of(theirs)

    def score(self, known: LabelledPayments, rows: Sample) -> HeldOut:
        """What it says of rows from the vectors of its own plan."""
        payments, places = known.payments, rows.rows
        raw = Scorer(load_trees(self.folder, self.judged)).raw_many(known.vectors(places))
        return HeldOut(
            fraud=rows.fraud,
            score=raw,
            probability=self.judged.calibrator().apply(raw),
            card=payments.card[places],
            event_time_us=payments.event_time_us[places],
            amount_minor=payments.amount_minor[places],
            weight=weight_column(rows.weight),
            unclipped=unclipped_column(rows),
        )


def vectors_of(
    settings: Settings, known: LabelledPayments, one: Contestant, progress: ProgressCallback
) -> LabelledPayments:
    """The log with the vectors of a contestant's plan; rows are the same."""
    if one.plan.hash == known.plan.hash:
        return known
    return labelled_payments(settings, plan=one.plan, progress=progress)


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
