"""What a batch keeps for itself until all of it is decided."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Reserved:
    """Of one batch. Made by `Writer.reserve`, and given back by `Writer.release`.

    Attributes:
        called_by: Id of who sent it; empty if nobody is known.
        payments: Room in the queue, for payments that are not enqueued yet.
        entities: What it may still add to feature state, of its sender's quota.
    """

    called_by: str
    payments: int
    entities: int
