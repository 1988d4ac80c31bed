"""The gate's test: what it may get wrong, and what it says while it waits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sentinel.models.alpha_spending import SpendingBounds, spent_by
from sentinel.models.evaluation import average_precision, compare
from sentinel.models.noninferiority import (
    ENOUGH,
    NIGHTS,
    SPENT,
    PairedScores,
    SequentialTest,
    frauds_needed,
)
from sentinel.models.precision_influence import average_precision_influence, ranked


def scores(
    seed: int, *, frauds: int, signal: float, rows: int = 6000
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, a candidate and a reference that share most of what they see."""
    random = np.random.default_rng(seed)
    fraud = np.arange(rows) < frauds
    shared = 0.8 * random.normal(size=rows)
    candidate = shared + 0.6 * random.normal(size=rows) + signal * fraud
    reference = shared + 0.6 * random.normal(size=rows) + 3.2 * fraud
    return fraud, candidate, reference


def test_influence_is_the_derivative_of_average_precision_by_a_rows_weight() -> None:
    random = np.random.default_rng(1)
    n = 60
    fraud = random.random(n) < 0.3
    score = np.round(random.normal(size=n) + fraud, 1)  # with ties
    weight = random.uniform(0.5, 4.0, n)
    counted = random.random(n) < 0.9
    order, tie = ranked(score)
    influence, scratch = np.empty(n), np.empty(n)
    value = average_precision_influence(order, tie, fraud, weight, counted, influence)
    for row in range(n):
        more = weight.copy()
        more[row] += 1e-6
        higher = average_precision_influence(order, tie, fraud, more, counted, scratch)
        assert (higher - value) / 1e-6 == pytest.approx(influence[row], abs=1e-5)
    plain = average_precision_influence(order, tie, fraud, np.ones(n), counted, scratch)
    assert plain == pytest.approx(average_precision(fraud[counted], score[counted]))


def test_the_standard_error_is_that_of_the_bootstrap_by_card() -> None:
    fraud, candidate, reference = scores(2, frauds=150, signal=2.9)
    card = np.arange(len(fraud)) // 3
    found = PairedScores(fraud, candidate, reference, card).compare()
    boot = compare(fraud, candidate, reference, card, rounds=400)
    assert found.candidate - found.reference == pytest.approx(boot.value)
    assert found.difference_error == pytest.approx((boot.high - boot.low) / 3.92, rel=0.15)


def test_frauds_of_one_card_count_as_one() -> None:
    fraud, candidate, reference = scores(3, frauds=200, signal=3.2)
    card = np.arange(len(fraud)) // 4
    assert PairedScores(fraud, candidate, reference, card).compare().effective_frauds == 50
    weight = np.where(np.arange(len(fraud)) < 4, 50.0, 1.0)
    heavy = PairedScores(fraud, candidate, reference, card, weight).compare()
    assert heavy.frauds == 200
    assert heavy.effective_frauds < 4  # one card stands for as much as all others


def test_a_weight_of_two_is_the_row_twice() -> None:
    fraud, candidate, reference = scores(4, frauds=60, signal=3.0, rows=800)
    twice = np.r_[np.arange(800), np.arange(100)]
    card = np.arange(800)
    weighted = PairedScores(
        fraud, candidate, reference, card, 1.0 + (np.arange(800) < 100)
    ).compare()
    doubled = PairedScores(fraud[twice], candidate[twice], reference[twice], card[twice]).compare()
    assert weighted.ratio == pytest.approx(doubled.ratio)
    assert weighted.shortfall_error == pytest.approx(doubled.shortfall_error)


@pytest.mark.parametrize("frauds", [15, 30, 60, 120])
def test_a_candidate_that_lost_a_third_of_its_average_precision_does_not_pass(frauds: int) -> None:
    passed, ratios = 0, []
    for seed in range(30):
        fraud, candidate, reference = scores(seed, frauds=frauds, signal=2.35)
        found = PairedScores(fraud, candidate, reference, np.arange(len(fraud))).compare()
        test = SequentialTest()
        test.look(found, NIGHTS - 1)
        passed += test.state(NIGHTS - 1) == "passed"
        ratios.append(found.ratio)
    assert np.mean(ratios) < 0.72
    assert passed == 0


