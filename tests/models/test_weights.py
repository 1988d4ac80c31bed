"""What a payment stands for where decisions hide others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sentinel.features.plan.plan import DAY_US
from sentinel.models.calibration import fit_calibration
from sentinel.models.decided import APPROVE, DECLINE, REVIEW, SENTINEL, Decided
from sentinel.models.evaluation import (
    NOT_ENOUGH_FRAUDS,
    UNCLIPPED_PRECISION,
    WEIGHTED,
    HeldOut,
    average_precision,
    evaluate,
    figures,
)
from sentinel.models.sampling import thinned
from sentinel.models.thresholds import NEVER, decline_line, threshold_for_budget
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


# What stands for several payments counts as several


def repeated(rows: HeldOut, times: NDArray[np.int64]) -> HeldOut:
    return HeldOut(
        **{
            name: np.repeat(getattr(rows, name), times)
            for name in ("fraud", "score", "probability", "card", "event_time_us", "amount_minor")
        }
    )


def held_out(seed: int, n: int = 400) -> HeldOut:
    random = np.random.default_rng(seed)
    fraud = random.random(n) < 0.2
    score = np.round(random.normal(size=n) + fraud, 1)
    return HeldOut(
        fraud=fraud,
        score=score,
        probability=1.0 / (1.0 + np.exp(1.0 - score)),
        card=np.arange(n),
        event_time_us=random.integers(0, 14 * DAY_US, n),
        amount_minor=random.integers(1, 20_000, n),
    )


def test_weighted_figures_are_those_of_all_payments_that_rows_stand_for() -> None:
    rows = held_out(3)
    times = np.random.default_rng(4).integers(1, 6, len(rows.fraud))
    weighted = evaluate(replace(rows, weight=times.astype(np.float64)), rounds=50)
    plain, whole = evaluate(rows, rounds=50), evaluate(repeated(rows, times), rounds=50)
    for name in whole:
        if name != "calibration_error" and not name.startswith("card_"):
            assert weighted[WEIGHTED + name].value == pytest.approx(whole[name].value)
            assert weighted[name] == plain[name], "the figures without weights stay beside it"
    assert average_precision(rows.fraud, rows.score, times) == pytest.approx(
        whole["average_precision"].value
    )


def test_few_heavy_payments_claim_little() -> None:
    """Forty frauds of which one stands for fifty say as much as three do."""
    rows = held_out(3)
    weight = np.ones(len(rows.fraud))
    weight[np.flatnonzero(rows.fraud)[0]] = 50.0
    found = figures(replace(rows, weight=weight), rounds=50)
    assert "average_precision" in found.metrics
    assert WEIGHTED + "average_precision" not in found.metrics
    assert found.not_measured[WEIGHTED + "average_precision"] == NOT_ENOUGH_FRAUDS


def test_what_the_limit_of_weights_changes_is_measured() -> None:
    rows = held_out(5)
    unclipped = np.where(np.arange(len(rows.fraud)) % 9 == 0, 100.0, 1.0)
    cut = replace(rows, weight=np.minimum(unclipped, MOST), unclipped=unclipped)
    found = figures(cut, rounds=50).metrics
    assert found[UNCLIPPED_PRECISION].value == pytest.approx(
        average_precision(rows.fraud, rows.score, unclipped)
    )
    assert found[UNCLIPPED_PRECISION] != found[WEIGHTED + "average_precision"]


def test_a_calibration_gives_back_the_share_of_fraud_of_all_payments() -> None:
    rows = held_out(6, 4_000)
    times = np.where(rows.fraud, 1, 3)
    calibration = fit_calibration(rows.score, rows.fraud, weight=times, method="isotonic")
    probability = calibration.apply(rows.score)
    share = rows.fraud.sum() / times.sum()
    assert (probability * times).sum() / times.sum() == pytest.approx(share, rel=0.05)


def test_isotonic_calibration_needs_an_effective_number_of_frauds() -> None:
    """Two hundred frauds of which one weighs most are no two hundred: a smooth curve is taken."""
    random = np.random.default_rng(7)
    fraud = np.arange(4_000) < 220
    score = random.normal(size=4_000) + fraud
    heavy = np.ones(4_000)
    heavy[0] = 50.0
    platt = fit_calibration(score, fraud, weight=heavy, method="platt")
    assert fit_calibration(score, fraud, weight=heavy).x.tolist() == platt.x.tolist()
    plain = fit_calibration(score, fraud, method="isotonic")
    for same in (None, np.ones(4_000)):
        assert fit_calibration(score, fraud, weight=same).y.tolist() == plain.y.tolist()


@given(st.integers(0, 10_000), st.floats(1.0, 300.0))
def test_lines_of_weighted_payments_are_those_of_all_that_they_stand_for(
    seed: int, budget: float
) -> None:
    rows = held_out(seed, 300)
    times = np.random.default_rng(seed).integers(1, 5, 300)
    one = threshold_for_budget(rows.probability, budget, weight=times, below=0.9)
    every = threshold_for_budget(np.repeat(rows.probability, times), budget, below=0.9)
    above = rows.probability[rows.probability < 0.9]
    np.testing.assert_array_equal(above >= one, above >= every)


def test_equal_weights_draw_the_same_decline_line() -> None:
    rows = held_out(8, 2_000)
    plain = decline_line(rows.probability, rows.fraud, 0.5)
    same = decline_line(rows.probability, rows.fraud, 0.5, weight=np.full(2_000, 7.0))
    assert same == pytest.approx(plain)
    heavy = np.where(rows.probability > 0.5, 1e-3, 1.0)
    heavy[np.argmax(rows.probability)] = 50.0
    assert decline_line(rows.probability, rows.fraud, 0.5, weight=heavy) == NEVER


def test_payments_that_stand_for_many_are_not_thinned_out() -> None:
    fraud = np.arange(10_000) % 100 == 0
    weight = np.where(np.arange(10_000) % 500 == 7, 20.0, 1.0)
    keep, stands_for = thinned(fraud, 1_000, seed=1, weight=weight)
    assert set(np.flatnonzero(weight > 1)) <= set(keep.tolist())
    assert stands_for[weight[keep] > 1].tolist() == [20.0] * 20
    assert stands_for.sum() == pytest.approx(weight.sum())
    again, thinner = thinned(fraud[keep], 500, seed=1, weight=stands_for)
    assert set(np.flatnonzero(weight > 1)) <= set(keep[again].tolist())
    assert thinner.sum() == pytest.approx(weight.sum())
