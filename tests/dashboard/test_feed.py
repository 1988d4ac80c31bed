"""What the dashboard remembers, and what it makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from sentinel.dashboard import shape
from sentinel.dashboard.api_types import (
    Decision,
    DecisionsPage,
    Estimate,
    FeatureStore,
    Health,
    Ledger,
    Model,
    Totals,
)
from sentinel.dashboard.feed import BIN_US, Feed, Record, Snapshot
from sentinel.domain import Outcome, Unavailable
from sentinel.settings import MoneySettings

SECOND = 1_000_000
MINUTE = 60 * SECOND
NOW = 1_780_000_020 * SECOND


def decision(sequence: int, at_us: int = NOW, **changes: Any) -> Decision:
    fields: dict[str, Any] = {
        "sequence": sequence,
        "transaction_id": f"tx-{sequence}",
        "event_time_us": at_us,
        "received_at_us": at_us,
        "amount_minor": 1999,
        "fraud_probability": 0.02,
        "decision": Outcome.APPROVE,
        "is_fraud": False,
        "degraded": False,
        "model_version": "1",
        "latency_us": 1000,
        "top_reason": "card_count_1h",
    }
    return Decision(**{**fields, **changes})


def health(sequence: int = 10**9, **changes: Any) -> Health:
    fields: dict[str, Any] = {
        "status": "ok",
        "uptime_seconds": 60.0,
        "model": Model(loaded=True, name="m", version="3"),
        "feature_store": FeatureStore(
            ready=True, plan_hash="abc", features=90, entities=5, bytes=1_000_000, sequence=sequence
        ),
        "ledger": Ledger(sequence=sequence, indexed_through=sequence, snapshot_sequence=0),
    }
    return Health(**{**fields, **changes})


class Scorer:
    """A scoring API with a log in memory."""

    def __init__(self, decisions: Sequence[Decision] = ()) -> None:
        self.log = list(decisions)
        self.away = False
        self.asked = 0
        self.page_rows = 1000

    def health(self) -> Health:
        self.asked += 1
        if self.away:
            raise Unavailable("away")
        return health(self.log[-1].sequence if self.log else 0)

    def totals(self) -> Totals:
        return Totals(approve=len(self.log))

    def decisions(
        self, *, since_us: int | None = None, before: int | None = None, limit: int = 1000
    ) -> DecisionsPage:
        found = [
            row
            for row in reversed(self.log)
            if (since_us is None or row.received_at_us >= since_us)
            and (before is None or row.sequence < before)
        ]
        rows = found[: min(limit, self.page_rows)]
        more = len(found) > len(rows)
        return DecisionsPage(decisions=tuple(rows), next_before=rows[-1].sequence if more else None)


class Clock:
    def __init__(self) -> None:
        self.seconds = NOW / 1e6

    def __call__(self) -> float:
        return self.seconds


def test_a_feed_holds_each_decision_once_however_often_it_asks() -> None:
    scorer, clock = Scorer([decision(1), decision(2)]), Clock()
    feed = Feed(scorer, clock)
    for sequence in (3, 4):
        feed.snapshot()
        clock.seconds += 2
        scorer.log.append(decision(sequence))
    taken = feed.snapshot()
    assert [row.sequence for row in taken.rows] == [4, 3, 2, 1]
    assert sum(one.decisions for one in taken.bins) == 4
    assert taken.covered_since_us == 0


def test_many_readers_cost_the_api_one_question_a_second() -> None:
    scorer, clock = Scorer([decision(1)]), Clock()
    feed = Feed(scorer, clock)
    assert feed.snapshot() is feed.snapshot()
    assert scorer.asked == 1
    clock.seconds += 1.5
    feed.snapshot()
    assert scorer.asked == 2


def test_counts_are_complete_from_where_the_feed_says_they_are() -> None:
    scorer, clock = Scorer([decision(n, NOW + n * SECOND) for n in range(1, 101)]), Clock()
    scorer.page_rows = 5  # twelve pages reach the newest sixty only
    clock.seconds += 101
    taken = Feed(scorer, clock).snapshot()
    assert len(taken.rows) == 60
    assert taken.covered_since_us == NOW + 41 * SECOND


def test_a_gap_makes_the_feed_forget_what_came_before() -> None:
    record = Record()
    record.add([decision(2), decision(1)], complete=True)
    record.add([decision(900, NOW + MINUTE)], complete=False)
    assert [row.sequence for row in record.rows] == [900]
    assert sum(one.decisions for one in record.bins()) == 1
    assert record.covered_since_us == NOW + MINUTE


def test_memory_is_bounded_and_says_what_it_dropped() -> None:
    record = Record()
    record.add([decision(n, NOW + n * BIN_US) for n in range(9_000, 0, -1)], complete=True)
    assert len(record.rows) == 3_000
    assert len(record.bins()) == 8_640
    assert record.covered_since_us == record.bins()[0].start_us


def test_another_log_at_the_same_address_starts_afresh() -> None:
    scorer, clock = Scorer([decision(500)]), Clock()
    feed = Feed(scorer, clock)
    feed.snapshot()
    scorer.log = [decision(1), decision(2)]
    clock.seconds += 2
    assert [row.sequence for row in feed.snapshot().rows] == [2, 1]


def test_a_scorer_that_was_away_is_caught_up_with() -> None:
    scorer, clock = Scorer([decision(1)]), Clock()
    feed = Feed(scorer, clock)
    feed.snapshot()
    scorer.away = True
    clock.seconds += 2
    with pytest.raises(Unavailable):
        feed.snapshot()
    assert feed.last_seen_us == NOW
    scorer.away = False
    scorer.log.append(decision(2))
    assert len(feed.snapshot().rows) == 2


def snapshot(decisions: Sequence[Decision], covered_since_us: int = 0) -> Snapshot:
    record = Record()
    record.add(list(reversed(decisions)), complete=True)
    return Snapshot(
        now_us=NOW,
        health=health(),
        totals=Totals(),
        rows=tuple(reversed(record.rows)),
        alerts=tuple(reversed(record.alerts)),
        bins=record.bins(),
        covered_since_us=covered_since_us,
    )


def test_every_minute_of_a_chart_has_a_row() -> None:
    alert = decision(3, NOW - MINUTE, decision=Outcome.REVIEW)
    seen = snapshot([decision(1, NOW - 9 * MINUTE), decision(2, NOW - MINUTE), alert])
    rows = shape.by_minute(seen, shape.period_start(seen, 15))
    assert len(rows) == 16
    assert [row["decisions"] for row in rows[-3:]] == [0, 2, 0]
    assert rows[-2]["review"] == 1
    assert [row["state"] for row in rows[-2:]] == ["finished", "unfinished"]


def rates(decisions: Sequence[Decision], minutes: int) -> list[Any]:
    seen = snapshot(decisions)
    return [row["rate"] for row in shape.by_minute(seen, NOW - minutes * MINUTE)]


def test_a_single_alert_among_few_payments_makes_no_peak() -> None:
    busy = [decision(n, NOW - 30 * MINUTE) for n in range(200)]
    quiet = [decision(200 + n, NOW - n * MINUTE) for n in range(9, 0, -1)]
    alert = decision(300, NOW, decision=Outcome.REVIEW)
    found = rates([*busy, *quiet, alert], 31)
    assert found[:3] == [None, 0.0, 0.0]
    assert found[-2:] == [0.0, pytest.approx(1000 / 210)]
    assert set(rates([*quiet, alert], 15)) == {None}


def test_where_much_is_decided_a_rate_is_that_of_five_minutes() -> None:
    decisions = [
        decision(
            n, NOW - minute * MINUTE, decision=Outcome.REVIEW if minute > 4 else Outcome.APPROVE
        )
        for minute in range(9, -1, -1)
        for n in range(300)
    ]
    assert rates(decisions, 9) == [1000.0] * 5 + [800.0, 600.0, 400.0, 200.0, 0.0]


def test_minutes_before_counts_are_complete_are_unknown_not_zero() -> None:
    seen = snapshot([decision(1, NOW - MINUTE)], covered_since_us=NOW - MINUTE)
    rows = shape.by_minute(seen, shape.period_start(seen, 15))
    assert [row["decisions"] for row in rows[-4:]] == [None, None, 1, 0]


def test_everything_begins_with_the_first_decision() -> None:
    seen = snapshot([decision(1, NOW - 40 * MINUTE)])
    assert shape.period_start(seen, None) // MINUTE == (NOW - 40 * MINUTE) // MINUTE
    assert shape.period_start(snapshot([]), None) == NOW - 15 * MINUTE


def test_the_headline_counts_the_span_and_the_last_full_minute() -> None:
    old = decision(1, NOW - 20 * MINUTE, decision=Outcome.DECLINE)
    recent = [decision(n, NOW - 30 * SECOND, latency_us=n * 100) for n in range(2, 11)]
    caught = decision(11, NOW - 30 * SECOND, decision=Outcome.DECLINE, latency_us=9_999)
    seen = snapshot([old, *recent, caught])
    figures = shape.headline(seen, shape.period_start(seen, 15))
    assert figures.per_minute == 10
    assert (figures.counted.decisions, figures.counted.decline) == (10, 1)
    assert figures.alerts_per_1000 is None  # one of ten says nothing about a thousand
    assert (figures.median_us, figures.p99_us) == (700, 9_999)
    nothing = shape.headline(snapshot([]), NOW - MINUTE)
    assert (nothing.alerts_per_1000, nothing.median_us) == (None, None)


def test_top_reasons_are_those_of_the_alerts_in_the_span() -> None:
    names = ["card_count_1h"] * 2 + ["amount"] * 3 + [None]
    alerts = [
        decision(n, NOW - n * MINUTE, decision=Outcome.REVIEW, top_reason=name)
        for n, name in enumerate(names)
    ]
    found = shape.top_reasons(alerts)
    assert [(row["feature"], row["alerts"]) for row in found] == [
        ("amount", 3),
        ("card_count_1h", 2),
    ]
    assert shape.top_reasons(alerts, NOW - MINUTE)[0]["reason"] == "Card count, 1 hour"


def test_rows_of_the_table_are_written_for_people() -> None:
    (row,) = shape.table_rows(
        [decision(7, fraud_probability=0.9312, decision=Outcome.DECLINE, void=True)],
        MoneySettings(currency="CHF", scale=3),
    )
    assert row["void"]
    assert row["amount"] == "1.999 CHF"
    assert (row["percent"], row["decision"], row["outcome"]) == ("93.1 %", "Declined", "decline")
    assert row["reason"] == "Card count, 1 hour"


def test_parts_tell_what_is_wrong() -> None:
    ill = health(
        status="unavailable",
        model=Model(loaded=False, problem="the plan does not match"),
        ledger=Ledger(sequence=90_000, indexed_through=10_000, snapshot_sequence=0),
    )
    found = {part.name: part for part in shape.parts(ill)}
    assert found["Scoring API"].status == "unavailable"
    assert found["Model"].line == "the plan does not match"
    assert found["Query tables"].status == "degraded"
    assert found["Query tables"].line == "through 10,000, 80,000 behind"
    assert {part.status for part in shape.parts(health())} == {"ok"}


def test_metrics_are_ordered_and_unmeasured_ones_left_out() -> None:
    given = {
        "log_loss": Estimate(0.01, 0.0, 0.02),
        "average_precision": Estimate(0.7, 0.6, 0.8),
        "roc_auc": Estimate(None),
        "something_new": Estimate(3.0, 2.0, 4.0),
    }
    names = [name for name, _ in shape.metric_rows(given)]
    assert names == ["Average precision", "Log loss", "Something new"]
