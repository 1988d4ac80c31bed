"""What is said of lines comes from rows that they have not seen, and holds on fresh ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.lines import TERMS, control_groups, drawn, one_seed, payments
from sentinel.models.thresholds import Thresholds
from sentinel.policy.economics import Economics
from sentinel.policy.figures import (
    LINE_FIGURES,
    MONEY_FIGURES,
    Truth,
    control_group_precision,
    figures_at_lines,
    wilson,
)
from sentinel.policy.lines import LineRows, Lines, cross_fit, outcomes_of


def test_no_row_is_ruled_by_lines_that_saw_its_card() -> None:
    rows = payments(3, 3_000).rows
    asked: list[tuple[set[int], set[int]]] = []

    class Watched(Lines):
        def __init__(self, seen: LineRows) -> None:
            super().__init__(drawn(seen).calibration, TERMS.economics(0.0))
            self.seen = set(seen.card.tolist())

        def outcomes(
            self, raw: np.ndarray, amount_minor: np.ndarray, segment: np.ndarray
        ) -> np.ndarray:
            ruled = set(rows.card[np.isin(rows.raw, raw)].tolist())
            asked.append((self.seen, ruled))
            return super().outcomes(raw, amount_minor, segment)

    outcomes = cross_fit(rows, Watched, folds=4)
    assert len(asked) == 4
    assert all(seen.isdisjoint(ruled) for seen, ruled in asked)
    assert set.union(*(ruled for _, ruled in asked)) == set(rows.card.tolist())
    # And what comes of it is close to what lines through all of them rule.
    final = Lines(drawn(rows).calibration, TERMS.economics(0.0))
    assert np.mean(outcomes == final.outcomes(rows.raw, rows.amount_minor, rows.segment)) > 0.98


def test_what_is_said_of_lines_holds_on_fresh_payments() -> None:
    fresh = payments(0, 200_000)
    worlds = [one_seed(seed, 20_000, 100, fresh) for seed in range(2)]
    assert sum(sum(one["covers"].values()) for one in worlds) >= 6  # of eight intervals
    for one in worlds:
        assert one["cost_vs_best"] < 1.1
        assert one["real"]["review_rate"] == pytest.approx(0.005, rel=0.3)
        assert one["real"]["decline_rate"] > 0.005


def test_a_control_group_covers_the_precision_of_declines() -> None:
    found = control_groups(100, 7)
    assert found["coverage"] >= 0.88  # 95 % of a hundred draws, three standard errors lower
    assert found["half_width"] < 0.12
    assert found["explored"] == pytest.approx(60, abs=4)


def test_payments_of_one_draw_count_as_fewer() -> None:
    fraud = np.repeat(np.arange(20) % 2 == 0, 3)
    apart = control_group_precision(fraud, np.arange(60))
    together = control_group_precision(fraud, np.repeat(np.arange(20), 3))
    assert (apart.value, together.value) == (0.5, 0.5)
    low, high = wilson(0.5, 20.0)
    assert (together.low, together.high) == pytest.approx((low, high))
    assert apart.high - apart.low < 0.65 * (together.high - together.low)
    alike = control_group_precision(np.ones(60, np.bool_), np.repeat(np.arange(20), 3))
    assert alike.low == pytest.approx(wilson(1.0, 20.0)[0])
    nothing = control_group_precision(np.empty(0, np.bool_), [])
    assert math.isnan(nothing.value)
    assert (nothing.low, nothing.high) == (0.0, 1.0)


def test_figures_count_what_rows_stand_for() -> None:
    outcomes = np.array([0, 0, 1, 2, 2, 2])
    truth = Truth(
        fraud=np.array([False, True, True, True, True, False]),
        amount_minor=np.array([100.0, 200, 300, 400, 500, 600]),
        segment=np.zeros(6, dtype=np.int64),
        weight=np.array([10.0, 1, 1, 4, 4, 2]),
        card=np.arange(6),
    )
    economics = Economics(costs=TERMS.costs) if TERMS.costs else None
    found = figures_at_lines(outcomes, truth, economics, rounds=50)
    assert tuple(found) == (*LINE_FIGURES, *MONEY_FIGURES)
    values = {name: estimate.value for name, estimate in found.items()}
    assert values["review_rate"] == pytest.approx(1 / 22)
    assert values["decline_rate"] == pytest.approx(10 / 22)
    assert values["precision_of_declines"] == pytest.approx(0.8)
    assert values["fraud_declined"] == pytest.approx(0.8)
    assert values["fraud_stopped"] == pytest.approx(0.9)
    assert values["money_stopped"] == pytest.approx(1 - 200 / (200 + 300 + 1_600 + 2_000))
    approving = 0.9 * (200 + 300 + 1_600 + 2_000) + 10 * 1_500
    paid = 1_680 + (300 + 0.1 * (270 + 1_500)) + 2 * (3_000 + 30)
    assert values["cost_per_1000_minor"] == pytest.approx(1_000 * paid / 22)
    assert values["saved_per_1000_minor"] == pytest.approx(1_000 * (approving - paid) / 22)
    assert tuple(figures_at_lines(outcomes, truth, rounds=50)) == LINE_FIGURES


def test_bands_and_costs_rule_by_the_same_codes() -> None:
    p = np.array([0.1, 0.4, 0.9])
    bands = Thresholds(fraud=0.5, review=0.3, decline=0.8)
    nothing, segment = np.zeros(3), np.zeros(3, dtype=np.int64)
    assert outcomes_of(bands, p, nothing, segment).tolist() == [0, 1, 2]
