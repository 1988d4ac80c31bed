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


def test_equal_costs_draw_the_line_at_one_half() -> None:
    assert threshold_for_costs(10.0, 10.0) == 0.5


def test_an_alert_at_the_cost_threshold_is_worth_as_much_as_none() -> None:
    p = threshold_for_costs(3.0, 100.0, caught_fraud=10.0)
    assert p * 100.0 == pytest.approx(p * 10.0 + (1 - p) * 3.0)


def test_costs_that_make_frauds_welcome_are_refused() -> None:
    with pytest.raises(ValueError, match="dearer"):
        threshold_for_costs(1.0, 5.0, caught_fraud=5.0)


def graded(rows: int = 40_000) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated probabilities of mostly good payments, and a truth that keeps to them."""
    random = np.random.default_rng(0)
    score = random.random(rows) ** 30 * 0.99
    return score, random.random(rows) < score


def test_each_declined_payment_is_fraud_with_the_wanted_probability() -> None:
    score, fraud = graded()
    chosen = choose_thresholds(score, fraud, alerts_per_1000=10.0, decline_precision=0.8)
    assert chosen.decline == 0.8
    # Together they reach that share from far further below, thanks to the sure ones.
    assert fraud[score >= 0.7].mean() > 0.8


def test_reviews_keep_to_their_budget_and_declines_use_none_of_it() -> None:
    score, fraud = graded()
    chosen = choose_thresholds(score, fraud, alerts_per_1000=10.0, decline_precision=0.8)
    reviewed = (score >= chosen.review) & (score < chosen.decline)
    assert 0.0095 <= reviewed.mean() <= 0.010
    assert (score >= chosen.decline).any()
    assert chosen.fraud == chosen.review
    by_cost = choose_thresholds(
        score, fraud, alerts_per_1000=10.0, decline_precision=0.8, fraud_threshold=0.25
    )
    assert by_cost.fraud == 0.25


def test_something_is_left_to_review_even_where_sure_frauds_would_fill_the_budget() -> None:
    score = np.concatenate([np.full(900, 0.95), np.linspace(0.0, 0.6, 99_100)])
    fraud = score > 0.9
    chosen = choose_thresholds(score, fraud, alerts_per_1000=5.0, decline_precision=0.8)
    assert 0 < ((score >= chosen.review) & (score < chosen.decline)).sum() <= 500


def test_few_payments_above_the_line_are_reviewed_and_not_declined() -> None:
    score = np.concatenate([np.full(19, 0.95), np.linspace(0.0, 0.5, 1_000)])
    chosen = choose_thresholds(score, score > 0.9, alerts_per_1000=50.0, decline_precision=0.8)
    assert chosen.decline == NEVER
    assert chosen.review < 0.95


def test_probabilities_that_promise_too_much_raise_the_line() -> None:
    score = np.repeat([0.99, 0.85, 0.1], [100, 400, 2_000])
    fraud = np.zeros(len(score), dtype=bool)
    fraud[:97] = True  # of the 400 at .85 none is fraud
    chosen = choose_thresholds(score, fraud, alerts_per_1000=200.0, decline_precision=0.8)
    assert chosen.decline == 0.99
