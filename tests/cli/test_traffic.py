"""The pace of live traffic: quickly through the days that are missing, then with the clock."""

from __future__ import annotations

import itertools

import pytest

from sentinel.cli.traffic import CATCH_UP_SECONDS, Pace, Traffic, world_before

DAY_US = 86_400_000_000
START_US = 1_764_000_000_000_000


def due(pace: Pace, seconds: float, behind_us: int = 3 * DAY_US) -> int:
    """What is due so many seconds after traffic began, that many microseconds behind the clock."""
    return pace.due_us(seconds, START_US + behind_us + round(seconds * 1e6))


@pytest.mark.parametrize("behind_days", [0.01, 3, 40])
def test_most_of_what_is_missing_is_played_within_a_minute(behind_days: float) -> None:
    behind_us = round(behind_days * DAY_US)
    now_us = START_US + behind_us + 60_000_000
    gap_us = now_us - due(Pace(START_US), 60, behind_us)
    assert 0 <= gap_us <= 0.15 * behind_us


def test_after_minutes_a_payment_happens_when_it_happens() -> None:
    seconds = 15 * CATCH_UP_SECONDS
    gap_us = START_US + 3 * DAY_US + round(seconds * 1e6) - due(Pace(START_US), seconds)
    assert gap_us < 1_000_000


def test_traffic_never_stands_still_runs_back_or_overtakes_the_clock() -> None:
    pace = Pace(START_US)
    moments = [due(pace, second / 2) for second in range(600)]
    assert moments[0] == START_US
    assert all(earlier < later for earlier, later in itertools.pairwise(moments))
    assert all(
        moment <= START_US + 3 * DAY_US + second * 500_000 for second, moment in enumerate(moments)
    )


def test_a_clock_that_stands_before_what_was_played_lets_nothing_more_through() -> None:
    assert Pace(START_US).due_us(5.0, START_US - DAY_US) == START_US - DAY_US


def test_a_given_speed_is_kept_until_the_clock_is_reached() -> None:
    assert due(Pace(START_US, speed=300), 10) == START_US + 3_000_000_000
    assert due(Pace(START_US, speed=300), 864_000) == START_US + 3 * DAY_US + 864_000_000_000


def test_the_traffic_of_an_older_workspace_goes_on_with_the_devices_that_it_has() -> None:
    noted: dict[str, str | int | float] = {
        "customers": 300,
        "days": 40.0,
        "start": "2025-10-20",
        "seed": 25,
    }
    assert Traffic(config=noted, played_us=0).world.device_ids == "number"
    assert Traffic(config=noted, played_us=0).world.calendar_day == 20_381


def test_starts_a_whole_number_of_weeks_apart_have_one_world() -> None:
    first = world_before(START_US, customers=100, days=180)
    later = world_before(START_US + 41 * 7 * DAY_US, customers=100, days=180)
    assert (first.days, first.calendar_day) == (later.days, later.calendar_day)
    assert later.start_us - first.start_us == 41 * 7 * DAY_US
    assert 180 <= first.days < 187
