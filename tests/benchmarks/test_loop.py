"""The benchmark of the loop lives through a world, and its figures add up."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import loop, loop_year
from benchmarks.loop_arms import Before, Loop, costs_of
from benchmarks.loop_book import Served
from benchmarks.loop_life import Life, TruthFeed, live
from benchmarks.loop_money import approving_all_minor, figures_of
from benchmarks.loop_report import in_words, summary
from benchmarks.loop_year import ARMS, Plan, Year, run_arm
from sentinel.features.plan.plan import DAY_US
from sentinel.features.plan.program import compile_program
from sentinel.models.dataset import targets_at
from sentinel.models.decided import DECLINE
from sentinel.policy.versions import Terms
from sentinel.settings import Settings
from sentinel.sources.simulator import AnsweringWorld, Behaviour, SimulatorConfig
from testkit.scratch import default_plan

SMALL = Plan(customers=120, history_days=75, days=30, retrain_days=15, budget_minor=100_000.0)
CONFIG = SimulatorConfig(customers=60, merchants=60, days=12, fraud_rate=0.05, seed=4)


@pytest.fixture(scope="module")
def lived() -> Life:
    life = Life.begin(compile_program(default_plan()))
    live(life, AnsweringWorld(CONFIG), CONFIG.end_us)
    return life


def found_of(ap: float) -> dict[str, Any]:
    return {
        "ap_by_month": [ap, ap],
        "final_ap": ap,
        "cost_minor": 10.0,
        "review_rate": 0.1,
        "decline_rate": 0.1,
        "fraud_rate": 0.1,
        "kept": 0,
        "exploring": {"explored": 4, "frauds": 2, "cost_minor": 8.0, "net_cost_minor": 6.0},
        "approving_all_minor": 40.0,
        "cpu_seconds": 1.0,
        "memory_mb": 500,
    }


def seed_of(final: dict[str, float]) -> dict[str, Any]:
    return {"seed": 1, "arms": {name: found_of(ap) for name, ap in final.items()}}


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, Any]]:
    return {name: run_arm(SMALL, 3, name) for name in ARMS}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_seed_gives_every_arm_a_precision_for_every_month(
    found: dict[str, dict[str, Any]],
) -> None:
    for arm in found.values():
        assert len(arm["ap_by_month"]) == 1
        assert 0.0 < arm["final_ap"] < 1.0
        assert arm["trained"] == 2
    assert found["all_truth"]["exploring"]["explored"] == 0
    report = summary(SMALL, [{"seed": 3, "arms": found}])
    assert "control group" in in_words(report)


class Cut(Exception):
    """Ends a run."""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["this", "old"])
def test_a_year_that_was_cut_ends_as_one_that_was_not(
    name: str,
    found: dict[str, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go_on = Year.live_a_day

    def cut(year: Year) -> None:
        if year.days == 20:
            raise Cut
        go_on(year)

    monkeypatch.setattr(loop_year, "_SAVE_SECONDS", 0.0)
    monkeypatch.setattr(Year, "live_a_day", cut)
    checkpoint = tmp_path / "unfinished"
    with pytest.raises(Cut):
        run_arm(SMALL, 3, name, checkpoint)
    monkeypatch.setattr(Year, "live_a_day", go_on)
    again = run_arm(SMALL, 3, name, checkpoint)
    own = {"cpu_seconds": 0.0, "memory_mb": 0}
    assert again | own == found[name] | own
    assert not checkpoint.exists()


def test_the_target_can_be_missed() -> None:
    good = seed_of({"this": 0.5, "old": 0.2, "all_truth": 0.5})
    poor = seed_of({"this": 0.3, "old": 0.2, "all_truth": 0.5})
    assert summary(SMALL, [good])["met"]
    missed = summary(SMALL, [poor, poor])
    assert not missed["met"]
    assert missed["ratios"] == {"final_ap_vs_all_truth": 0.6, "old_loop_vs_all_truth": 0.4}
    assert missed["money_saved"]["this"] == {"a_month_minor": 30.0, "share": 0.75}
    both = summary(SMALL, [good, poor])
    assert both["interval"] == [0.6, 1.0]


def test_a_run_that_was_cut_goes_on_with_the_years_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[tuple[int, str]] = []

    def quickly(_plan: Plan, seed: int, name: str, _checkpoint: Path) -> dict[str, Any]:
        if len(ran) == 4:
            raise Cut
        ran.append((seed, name))
        return found_of(0.2 if name == "old" else 0.5)

    monkeypatch.setattr(loop, "run_arm", quickly)
    arguments = ["--json", "--processes", "1", "--resume", str(tmp_path / "kept.jsonl")]
    assert loop.main([*arguments, "--show"]) == 2  # nothing to report on
    with pytest.raises(Cut):
        loop.main([*arguments, "--seeds", "2"])
    assert loop.main([*arguments, "--show"]) == 0
    assert json.loads(capsys.readouterr().out)["seeds"] == [1]
    ran.clear()
    assert loop.main([*arguments, "--seeds", "2"]) == 0
    assert ran == [(2, "old"), (2, "all_truth")]
    assert json.loads(capsys.readouterr().out)["seeds"] == [1, 2]
    ran.clear()
    loop.main([*arguments, "--seeds", "1", "--retrain-days", "7"])
    assert len(ran) == len(ARMS)  # another plan is another run


def test_a_life_that_was_kept_goes_on_as_if_it_had_not_been(lived: Life) -> None:
    end_us = CONFIG.end_us + 4 * DAY_US
    straight, world = lived.fork(), AnsweringWorld(CONFIG, from_us=CONFIG.end_us)
    live(straight, world, end_us)
    cut, world = lived.fork(), AnsweringWorld(CONFIG, from_us=CONFIG.end_us)
    nights: list[int] = []
    live(cut, world, CONFIG.end_us + 2 * DAY_US, night=nights.append)
    cut, world = pickle.loads(pickle.dumps((cut, world)))
    live(cut, world, end_us, night=nights.append)
    assert np.array_equal(straight.book.vectors, cut.book.vectors, equal_nan=True)
    assert straight.book.labels == cut.book.labels
    assert nights == [CONFIG.end_us + day * DAY_US for day in (1, 2, 3)]


def test_a_fork_lives_on_without_changing_the_life_that_it_came_from(lived: Life) -> None:
    before, entities = len(lived.book), lived.state.entities
    fork = lived.fork()
    live(fork, AnsweringWorld(CONFIG, from_us=CONFIG.end_us), CONFIG.end_us + 3 * DAY_US)
    assert (len(lived.book), lived.state.entities) == (before, entities)
    assert len(fork.book) > before
    again = lived.fork()
    live(again, AnsweringWorld(CONFIG, from_us=CONFIG.end_us), CONFIG.end_us + 3 * DAY_US)
    assert np.array_equal(fork.book.vectors, again.book.vectors, equal_nan=True)


def test_all_truth_has_arrived_before_silence_counts(lived: Life) -> None:
    fork, feed = lived.fork(), TruthFeed(1)
    fork.book.labels.clear()
    fork.promise_all(feed, CONFIG.end_us + 30 * DAY_US)
    fraud = set(np.flatnonzero(fork.book.column("is_fraud")).tolist())
    assert {row for row, verdict, _ in fork.book.labels if verdict} == fraud
    times = fork.book.column("event_time_us")
    assert all(0 < at - times[row] < 30 * DAY_US for row, _, at in fork.book.labels)


def declined(served: Served) -> Served:
    """The same log where every fraud was declined, and nobody labelled one."""
    frauds = served.labels.row[served.labels.fraud]
    assert served.payments.decided is not None
    outcome = served.payments.decided.outcome.copy()
    outcome[frauds] = DECLINE
    decided = replace(served.payments.decided, outcome=outcome)
    kept = ~np.isin(served.labels.row, frauds)
    labels = replace(
        served.labels,
        row=served.labels.row[kept],
        fraud=served.labels.fraud[kept],
        received_at_us=served.labels.received_at_us[kept],
    )
    return replace(served, payments=replace(served.payments, decided=decided), labels=labels)


class Taught(Exception):
    """Carries what a learner would have trained on."""


@pytest.mark.parametrize("arm", [Loop, Before])
def test_only_the_loop_before_is_taught_that_what_was_declined_is_legitimate(
    arm: type[Loop | Before], lived: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_settings: Settings, known: Served, _threads: int) -> None:
        raise Taught(known)

    monkeypatch.setattr("benchmarks.loop_arms._trained", stop)
    learner = Loop(Settings(), Terms()) if arm is Loop else Before(Settings())
    log = declined(lived.book.served(CONFIG.end_us))
    with pytest.raises(Taught) as taught:
        learner.learn(log, lived.book)
    known = taught.value.args[0]
    assert log.payments.decided is not None
    rows = np.flatnonzero(log.payments.decided.outcome == DECLINE)
    targets = targets_at(known.payments, known.labels, CONFIG.end_us + 90 * DAY_US, 30 * DAY_US)
    assert (targets[rows] == (-1 if arm is Loop else 0)).all()


def test_money_is_what_outcomes_cost_as_they_turned_out(lived: Life) -> None:
    costs = costs_of(Behaviour())
    fork = lived.fork()
    start = int(fork.book.column("event_time_us")[0])
    found = figures_of(fork.book, start, 30, costs)
    fraud = fork.book.column("is_fraud").astype(bool)
    amounts = np.maximum(fork.book.column("amount_minor"), 0)
    lost = amounts[fraud] - fork.book.column("recovered_minor")[fraud] + costs.fee_minor
    assert found["cost_minor"] == pytest.approx(float(lost.sum()))
    assert found["exploring"]["explored"] == 0
    expected = approving_all_minor(replace(CONFIG, days=1), 11, costs)
    assert 0.5 * expected < found["cost_minor"] < 2 * expected
