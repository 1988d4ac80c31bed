"""Changes of labels are found, end when days look like the reference again, and are found anew."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest

from sentinel.drift.label_changes import BACK_DAYS, label_changes
from sentinel.drift.label_drift import LabelDays, LabelledPayments
from sentinel.drift.label_figures import STREAM_WORDS, LabelFigures
from sentinel.drift.label_panel import label_bars, label_head, label_lines

DAY_US = 86_400_000_000
PER_DAY = 400
MATURITY_DAYS = 20
REFERENCE_DAYS = 28


def days_of(times: dict[range, float], days: int, seed: int = 3) -> LabelDays:
    """Days of payments, 3 % of them fraud, so many times more in some of them; labels after 4."""
    random = np.random.default_rng(seed)
    day = np.repeat(np.arange(days), PER_DAY)
    factor = np.ones(days)
    for some, more in times.items():
        factor[list(some)] = more
    p = random.beta(0.3, 9.7, len(day))
    fraud = random.random(len(day)) < np.minimum(p * factor[day], 0.99)
    time_us = day * DAY_US + random.integers(0, DAY_US, len(day))
    label_us = np.where(fraud, time_us + 4 * DAY_US, -1)
    rows = LabelledPayments(
        time_us=time_us, weight=np.ones(len(day)), label_us=label_us, probability=p
    )
    return LabelDays.of(rows, days * DAY_US, MATURITY_DAYS * DAY_US)


def found_in(days: LabelDays) -> LabelFigures:
    return label_changes(days, REFERENCE_DAYS, false_alarms_a_month=0.2)


def test_without_a_change_days_are_tested_and_none_is_named() -> None:
    found = found_in(days_of({}, 150))
    assert (found.missing, found.changes) == ("", ())
    assert found.tested_days == 150 - REFERENCE_DAYS - 7  # younger days are not known yet
    assert (found.reference_first_day, found.reference_last_day) == (0, 27)
    assert len(found.days) == 150
    assert found.days[149].share is None
    assert found.days[149].early_share is None
    assert 0.015 < (found.days[100].share or 0) < 0.05


def test_a_change_ends_with_a_fortnight_as_before_and_a_second_one_is_found() -> None:
    found = found_in(days_of({range(50, 80): 3.0, range(120, 160): 3.0}, 160))
    second, first = found.changes
    assert abs(first.since_day - 50) <= 3
    assert first.ended_day is not None
    assert 80 + BACK_DAYS // 2 <= first.ended_day <= 80 + BACK_DAYS + 2
    assert abs(second.since_day - 120) <= 3
    assert second.ended_day is None
    assert found.alarms == (second,)
    assert second.now > 2 * second.before


def test_a_first_month_says_what_is_missing() -> None:
    found = found_in(days_of({}, 30))
    assert "days of the reference are mature" in found.missing
    assert found.tested_days == 0
    assert "Nothing is tested yet" in label_head(found)


def test_a_reader_sees_each_figure_day_by_day_and_days_of_a_change_in_red() -> None:
    found = found_in(days_of({range(60, 120): 3.0}, 120))
    ((words, state),) = label_lines(found)
    assert state == "on"
    assert "before" in words
    html = label_bars(found, ("card", "bars", "hot", "quiet"))
    assert html.count('class="card"') == len(STREAM_WORDS)
    assert 20 < html.count('class="hot"') < 60
    assert label_bars(None, ("", "", "", "")) == ""
    assert "not looked at yet" in label_head(None)


@pytest.mark.parametrize("wave", [800.0, 50_000.0])
def test_a_wave_of_fraud_is_kept_and_read_however_high(wave: float) -> None:
    day = np.arange(60)
    frauds = np.where(day < 45, 100.0, wave)
    payments = np.full(60, 100_000.0)
    days = LabelDays(
        day=day, payments=payments, early=frauds, frauds=frauds, slow=0 * frauds,
        expected=np.full(60, 100.0), squares=np.ones(60), early_lag=8, lag=21,
    )  # fmt: skip
    found = found_in(days)
    (change,) = found.changes
    assert change.since_day == 45
    assert np.isfinite(change.evidence)
    assert msgspec.json.decode(msgspec.json.encode(found), type=LabelFigures) == found


def test_what_the_reference_says_nothing_of_is_not_tested() -> None:
    days = days_of({}, 90)
    expected = np.where(np.arange(90) < REFERENCE_DAYS, np.nan, days.expected)
    assert found_in(dataclasses.replace(days, expected=expected)).changes == ()
