"""An experiment that breaches a guardrail is stopped by the process that sees it, and says why."""

from __future__ import annotations

import msgspec
import pytest

from sentinel.experiments.lineup import Experiment, Guardrails, LineUp
from sentinel.experiments.stops import STOPPED_BY
from sentinel.experiments.store import open_line_ups
from sentinel.models.thresholds import Thresholds
from sentinel.scoring import guard
from sentinel.scoring.runtime import ScoringRuntime
from sentinel.settings import Settings
from testkit.experiments import install_version, run_experiments
from tests.scoring.one_scorer import PLAN, made, settings, within
from tests.scoring.test_roles import card, decide_on, until

__all__ = ["made", "settings"]  # fixtures

NOTHING_PASSES = Thresholds(fraud=0.0, review=0.0, decline=0.0)
ALL_PASS = Thresholds(fraud=1.0, review=1.0, decline=1.0)
STRICT = Experiment(name="strict", kind="challenger", version="21", share=0.1, started_at_us=5)


@pytest.fixture(scope="module", autouse=True)
def versions(made: Settings) -> None:
    install_version(made, PLAN, "21", lines=NOTHING_PASSES)
    install_version(made, PLAN, "22", lines=ALL_PASS)


def test_a_challenger_that_stops_everything_is_stopped_within_seconds(settings: Settings) -> None:
    run_experiments(settings, STRICT, msgspec.structs.replace(STRICT, name="mild", version="22"))

    async def claim(runtime: ScoringRuntime) -> float:
        answers = await decide_on(runtime, [card(runtime, f"p{n}", n) for n in range(600)])
        assert any(answer["model_version"] == "21" for answer in answers)
        seconds = await until(lambda: runtime.line_ups.line_up.find("strict") is None)
        await until(lambda: len(runtime.writer.scorer.panel.others) == 1)
        later = await decide_on(runtime, [card(runtime, f"q{n}", n) for n in range(600)])
        assert {answer["model_version"] for answer in later} == {"1", "22"}
        return seconds

    assert within(settings, claim) < 10
    store = open_line_ups(settings)
    last = store.read()
    store.close()
    assert last is not None
    assert [one.name for one in last.experiments] == ["mild"]
    assert last.by == STOPPED_BY
    assert "Stopped strict" in last.why
    assert "payments that it decided were stopped" in last.why


def test_it_decides_nothing_here_even_if_the_line_up_cannot_be_written(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run_experiments(settings, msgspec.structs.replace(STRICT, started_at_us=6))
    path = settings.workspace / "line-up.db"

    async def claim(runtime: ScoringRuntime) -> None:
        path.rename(path.with_suffix(".away"))
        path.mkdir()  # no file any more
        try:
            await decide_on(runtime, [card(runtime, f"r{n}", n) for n in range(600)])
            await until(lambda: runtime.problem_with_experiment("strict") is not None)
            later = await decide_on(runtime, [card(runtime, f"s{n}", n) for n in range(200)])
            assert {answer["model_version"] for answer in later} == {"1"}
            assert "cannot be written" in caplog.text
            await runtime._swaps.take_over_line_up()  # as when the share of a canary grows
            assert runtime.problem_with_experiment("strict") is not None
            later = await decide_on(runtime, [card(runtime, f"t{n}", n) for n in range(200)])
            assert {answer["model_version"] for answer in later} == {"1"}
        finally:
            path.rmdir()
            path.with_suffix(".away").rename(path)
        await until(lambda: runtime.line_ups.line_up.find("strict") is None)

    within(settings, claim)


def test_a_guardrail_that_is_off_stops_nothing(settings: Settings) -> None:
    off = Guardrails(most_alert_ratio=None)
    run_experiments(settings, msgspec.structs.replace(STRICT, guardrails=off, started_at_us=7))

    async def claim(runtime: ScoringRuntime) -> None:
        await decide_on(runtime, [card(runtime, f"u{n}", n) for n in range(600)])
        runtime.guard.look(runtime.guard.take())
        assert runtime.problem_with_experiment("strict") is None

    within(settings, claim)


def test_a_segment_may_have_other_alerts_than_the_rest() -> None:
    segment = msgspec.structs.replace(
        STRICT, kind="segment", share=0.0, condition="amount_minor > 100"
    )
    assert guard.limits_of(STRICT).most_alert_ratio == 3.0
    assert guard.limits_of(segment).most_alert_ratio is None
    assert guard.limits_of(segment).most_degraded_ratio is None
    assert guard.limits_of(segment).most_errors == 1


def test_an_experiment_of_the_same_name_does_not_answer_for_the_one_before(
    settings: Settings,
) -> None:
    run_experiments(settings, msgspec.structs.replace(STRICT, started_at_us=9))

    async def claim(runtime: ScoringRuntime) -> None:
        await decide_on(runtime, [card(runtime, f"w{n}", n) for n in range(600)])
        waiting = runtime.guard.take()
        again = msgspec.structs.replace(STRICT, version="22", started_at_us=10)
        assert guard.counted(waiting, again).scored == 0
        assert runtime.guard.breached(LineUp(experiments=(again,))) == {}

    within(settings, claim)


def test_more_payments_than_fit_between_two_looks_are_counted_as_left_out(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "MOST_PAYMENTS", 3)
    run_experiments(settings, msgspec.structs.replace(STRICT, started_at_us=8))

    async def claim(runtime: ScoringRuntime) -> None:
        await decide_on(runtime, [card(runtime, f"v{n}", n) for n in range(5)])
        assert runtime.guard.uncounted >= 2
        await until(lambda: runtime.metrics.experiment_payments_uncounted >= 2)

    within(settings, claim)
