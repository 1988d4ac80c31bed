"""Label drift: days are judged once they are mature, and alarms come no oftener than is set."""

from __future__ import annotations

import numpy as np
import pytest

from sentinel.drift.label_drift import LabelDays, LabelDrift, LabelledPayments, label_drift

DAY_US = 86_400_000_000
MATURITY_DAYS = 45
REFERENCE_DAYS = 28
PER_DAY = 600


def payments(
    seed: int, days: int, *, changed: int = 10**6, times: float = 1.0, slower: float = 1.0
) -> LabelledPayments:
    """Approved payments, two in a hundred fraud; from a day on more frauds, or later labels."""
    random = np.random.default_rng(seed)
    n = days * PER_DAY
    day = np.arange(n) // PER_DAY
    p = random.gamma(0.06, 0.33, n).clip(max=0.9)
    after = day >= changed
    fraud = random.random(n) < np.where(after, times, 1.0) * p
    time_us = day * DAY_US + random.integers(0, DAY_US, n)
    delay_us = np.exp(random.normal(np.log(8.0), 0.7, n)) * np.where(after, slower, 1.0) * DAY_US
    return LabelledPayments(
        time_us=time_us,
        weight=np.ones(n),
        label_us=np.where(fraud, time_us + delay_us.astype(np.int64), -1),
        probability=p,
    )


def as_of(rows: LabelledPayments, day: int, false_alarms_a_month: float = 1 / 3) -> LabelDrift:
    days = LabelDays.of(rows, day * DAY_US, MATURITY_DAYS * DAY_US)
    return label_drift(days, REFERENCE_DAYS, false_alarms_a_month=false_alarms_a_month)


def one(time_us: int, weight: float, label_us: int) -> LabelledPayments:
    return LabelledPayments(
        time_us=np.array([time_us]),
        weight=np.array([weight]),
        label_us=np.array([label_us]),
        probability=np.array([0.5]),
    )


def test_a_day_is_known_only_when_all_of_it_is_mature() -> None:
    rows = one(DAY_US // 2, 1.0, DAY_US)
    young = LabelDays.of(rows, 8 * DAY_US - 1, MATURITY_DAYS * DAY_US)
    assert np.isnan(young.early).all()
    early = LabelDays.of(rows, 8 * DAY_US, MATURITY_DAYS * DAY_US)
    assert early.early.tolist() == [1.0]
    assert np.isnan(early.frauds).all()
    mature = LabelDays.of(rows, (1 + MATURITY_DAYS) * DAY_US, MATURITY_DAYS * DAY_US)
    assert (mature.frauds.tolist(), mature.slow.tolist()) == ([1.0], [0.0])


def test_what_was_known_of_a_day_does_not_change_once_it_is_mature() -> None:
    late = one(0, 1.0, (MATURITY_DAYS + 3) * DAY_US)
    for today in (MATURITY_DAYS + 1, MATURITY_DAYS + 60):
        days = LabelDays.of(late, today * DAY_US, MATURITY_DAYS * DAY_US)
        assert days.frauds.tolist() == [0.0]


def test_payments_whose_decision_hides_their_truth_take_no_part() -> None:
    hidden = one(0, 0.0, DAY_US)
    passed = one(0, 10.0, DAY_US)
    both = LabelledPayments(
        time_us=np.concatenate([hidden.time_us, passed.time_us]),
        weight=np.concatenate([hidden.weight, passed.weight]),
        label_us=np.concatenate([hidden.label_us, passed.label_us]),
        probability=np.concatenate([hidden.probability, passed.probability]),
    )
    days = LabelDays.of(both, 60 * DAY_US, MATURITY_DAYS * DAY_US)
    assert (days.payments.tolist(), days.frauds.tolist()) == ([10.0], [10.0])


def test_labels_that_go_on_as_before_raise_fewer_alarms_than_are_allowed() -> None:
    total = REFERENCE_DAYS + 90 + MATURITY_DAYS
    alarms = sum(as_of(payments(seed, total), total).change is not None for seed in range(20))
    assert alarms <= 20  # as many periods of 90 days, one alarm each allowed
    assert alarms <= 8  # measured: about one in four


def test_twice_as_many_frauds_are_found_and_dated() -> None:
    begins = REFERENCE_DAYS + MATURITY_DAYS
    found = as_of(payments(3, 160, changed=begins, times=2.0), 160).change
    assert found is not None
    assert found.stream in ("early share", "share", "share given probability")
    assert abs(found.since_day - begins) <= 10
    assert found.now > 1.4 * found.before


def test_slower_labels_are_a_change_of_the_delay_or_of_what_is_reported_early() -> None:
    begins = REFERENCE_DAYS + MATURITY_DAYS
    found = as_of(payments(4, 180, changed=begins, slower=2.5), 180).change
    assert found is not None
    assert found.stream in ("early share", "delay")
    assert abs(found.since_day - begins) <= 10


def test_an_alarm_once_found_stays_found() -> None:
    rows = payments(5, 170, changed=REFERENCE_DAYS + MATURITY_DAYS, times=2.5)
    alarms = [as_of(rows, day).change for day in range(75, 170, 5)]
    first = next(number for number, one in enumerate(alarms) if one is not None)
    assert all(one == alarms[first] for one in alarms[first:])


@pytest.mark.parametrize("today", [20, REFERENCE_DAYS + MATURITY_DAYS])
def test_a_young_reference_is_no_reference_and_says_what_it_waits_for(today: int) -> None:
    found = as_of(payments(6, 20), today)
    assert found.change is None
    assert "28 days and 20 frauds" in found.missing
