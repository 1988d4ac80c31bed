"""Windows of silences and planned changes, at their borders."""

from __future__ import annotations

from pathlib import Path

import pytest

from sentinel.drift.notices import AFTERWARDS_HOURS, HOUR_US, Notice, plan_of, silence_of
from sentinel.drift.store import open_drift
from sentinel.settings import Settings

LATER_US = 1_000 * HOUR_US


def notice(kind: str, from_us: int, until_us: int) -> Notice:
    return Notice(
        kind="silence" if kind == "silence" else "plan",
        why="a test",
        by="ann",
        said_at_us=0,
        from_us=from_us,
        until_us=until_us,
    )


@pytest.mark.parametrize(
    ("from_us", "until_us", "hours"),
    [
        (10 * HOUR_US, 12 * HOUR_US, [10, 11]),
        (10 * HOUR_US + 1, 12 * HOUR_US + 1, [10, 11, 12]),
        (10 * HOUR_US - 1, 10 * HOUR_US, [9]),
        (10 * HOUR_US + 5, 10 * HOUR_US + 5, []),
    ],
)
def test_a_window_is_about_the_hours_that_it_meets(
    from_us: int, until_us: int, hours: list[int]
) -> None:
    silence, plan = (notice(kind, from_us, until_us) for kind in ("silence", "plan"))
    found = range(20)
    assert [h for h in found if silence_of([silence], "risk", "all", 0, h, LATER_US)] == hours
    assert [h for h in found if plan_of([plan], "risk", "all", h, h)] == hours


def test_a_silence_that_is_ended_before_it_begins_never_holds(tmp_path: Path) -> None:
    store = open_drift(Settings(workspace=tmp_path))
    begins_us = 10 * HOUR_US + 1_800_000_000
    kept = store.add_notice(notice("silence", begins_us, begins_us + HOUR_US))
    store.end_notice(kept.id, begins_us - HOUR_US)
    ended = store.notices()
    store.close()
    assert not any(silence_of(ended, "risk", "all", h, h, h * HOUR_US) for h in range(20))


@pytest.mark.parametrize(
    ("since_hour", "at_hour", "silent"),
    [
        (103, 107, True),  # evidence of the silence alone
        (99, 107, False),  # began before it
        (106, 109, False),  # began after it
        (105, 105 + AFTERWARDS_HOURS, True),
        (105, 106 + AFTERWARDS_HOURS, False),  # has gone on for days since
        (96, 150, True),  # known to the day, on which the silence was
        (72, 150, False),
    ],
)
def test_what_began_in_a_silence_raises_no_alarm_right_after_it(
    since_hour: int, at_hour: int, silent: bool
) -> None:
    silence = notice("silence", 100 * HOUR_US, 106 * HOUR_US)
    found = silence_of([silence], "risk", "all", since_hour, at_hour, LATER_US)
    assert (found is not None) == silent
