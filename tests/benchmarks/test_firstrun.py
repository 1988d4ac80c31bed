"""What the README promises its reader, and the benchmark that holds it to that at other starts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from benchmarks import firstrun_worlds
from sentinel.cli.traffic import world_before
from sentinel.domain import Outcome
from sentinel.ledger.open import open_writer
from testkit.readme import readme_promises
from testkit.scratch import make_workspace

NOW_US = 1_795_761_960_000_000  # 2026-11-27 06:46


def test_the_readme_promises_a_decision_for_what_it_sends() -> None:
    groceries, cards = readme_promises()
    assert [payment["transaction_id"] for payment in groceries.payments] == ["order-1000"]
    assert [payment["card_id"] for payment in cards.payments] == [
        "k-101",
        "k-102",
        "k-103",
        "k-104",
    ]
    assert len({payment["device_id"] for payment in cards.payments}) == 1
    assert (groceries.decision, cards.decision) == ("approve", "review")


def test_starts_are_at_all_hours_and_on_all_weekdays() -> None:
    moments = [
        datetime.fromtimestamp(moment / 1e6, UTC) for moment in firstrun_worlds.starts(NOW_US, 8)
    ]
    assert len({moment.hour for moment in moments}) == 8
    assert len({moment.weekday() for moment in moments}) >= 6
    assert len({moment.month for moment in moments}) >= 7


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> firstrun_worlds.World:
    """A start without history and with a made-up model: the benchmark is tried, not the model."""
    settings = make_workspace(tmp_path_factory.mktemp("start") / "w")
    config = world_before(NOW_US, customers=300, days=1)
    open_writer(settings).close()
    return firstrun_worlds.World(settings, config, NOW_US)


def test_a_minute_of_traffic_is_decided_and_counted(world: firstrun_worlds.World) -> None:
    scene = world.scene()
    assert scene["payments"] > 100
    assert scene["review"] + scene["decline"] <= scene["payments"]
    assert all(0 <= second <= 60 for second in scene["first_seconds"].values())


def test_each_decision_of_the_readme_is_asked_for_over_a_week(world: firstrun_worlds.World) -> None:
    for promise in readme_promises():
        claims = [replace(promise, decision=outcome.value) for outcome in Outcome]
        asked = world.readme(claims)
        hours = len(firstrun_worlds.README_HOURS)
        assert sum(hours - one["other"] for one in asked) == hours  # one claim holds at each
        assert all(0 < one["low"] <= one["high"] < 1 for one in asked)


def test_a_start_that_breaks_a_promise_is_told_from_one_that_keeps_them() -> None:
    kept: dict[str, Any] = {
        "readme": [{"decision": "review", "low": 0.2, "high": 0.5, "other": 0}],
        "scene": {"review": 3, "decline": 3, "labels": 3},
    }
    assert firstrun_worlds.is_as_promised(kept)
    assert not firstrun_worlds.is_as_promised(kept | {"readme": [kept["readme"][0] | {"other": 1}]})
    for name in kept["scene"]:
        assert not firstrun_worlds.is_as_promised(kept | {"scene": kept["scene"] | {name: 2}})
