"""Thresholds: a budget is kept, a precision is reached, costs decide."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.models.thresholds import (
    NEVER,
    choose_thresholds,
    threshold_for_budget,
    threshold_for_costs,
    threshold_for_precision,
)

probabilities = st.lists(st.sampled_from([0.01, 0.02, 0.1, 0.3, 0.5, 0.9]), min_size=1, max_size=60)


@given(probabilities, st.floats(0.0, 1000.0))
def test_a_budget_is_never_exceeded_and_used_as_far_as_ties_allow(
    values: list[float], budget: float
) -> None:
    threshold = threshold_for_budget(values, budget)
    allowed = len(values) * budget / 1000.0 + 1e-9
    assert sum(v >= threshold for v in values) <= allowed
    below = [v for v in values if v < threshold]
    if below:
        assert sum(v >= max(below) for v in values) > allowed


def test_a_budget_of_everything_alerts_on_everything() -> None:
    assert threshold_for_budget([0.2, 0.1, 0.4], 1000) == 0.1


@pytest.mark.parametrize(("values", "budget"), [([], 5.0), ([0.1], -1.0), ([0.1], 1001.0)])
def test_an_impossible_budget_is_refused(values: list[float], budget: float) -> None:
    with pytest.raises(ValueError, match="budget"):
        threshold_for_budget(values, budget)


@given(
    st.lists(
        st.tuples(st.sampled_from([0.1, 0.3, 0.5, 0.9]), st.booleans()), min_size=1, max_size=60
    ),
    st.floats(0.1, 1.0),
)
def test_above_the_threshold_the_precision_holds(
    rows: list[tuple[float, bool]], precision: float
) -> None:
    score, fraud = [p for p, _ in rows], [f for _, f in rows]
    threshold = threshold_for_precision(score, fraud, precision, min_alerts=1)
    above = [f for p, f in rows if p >= threshold]
    assert sum(above) >= precision * len(above)
    for lower in {p for p in score if p < threshold}:
        wider = [f for p, f in rows if p >= lower]
        assert sum(wider) < precision * len(wider)


def test_a_precision_that_few_payments_show_is_not_believed() -> None:
    score, fraud = np.linspace(0, 0.9, 100), np.arange(100) >= 90
    assert threshold_for_precision(score, fraud, 0.9, min_alerts=20) == NEVER
    assert threshold_for_precision(score, fraud, 0.9, min_alerts=5) < 0.9


def test_equal_costs_draw_the_line_at_one_half() -> None:
    assert threshold_for_costs(10.0, 10.0) == 0.5


def test_an_alert_at_the_cost_threshold_is_worth_as_much_as_none() -> None:
    p = threshold_for_costs(3.0, 100.0, caught_fraud=10.0)
    assert p * 100.0 == pytest.approx(p * 10.0 + (1 - p) * 3.0)


def test_costs_that_make_frauds_welcome_are_refused() -> None:
    with pytest.raises(ValueError, match="dearer"):
        threshold_for_costs(1.0, 5.0, caught_fraud=5.0)


def test_declines_are_within_the_alert_budget() -> None:
    random = np.random.default_rng(0)
    score = random.random(10_000) ** 4 * 0.99
    fraud = random.random(10_000) < score
    chosen = choose_thresholds(score, fraud, alerts_per_1000=10.0, decline_precision=0.8)
    assert chosen.review <= chosen.decline
    assert (score >= chosen.review).mean() <= 0.010
    assert chosen.fraud == chosen.review
    by_cost = choose_thresholds(
        score, fraud, alerts_per_1000=10.0, decline_precision=0.8, fraud_threshold=0.25
    )
    assert by_cost.fraud == 0.25
