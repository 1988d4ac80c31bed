"""Payments that wait for an analyst: sent to review, and no label has said what they are."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from sentinel.log.entries import Group, GroupKind, decode_voids
from sentinel.pipeline.decided_payments import verdicts_in

log = logging.getLogger(__name__)

MOST_REVIEWS: Final = 500_000
"""Reviews of a digest whose verdicts are looked for; the log says if there were more."""


class Waiting(NamedTuple):
    """A payment that was sent to review.

    Attributes:
        at_us: When, microseconds UTC.
        amount_minor: Its amount.
    """

    at_us: int
    amount_minor: int


class OpenReviews(msgspec.Struct, frozen=True, kw_only=True):
    """Reviews without a verdict.

    Attributes:
        count: How many.
        oldest_us: When the one that waits longest was sent; 0 if there is none.
        amount_minor: Of all of them.
    """

    count: int = 0
    oldest_us: int = 0
    amount_minor: int = 0


class Reviews:
    """Collects reviews, then strikes out those that were answered."""

    def __init__(self) -> None:
        self._waiting: dict[str, Waiting] = {}
        self._left_out = 0

    def add(self, transaction_id: str, at_us: int, amount_minor: int) -> None:
        """Take a review in."""
        if len(self._waiting) < MOST_REVIEWS:
            self._waiting[transaction_id] = Waiting(at_us, amount_minor)
        else:
            self._left_out += 1

    def open_after(self, groups: Iterable[Group]) -> OpenReviews:
        """Those that nothing in the log answers by now: neither a label nor a void.

        Args:
            groups: Of the log, from the first review on.
        """
        if self._left_out:
            log.warning(
                "A digest looks for the verdicts of %d reviews, and not of %d more.",
                *(MOST_REVIEWS, self._left_out),
            )
        for group in groups:
            if not self._waiting:
                break
            if group.kind == GroupKind.VOIDS:
                for void in decode_voids(group.payload).voids:
                    self._waiting.pop(void.transaction_id, None)
            else:
                for transaction_id, _ in verdicts_in(group):
                    self._waiting.pop(transaction_id, None)
        return OpenReviews(
            count=len(self._waiting),
            oldest_us=min((one.at_us for one in self._waiting.values()), default=0),
            amount_minor=sum(one.amount_minor for one in self._waiting.values()),
        )
