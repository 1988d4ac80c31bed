"""A candidate that ranks as well as the reference may still be worse where it decides."""

from __future__ import annotations

import numpy as np

from sentinel.models.line_guard import AtLines, compare_at_lines

ROWS = 20_000


def world(seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, probabilities and amounts."""
    random = np.random.default_rng(seed)
    probability = random.beta(0.1, 3.0, ROWS)
    return random.random(ROWS) < probability, probability, random.integers(100, 9_000, ROWS)


def at(probability: np.ndarray, review: float, decline: float) -> AtLines:
    return AtLines(alerted=probability >= review, declined=probability >= decline)


def worse_at(candidate: AtLines, reference: AtLines, weight: np.ndarray | None = None) -> set[str]:
    fraud, _, amount = world()
    found = compare_at_lines(
        candidate,
        reference,
        fraud=fraud,
        amount_minor=amount,
        card=np.arange(ROWS) // 5,
        weight=weight,
    )
    assert {one.name for one in found} == {"alert_rate", "decline_precision", "money_caught"}
    return {one.name for one in found if one.worse}


def test_the_same_lines_are_not_worse() -> None:
    _, probability, _ = world()
    assert worse_at(at(probability, 0.2, 0.6), at(probability, 0.2, 0.6)) == set()


def test_too_many_alerts_are_seen_though_the_ranking_is_the_same() -> None:
    _, probability, _ = world()
    assert worse_at(at(probability, 0.1, 0.6), at(probability, 0.2, 0.6)) == {"alert_rate"}


def test_less_money_caught_is_seen_though_the_ranking_is_the_same() -> None:
    _, probability, _ = world()
    assert worse_at(at(probability, 0.4, 0.6), at(probability, 0.2, 0.6)) == {"money_caught"}


def test_declines_that_are_less_precise_are_seen_though_the_ranking_is_the_same() -> None:
    _, probability, _ = world()
    assert worse_at(at(probability, 0.2, 0.25), at(probability, 0.2, 0.6)) == {"decline_precision"}


def test_a_heavy_row_is_no_proof() -> None:
    _, probability, _ = world()
    weight = np.ones(ROWS)
    weight[np.argmin(np.abs(probability - 0.15))] = 500.0  # alerted by the candidate alone
    candidate, reference = at(probability, 0.149, 0.6), at(probability, 0.155, 0.6)
    assert worse_at(candidate, reference, weight=weight) == set()


def test_what_has_too_few_payments_is_no_figure() -> None:
    fraud, probability, amount = world()
    never = at(probability, 0.2, 2.0)
    found = compare_at_lines(never, never, fraud=fraud, amount_minor=amount, card=np.full(ROWS, -1))
    assert {one.name for one in found} == {"alert_rate", "money_caught"}
