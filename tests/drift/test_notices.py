"""Windows of silences and planned changes, at their borders."""

from __future__ import annotations

from pathlib import Path

import pytest

from sentinel.drift.notices import HOUR_US, Notice, plan_of, silence_of
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
    assert [h for h in found if silence_of([silence], "risk", "all", h, LATER_US)] == hours
    assert [h for h in found if plan_of([plan], "risk", "all", h, h)] == hours


def test_a_silence_that_is_ended_before_it_begins_never_holds(tmp_path: Path) -> None:
    store = open_drift(Settings(workspace=tmp_path))
    begins_us = 10 * HOUR_US + 1_800_000_000
    kept = store.add_notice(notice("silence", begins_us, begins_us + HOUR_US))
    store.end_notice(kept.id, begins_us - HOUR_US)
    ended = store.notices()
    store.close()
    assert not any(silence_of(ended, "risk", "all", h, h * HOUR_US) for h in range(20))
