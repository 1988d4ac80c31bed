"""Before labels come: what is estimated holds under its assumption, and is withheld without one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sentinel.drift.density_ratio import density_ratio
from sentinel.drift.estimates import estimate_without_labels, rate_of_days
from sentinel.drift.score_table import (
    KnownPayments,
    ScoredPayments,
    ScoreTable,
    average_precision,
    bin_edges,
)
from sentinel.models.evaluation import average_precision as exact_average_precision

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

PER_DAY = 700
LINES = {"review": 0.15, "decline": 0.5}


def payments(
    seed: int, days: int, *, harder: float = 0.0, frauds: float = 1.0, told: float = 1.0
) -> KnownPayments:
    """Payments with calibrated probabilities, and their truth.

    Args:
        seed: Of the draws.
        days: How many.
        harder: Added to the log-odds of all, of which the model knows.
        frauds: So many times as frequent is fraud, of which it does not.
        told: What a step of the model's log-odds is worth; 1 as it says.
    """
    random = np.random.default_rng(seed)
    n = days * PER_DAY
    risky = random.random(n) < 0.05
    logit = np.where(risky, random.normal(-0.5, 1.5, n), random.normal(-7.0, 1.2, n)) + harder
    p = 1.0 / (1.0 + np.exp(-logit))
    true = 1.0 / (1.0 + np.exp(-(told * logit + (1.0 - told) * -3.0)))
    fraud = random.random(n) < true
    day = np.arange(n) // PER_DAY
    if frauds != 1.0:
        kept = np.where(fraud, frauds, 1.0) / max(frauds, 1.0)
        taken = random.random(n) < kept
        p, fraud, day = p[taken], fraud[taken], day[taken]
    return KnownPayments(probability=p, fraud=fraud, day=day, weight=np.ones(len(p)))


def without_truth(rows: KnownPayments) -> ScoredPayments:
    return ScoredPayments(probability=rows.probability, day=rows.day)


def holds(estimate: object, truth: float) -> bool:
    low, high = estimate.low, estimate.high  # type: ignore[attr-defined]
    return bool(low <= truth <= high)


def precision(rows: KnownPayments, line: float) -> float:
    return float(rows.fraud[rows.probability >= line].mean())


def test_bins_hold_what_a_table_of_days_needs_and_lines_are_edges() -> None:
    rows = payments(1, 10)
    edges = bin_edges(rows, rows.weight, LINES)
    table = ScoreTable.of(rows, edges)
    assert set(LINES.values()) <= set(edges.tolist())
    assert table.payments.sum() == len(rows)
    assert table.frauds.sum() == rows.fraud.sum()
    assert table.expected.sum() == pytest.approx(rows.probability.sum())
    above = np.arange(len(edges) + 1) > np.searchsorted(edges, LINES["review"])
    assert table.payments[:, above].sum() == (rows.probability >= LINES["review"]).sum()


def test_average_precision_of_bins_is_near_that_of_payments() -> None:
    rows = payments(2, 40)
    table = ScoreTable.of(rows, bin_edges(rows, rows.weight, LINES))
    binned = average_precision(table.payments.sum(0)[None], table.frauds.sum(0)[None])[0]
    assert binned == pytest.approx(exact_average_precision(rows.fraud, rows.probability), abs=0.02)


@pytest.mark.parametrize("harder", [-1.0, 1.0])
def test_under_covariate_shift_the_truth_lies_in_the_interval(harder: float) -> None:
    known, recent = payments(3, 28), payments(4, 14, harder=harder)
    found = estimate_without_labels(known, without_truth(recent), LINES)
    assert found.status == "estimated"
    assert found.covariate_shift is not None
    assert found.label_shift_refuted
    assert found.figures == found.covariate_shift
    assert holds(found.figures.fraud_share, recent.fraud.mean())
    assert holds(
        found.figures.average_precision, exact_average_precision(recent.fraud, recent.probability)
    )
    for name, line in LINES.items():
        assert holds(found.figures.precision[name], precision(recent, line))
        rate = float((recent.probability >= line).mean())
        assert found.figures.alert_rate[name].value == pytest.approx(rate)


@pytest.mark.parametrize("frauds", [0.5, 2.0])
def test_under_label_shift_the_truth_lies_in_the_interval(frauds: float) -> None:
    known, recent = payments(11, 28), payments(12, 28, frauds=frauds)
    found = estimate_without_labels(known, without_truth(recent), LINES)
    assert found.label_shift is not None
    assert found.figures is not None
    assert not found.label_shift_refuted
    assert holds(found.label_shift.fraud_share, recent.fraud.mean())
    assert holds(
        found.label_shift.average_precision,
        exact_average_precision(recent.fraud, recent.probability),
    )
    for name, line in LINES.items():
        assert holds(found.label_shift.precision[name], precision(recent, line))
        # What to go by covers both assumptions, as nothing tells the other one wrong.
        both = found.figures.precision[name]
        assert both.low <= found.label_shift.precision[name].low
        assert both.high >= found.label_shift.precision[name].high


def test_labels_of_a_changed_concept_withdraw_the_estimate() -> None:
    known, since = payments(7, 28), payments(8, 14, told=0.35)
    recent = payments(9, 14, told=0.35)
    found = estimate_without_labels(
        known, without_truth(recent), LINES, since=since, enough=float("inf")
    )
    assert found.status == "not estimable"
    assert found.figures is None
    assert "what fraud looks like has changed" in found.why
    assert "control group" in found.why


def test_enough_labels_of_a_changed_concept_correct_the_estimate() -> None:
    known, since = payments(7, 28), payments(8, 14, told=0.35)
    recent = payments(9, 14, told=0.35)
    unaware = estimate_without_labels(known, without_truth(recent), LINES)
    found = estimate_without_labels(known, without_truth(recent), LINES, since=since)
    assert found.status == "corrected by labels"
    assert found.figures is not None
    # How frauds rank takes more labels than a correction of parts does.
    assert str(found.figures.average_precision) == "unknown"
    assert "Of average precision there is none" in found.why
    assert unaware.figures is not None
    for name, line in LINES.items():
        true = precision(recent, line)
        assert holds(found.figures.precision[name], true)
        assert abs(found.figures.precision[name].value - true) < abs(
            unaware.figures.precision[name].value - true
        )


def test_what_no_label_has_been_seen_of_stays_unknown_after_a_changed_concept() -> None:
    known, since = payments(7, 28), payments(8, 14, told=0.35)
    hidden = KnownPayments(
        probability=since.probability,
        day=since.day,
        fraud=since.fraud,
        weight=np.where(since.probability >= LINES["decline"], 0.0, 1.0),
    )
    recent = without_truth(payments(9, 14, told=0.35))
    found = estimate_without_labels(known, recent, LINES, since=hidden)
    assert found.figures is not None
    assert str(found.figures.precision["decline"]) == "unknown"
    assert str(found.figures.average_precision) == "unknown"


def test_a_rate_of_two_weeks_covers_that_of_the_long_run_though_busy_days_stand_out() -> None:
    random = np.random.default_rng(4)
    covered = []
    for _ in range(400):
        payments = random.poisson(900, 14).astype(np.float64)
        some = random.poisson(payments * 0.02 * np.exp(random.normal(-0.125, 0.5, 14)))
        found = rate_of_days(some.astype(np.float64), payments)
        assert found.value == some.sum() / payments.sum()  # of these days it is known
        covered.append(holds(found, 0.02))
    assert 0.92 < np.mean(covered) < 0.99


def test_labels_since_the_reference_that_agree_leave_the_estimate_alone() -> None:
    known, since, recent = payments(10, 28), payments(11, 14, frauds=2.0), payments(12, 14)
    found = estimate_without_labels(known, without_truth(recent), LINES, since=since)
    assert found.status == "estimated"
    assert "do not contradict" in found.why


def test_without_labels_since_then_the_estimate_says_what_it_supposes() -> None:
    found = estimate_without_labels(payments(13, 28), without_truth(payments(14, 14)), LINES)
    assert "supposes that it has not" in found.why


def test_few_known_frauds_or_days_give_no_estimate_and_say_what_to_wait_for() -> None:
    known, recent = payments(15, 28), without_truth(payments(16, 2))
    short = estimate_without_labels(known, recent, LINES)
    assert (short.status, short.figures) == ("not estimable", None)
    assert "recent payments are of 2 days" in short.why
    none = KnownPayments(
        probability=known.probability,
        day=known.day,
        fraud=np.zeros(len(known), np.bool_),
        weight=known.weight,
    )
    found = estimate_without_labels(none, without_truth(payments(16, 14)), LINES)
    assert "hold 0.0 effective frauds" in found.why


def test_the_same_payments_give_the_same_estimate() -> None:
    known, recent = payments(17, 14), without_truth(payments(18, 7))
    first = estimate_without_labels(known, recent, LINES)
    assert first == estimate_without_labels(known, recent, LINES)


def test_known_payments_weighted_by_their_density_look_like_recent_ones() -> None:
    random = np.random.default_rng(19)
    known, recent = random.normal(0.0, 1.0, (8_000, 5)), random.normal(0.0, 1.0, (4_000, 5))
    recent[:, 2] += 0.8
    known[:800, 4], recent[:1_200, 4] = np.nan, np.nan  # a tenth, and now three of ten
    ratio = density_ratio(known, recent)
    assert ratio.mean() == pytest.approx(1.0)
    assert np.average(known[:, 2], weights=ratio) == pytest.approx(
        0.8, abs=0.15
    )  # bins hide a part
    assert np.average(np.isnan(known[:, 4]), weights=ratio) == pytest.approx(0.3, abs=0.02)
    assert np.average(known[:, 0], weights=ratio) == pytest.approx(0.0, abs=0.05)


def test_where_the_model_misjudges_new_payments_features_mend_the_estimate() -> None:
    """Two kinds of payments of one probability; the kind that is seldom fraud becomes the usual."""
    random = np.random.default_rng(20)

    def rows(n: int, share: float) -> tuple[KnownPayments, Floats]:
        p = random.beta(0.15, 4.0, n)
        kind = random.random(n) < share
        fraud: Bools = random.random(n) < p * np.where(kind, 0.4, 1.6) / 1.15
        one = KnownPayments(
            probability=p, fraud=fraud, day=np.arange(n) // PER_DAY, weight=np.ones(n)
        )
        return one, kind[:, None].astype(np.float64)

    (known, kinds), (recent, now) = rows(28 * PER_DAY, 0.375), rows(14 * PER_DAY, 0.95)
    blind = estimate_without_labels(known, without_truth(recent), LINES)
    seeing = estimate_without_labels(
        known, without_truth(recent), LINES, ratio=density_ratio(kinds, now)
    )
    assert blind.covariate_shift is not None
    assert seeing.covariate_shift is not None
    true = float(recent.fraud.mean())
    assert not holds(blind.covariate_shift.fraud_share, true)
    assert holds(seeing.covariate_shift.fraud_share, true)
    assert seeing.covariate_shift.fraud_share.value == pytest.approx(true, rel=0.25)


def test_payments_unlike_all_known_ones_give_no_estimate() -> None:
    known, recent = payments(21, 28), without_truth(payments(22, 14))
    ratio = np.where(np.arange(len(known)) < 300, len(known) / 300.0, 0.0)
    found = estimate_without_labels(known, recent, LINES, ratio=ratio)
    assert (found.status, found.figures) == ("not estimable", None)
    assert "unlike the known ones" in found.why
