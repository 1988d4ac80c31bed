"""Payments of the last weeks as the champion would score them, where nothing was decided yet."""

from __future__ import annotations

import numpy as np

from sentinel.domain import NoModel
from sentinel.features.plan.plan import DAY_US
from sentinel.ledger.log import read_log
from sentinel.log.entries import FLAG_DEGRADED, FLAG_IS_FRAUD, outcome_codes
from sentinel.log.schema import KIND_TRANSACTION
from sentinel.models.artifact import judged_folder, load_manifest, load_plan
from sentinel.models.champion import champion_of
from sentinel.models.dataset import verdicts_by
from sentinel.pipeline.decided_payments import DecidedPayments
from sentinel.pipeline.labelled_payments import labelled_payments, shown_maturity_us
from sentinel.pipeline.scored_payments import ROWS, BulkScorer
from sentinel.pipeline.workspace import ledger_reader
from sentinel.policy.bands import limits_of, rule_bands
from sentinel.policy.versions import Terms
from sentinel.settings import Settings


def historic_payments(settings: Settings, terms: Terms, days: float) -> DecidedPayments:
    """The payments of the last days with the champion's probabilities and its bands' outcomes.

    The truth of those that it learnt from is left out: on them it would flatter itself. So a refit,
    which learnt from all truth that there is, is represented by the twin that was measured.

    Args:
        settings: The deployment.
        terms: Say which segments there are, and what is counted.
        days: Before the end of the log.

    Raises:
        NoModel: There is no champion to score them.
        DefinitionError, WorkspaceError: See `sentinel.pipeline.backfill.backfill`.
    """
    champion = champion_of(settings)
    if champion is None:
        raise NoModel(
            "There is no decision and no champion yet, so nothing says what a policy would do. "
            "Train a model with `sentinel train` and promote it with `sentinel promote` first."
        )
    folder = judged_folder(settings.models_dir / champion.folder)
    manifest = load_manifest(folder)
    plan = load_plan(folder, manifest)
    known = labelled_payments(settings, plan=plan)
    payments = known.payments
    start_us = known.end_us - round(days * DAY_US)
    rows = np.flatnonzero(payments.received_at_us >= start_us)
    scorer, probability = BulkScorer(folder), np.empty(len(rows))
    exploring = terms.exploring
    feature = "" if exploring is None else exploring.count_feature
    column = plan.feature_names.index(feature) if feature in plan.feature_names else None
    count = np.full(len(rows), np.nan, dtype=np.float32)
    for first in range(0, len(rows), ROWS):
        here = slice(first, first + ROWS)
        vectors = known.vectors(rows[here])
        probability[here], _ = scorer.score(vectors)
        if column is not None:
            count[here] = vectors[:, column]
    none = np.zeros(len(rows), dtype=np.uint32)
    flags = np.empty_like(none)
    limits = np.stack([limits_of(manifest.thresholds)] * 2)
    rule_bands(probability, none, limits, FLAG_DEGRADED, FLAG_IS_FRAUD, flags)
    decided = payments.decided
    unsaid = np.zeros(len(payments), dtype=np.int64)
    outcome = unsaid if decided is None else decided.outcome.astype(np.int64)
    ones = np.ones(len(payments))
    return DecidedPayments(
        received_at_us=payments.received_at_us[rows],
        probability=probability,
        amount_minor=payments.amount_minor[rows].astype(np.float64),
        segment=_segments(settings, terms, rows, known.parts.manifest.sequence),
        card=payments.card[rows],
        draw=np.arange(len(rows)),
        outcome=outcome[rows],
        # What the champion's bands would rule, so that shares and prices are of its policy.
        base_outcome=np.where(outcome[rows] > 0, outcome[rows], outcome_codes(flags)),
        eligible=np.zeros(len(rows), dtype=np.bool_),
        propensity=(ones if decided is None else decided.propensity.astype(np.float64))[rows],
        degraded=np.zeros(len(rows), dtype=np.bool_),
        count=count,
        verdict=verdicts_by(known.labels, len(payments), known.end_us)[rows],
        unseen=payments.event_time_us[rows] >= manifest.training.end_us,
        rows=np.ones(len(rows)),
        start_us=start_us,
        end_us=known.end_us,
        maturity_us=shown_maturity_us(settings, known, known.end_us),
    )


def _segments(
    settings: Settings, terms: Terms, rows: np.ndarray[tuple[int], np.dtype[np.int64]], until: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Codes of the segments of some rows of the log."""
    if not terms.segments:
        return np.zeros(len(rows), dtype=np.int64)
    fields = dict.fromkeys(segment.field for segment in terms.segments)
    codes: list[int] = []
    with ledger_reader(settings) as ledger:
        for _, batch in read_log(ledger, until=until, columns=("kind", *fields)):
            kinds = batch.column("kind").to_pylist()
            columns = {
                field: batch.column(field).to_pylist()
                for field in fields
                if batch.schema.get_field_index(field) >= 0
            }
            for row, kind in enumerate(kinds):
                if kind == KIND_TRANSACTION:
                    codes.append(_segment(terms, columns, row))
    return np.array(codes, dtype=np.int64)[rows]


def _segment(terms: Terms, columns: dict[str, list[object]], row: int) -> int:
    for code, segment in enumerate(terms.segments, 1):
        values = columns.get(segment.field)
        if values is not None and values[row] is not None and str(values[row]) in segment.values:
            return code
    return 0
