"""Live traffic: fast through the days that are missing, then with the clock; it hears decisions."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from pathlib import Path

import lightgbm
import msgspec
import numpy as np
import pytest

from sentinel.cli.traffic import (
    CATCH_UP_SECONDS,
    Pace,
    Traffic,
    play,
    remember,
    traffic_file,
    world_before,
)
from sentinel.domain import Outcome
from sentinel.log.entries import GroupKind, decode_decisions, decode_labels, outcome_of
from sentinel.pipeline.workspace import ledger_reader
from sentinel.settings import Settings
from sentinel.sources import SimulatorConfig
from testkit.scratch import REPOSITORY, install_champion, serving
from testkit.small_models import PLAN

DAY_US = 86_400_000_000
START_US = 1_764_000_000_000_000
ENTRIES = 1_000


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


def by_amount(settings: Settings) -> None:
    """A champion that declines large amounts, and has middling ones reviewed."""
    rng = np.random.default_rng(1)
    amount = rng.uniform(0, 20_000, 8_000)
    rows = np.stack([np.ones(8_000), amount], axis=1).astype(np.float32)
    chance = np.where(amount > 6_000, 1.0, np.where(amount > 3_000, 0.5, 0.0))
    booster = lightgbm.train(
        {"objective": "binary", "verbose": -1, "num_threads": 1, "num_leaves": 4},
        lightgbm.Dataset(rows, rng.random(8_000) < chance, feature_name=list(PLAN.feature_names)),
        num_boost_round=80,
    )
    PLAN.save(settings.plan_path)
    install_champion(settings, PLAN, booster.model_to_string(), "1")


def play_some(settings: Settings, url: str) -> None:
    """Play until the log has so many more entries that frauds are charged back."""
    with ledger_reader(settings) as ledger:
        enough = ledger.last_sequence() + ENTRIES
        play(settings, url, speed=1e9, stop=lambda: ledger.last_sequence() >= enough)


def noted(settings: Settings) -> Traffic:
    return msgspec.json.decode(traffic_file(settings).read_bytes(), type=Traffic)


def test_traffic_hears_what_was_decided_and_goes_on_with_it(tmp_path: Path) -> None:
    """Reviews get verdicts, and what was declined brings no chargeback, before and after a stop."""
    settings = Settings(workspace=tmp_path, feature_store=REPOSITORY / "feature_store")
    by_amount(settings)
    now_us = time.time_ns() // 1000
    remember(
        settings,
        SimulatorConfig.ending(now_us - 60 * DAY_US, days=1, customers=60, fraud_rate=0.1),
    )
    with serving(settings) as server:
        play_some(settings, server.url)
        between = noted(settings)
        play_some(settings, server.url)
    after = noted(settings)
    assert between.memory.withheld
    assert set(between.memory.withheld) < set(after.memory.withheld)
    assert between.played_us < after.played_us

    outcome: dict[str, Outcome] = {}
    origins: dict[str, list[str]] = {}
    with ledger_reader(settings) as ledger:
        for group in ledger.groups():
            if group.kind == GroupKind.DECISIONS:
                decided = decode_decisions(group.payload)
                for row, payment in enumerate(decided.transactions):
                    flags = int(decided.flag_array()[row])
                    outcome[payment.transaction_id] = outcome_of(flags)
            elif group.kind == GroupKind.LABELS:
                for label in decode_labels(group.payload).labels:
                    origins.setdefault(label.transaction_id, []).append(label.origin)
    told = Counter(
        (outcome[payment], origin)
        for payment, many in origins.items()
        if payment in outcome
        for origin in many
    )
    assert told[Outcome.APPROVE, "chargeback"] > 0
    assert told[Outcome.DECLINE, "chargeback"] == 0
    reviews = sum(said == Outcome.REVIEW for said in outcome.values())
    assert told[Outcome.REVIEW, "analyst"] > 0.9 * reviews > 20
    assert told[Outcome.DECLINE, "complaint"] > 0
    retried = {payment for payment in outcome if "r" in payment}
    assert all(outcome[payment.partition("r")[0]] == Outcome.DECLINE for payment in retried)
    assert len(retried) > 10
