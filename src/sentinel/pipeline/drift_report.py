"""The report of drift of a deployment: what its monitor found, and what that does to its model.

    <workspace>/reports/drift.html

The monitor has the counts and the changes. The log has the vectors: recent payments are scored
again to tell which features move the score, and payments of known truth since the model was trained
carry its figures over to those that have no truth yet.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.domain import InvalidQuery, SentinelError
from sentinel.drift.density_ratio import density_ratio
from sentinel.drift.estimates import LEAST_FRAUDS, LabelFree, estimate_without_labels
from sentinel.drift.figures import DriftOverview
from sentinel.drift.overview import DAYS, DriftView
from sentinel.drift.reference import DriftReference
from sentinel.drift.report_page import drift_page
from sentinel.drift.rows import StreamRow
from sentinel.drift.score_shares import moved_scores
from sentinel.drift.score_table import KnownPayments, ScoredPayments
from sentinel.drift.store import open_drift
from sentinel.features.plan.plan import DAY_US
from sentinel.models.artifact import load_trees
from sentinel.models.serving import model_folder
from sentinel.models.tree_kernel import Scorer
from sentinel.pipeline.contestants import Contestant, held_out
from sentinel.pipeline.evidently_page import (
    MOST_ROWS,
    need_evidently,
    with_score,
    write_evidently_page,
)
from sentinel.pipeline.labelled_payments import LabelledPayments, labelled_payments
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback, no_progress

MOST_FEATURES: Final = 16
"""Features whose part in the score's move is told: those that changed, then the farthest."""
MOST_SCORED: Final = 4_000
"""Recent payments that are scored again for each of them."""
MOST_CARRIED: Final = 100_000
"""Payments, known or recent, that an estimate rests on; of more, evenly spaced ones."""
RECENT_DAYS: Final = 14

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class WrittenDrift:
    """A report that was made.

    Attributes:
        page: The file.
        overview: What the monitor knows.
        estimate: Of the model's figures before labels come; None if none could be made.
        without: Why the model's part is missing; empty if it is not.
        left_out: Columns that Evidently's page has not, since no value of them is known.
    """

    page: Path
    overview: DriftOverview
    estimate: LabelFree | None
    without: str
    left_out: tuple[str, ...] = ()


def drift_view(settings: Settings, *, days: int = DAYS) -> DriftView:
    """What a monitor has kept of a deployment.

    Args:
        settings: Where its record is, and the folders of models.
        days: How many are shown.
    """

    def load(stream: StreamRow) -> DriftReference | None:
        return DriftReference.load(model_folder(settings, stream.model_version))

    return DriftView(open_drift(settings), load, days=days)


def write_drift_report(
    settings: Settings,
    page: Path | None = None,
    *,
    days: int = DAYS,
    evidently: Path | None = None,
    progress: ProgressCallback = no_progress,
) -> WrittenDrift:
    """Write the report.

    Args:
        settings: The deployment.
        page: The file; default: ``drift.html`` among the workspace's reports.
        days: How many are shown.
        evidently: File for Evidently's page of the same payments; None for none.
        progress: Told of the stages of reading the log.

    Raises:
        ConfigurationError: Evidently's page is wanted and the extra is not installed.
        InvalidQuery: That page is wanted and there are no payments to draw.
    """
    if evidently is not None:
        need_evidently()
    now_us = time.time_ns() // 1000
    overview = drift_view(settings, days=days).overview(now_us)
    shares: dict[str, float] = {}
    moved, estimate, without = 0.0, None, ""
    judged: tuple[_Judged, LabelledPayments] | None = None
    if overview.model_version:
        try:
            folder = model_folder(settings, overview.model_version)
            model = _Judged(Contestant.at(folder, overview.model_version))
            known = labelled_payments(settings, plan=model.one.plan, progress=progress)
            moved, shares = _score_moves(model, known, folder, overview)
            estimate = _estimate(settings, model, known)
            judged = model, known
        except (SentinelError, OSError) as error:
            without = f"What drift does to the model could not be worked out: {error}"
    target = settings.workspace / "reports" / "drift.html" if page is None else page
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(
        drift_page(
            overview,
            shares=shares,
            moved=moved,
            estimate=estimate,
            made_us=now_us,
            without=without,
        ),
        encoding="utf-8",
    )
    left_out: tuple[str, ...] = ()
    if evidently is not None:
        if judged is None:
            raise InvalidQuery(
                f"The report was written to {target}, Evidently's page was not: "
                f"{without or overview.missing}"
            )
        left_out = _evidently(evidently, *judged)
    return WrittenDrift(target, overview, estimate, without, left_out)