def test_a_candidate_that_is_as_good_passes_once_there_is_enough_truth() -> None:
    passed = 0
    for seed in range(20):
        fraud, candidate, reference = scores(seed, frauds=300, signal=3.2, rows=12_000)
        test = SequentialTest()
        test.look(PairedScores(fraud, candidate, reference, np.arange(len(fraud))).compare(), 0)
        passed += test.state(0) == "passed"
    assert passed >= 16


def test_a_wait_with_little_truth_says_how_much_it_needs() -> None:
    fraud, candidate, reference = scores(5, frauds=40, signal=3.2)
    found = PairedScores(fraud, candidate, reference, np.arange(len(fraud))).compare()
    test = SequentialTest()
    test.look(found, 0)
    assert test.state(0) == "waits"
    assert 60 < frauds_needed(found) < 600


def test_a_clearly_worse_candidate_is_refused_at_once() -> None:
    fraud, candidate, reference = scores(6, frauds=200, signal=1.5)
    test = SequentialTest()
    test.look(PairedScores(fraud, candidate, reference, np.arange(len(fraud))).compare(), 0)
    assert test.state(0) == "refused"


def test_a_wait_ends_after_its_last_night() -> None:
    fraud, candidate, reference = scores(5, frauds=40, signal=3.0)
    rows = PairedScores(fraud, candidate, reference, np.arange(len(fraud)))
    test = SequentialTest()
    test.look(rows.compare(np.arange(len(fraud)) > 5), 0)
    assert test.state(NIGHTS - 2) == "waits"
    test.look(rows.compare(), NIGHTS - 1)
    assert test.state(NIGHTS - 1) in ("passed", "refused")
    assert test.looks[-1].spent == SPENT


def test_looking_twice_at_the_same_truth_spends_nothing() -> None:
    fraud, candidate, reference = scores(7, frauds=60, signal=3.1)
    found = PairedScores(fraud, candidate, reference, np.arange(len(fraud))).compare()
    test = SequentialTest()
    assert test.look(found, 0) is not None
    assert test.look(found, 1) is None
    assert len(test.looks) == 1


def test_looks_that_were_kept_go_on_as_if_nothing_had_happened() -> None:
    fraud, candidate, reference = scores(8, frauds=150, signal=2.95)
    rows = PairedScores(fraud, candidate, reference, np.arange(len(fraud)))
    places = np.random.default_rng(8).permutation(len(fraud))
    whole = SequentialTest()
    for night, known in enumerate((0.3, 0.45, 0.6, 0.75, 0.9)):
        again = SequentialTest(whole.looks)
        found = rows.compare(places < known * len(fraud))
        assert again.look(found, night) == whole.look(found, night)


def test_one_look_that_may_spend_all_is_the_usual_test() -> None:
    assert SpendingBounds().look(123.0, 0.05) == pytest.approx(1.645, abs=0.005)


def test_sixty_looks_err_as_often_together_as_they_may() -> None:
    random = np.random.default_rng(9)
    information = np.linspace(ENOUGH / NIGHTS, ENOUGH, NIGHTS)
    bounds, test = np.empty(NIGHTS), SpendingBounds()
    for look, there in enumerate(information):
        bounds[look] = test.look(there, spent_by(there / ENOUGH, 0.05))
    steps = random.normal(size=(40_000, NIGHTS)) * math.sqrt(ENOUGH / NIGHTS)
    z = np.cumsum(steps, axis=1) / np.sqrt(information)
    assert (z >= bounds).any(axis=1).mean() == pytest.approx(0.05, abs=0.004)
    usual = (z >= 1.645).any(axis=1).mean()
    assert usual > 0.15  # what looking sixty times costs without


def test_a_look_needs_more_information_than_the_one_before() -> None:
    test = SpendingBounds()
    test.look(10.0, 0.01)
    with pytest.raises(ValueError, match="more information"):
        test.look(10.0, 0.02)
