"""Figures and their intervals: the same as by the book's definitions, and they cover the truth."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from sentinel.features.plan.plan import DAY_US
from sentinel.models.evaluation import HeldOut, average_precision, compare, evaluate, roc_auc
from sentinel.models.intervals import Estimate, cluster_codes, resamples
from sentinel.models.ranking import CardDays, Ranking


def held_out(n_rows: int, seed: int, *, signal: float = 2.0, cards: int = 2_000) -> HeldOut:
    random = np.random.default_rng(seed)
    fraud = random.random(n_rows) < 0.02
    score = np.round(random.normal(size=n_rows) + signal * fraud.astype(np.float64), 2)
    return HeldOut(
        fraud=fraud,
        score=score,
        probability=1.0 / (1.0 + np.exp(-(signal * score - 5.5))),
        card=random.integers(0, cards, n_rows),
        event_time_us=random.integers(0, 14 * DAY_US, n_rows),
        amount_minor=random.integers(-500, 20_000, n_rows),
    )


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=50))
def test_ranking_figures_are_those_of_scikit_learn(rows: list[tuple[bool, int]]) -> None:
    fraud = np.array([True, False, *(f for f, _ in rows)])
    score = np.array([3.0, 3.0, *(float(s) for _, s in rows)])
    assert average_precision(fraud, score) == pytest.approx(average_precision_score(fraud, score))
    assert roc_auc(fraud, score) == pytest.approx(roc_auc_score(fraud, score))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 3)), max_size=30))
def test_bootstrap_counts_are_weights(rows: list[tuple[bool, int, int]]) -> None:
    fraud = np.array([True, False, *(f for f, _, _ in rows)])
    score = np.array([3.0, 3.0, *(float(s) for _, s, _ in rows)])
    counts = np.array([1, 1, *(c for _, _, c in rows)], dtype=np.int32)
    ranking = Ranking(fraud, score)
    totals = ranking.totals(counts[None, ranking.order])
    repeated = np.repeat(fraud, counts), np.repeat(score, counts)
    assert totals.average_precision()[0] == pytest.approx(average_precision_score(*repeated))
    assert totals.roc_auc()[0] == pytest.approx(roc_auc_score(*repeated))


def naive_recall(rows: HeldOut, rate: float) -> float:
    best = 0.0
    for threshold in np.unique(rows.score):
        alerted = rows.score >= threshold
        if alerted[~rows.fraud].mean() <= rate:
            best = max(best, float(alerted[rows.fraud].mean()))
    return best


def naive_money(rows: HeldOut, alerts_per_1000: float) -> float:
    best = 0.0
    money = np.maximum(rows.amount_minor, 0) * rows.fraud
    for threshold in np.unique(rows.score):
        alerted = rows.score >= threshold
        if 1000 * alerted.mean() <= alerts_per_1000:
            best = max(best, money[alerted].sum() / money.sum())
    return best


def test_every_figure_is_what_its_name_says() -> None:
    rows = held_out(5_000, 1)
    figures = evaluate(rows, alerts_per_1000=20, rounds=50)
    assert figures["average_precision"].value == pytest.approx(
        average_precision_score(rows.fraud, rows.score)
    )
    assert figures["brier"].value == pytest.approx(brier_score_loss(rows.fraud, rows.probability))
    assert figures["log_loss"].value == pytest.approx(log_loss(rows.fraud, rows.probability))
    for rate, name in ((0.001, "0.1pct"), (0.01, "1pct"), (0.05, "5pct")):
        recall = figures[f"recall_at_fpr_{name}"].value
        assert recall == pytest.approx(naive_recall(rows, rate))
    money = figures["money_caught_at_20_per_1000"].value
    assert money == pytest.approx(naive_money(rows, 20))
    for estimate in figures.values():
        assert estimate.low <= estimate.value <= estimate.high


def naive_card_precision(
    fraud: NDArray[np.bool_],
    score: NDArray[np.float64],
    card: NDArray[np.int64],
    day: NDArray[np.int64],
    top: int,
) -> float:
    found: set[int] = set()
    precisions = []
    for today in sorted(set(day.tolist())):
        best: dict[int, float] = {}
        bad = set()
        for i in np.flatnonzero(day == today).tolist():
            if int(card[i]) in found:
                continue
            best[int(card[i])] = max(best.get(int(card[i]), -1e9), float(score[i]))
            if fraud[i]:
                bad.add(int(card[i]))
        checked = sorted(best, key=lambda c: -best[c])[:top]
        hits = [c for c in checked if c in bad]
        precisions.append(len(hits) / top)
        found.update(hits)
    return float(np.mean(precisions))


def test_card_precision_takes_the_best_score_of_the_day_and_lets_found_cards_leave() -> None:
    random = np.random.default_rng(2)
    card, day = random.integers(0, 300, 3_000), random.integers(0, 7, 3_000)
    fraud = random.random(3_000) < 0.05 + 0.3 * (card < 10)
    score = random.normal(size=3_000) + fraud
    days = CardDays(fraud, score, card, day)
    ones = np.ones((1, days.n_cards), dtype=np.int32)
    assert days.precision(ones, 20)[0] == pytest.approx(
        naive_card_precision(fraud, score, card, day, 20)
    )


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    truth = evaluate(held_out(200_000, 3), rounds=50)["average_precision"].value
    covered = 0
    for seed in range(40):
        found = evaluate(held_out(4_000, 100 + seed), rounds=100)["average_precision"]
        covered += found.low <= truth <= found.high
    assert covered >= 34


def test_rows_of_one_card_are_not_independent() -> None:
    """Forty copies of a row carry no more information than one."""
    few = held_out(1_000, 4)
    many = HeldOut(
        **{
            name: np.repeat(getattr(few, name), 40)
            for name in ("fraud", "score", "probability", "event_time_us", "amount_minor")
        },
        card=np.repeat(np.arange(1_000), 40),
    )

    def width(rows: HeldOut) -> float:
        found = evaluate(rows, rounds=100)["roc_auc"]
        return found.high - found.low

    honest = width(replace(few, card=np.arange(1_000)))
    naive = width(replace(many, card=np.full(40_000, -1)))
    assert width(many) == pytest.approx(honest, rel=0.05)
    assert naive < 0.4 * honest


def test_the_same_model_twice_has_no_difference() -> None:
    rows = held_out(5_000, 5)
    assert compare(rows.fraud, rows.score, rows.score, rows.card) == Estimate(0.0, 0.0, 0.0)


def test_a_paired_difference_sees_what_two_intervals_cannot() -> None:
    rows = held_out(20_000, 6)
    blurred = rows.score + np.random.default_rng(7).normal(scale=0.4, size=len(rows.score))
    good = evaluate(rows, rounds=100)["average_precision"]
    bad = evaluate(replace(rows, score=blurred), rounds=100)["average_precision"]
    assert bad.high > good.low, "the two intervals overlap"
    difference = compare(rows.fraud, blurred, rows.score, rows.card, rounds=100)
    assert difference.high < 0, "and still the difference is certain"
    assert difference.value == pytest.approx(bad.value - good.value)


def test_four_hundred_rounds_on_100_000_rows_take_seconds() -> None:
    rows = held_out(100_000, 8, cards=20_000)
    started = time.process_time()
    evaluate(rows, rounds=400)
    assert time.process_time() - started < 15


def test_the_same_seed_gives_the_same_interval() -> None:
    rows = held_out(2_000, 9)
    assert evaluate(rows, rounds=60, seed=1) == evaluate(rows, rounds=60, seed=1)
    assert evaluate(rows, rounds=60, seed=1) != evaluate(rows, rounds=60, seed=2)


def test_each_draw_has_as_many_clusters_as_there_are() -> None:
    draws = np.concatenate(list(resamples(500, 30, 1, n_rows=4_000_000)))
    assert draws.shape == (30, 500)
    assert (draws.sum(axis=1) == 500).all()


def test_rows_of_unknown_cards_stand_alone() -> None:
    codes, n_clusters = cluster_codes([4, -1, 4, -1])
    assert n_clusters == 3
    assert codes[0] == codes[2]
    assert len({*codes.tolist()}) == 3


def test_rows_without_a_fraud_cannot_be_evaluated() -> None:
    rows = held_out(100, 10)
    with pytest.raises(ValueError, match="frauds and legitimate rows"):
        replace(rows, fraud=np.zeros(100, dtype=np.bool_))