class _Judged:
    """A model that scores payments of the log with calibrated probabilities."""

    def __init__(self, one: Contestant) -> None:
        self.one = one
        self._trees = Scorer(load_trees(one.folder, one.judged))
        self._calibration = one.judged.calibrator()

    def score(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Probabilities of vectors."""
        return self._calibration.apply(self._trees.raw_many(np.ascontiguousarray(vectors)))


def _score_moves(
    model: _Judged, known: LabelledPayments, folder: Path, overview: DriftOverview
) -> tuple[float, dict[str, float]]:
    """How far the mean probability has moved, and what each feature adds to it."""
    reference = DriftReference.load(folder)
    rows = _rows_since(known, known.end_us - 7 * DAY_US, MOST_SCORED)
    if reference is None or not len(rows):
        return 0.0, {}
    names = [
        one.feature for one in overview.features if one.feature in model.one.plan.feature_names
    ]
    found = moved_scores(
        known.vectors(rows), reference.bins, reference.counts[0], names[:MOST_FEATURES], model.score
    )
    before = _rows_between(known, reference.first_hour, reference.last_hour + 1)
    if not len(before):
        return 0.0, found
    now = float(model.score(known.vectors(rows)).mean())
    return now - float(model.score(known.vectors(before)).mean()), found


def _evidently(page: Path, model: _Judged, known: LabelledPayments) -> tuple[str, ...]:
    """Draw Evidently's page; give the columns that it has not."""
    reference = DriftReference.load(model.one.folder)
    if reference is None:
        raise InvalidQuery("Evidently's page needs a model with a reference; train one anew.")
    sides = []
    for rows in (
        _rows_between(known, reference.first_hour, reference.last_hour + 1, MOST_ROWS),
        _rows_since(known, known.end_us - 7 * DAY_US, MOST_ROWS),
    ):
        vectors = known.vectors(rows)
        sides.append(with_score(vectors, model.score(vectors)))
    return write_evidently_page(page, reference.bins.columns, *sides)


def _estimate(settings: Settings, model: _Judged, known: LabelledPayments) -> LabelFree:
    """The model's figures on the last days, from payments since its training whose truth is known.

    Of these the later half tells whether what fraud looks like has changed.
    """
    start_us, gap_us = model.one.judged.training.end_us, model.one.manifest.training.gap_us
    sample = held_out(settings, known, start_us=start_us, gap_us=gap_us)
    every = _thinned(len(sample.rows), MOST_CARRIED)
    places = sample.rows[every]
    day = known.payments.event_time_us[places] // DAY_US
    vectors = known.vectors(places)
    truth = KnownPayments(
        probability=model.score(vectors),
        day=day,
        fraud=np.asarray(sample.fraud[every], np.bool_),
        weight=np.asarray(sample.weight[every], np.float64),
    )
    rows = _rows_since(known, known.end_us - RECENT_DAYS * DAY_US, MOST_CARRIED)
    recent = known.vectors(rows)
    early = day <= np.median(day) if len(day) else np.zeros(0, np.bool_)
    before: KnownPayments = _part(truth, early)
    later = _part(truth, ~early)
    since: KnownPayments | None = later
    if min(before.effective_frauds, later.effective_frauds) < LEAST_FRAUDS:
        before, since, early = truth, None, np.ones(len(day), np.bool_)
    lines = model.one.judged.thresholds
    return estimate_without_labels(
        before,
        ScoredPayments(
            probability=model.score(recent), day=known.payments.event_time_us[rows] // DAY_US
        ),
        {"review": lines.review, "decline": lines.decline},
        since=since,
        ratio=density_ratio(vectors[early], recent) if len(rows) and early.any() else None,
    )


def _part(truth: KnownPayments, rows: npt.NDArray[np.bool_]) -> KnownPayments:
    return KnownPayments(
        probability=truth.probability[rows],
        day=truth.day[rows],
        fraud=truth.fraud[rows],
        weight=truth.weight[rows],
    )


def _rows_since(known: LabelledPayments, since_us: int, most: int) -> Ints:
    rows = np.flatnonzero(known.payments.event_time_us >= since_us)
    return rows[_thinned(len(rows), most)]


def _rows_between(
    known: LabelledPayments, first_hour: int, end_hour: int, most: int = MOST_SCORED
) -> Ints:
    hour = known.payments.event_time_us // 3_600_000_000
    rows = np.flatnonzero((hour >= first_hour) & (hour < end_hour))
    return rows[_thinned(len(rows), most)]


def _thinned(count: int, most: int) -> Ints:
    """Places of at most so many of them, evenly spaced: int64, rising."""
    if count <= most:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, most).astype(np.int64))
