"""Payments of the last moments, by id: those at work, and those that no table tells of yet."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final

from sentinel.scoring.pending import Pending

_FORGOTTEN_AT_ONCE: Final = 512


class RecentPayments:
    """Payments from their arrival until the queryable tables hold their decisions.

    Attributes:
        by_id: The payments; who decides looks here, adds and removes.
        forgotten_through: Recorded answers up to here may be in the queryable tables alone.
    """

    def __init__(self) -> None:
        self.by_id: dict[str, Pending] = {}
        self.forgotten_through = 0

    def recorded(self, transaction_id: str) -> Pending | None:
        """A decision that is durable but may not be in the queryable tables yet."""
        found = self.by_id.get(transaction_id)
        return found if found is not None and found.sequence else None

    def forget_indexed(self, through: int) -> int:
        """Drop some recorded answers that the queryable tables hold by now; how many."""
        indexed = [
            identifier
            for identifier, pending in islice(self.by_id.items(), _FORGOTTEN_AT_ONCE)
            if 0 < pending.sequence <= through
        ]
        self.forget(indexed)
        return len(indexed)

    def forget(self, transaction_ids: Sequence[str]) -> None:
        """Drop recorded answers of payments that the queryable tables hold, and know more of."""
        for identifier in transaction_ids:
            found = self.by_id.get(identifier)
            if found is not None and found.sequence:
                self.forgotten_through = max(self.forgotten_through, found.sequence)
                del self.by_id[identifier]
