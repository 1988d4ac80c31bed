"""What the index answers with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from sentinel.domain import Outcome, Reason, Verdict

Origin = Literal["imported", "live"]
LabelFilter = Verdict | Literal["none"]
Explain = Callable[[str, int, float | None, float], Reason]
"""Puts a recorded reason into words: plan hash, index of the feature in that plan, the feature's
value (None = unknown) and its contribution in log-odds."""


class IndexedTransaction(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction of the log without its attributes.

    Attributes:
        sequence: Its place in the log.
        origin: "live" where Sentinel decided on it, "imported" where it is history.
    """

    sequence: int
    transaction_id: str
    event_time_us: int
    received_at_us: int
    amount_minor: int
    customer_id: str | None
    card_id: str | None
    merchant_id: str | None
    device_id: str | None
    ip_address: str | None
    origin: Origin


class IndexedDecision(msgspec.Struct, frozen=True, kw_only=True):
    """A decision without its vector.

    Attributes:
        top_reason: Index, in the plan, of the feature that contributed most; -1 = not explained.
        verdict: What is known of the transaction now; None if nothing yet.

    For the others see `Transaction`, `Decision` and the flags of a decision group.
    """

    sequence: int
    transaction_id: str
    event_time_us: int
    received_at_us: int
    amount_minor: int
    customer_id: str | None
    card_id: str | None
    merchant_id: str | None
    device_id: str | None
    ip_address: str | None
    fraud_probability: float
    score: float
    outcome: Outcome
    is_fraud: bool
    degraded: bool
    late_event: bool
    expired_event: bool
    model_name: str
    model_version: str
    plan_hash: str
    latency_us: int
    top_reason: int
    verdict: Verdict | None


class DecisionFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which decisions a page shows; None for any.

    Attributes:
        outcomes: Any of these; empty = any.
        min_probability: Fraud probability at least this.
        since_us, until_us: `received_at_us` from (included) and to (excluded).
        customer_id, card_id, merchant_id: Of this entity.
        is_fraud: Whether the model called it fraud.
        id_prefix: How their transaction ids begin; empty = any.
        label: The verdict as of now; "none" = not labelled yet.
    """

    outcomes: tuple[Outcome, ...] = ()
    min_probability: float | None = None
    since_us: int | None = None
    until_us: int | None = None
    customer_id: str | None = None
    card_id: str | None = None
    merchant_id: str | None = None
    is_fraud: bool | None = None
    label: LabelFilter | None = None
    id_prefix: str = ""


class DecisionsPage(msgspec.Struct, frozen=True, kw_only=True):
    """Decisions, latest first.

    Attributes:
        decisions: At most as many as asked for.
        next_before: Pass as ``before`` for the next page; None if this is the last.
        complete: False where the time for a look-up ended before the page was full; `next_before`
            goes on from there.
    """

    decisions: tuple[IndexedDecision, ...]
    next_before: int | None
    complete: bool = True
