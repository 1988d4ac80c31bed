"""The index answers what analysts, the API and the dashboard ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sentinel.domain import (
    Decision,
    InvalidQuery,
    Outcome,
    Verdict,
)
from sentinel.ledger.index import LedgerIndex
from sentinel.ledger.index_values import DecisionFilter
from sentinel.ledger.lookup import TransactionLookup
from sentinel.ledger.sqlite import SqliteLedger
from tests.ledger.material import (
    MINUTE_US,
    NOON_US,
    append_decisions,
    append_history,
    append_labels,
    label,
    new_ledger,
    transaction,
)

LIVE_US = NOON_US + 30 * MINUTE_US
"""When the first live transaction of `filled` was received."""


@pytest.fixture
def index(filled: SqliteLedger, tmp_path: Path) -> Iterator[LedgerIndex]:
    made = LedgerIndex(tmp_path / "index.db", filled)
    made.catch_up()
    yield made
    made.close()


def test_a_transaction_is_found_by_its_id(index: LedgerIndex) -> None:
    historic, live = index.find("tx-3"), index.find("tx-12")
    assert historic is not None
    assert live is not None
    assert (historic.origin, historic.sequence) == ("imported", 4)
    assert (live.origin, live.sequence) == ("live", 14)
    assert (live.amount_minor, live.customer_id, live.device_id) == (1200, "c2", None)
    assert index.find("tx-nobody") is None
    many = [f"tx-{i}" for i in range(2_000)]
    assert set(index.find_many(many)) == {f"tx-{i}" for i in range(40)}


def test_a_transaction_comes_whole_from_the_ledger(index: LedgerIndex) -> None:
    assert index.transaction("tx-3") == transaction(3, NOON_US + 3 * MINUTE_US)
    assert index.transaction("tx-12") == transaction(12, LIVE_US + 2 * MINUTE_US)
    assert index.transaction("tx-nobody") is None


def test_a_decision_comes_whole_from_the_ledger(tmp_path: Path) -> None:
    with new_ledger(tmp_path) as ledger:
        append_history(ledger, [transaction(0, NOON_US)])
        arrived = [transaction(i, NOON_US) for i in range(1, 4)]
        group = append_decisions(ledger, arrived, outcomes=(0, 2), seed=3, model_version="7")
        index = LedgerIndex(tmp_path / "index.db", ledger)
        index.catch_up()
        decision = TransactionLookup(index).recorded(["tx-2"])["tx-2"].decision
        assert isinstance(decision, Decision)
        assert (decision.sequence, decision.model_version, decision.outcome, decision.is_fraud) == (
            3,
            "7",
            Outcome.DECLINE,
            True,
        )
        assert decision.vector[0] is None
        assert list(decision.vector[1:]) == group.vector_array()[1, 1:].tolist()
        assert [reason.feature.split()[0] for reason in decision.reasons] == ["feature"] * 3
        for reason in decision.reasons:
            assert reason.value == decision.vector[int(reason.feature.split()[1])]
        row = index.decision_row("tx-2")
        assert row is not None
        assert row.fraud_probability == decision.fraud_probability
        assert row.score == decision.score
        assert row.latency_us == decision.latency_us
        assert f"feature {row.top_reason}" == decision.reasons[0].feature
        assert TransactionLookup(index).recorded(["tx-0"])["tx-0"].decision is None
        assert index.decision_row("tx-0") is None
        index.close()


def test_others_go_first_between_the_groups_of_a_long_look_up(tmp_path: Path) -> None:
    with new_ledger(tmp_path) as ledger:
        for n in range(20):
            append_decisions(ledger, [transaction(n, LIVE_US + n)])
        index = LedgerIndex(tmp_path / "index.db", ledger)
        index.catch_up()
        pauses: list[None] = []
        lookup = TransactionLookup(index, lambda: pauses.append(None))
        assert len(lookup.recorded([f"tx-{n}" for n in range(20)])) == 20
        assert len(pauses) >= 20
        index.close()


def test_pages_follow_each_other_without_gap_or_repeat(index: LedgerIndex) -> None:
    seen: list[int] = []
    before = None
    for _ in range(5):
        page = index.decisions_page(limit=7, before=before)
        seen += [decision.sequence for decision in page.decisions]
        before = page.next_before
        if before is None:
            break
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == 30
    assert before is None


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (DecisionFilter(outcomes=(Outcome.DECLINE,)), lambda d: d.outcome == "decline"),
        (
            DecisionFilter(outcomes=(Outcome.APPROVE, Outcome.REVIEW)),
            lambda d: d.outcome != "decline",
        ),
        (DecisionFilter(min_probability=0.6), lambda d: d.fraud_probability >= 0.6),
        (
            DecisionFilter(since_us=LIVE_US + 5 * MINUTE_US, until_us=LIVE_US + 9 * MINUTE_US),
            lambda d: 5 * MINUTE_US <= d.received_at_us - LIVE_US < 9 * MINUTE_US,
        ),
        (DecisionFilter(since_us=LIVE_US * 2), lambda _: False),
        (DecisionFilter(until_us=0), lambda _: False),
        (DecisionFilter(customer_id="c2", card_id="k5"), lambda d: d.transaction_id == "tx-12"),
        (DecisionFilter(merchant_id="m1"), lambda d: d.merchant_id == "m1"),
        (DecisionFilter(is_fraud=True), lambda d: d.is_fraud),
        (DecisionFilter(is_fraud=False), lambda d: not d.is_fraud),
        (DecisionFilter(label=Verdict.LEGITIMATE), lambda d: d.transaction_id == "tx-12"),
        (DecisionFilter(label=Verdict.FRAUD), lambda _: False),
        (DecisionFilter(label="none"), lambda d: d.transaction_id != "tx-12"),
    ],
)
def test_a_filter_shows_what_it_names(
    index: LedgerIndex, where: DecisionFilter, expected: object
) -> None:
    assert callable(expected)
    everything = index.decisions_page(limit=100).decisions
    assert len(everything) == 30
    assert index.decisions_page(where).decisions == tuple(filter(expected, everything))


@pytest.mark.parametrize("limit", [0, 1001])
def test_a_page_has_a_bound(index: LedgerIndex, limit: int) -> None:
    with pytest.raises(InvalidQuery, match="1 to 1000"):
        index.decisions_page(limit=limit)


def test_the_latest_label_holds(index: LedgerIndex) -> None:
    latest = index.decision_row("tx-12")
    assert latest is not None
    assert latest.verdict == Verdict.LEGITIMATE


def test_a_label_may_come_before_its_transaction(filled: SqliteLedger, index: LedgerIndex) -> None:
    assert index.decisions_page(DecisionFilter(label=Verdict.FRAUD)).decisions == ()
    late = msgspec.structs.replace(
        transaction(99, LIVE_US + 99 * MINUTE_US), transaction_id="tx-unknown"
    )
    append_decisions(filled, [late])
    index.catch_up()
    (found,) = index.decisions_page(DecisionFilter(label=Verdict.FRAUD)).decisions
    assert (found.transaction_id, found.verdict) == ("tx-unknown", Verdict.FRAUD)


def test_a_correction_moves_a_decision_from_one_verdict_to_the_other(
    filled: SqliteLedger, index: LedgerIndex
) -> None:
    received = LIVE_US + 100 * MINUTE_US
    for number, fraud in enumerate((True, False, True)):
        append_labels(filled, [label(50 + number, "tx-20", received, fraud=fraud)])
        index.catch_up()
        shown = {
            verdict: [d.transaction_id for d in page.decisions]
            for verdict in (Verdict.FRAUD, Verdict.LEGITIMATE)
            for page in [index.decisions_page(DecisionFilter(label=verdict))]
        }
        assert ("tx-20" in shown[Verdict.FRAUD]) == fraud
        assert ("tx-20" in shown[Verdict.LEGITIMATE]) == (not fraud)
