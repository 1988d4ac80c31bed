"""Pages of recorded decisions."""

from __future__ import annotations

from pydantic import BaseModel

from sentinel.domain import Outcome, Verdict, id_for_display
from sentinel.ledger.index_values import DecisionFilter
from sentinel.scoring.runtime import ScoringRuntime


class DecisionRow(BaseModel):
    """One recorded decision."""

    sequence: int
    transaction_id: str | int
    event_time_us: int
    received_at_us: int
    amount_minor: int
    customer_id: str | None
    card_id: str | None
    merchant_id: str | None
    device_id: str | None
    ip_address: str | None
    fraud_probability: float
    decision: Outcome
    is_fraud: bool
    degraded: bool
    model_version: str
    latency_us: int
    top_reason: str | None
    label: Verdict | None


class DecisionsPage(BaseModel):
    """Decisions, newest first. Pass ``next_before`` as ``before`` for the page behind."""

    decisions: list[DecisionRow]
    next_before: int | None


def decisions_page(
    runtime: ScoringRuntime, where: DecisionFilter, *, limit: int, before: int | None
) -> DecisionsPage:
    """One page of the queryable tables.

    Args:
        runtime: The scoring process.
        where: Which decisions.
        limit: Most decisions in the page.
        before: Only decisions with a sequence below this.
    """
    page = runtime.index.decisions_page(where, limit=limit, before=before)
    return DecisionsPage(
        decisions=[
            DecisionRow(
                sequence=row.sequence,
                transaction_id=id_for_display(row.transaction_id),
                event_time_us=row.event_time_us,
                received_at_us=row.received_at_us,
                amount_minor=row.amount_minor,
                customer_id=row.customer_id,
                card_id=row.card_id,
                merchant_id=row.merchant_id,
                device_id=row.device_id,
                ip_address=row.ip_address,
                fraud_probability=row.fraud_probability,
                decision=row.outcome,
                is_fraud=row.is_fraud,
                degraded=row.degraded,
                model_version=row.model_version,
                latency_us=row.latency_us,
                top_reason=runtime.feature_name(row.plan_hash, row.top_reason),
                label=row.verdict,
            )
            for row in page.decisions
        ],
        next_before=page.next_before,
    )
