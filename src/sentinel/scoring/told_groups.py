"""What is told of groups of payments after they are durable: lines of the log."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.scoring.group import Group
from sentinel.telemetry.guarded import said_once
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


class GuardedTeller:
    """Tells of groups by another teller; what that raises ends with it.

    Lines and traces are no part of a decision: callers get their answers and the next group has its
    turn, whatever happens here. Each failure is counted, the first one is logged.

    Args:
        teller: Who tells.
        metrics: Counts failures.
    """

    def __init__(self, teller: GroupTeller, metrics: ScoringMetrics) -> None:
        self._teller = teller
        self._metrics = metrics
        self._failing = False

    def choose(self, work: Group) -> Asked:
        """See `GroupTeller`; nobody is chosen where that fails."""
        try:
            return self._teller.choose(work)
        except Exception as error:  # noqa: BLE001 -- the decision is made
            self._failed(error)
            return ()

    def told(self, work: Group, asked: Asked, first_sequence: int) -> None:
        """See `GroupTeller`."""
        try:
            self._teller.told(work, asked, first_sequence)
        except Exception as error:  # noqa: BLE001 -- the decision is durable and answered
            self._failed(error)
        else:
            self._failing = False

    def _failed(self, error: Exception) -> None:
        self._metrics.telemetry_failures += 1
        self._failing = said_once(log, "A group of payments", error, said=self._failing)
