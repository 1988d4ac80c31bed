"""Which payments an experiment takes: a draw by hashed card, the same in every process, always.

The draw depends on the name of the experiment and on the card, or on the customer where there is
no card, or on the payment where there is neither. So a card stays with its model for as long as
the experiment runs, a share that grows keeps the cards that it had, and experiments of different
names split independently of each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import xxhash

from sentinel.domain import Transaction

_STEP: Final = 2.0**-53


def unit_of(transaction: Transaction) -> str:
    """What a payment is drawn by.

    >>> payment = Transaction(transaction_id="t", event_time_us=0, received_at_us=0,
    ...                       amount_minor=1, customer_id="c")
    >>> unit_of(payment)
    'customer/c'
    """
    if transaction.card_id is not None:
        return f"card/{transaction.card_id}"
    if transaction.customer_id is not None:
        return f"customer/{transaction.customer_id}"
    return f"payment/{transaction.transaction_id}"


def units_of(transactions: Sequence[Transaction]) -> list[str]:
    """`unit_of` each."""
    return [unit_of(transaction) for transaction in transactions]


def draw(name: str, unit: str) -> float:
    """The number in [0, 1) of a unit in an experiment; below the share, the experiment takes it.

    >>> draw("a", "card/1") == draw("a", "card/1"), draw("a", "card/1") == draw("b", "card/1")
    (True, False)
    """
    return (xxhash.xxh3_64_intdigest(f"{name}\n{unit}".encode()) >> 11) * _STEP
