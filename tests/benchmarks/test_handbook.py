"""The Handbook's protocol, against a plain reading of the book on a small world."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.handbook_fair_oracle import fair_oracle_scores
from benchmarks.handbook_oracle import oracle_scores
from benchmarks.handbook_protocol import (
    BOOK_FEATURES,
    TEST_STARTS,
    VALIDATION_STARTS,
    Judge,
    Transactions,
    book_features,
    fold,
)
from benchmarks.pieces import Pieces
from sentinel.features.plan.plan import DAY_US, HOUR_US
from sentinel.models.evaluation import average_precision, roc_auc

FIRST_US = 1_522_540_800_000_000  # 2018-04-01, a Sunday


def world(seed: int, n_rows: int = 1_500, days: int = 40) -> Transactions:
    random = np.random.default_rng(seed)
    # Whole hours and few of them, so that times tie and windows end exactly on a payment.
    time_us = np.sort(random.integers(0, days * 4, n_rows)) * 6 * HOUR_US
    fraud = random.random(n_rows) < 0.05
    return Transactions(
        time_us=FIRST_US + time_us,
        day=time_us // DAY_US,
        customer=random.integers(0, 60, n_rows),
        terminal=random.integers(0, 30, n_rows),
        amount=np.round(random.gamma(2.0, 30.0, n_rows), 2),
        fraud=fraud,
        scenario=np.where(fraud, random.integers(1, 4, n_rows), 0).astype(np.int8),
    )


def test_book_features_are_rolling_windows_that_end_with_the_payment() -> None:
    data = world(1)
    table = dict(zip(BOOK_FEATURES, book_features(data).T, strict=True))
    for i in range(0, len(data.day), 7):
        earlier = np.arange(len(data.day)) <= i
        mine = earlier & (data.customer == data.customer[i])
        here = earlier & (data.terminal == data.terminal[i])
        age = data.time_us[i] - data.time_us
        assert table["weekend"][i] == (data.day[i] % 7 in (0, 6))
        assert table["night"][i] == (data.time_us[i] % DAY_US <= 6 * HOUR_US)
        for window in (1, 7, 30):
            recent = mine & (age < window * DAY_US)
            assert table[f"customer_count_{window}d"][i] == recent.sum()
            mean = table[f"customer_mean_{window}d"][i]
            assert mean == pytest.approx(data.amount[recent].mean())
            mature = here & (age >= 7 * DAY_US) & (age < (7 + window) * DAY_US)
            assert table[f"terminal_count_{window}d"][i] == mature.sum()
            risk = data.fraud[mature].mean() if mature.any() else 0.0
            assert table[f"terminal_risk_{window}d"][i] == pytest.approx(risk)


def test_a_fold_is_a_week_then_a_week_of_delay_then_a_week() -> None:
    data = world(2)
    one = fold(data, "2018-04-08")
    assert set(data.day[one.train]) == set(range(7, 14))
    assert set(data.day[one.test]) <= set(range(21, 28))
    assert one.test_start_us == FIRST_US + 21 * DAY_US


def test_a_card_leaves_the_test_when_its_fraud_has_become_known() -> None:
    data = world(3)
    test = set(fold(data, "2018-04-08").test.tolist())
    for i in np.flatnonzero((data.day >= 21) & (data.day < 28)).tolist():
        mine = data.fraud & (data.customer == data.customer[i])
        known = mine & (data.day >= 7) & (data.day < data.day[i] - 7)
        assert (i in test) == (not known.any())


def test_every_choice_was_made_before_the_first_test_fold() -> None:
    last_choice_ends = np.datetime64(VALIDATION_STARTS[-1]) + 21
    assert last_choice_ends <= np.datetime64(TEST_STARTS[0])
    assert tuple(sorted(VALIDATION_STARTS)) == VALIDATION_STARTS


def test_figures_are_means_over_folds_with_an_interval_around_them() -> None:
    data = world(4, n_rows=6_000)
    folds = [fold(data, start) for start in ("2018-04-08", "2018-04-15")]
    noise = np.random.default_rng(5).normal(size=len(data.day)) + data.fraud
    *each, mean = Judge(data, folds).figures([noise[one.test] for one in folds], rounds=100)
    for one, figures in zip(folds, each, strict=True):
        truth, score = data.fraud[one.test], noise[one.test]
        assert figures["ap"].value == pytest.approx(average_precision(truth, score))
        assert figures["auc"].value == pytest.approx(roc_auc(truth, score))
    for name, estimate in mean.items():
        assert estimate.value == pytest.approx(np.mean([one[name].value for one in each]))
        assert estimate.low < estimate.value < estimate.high


def test_the_oracle_knows_large_amounts_and_terminals_whose_label_has_arrived() -> None:
    n_rows, hours = 400, np.arange(400)
    compromised = (hours >= 96) & (hours < 96 + 28 * 24) & (hours % 5 == 0)
    data = Transactions(
        time_us=FIRST_US + hours * HOUR_US,
        day=hours // 24,
        customer=hours % 50,
        terminal=hours % 5,
        amount=np.where(hours == 399, 221.0, 40.0 + hours % 7),
        fraud=compromised | (hours == 399),
        scenario=np.where(hours == 399, 1, np.where(compromised, 2, 0)).astype(np.int8),
    )
    score = oracle_scores(data)
    assert score[399] == 1.0
    fresh = compromised & (hours < 100 + 7 * 24)
    known = compromised & (hours >= 100 + 7 * 24)
    assert score[known].min() > 0.99
    assert score[fresh].max() < 0.01
    assert score[data.scenario == 0].max() < 0.01
    assert len(score) == n_rows


def test_the_oracle_suspects_amounts_far_above_a_customers_own() -> None:
    random = np.random.default_rng(6)
    n_rows = 3_000
    amount = np.abs(random.normal(20.0, 10.0, n_rows))
    amount[2_990:] = 110.0
    data = Transactions(
        time_us=FIRST_US + np.arange(n_rows) * HOUR_US,
        day=np.arange(n_rows) // 24,
        customer=np.arange(n_rows) % 10,
        terminal=np.arange(n_rows) % 100,
        amount=amount,
        fraud=np.arange(n_rows) >= 2_990,
        scenario=np.where(np.arange(n_rows) >= 2_990, 3, 0).astype(np.int8),
    )
    score = oracle_scores(data)
    assert score[2_990:].min() > 0.9
    assert np.median(score[:2_990]) < 0.02


def test_the_fair_oracle_knows_what_labels_have_told_and_no_scenario() -> None:
    hours = np.arange(60 * 24)
    begun, ended = 96, 96 + 28 * 24
    compromised = (hours >= begun) & (hours < ended) & (hours % 5 == 0)
    large = hours == 6  # at terminal 1
    data = Transactions(
        time_us=FIRST_US + hours * HOUR_US,
        day=hours // 24,
        customer=hours % 50,
        terminal=hours % 5,
        amount=np.where(large, 221.0, 40.0 + hours % 7),
        fraud=compromised | large,
        scenario=np.where(large, 1, np.where(compromised, 2, 0)).astype(np.int8),
    )
    score = fair_oracle_scores(data)
    assert score[large] == 1.0
    assert score[compromised & (hours < begun + 7 * 24)].max() < 0.01, "no label has told"
    assert score[compromised & (hours >= begun + 8 * 24)].min() > 0.99
    after = (hours >= ended) & (hours % 5 == 0)
    assert score[after].max() < 0.05, "28 days are over"
    assert score[(hours % 5 == 1) & ~large].max() < 0.05, "a large amount accuses no terminal"
    told = fair_oracle_scores(replace(data, scenario=np.zeros_like(data.scenario)))
    assert np.array_equal(told[compromised] > 0.9, score[compromised] > 0.9)


def test_a_run_that_was_stopped_goes_on_from_its_pieces(tmp_path: Path) -> None:
    pieces, made = Pieces(tmp_path), []

    def scores() -> list[np.ndarray]:
        made.append(1)
        return [np.arange(3.0), np.arange(4.0)]

    first = pieces.arrays("a model", ["plan", {"rounds": 3}], scores)
    again = Pieces(tmp_path).arrays("a model", ["plan", {"rounds": 3}], scores)
    assert len(made) == 1
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    pieces.arrays("a model", ["plan", {"rounds": 4}], scores)
    assert len(made) == 2, "it depends on something else now"
    assert pieces.record("figures", 7, lambda: {"ap": 0.5}) == {"ap": 0.5}
    assert Pieces(tmp_path).record("figures", 7, dict) == {"ap": 0.5}
    assert Pieces(None).record("figures", 7, dict) == {}
