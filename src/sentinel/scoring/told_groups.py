"""What is told of groups of payments after they are durable: lines of the log."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from sentinel.scoring.group import Group
from sentinel.telemetry.request_ids import CallersIds
from sentinel.telemetry.sampling import is_sampled

log = logging.getLogger(__name__)

Asked = Sequence[tuple[int, CallersIds]]
"""Rows of a group that are told of, and what their requests are called."""


class GroupTeller(Protocol):
    """Who tells of groups."""

    def choose(self, work: Group) -> Asked:
        """Which payments are told of; asked before the answers go out."""
        ...

    def told(self, work: Group, asked: Asked, first_sequence: int) -> None:
        """A group is durable and answered.

        Args:
            work: The group.
            asked: What `choose` gave for it.
            first_sequence: The entry of its first payment.
        """
        ...


class GroupLog:
    """A line for a group that holds a payment of a sampled request: it ties ids to entries.

    Args:
        share: Of the requests, 0 to 1.
    """

    def __init__(self, share: float) -> None:
        self._share = share

    def choose(self, work: Group) -> Asked:
        """See `GroupTeller`."""
        return [
            (row, receiver.ids)
            for row, pending in enumerate(work.pending)
            for receiver in pending.receivers
            if is_sampled(receiver.ids.request_id, self._share)
        ]

    def told(self, work: Group, asked: Asked, first_sequence: int) -> None:
        """See `GroupTeller`."""
        for row, ids in asked:
            log.info(
                "Decided.",
                extra={
                    "request_ids": [ids.request_id],
                    "sequence": first_sequence + row,
                    "entries": len(work.pending),
                    "duration_us": work.latencies_us[row],
                },
            )
