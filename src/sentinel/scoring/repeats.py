"""When two requests are the same payment."""

from __future__ import annotations

from sentinel.domain import AttributeValue, Transaction, TransactionConflict
from sentinel.ingest.values import as_text


def same_payment(first: Transaction, again: Transaction) -> bool:
    """Whether two requests are the same: all but the time they were received at.

    A request without an event time got the time it was received at, so that time may differ.
    """
    if first.event_time_us != again.event_time_us and not (
        first.event_time_us == first.received_at_us and again.event_time_us == again.received_at_us
    ):
        return False
    return (
        first.transaction_id == again.transaction_id
        and first.amount_minor == again.amount_minor
        and first.customer_id == again.customer_id
        and first.card_id == again.card_id
        and first.merchant_id == again.merchant_id
        and first.device_id == again.device_id
        and first.ip_address == again.ip_address
        and (
            first.attributes == again.attributes
            or _spelled(first.attributes) == _spelled(again.attributes)
        )
    )


def _spelled(attributes: dict[str, AttributeValue]) -> dict[str, str]:
    """Attributes as text: a plan that came in between and reads one otherwise changes nothing.

    >>> _spelled({"mcc": 5411.0, "present": "true"}) == _spelled({"mcc": "5411", "present": 1.0})
    True
    """
    words = {"true": "1", "false": "0"}
    texts = {name: as_text(value) for name, value in attributes.items() if value is not None}
    return {name: words.get(text, text) for name, text in texts.items()}


def conflict(transaction_id: str) -> TransactionConflict:
    """The error for an id that already stands for another payment."""
    return TransactionConflict(
        f"Transaction {transaction_id!r} is already recorded with other content. Send a new "
        "payment under a new transaction_id; send a repeat unchanged.",
        fields={"transaction_id": "already recorded with other content"},
    )


def is_void(transaction_id: str) -> TransactionConflict:
    """The error for an id that stands for a payment that was declared void."""
    return TransactionConflict(
        f"Transaction {transaction_id!r} was decided and declared void since; its id is not used "
        f"again. GET /decisions/{transaction_id} shows what was decided, who declared it void, and "
        "why. Send a new payment under a new transaction_id.",
        fields={"transaction_id": "declared void"},
    )
