"""The benchmark of the loop lives through a world, and its figures add up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import loop
from benchmarks.loop_arms import Before, Loop, costs_of
from benchmarks.loop_life import Life, Served, TruthFeed, live
from benchmarks.loop_money import approving_all_minor, figures_of
from sentinel.features.plan.plan import DAY_US
from sentinel.features.plan.program import compile_program
from sentinel.models.dataset import targets_at
from sentinel.models.decided import DECLINE
from sentinel.policy.versions import Terms
from sentinel.settings import Settings
from sentinel.sources.simulator import AnsweringWorld, Behaviour, SimulatorConfig
from testkit.scratch import default_plan

SMALL = loop.Plan(customers=120, history_days=75, days=30, retrain_days=15, budget_minor=100_000.0)
CONFIG = SimulatorConfig(customers=60, merchants=60, days=12, fraud_rate=0.05, seed=4)


@pytest.fixture(scope="module")
def lived() -> Life:
    life = Life.begin(compile_program(default_plan()))
    live(life, AnsweringWorld(CONFIG), CONFIG.end_us)
    return life


def seed_of(final: dict[str, float], *, costs: float = 10.0) -> dict[str, Any]:
    arms = {
        name: {
            "ap_by_month": [ap, ap],
            "final_ap": ap,
            "cost_minor": costs,
            "review_rate": 0.1,
            "decline_rate": 0.1,
            "fraud_rate": 0.1,
            "kept": 0,
            "exploring": {"explored": 4, "frauds": 2, "cost_minor": 8.0, "net_cost_minor": 6.0},
        }
        for name, ap in final.items()
    }
    return {"seed": 1, "arms": arms, "approving_all_minor": 40.0, "seconds": 1.0}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_seed_gives_every_arm_a_precision_for_every_month() -> None:
    found = loop.run_seed(SMALL, 3)
    for name in loop.ARMS:
        arm = found["arms"][name]
        assert len(arm["ap_by_month"]) == 1
        assert 0.0 < arm["final_ap"] < 1.0
        assert arm["trained"] == 2
    assert found["arms"]["all_truth"]["exploring"]["explored"] == 0
    report = loop.summary(SMALL, [found])
    assert "control group" in loop.in_words(report)


def test_the_target_can_be_missed() -> None:
    good = seed_of({"this": 0.5, "old": 0.2, "all_truth": 0.5})
    poor = seed_of({"this": 0.3, "old": 0.2, "all_truth": 0.5})
    assert loop.summary(SMALL, [good])["met"]
    missed = loop.summary(SMALL, [poor, poor])
    assert not missed["met"]
    assert missed["ratios"] == {"final_ap_vs_all_truth": 0.6, "old_loop_vs_all_truth": 0.4}
    assert missed["money_saved"]["this"] == {"a_month_minor": 30.0, "share": 0.75}
    both = loop.summary(SMALL, [good, poor])
    assert both["interval"] == [0.6, 1.0]


def test_a_run_that_was_cut_goes_on_with_the_seeds_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[int] = []

    def quickly(_: loop.Plan, seed: int) -> dict[str, Any]:
        ran.append(seed)
        return seed_of({"this": 0.5, "old": 0.2, "all_truth": 0.5}) | {"seed": seed}

    monkeypatch.setattr(loop, "run_seed", quickly)
    arguments = ["--json", "--processes", "1", "--resume", str(tmp_path / "kept.jsonl")]
    assert loop.main([*arguments, "--seeds", "2"]) == 0
    assert loop.main([*arguments, "--seeds", "3"]) == 0
    assert ran == [1, 2, 3]
    loop.main([*arguments, "--seeds", "1", "--retrain-days", "7"])
    assert ran == [1, 2, 3, 1]  # another plan is another run
    report = json.loads(capsys.readouterr().out.splitlines()[1])
    assert report["seeds"] == [1, 2, 3]


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
