"""A breach stops an experiment by itself; chance does not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from sentinel.experiments.guardrails import BUCKETS, SLICE_SECONDS, SLICES, Counts, LastHour, breach


@dataclass
class _Limits:
    most_alert_ratio: float | None = 3.0
    most_errors: int = 1
    most_score_distance: float | None = 0.5
    most_degraded_ratio: float | None = 3.0
    most_scoring_us: float | None = 1_000.0
    least_payments: int = 200


def _counts(**named: int) -> Counts:
    return Counts(**({"champion_decided": 10_000, "champion_alerts": 100} | named))  # type: ignore[arg-type]


def test_a_canary_that_stops_everything_is_stopped_after_twenty_payments() -> None:
    assert breach(_Limits(), _counts(decided=19, alerts=19)) is None
    why = breach(_Limits(), _counts(decided=20, alerts=20))
    assert why is not None
    assert "20 of the 20 payments that it decided were stopped" in why
    assert "3 times" in why


def test_twice_as_many_alerts_as_the_champion_pass_a_limit_of_three() -> None:
    assert breach(_Limits(), _counts(decided=5_000, alerts=100)) is None
    assert breach(_Limits(), _counts(decided=5_000, alerts=300)) is not None


def test_chance_hardly_ever_stops_an_experiment_at_the_limit_however_often_one_looks() -> None:
    random = np.random.default_rng(5)
    stopped = 0
    for _ in range(200):
        alerts = (random.random(600) < 0.03).cumsum()
        stopped += any(
            breach(_Limits(), _counts(decided=n, alerts=int(alerts[n - 1])))
            for n in range(20, 601, 20)
        )
    assert stopped <= 2


def test_nothing_is_compared_before_the_champion_has_decided_enough() -> None:
    counts = Counts(decided=50, alerts=50, champion_decided=100, champion_alerts=1)
    assert breach(_Limits(), counts) is None


def test_degraded_decisions_errors_and_slow_models_stop_it() -> None:
    limits = _Limits()
    degraded = breach(limits, _counts(decided=40, degraded=20, champion_degraded=10))
    assert degraded is not None
    assert "degraded" in degraded
    failed = breach(limits, _counts(errors=1))
    assert failed is not None
    assert "failed" in failed
    slow = breach(limits, _counts(scored=500, scoring_ns=500 * 2_000_000))
    assert slow is not None
    assert "2000 us" in slow
    assert breach(_Limits(most_scoring_us=None), _counts(scored=500, scoring_ns=10**12)) is None


def test_other_probabilities_on_the_same_payments_stop_it() -> None:
    counts = _counts(scored=1_000)
    counts.champion_probabilities[5] = 1_000
    counts.probabilities[5], counts.probabilities[30] = 600, 400
    assert breach(_Limits(), counts) is None
    counts.probabilities[5], counts.probabilities[30] = 300, 700
    why = breach(_Limits(), counts)
    assert why is not None
    assert "0.70 from the champion's" in why


def test_an_hour_is_remembered_and_no_more() -> None:
    hour = LastHour()
    for minute in range(SLICES + 30):
        hour.add(Counts(decided=1), minute * SLICE_SECONDS)
    assert hour.sums().decided == SLICES
    assert hour.sums(5).decided == 5
    hour.add(Counts(decided=1), 10 * SLICES * SLICE_SECONDS)
    assert hour.sums().decided == 1
    assert hour.sums().probabilities.shape == (BUCKETS,)


@pytest.mark.parametrize("off", ["most_alert_ratio", "most_errors"])
def test_a_limit_that_is_off_stops_nothing(off: str) -> None:
    limits = _Limits(**{off: 0})
    assert (
        breach(limits, _counts(decided=50, alerts=50) if "alert" in off else _counts(errors=9))
        is None
    )
