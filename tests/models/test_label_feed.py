"""A feed of labels that stopped is told from one that rests."""

from __future__ import annotations

import numpy as np
import pytest

from sentinel.features.plan.plan import DAY_US
from sentinel.models.label_feed import FEWEST_ARRIVALS, label_feed

HOUR_US = DAY_US // 24


def office_hours(days: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """A label every half an hour from nine to five, Monday to Friday, from a Monday on."""
    hours = np.arange(9 * 2, 17 * 2) * HOUR_US // 2
    worked = [day for day in range(days) if day % 7 < 5]
    return np.concatenate([day * DAY_US + hours for day in worked])


def test_a_weekend_is_no_end() -> None:
    arrivals = office_hours(8 * 7 - 2)  # the last day is a Friday
    monday = (8 * 7) * DAY_US + 9 * HOUR_US
    assert not label_feed(arrivals, monday).stopped
    assert label_feed(arrivals, monday + 3 * DAY_US).stopped


def test_files_that_come_once_a_week_may_be_a_few_days_late() -> None:
    arrivals = np.repeat(np.arange(12) * 7 * DAY_US, 50)
    end = int(arrivals.max())
    assert not label_feed(arrivals, end + 12 * DAY_US).stopped
    stopped = label_feed(arrivals, end + 15 * DAY_US)
    assert stopped.stopped
    assert "usually up to 7.0 days" in str(stopped)


@pytest.mark.parametrize("per_day", [0.2, 5.0, 500.0])
def test_labels_that_come_by_chance_rarely_seem_to_have_stopped(per_day: float) -> None:
    """Nightly looks at feeds that go on: one in two hundred of them is stopped in vain at most."""
    random = np.random.default_rng(11)
    false, looks = 0, 0
    for _ in range(40):
        pauses = random.exponential(DAY_US / per_day, size=int(200 * per_day) + 40)
        arrivals = np.cumsum(pauses).astype(np.int64)
        for night in range(60, 200, 5):
            false += label_feed(arrivals, night * DAY_US).stopped
            looks += 1
    assert false <= looks / 200


def test_an_earlier_look_knows_only_earlier_labels() -> None:
    arrivals = np.arange(0, 100) * DAY_US
    early = label_feed(arrivals, 50 * DAY_US)
    assert early == label_feed(arrivals[:50], 50 * DAY_US)
    assert not early.stopped


def test_of_few_labels_nothing_is_said_unless_a_limit_is_set() -> None:
    arrivals = np.arange(FEWEST_ARRIVALS - 1) * DAY_US
    assert not label_feed(arrivals, 10_000 * DAY_US).stopped
    assert label_feed(arrivals, 10_000 * DAY_US, accepted_us=30 * DAY_US).stopped
    assert not label_feed([], 10_000 * DAY_US).stopped


def test_a_limit_that_is_set_counts_alone() -> None:
    arrivals = np.arange(100) * DAY_US
    assert label_feed(arrivals, 130 * DAY_US).stopped
    assert not label_feed(arrivals, 130 * DAY_US, accepted_us=60 * DAY_US).stopped
