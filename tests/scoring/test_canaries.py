"""A canary's share grows because its model ran at the one before, and by nothing else."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec
import pytest

from sentinel.experiments.growth import Growth, grown, told_steps, with_steps
from sentinel.experiments.lineup import NO_LINE_UP, Canary, Experiment, decode_line_up, started
from sentinel.pipeline.experiments import history, line_up_of
from sentinel.scoring.canaries import Canaries
from sentinel.scoring.runtime import ScoringRuntime
from sentinel.settings import Settings
from testkit.experiments import install_version, run_experiments
from tests.scoring.one_scorer import PLAN, made, settings, within
from tests.scoring.test_roles import until

__all__ = ["made", "settings"]  # fixtures

HELD = 0.5
CANARY = Experiment(
    name="canary",
    kind="challenger",
    version="31",
    share=0.2,
    started_at_us=time.time_ns() // 1_000,
    canary=Canary(hold_seconds=HELD, grew_at_us=()),
)


def share_now(settings: Settings) -> float:
    return line_up_of(settings).experiments[0].share_at(time.time_ns() // 1_000)


def test_a_canary_whose_model_does_not_run_keeps_its_share_until_it_does(
    made: Settings, settings: Settings
) -> None:
    run_experiments(settings, CANARY)

    async def claim(runtime: ScoringRuntime) -> None:
        await asyncio.sleep(3 * HELD)
        assert "31 is not here yet" in (runtime.problem_with_experiment("canary") or "")
        assert share_now(settings) == 0.01
        await asyncio.to_thread(install_version, made, PLAN, "31")
        await until(lambda: len(runtime.writer.scorer.panel.others) == 1)
        assert runtime.writer.scorer.panel.others[0].share == 0.01
        for share in (0.05, 0.2):
            took = await until(lambda: runtime.writer.scorer.panel.others[0].share >= share)  # noqa: B023
            assert took > HELD / 2, "it held the share before"
        await asyncio.sleep(2 * HELD)  # there is nothing more to grow to

    within(settings, claim)
    told = history(settings, 9)
    assert [one.by for one in told] == ["canaries", "canaries", "ann"]
    assert told[1].why == (
        "Canary canary takes 5 % of the cards: its model has run for 0.5 s at the share before."
    )
    first, second = told_steps(told)["canary", CANARY.started_at_us]
    assert second - first >= HELD * 1e6


def test_a_step_is_taken_once_and_a_new_canary_has_taken_none() -> None:
    bare = msgspec.structs.replace(CANARY, canary=Canary())
    line_up = started(NO_LINE_UP, bare)
    later_us = CANARY.started_at_us + 10_000_000_000
    assert line_up.experiments[0].share_at(later_us) == 0.01
    step = Growth(name="canary", started_at_us=CANARY.started_at_us, step=1, at_us=later_us)
    after = grown(line_up, step)
    assert after.experiments[0].share_at(later_us - 1) == 0.01
    assert after.experiments[0].share_at(later_us) == 0.05
    assert with_steps(after, [step]) == after
    assert with_steps(line_up, [step]) == after


def test_a_step_beside_the_line_up_that_comes_too_soon_counts_for_nothing() -> None:
    line_up = started(NO_LINE_UP, msgspec.structs.replace(CANARY, canary=Canary()))
    soon = CANARY.started_at_us + 600_000_000  # ten minutes of the hour
    step = Growth(name="canary", started_at_us=CANARY.started_at_us, step=1, at_us=soon)
    assert with_steps(line_up, [step]) == line_up


def test_a_scorer_whose_clock_is_behind_takes_steps_that_count(tmp_path: Path) -> None:
    settings, hold_us = Settings(workspace=tmp_path), round(HELD * 1e6)
    ahead_us = time.time_ns() // 1_000 + 3_600_000_000
    run_experiments(settings, msgspec.structs.replace(CANARY, started_at_us=ahead_us))
    before = line_up_of(settings)
    canaries = Canaries(settings)
    for _ in range(2):
        experiments = line_up_of(settings).experiments
        canaries.run(experiments)
        time.sleep(HELD)
        assert canaries.grow(experiments, ())
    ((experiment, steps),) = told_steps([line_up_of(settings)]).items()
    assert steps == (ahead_us + hold_us, ahead_us + 2 * hold_us)
    beside = [
        Growth(name=experiment[0], started_at_us=experiment[1], step=step, at_us=at_us)
        for step, at_us in enumerate(steps, 1)
    ]
    assert told_steps([with_steps(before, beside)]) == {experiment: steps}


def test_a_canary_of_a_line_up_from_before_grows_by_the_clock_as_it_did() -> None:
    old = decode_line_up(
        b'{"version":3,"experiments":[{"name":"ab","kind":"challenger","version":"2","share":0.5,'
        b'"started_at_us":1000,"canary":{"first_share":0.01,"hold_seconds":3600.0,"growth":5.0}}]}'
    )
    hour_us = 3_600_000_000
    assert [old.experiments[0].share_at(n * hour_us + 1_000) for n in (0, 1, 2, 3)] == [
        0.01,
        pytest.approx(0.05),
        pytest.approx(0.25),
        0.5,
    ]
