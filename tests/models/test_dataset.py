"""The dataset of a moment: nothing that was unknown then is in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from sentinel.features.plan.plan import DAY_US
from sentinel.models.dataset import (
    FRAUD,
    LEGITIMATE,
    UNKNOWN,
    LabelLog,
    PaymentLog,
    Sample,
    codes_of,
    data_hash,
    rows_of,
    sample,
    targets_at,
)
from sentinel.models.decided import SENTINEL, Decided

MATURITY = 30 * DAY_US


def payments_of(times_days: list[float], late_days: float = 0.0) -> PaymentLog:
    times = (np.array(times_days) * DAY_US).astype(np.int64)
    return PaymentLog(
        event_time_us=times,
        received_at_us=times + int(late_days * DAY_US),
        amount_minor=np.full(len(times), 100),
        card=np.arange(len(times)),
    )


def labels_of(*labels: tuple[int, bool, float]) -> LabelLog:
    """Labels of (row, is fraud, arrival in days)."""
    return LabelLog(
        row=np.array([row for row, _, _ in labels], dtype=np.int64),
        fraud=np.array([fraud for _, fraud, _ in labels], dtype=np.bool_),
        received_at_us=np.array([int(day * DAY_US) for _, _, day in labels], dtype=np.int64),
    )


def at(payments: PaymentLog, labels: LabelLog, day: float) -> list[int]:
    return targets_at(payments, labels, int(day * DAY_US), MATURITY).tolist()


def test_a_label_counts_from_the_moment_after_it_arrived() -> None:
    payments, labels = payments_of([1.0]), labels_of((0, True, 9.0))
    assert at(payments, labels, 9.0) == [UNKNOWN]
    assert targets_at(payments, labels, 9 * DAY_US + 1, MATURITY).tolist() == [FRAUD]


def test_silence_is_innocence_only_after_the_maturity_period() -> None:
    payments, labels = payments_of([1.0]), labels_of()
    assert at(payments, labels, 30.9) == [UNKNOWN]
    assert at(payments, labels, 31.0) == [LEGITIMATE]


def test_a_payment_learnt_of_late_matures_late() -> None:
    payments, labels = payments_of([1.0], late_days=20.0), labels_of()
    assert at(payments, labels, 40.0) == [UNKNOWN]
    assert at(payments, labels, 51.0) == [LEGITIMATE]


def test_an_early_acquittal_needs_no_maturity() -> None:
    assert at(payments_of([1.0]), labels_of((0, False, 2.0)), 3.0) == [LEGITIMATE]


def test_a_correction_replaces_the_verdict_from_its_own_arrival_on() -> None:
    payments = payments_of([1.0])
    labels = labels_of((0, True, 5.0), (0, False, 50.0))
    assert at(payments, labels, 49.0) == [FRAUD]
    assert at(payments, labels, 51.0) == [LEGITIMATE]


def test_a_correction_at_the_same_moment_wins_by_its_place_in_the_log() -> None:
    labels = labels_of((0, True, 5.0), (0, False, 5.0))
    assert at(payments_of([1.0]), labels, 6.0) == [LEGITIMATE]


def test_a_payment_that_had_not_been_received_is_unknown() -> None:
    payments = payments_of([1.0], late_days=60.0)
    assert at(payments, labels_of((0, True, 5.0)), 40.0) == [UNKNOWN]


def test_labels_of_strangers_are_ignored() -> None:
    assert at(payments_of([1.0]), labels_of((-1, True, 2.0)), 3.0) == [UNKNOWN]


label = st.tuples(st.integers(-1, 7), st.booleans(), st.integers(0, 100).map(float))


@given(st.lists(label, max_size=20), st.integers(1, 100), st.lists(label, max_size=20))
def test_what_arrives_after_the_cutoff_changes_nothing(
    known: list[tuple[int, bool, float]], day: int, later: list[tuple[int, bool, float]]
) -> None:
    payments = payments_of([float(10 * i) for i in range(8)])
    later = [(row, fraud, max(arrival, float(day))) for row, fraud, arrival in later]
    assert at(payments, labels_of(*known), day) == at(payments, labels_of(*known, *later), day)


@given(st.lists(label, max_size=20), st.integers(0, 140))
def test_targets_are_those_of_a_plain_reading_of_the_log(
    labels: list[tuple[int, bool, float]], day: int
) -> None:
    payments = payments_of([float(10 * i) for i in range(8)])
    expected = []
    for row in range(8):
        verdict = UNKNOWN
        for _, fraud, _ in sorted(
            (one for one in labels if one[0] == row and one[2] < day), key=lambda one: one[2]
        ):
            verdict = FRAUD if fraud else LEGITIMATE
        if verdict == UNKNOWN and 10 * row + 30 <= day:
            verdict = LEGITIMATE
        expected.append(verdict if 10 * row < day else UNKNOWN)
    assert at(payments, labels_of(*labels), day) == expected


def sample_of(
    payments: PaymentLog,
    labels: LabelLog,
    start: float = 0.0,
    end: float = 1_000.0,
    cutoff: float = 100.0,
) -> Sample:
    """A sample of a span of days."""
    return sample(
        payments,
        labels,
        start_us=int(start * DAY_US),
        end_us=int(end * DAY_US),
        cutoff_us=int(cutoff * DAY_US),
        maturity_us=MATURITY,
    )


def test_a_sample_takes_the_span_without_its_end() -> None:
    payments = payments_of([0.0, 1.0, 2.0, 3.0])
    found = sample_of(payments, labels_of((1, True, 4.0)), 1.0, 3.0)
    assert found.rows.tolist() == [1, 2]
    assert found.fraud.tolist() == [True, False]
    assert found.frauds == 1


def test_what_the_system_before_withheld_is_unknown_until_a_label_says() -> None:
    payments = replace(payments_of([0.0, 1.0, 2.0]), decided=Decided.plain([2, 1, 0]))
    assert at(payments, labels_of((0, True, 9.0)), 100) == [FRAUD, UNKNOWN, LEGITIMATE]


def test_payments_that_were_sent_in_late_are_learnt_from_in_both_classes() -> None:
    """A batch of old payments, and right after it the labels of its frauds."""
    days = np.linspace(0.0, 10.0, 200)
    payments = replace(
        payments_of(days.tolist()), received_at_us=np.full(200, 40 * DAY_US, dtype=np.int64)
    )
    labels = labels_of(*((row, True, 41.0) for row in range(0, 200, 10)))
    found = sample_of(payments, labels, cutoff=60.0)
    assert (len(found), found.frauds) == (200, 20)
    before_any_label = sample_of(payments, labels_of(), cutoff=60.0)
    assert len(before_any_label) == 0


def test_of_payments_that_are_not_mature_labels_single_out_no_frauds() -> None:
    payments = payments_of([0.0, 1.0, 50.0, 51.0])
    found = sample_of(payments, labels_of((0, True, 9.0), (2, True, 55.0)), cutoff=60.0)
    assert found.rows.tolist() == [0, 1]


def test_what_a_decline_hid_is_taught_to_nobody() -> None:
    """A good model declines most frauds. Their silence must not teach the next one the opposite."""
    random = np.random.default_rng(5)
    n = 4_000
    fraud = random.random(n) < 0.05
    signal = random.normal(3.0 * fraud, 1.0)
    decline = signal > np.quantile(signal, 0.97)
    payments = replace(
        payments_of(np.linspace(0.0, 30.0, n).tolist()),
        decided=Decided.plain(np.where(decline, 2, 0), SENTINEL),
    )
    reported = np.flatnonzero(fraud & ~decline)
    found = sample_of(payments, labels_of(*((row, True, 40.0) for row in reported.tolist())))
    assert not decline[found.rows].any()
    assert (found.fraud == fraud[found.rows]).all()
    assert len(found) == int((~decline).sum())


def test_a_complaint_about_a_declined_payment_is_known_but_stands_for_none() -> None:
    payments = replace(payments_of([0.0, 1.0]), decided=Decided.plain([2, 0], SENTINEL))
    labels = labels_of((0, False, 3.0))
    assert at(payments, labels, 100.0) == [LEGITIMATE, LEGITIMATE]
    assert sample_of(payments, labels).rows.tolist() == [1]


def test_the_control_group_stands_for_those_like_it() -> None:
    """Of 200 declined payments every twentieth was let through at random."""
    explored = np.arange(200) % 20 == 0
    payments = payments_of(np.linspace(0.0, 5.0, 200).tolist())
    decided = Decided(
        outcome=np.where(explored, 0, 2).astype(np.int8),
        base_outcome=np.full(200, 2, dtype=np.int8),
        eligible=np.ones(200, dtype=np.bool_),
        propensity=np.where(explored, 0.05, 0.95).astype(np.float32),
        source=np.full(200, SENTINEL, dtype=np.int8),
    )
    found = sample_of(replace(payments, decided=decided), labels_of((20, True, 30.0)))
    assert found.rows.tolist() == np.flatnonzero(explored).tolist()
    np.testing.assert_allclose(found.weight, 20.0, rtol=1e-6)
    assert found.effective_frauds == 1.0


def test_without_decisions_every_payment_stands_for_itself() -> None:
    payments = payments_of([0.0, 1.0, 2.0])
    labels = labels_of((1, True, 4.0))
    plain = sample_of(payments, labels)
    said = sample_of(replace(payments, decided=Decided.plain([0, 0, 0])), labels)
    assert plain.weight.tolist() == said.weight.tolist() == [1.0, 1.0, 1.0]


def test_labels_find_their_rows_by_id() -> None:
    assert rows_of(pa.array(["a", "b", "c"]), pa.array(["c", "x", "a", "c"])).tolist() == [
        2,
        -1,
        0,
        2,
    ]
    assert codes_of(pa.array(["p", None, "q", "p"])).tolist() == [0, -1, 1, 0]


def test_a_data_hash_names_values_types_and_shapes() -> None:
    X = np.arange(12, dtype=np.float32).reshape(4, 3)
    same = data_hash(X.copy(), np.arange(4))
    assert data_hash(X, np.arange(4)) == same
    assert len(same) == 32
    assert data_hash(X.astype(np.float64), np.arange(4)) != same
    assert data_hash(X.reshape(3, 4), np.arange(4)) != same
    assert data_hash(np.where(X == 5, 6, X), np.arange(4)) != same
