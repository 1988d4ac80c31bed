"""A candidate of a new procedure against the last approved one: one night of its wait."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from sentinel.domain import ModelFormatError
from sentinel.models.artifact import ModelManifest, save_artifact
from sentinel.models.evaluation import HeldOut
from sentinel.models.intervals import Estimate
from sentinel.models.line_guard import AtLines, LineFigure, compare_at_lines
from sentinel.models.noninferiority import (
    MARGIN,
    PairedPrecision,
    PairedScores,
    frauds_needed,
)
from sentinel.pipeline.contestants import Contestant, held_out, vectors_of
from sentinel.pipeline.fitting import measure
from sentinel.pipeline.gate_report import GateReport
from sentinel.pipeline.labelled_payments import LabelledPayments
from sentinel.pipeline.procedures import fit_at
from sentinel.pipeline.trials import CANDIDATE, REFERENCE, Trial, Trials
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Pair:
    """Who meets.

    Attributes:
        candidate: Of a procedure that is not the champion's.
        champion: What serves.
        reference: A model of the last approved procedure whose average precision nobody gave
            away; often the champion.
    """

    candidate: Contestant
    champion: Contestant
    reference: Contestant


def in_trial(
    settings: Settings,
    pair: Pair,
    known: LabelledPayments,
    now_us: int,
    progress: ProgressCallback,
) -> GateReport:
    """Look at a candidate by what has matured, and keep the look.

    Args:
        settings: The deployment.
        pair: Who meets.
        known: The log, with vectors of the candidate's plan.
        now_us: The clock.
        progress: Told of the stages "labels", "backfill", "reference" and "gate".
    """
    trials, candidate = Trials(settings), pair.candidate
    procedure, reference = candidate.manifest.procedure, pair.reference.version
    found = trials.find(candidate.version, procedure, reference, now_us)
    if found is not None and found[1].state == "waits" and not _is_whole(found[0]):
        trials.drop(found[0])
        found = trials.find(candidate.version, procedure, reference, now_us)
    if found is None:
        found = _open(settings, trials, pair, known, now_us, progress)
    folder, trial = found
    new = Contestant.at(folder / CANDIDATE, candidate.version)
    old = Contestant.at(folder / REFERENCE, reference)
    rows = held_out(settings, known, start_us=trial.start_us, now_us=now_us, gap_us=trial.gap_us)
    progress("gate", 0, 1)
    if not 0 < rows.frauds < len(rows):
        ours = theirs = compared = None
        lines: tuple[LineFigure, ...] = ()
    else:
        ours = new.score(known, rows)
        theirs = old.score(vectors_of(settings, known, old, progress), rows)
        compared = paired(ours, theirs)
        lines = at_lines(ours, theirs, new.judged, old.judged)
    kept = trials.update(folder, lambda one: one.after_night(compared, lines, now_us))
    if kept is None or kept.withdrawn:  # a rollback took back meanwhile what it let through
        return in_trial(settings, pair, known, now_us, progress)
    trial = kept
    about = GateReport(
        version=candidate.version,
        champion=pair.champion.version,
        rows=len(rows),
        frauds=rows.frauds,
        start_us=rows.start_us,
        end_us=rows.end_us,
        candidate_ap=None,
        champion_ap=None,
        difference=None,
        state=trial.state,
        reference=reference,
        unnoted=pair.reference.manifest.procedure is None,
        night=trial.night(now_us),
        refused=trial.refused,
    )
    if ours is None or theirs is None or compared is None:
        return about
    error = 1.96 * compared.difference_error
    difference = compared.candidate - compared.reference
    own, other = measure(settings, ours), measure(settings, theirs)
    return msgspec.structs.replace(
        about,
        candidate_ap=compared.candidate,
        champion_ap=compared.reference,
        difference=Estimate(difference, difference - error, difference + error),
        candidate_metrics=own.metrics,
        champion_metrics=other.metrics,
        candidate_not_measured=own.not_measured,
        champion_not_measured=other.not_measured,
        better=compared.better,
        effective_frauds=compared.effective_frauds,
        needed_frauds=frauds_needed(compared),
        lines=lines,
    )


def _is_whole(folder: Path) -> bool:
    """Whether both models of a trial can be read; says so if they cannot."""
    try:
        for name in (CANDIDATE, REFERENCE):
            Contestant.at(folder / name, "")
    except ModelFormatError as error:
        log.warning("A candidate's wait at the gate begins anew: %s", error)
        return False
    return True


def paired(candidate: HeldOut, reference: HeldOut) -> PairedPrecision:
    """Compare two models on the same rows."""
    return PairedScores(
        candidate.fraud, candidate.score, reference.score, candidate.card, candidate.weight
    ).compare()


def at_lines(
    candidate: HeldOut, reference: HeldOut, ours: ModelManifest, theirs: ModelManifest
) -> tuple[LineFigure, ...]:
    """Compare two models at their lines, and unweighted where weights decided elsewhere."""
    found = compare_at_lines(
        _lines(candidate, ours),
        _lines(reference, theirs),
        fraud=candidate.fraud,
        amount_minor=candidate.amount_minor,
        card=candidate.card,
        weight=candidate.weight,
    )
    if candidate.weight is None:
        return found
    plain = PairedScores(
        candidate.fraud, candidate.score, reference.score, candidate.card
    ).compare()
    return (
        *found,
        LineFigure(
            name="unweighted_average_precision",
            candidate=plain.candidate,
            reference=plain.reference,
            worse=plain.ratio < 1.0 - MARGIN,
        ),
    )


def _lines(rows: HeldOut, manifest: ModelManifest) -> AtLines:
    lines = manifest.thresholds
    return AtLines(
        alerted=np.asarray(rows.probability >= lines.review),
        declined=np.asarray(rows.probability >= lines.decline),
    )


def _open(
    settings: Settings,
    trials: Trials,
    pair: Pair,
    known: LabelledPayments,
    now_us: int,
    progress: ProgressCallback,
) -> tuple[Path, Trial]:
    """Begin a trial: fit a model of the reference's procedure to the candidate's cut-off."""
    candidate, reference = pair.candidate, pair.reference
    training = candidate.judged.training
    start_us = training.end_us
    procedure = reference.manifest.procedure
    with tempfile.TemporaryDirectory(prefix="sentinel-reference-") as place:
        folder = Path(place)
        if procedure is None:  # of before procedures were noted: it is judged as it is
            folder = reference.folder
            start_us = max(start_us, reference.judged.training.end_us)
        else:
            progress("reference", 0, 1)
            vectors = vectors_of(settings, known, reference, progress)
            result, learnt = fit_at(settings, procedure, vectors, training)
            save_artifact(
                folder,
                name=reference.manifest.name,
                plan=reference.plan,
                model=result.model.native(),
                kind=result.model.name,
                calibration=result.calibration,
                thresholds=result.thresholds,
                metrics={},
                training=learnt,
                data_hash="",
                created_at_us=now_us,
                version=reference.version,
                procedure=procedure,
            )
            progress("reference", 1, 1)
        trial = Trial(
            version=candidate.version,
            procedure=candidate.manifest.procedure,
            reference=reference.version,
            opened_us=now_us,
            start_us=start_us,
            gap_us=training.gap_us,
        )
        return trials.open(trial, candidate.folder, folder)
