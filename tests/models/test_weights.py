"""What a payment stands for where decisions hide others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.features.plan.plan import DAY_US
from sentinel.models.decided import APPROVE, DECLINE, REVIEW, SENTINEL, Decided
from sentinel.models.weights import MOST, effective_size, reviews_are_known, weights_of


def decided_of(
    outcome: list[int], base: list[int] | None = None, propensity: list[float] | None = None
) -> Decided:
    n = len(outcome)
    return Decided(
        outcome=np.array(outcome, dtype=np.int8),
        base_outcome=np.array(outcome if base is None else base, dtype=np.int8),
        eligible=np.zeros(n, dtype=np.bool_),
        propensity=np.array(propensity or [1.0] * n, dtype=np.float32),
        source=np.full(n, SENTINEL, dtype=np.int8),
    )


def test_approved_payments_weigh_one_and_unknown_ones_nothing() -> None:
    known = np.array([True, False, True])
    decided = decided_of([APPROVE, APPROVE, DECLINE])
    found = weights_of(decided, known, np.arange(3))
    assert found.weight.tolist() == [1.0, 0.0, 0.0]
    assert (found.clipped_mass, found.effective_size) == (0.0, 1.0)


def test_a_weight_is_cut_and_the_cut_is_told() -> None:
    decided = decided_of([APPROVE, APPROVE], [APPROVE, DECLINE], [1.0, 0.01])
    found = weights_of(decided, np.ones(2, np.bool_), np.arange(2))
    assert found.weight.tolist() == [1.0, MOST]
    assert found.unclipped[1] == pytest.approx(100.0)
    assert found.clipped_mass == pytest.approx(50.0 / 101.0)


@pytest.mark.parametrize(("verdicts", "weight"), [(95, 1.0), (94, 0.0)])
def test_reviews_count_where_nearly_all_of_their_month_got_a_verdict(
    verdicts: int, weight: float
) -> None:
    known = np.arange(100) < verdicts
    found = weights_of(decided_of([REVIEW] * 100), known, np.zeros(100, dtype=np.int64))
    assert found.weight[0] == weight


def test_months_of_reviews_are_judged_apart() -> None:
    times = np.array([0, 1, 2, 60, 61, 62]) * DAY_US
    known = np.array([True, True, True, True, False, True])
    found = reviews_are_known(times, reviewed=np.ones(6, np.bool_), known=known)
    assert found.tolist() == [True, True, True, True, False, False]


@pytest.mark.parametrize(("verdicts", "weight"), [(True, 1.0), (False, 20.0)])
def test_what_left_the_reviews_by_chance_weighs_less_where_reviews_are_known(
    verdicts: bool, weight: float
) -> None:
    """Else a review that is known anyhow would be stood for twice."""
    decided = decided_of([REVIEW] * 19 + [APPROVE], [REVIEW] * 20, [0.95] * 19 + [0.05])
    known = np.array([verdicts] * 19 + [True])
    found = weights_of(decided, known, np.zeros(20, dtype=np.int64))
    assert found.weight[-1] == pytest.approx(weight)
    assert found.weight.sum() == pytest.approx(20.0)


@given(st.floats(0.02, 0.5), st.integers(0, 2**31))
def test_the_weights_of_a_control_group_add_up_to_what_it_stands_for(
    share: float, seed: int
) -> None:
    n = 20_000
    explored = np.random.default_rng(seed).random(n) < share
    decided = decided_of(
        np.where(explored, APPROVE, DECLINE).tolist(),
        [DECLINE] * n,
        np.where(explored, share, 1.0 - share).tolist(),
    )
    total = weights_of(decided, explored, np.zeros(n, dtype=np.int64)).weight.sum()
    spread = np.sqrt(n * (1.0 - share) / share)
    assert abs(total - n) < 6.0 * spread


@given(st.lists(st.floats(0.1, 50.0), min_size=1, max_size=50))
def test_unequal_weights_say_no_more_than_equal_ones(weights: list[float]) -> None:
    assert effective_size(weights) <= len(weights) + 1e-9
    assert effective_size([3.0] * len(weights)) == pytest.approx(len(weights))
