"""From the log alone it follows which model catches more fraud, and how much of it nobody knows."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import pytest

from sentinel.domain import Transaction
from sentinel.experiments.judgement import judge
from sentinel.experiments.judging import Rules
from sentinel.experiments.observed import DAY_US, LabelOf, Observed, Observing
from testkit.experiment_worlds import Day, World, days_of

MATURITY_US = 20 * DAY_US


def _unit(transaction: Transaction) -> str:
    return f"card/{transaction.card_id}"


def _labels(days: list[Day]) -> LabelOf:
    said = {label.transaction_id: label.received_at_us for day in days for label in day.labels}

    def label_of(transaction_id: str) -> tuple[bool, int] | None:
        return (True, said[transaction_id]) if transaction_id in said else None

    return label_of


def _observe(
    world: World,
    *,
    share_at: Callable[[int, Collection[str]], float] | None = None,
    ends_after: float = 0.0,
) -> tuple[Observed, list[Day]]:
    days = list(days_of(world))
    reading = Observing(
        world.name,
        share_at or (lambda _at, _ran: world.share),
        _labels(days),
        maturity_us=MATURITY_US,
        now_us=world.start_us + round((world.days + ends_after) * DAY_US),
        unit_of=_unit,
    )
    for day in days:
        reading.add(day.group)
    return reading.result(), days


def test_a_better_challenger_is_promoted_on_mature_frauds_alone() -> None:
    observed, days = _observe(World())
    found = judge(observed, Rules())
    assert found.verdict == "promote"
    assert found.looks[-1].low > 0.5
    # 40 of 60 days are mature; what is younger is shown, and does not count.
    assert found.days == pytest.approx(40, abs=1.5)
    assert found.immature_champion + found.immature_challenger > 0
    mature = days[: round(found.days)]
    truth = sum(day.only_challenger - day.only_champion for day in mature)
    assert found.extra_frauds == pytest.approx(truth, rel=0.35)
    part = sum(d.only_challenger for d in mature) / sum(
        d.only_challenger + d.only_champion for d in mature
    )
    assert found.looks[-1].low < part < found.looks[-1].high


def test_an_equal_challenger_is_not() -> None:
    observed, _ = _observe(World(only_challenger=0.08))
    found = judge(observed, Rules())
    assert found.verdict in ("wait", "stop")
    assert found.looks[-1].low < 0.5 < found.looks[-1].high


def test_the_share_corrects_what_is_seen() -> None:
    """At a fifth of decisions, the champion's catches are seen a fifth of the time."""
    observed, _ = _observe(World(share=0.2, only_challenger=0.16, only_champion=0.16, days=90))
    found = judge(observed, Rules())
    last = found.looks[-1]
    assert last.challenger > 3 * last.champion
    assert last.low < 0.5 < last.high


def test_labels_of_the_control_group_correct_what_probabilities_say_of_alerts() -> None:
    none, _ = _observe(World(days=30))
    for side in (none.champion_alone, none.challenger_alone):
        assert side.agreed <= 0.005 * side.payments
    assert none.champion.known == none.challenger.known == 0
    some, _ = _observe(World(days=40, passes=0.2))
    assert some.champion.known > 20
    found = judge(some, Rules())
    assert found.champion_precision is not None
    assert found.champion_precision.method == "control group"
    # The scores are no calibrated probabilities: labels say what they do not.
    frauds, alerts = 40 * 0.5 + 40 * 0.08, 40 * 0.5 + 40 * 0.08 + 5.6
    assert found.champion_precision.low < frauds / alerts < found.champion_precision.high


def test_a_card_counts_once() -> None:
    observed, _ = _observe(World(payments_a_card=200, days=30))
    assert observed.repeated > 0
    cards_a_day = 3
    assert len(observed.frauds.challenger) <= 30 * cards_a_day


def test_labels_that_come_after_the_maturity_do_not_change_what_was_judged() -> None:
    observed, _ = _observe(World(label_days=30.0))
    assert observed.late > 0
    assert not observed.frauds.mature.all()


def test_payments_of_other_experiments_and_of_those_before_are_left_out() -> None:
    world = World(days=3)
    reading = Observing(
        "another",
        lambda _at, _ran: 0.5,
        lambda _: None,
        maturity_us=MATURITY_US,
        now_us=world.start_us + 3 * DAY_US,
        unit_of=_unit,
    )
    for day in days_of(world):
        reading.add(day.group)
    found = judge(reading.result(), Rules())
    assert (found.payments, found.verdict, found.looks) == (0, "wait", ())
    assert found.champion_precision is None


def test_both_models_may_alert_on_the_same_number_of_payments() -> None:
    observed, _ = _observe(World())
    assert observed.champion.payments == pytest.approx(observed.challenger.payments, rel=0.1)
    assert all(block.payments >= 1_000 for block in observed.blocks[:-1])
    assert np.mean([block.budget for block in observed.blocks]) == pytest.approx(0.05, abs=0.02)
