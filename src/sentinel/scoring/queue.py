"""Payments that wait for their turn: single ones before batches, and no more than is allowed."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Final

import msgspec

from sentinel.domain import Overloaded, Transaction
from sentinel.scoring.pending import Pending

MAX_GROUP: Final = 256
"""Most transactions that share one commit."""

SHARED_GROUP: Final = 32
"""Most payments of a batch that are decided together while single payments come in: the next one
waits for a group that is at work."""

_SINGLES_COME_NS: Final = 1_000_000_000
"""Single payments come in if the last one came so short a time ago."""
_SINGLES_IN_A_ROW: Final = 8
"""So many groups of single payments may go first while a batch waits."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much may wait.

    Attributes:
        singles: Single payments.
        batched: Payments of batches. A batch alone may be larger.
    """

    singles: int = 10_000
    batched: int = 50_000


class PaymentQueue:
    """Two lanes. A batch never holds up a single payment for more than the group at work.

    Args:
        limits: How much may wait.

    Attributes:
        reserved: Payments of batches that are on their way into the queue.
        away: Payments taken that are being looked up in the log, or that another scorer decides.
            Each counts as waiting in the lane that it came from.
        took_singles: The group that was taken last is of single payments.
        seconds_each: What a payment takes, about; tells clients when to come again.
    """

    def __init__(self, limits: QueueLimits) -> None:
        self.reserved = 0
        self._away = {False: 0, True: 0}
        self._limits = limits
        self._singles: deque[Pending] = deque()
        self._batched: deque[Pending] = deque()
        self._in_a_row = 0
        self._single_ns = -_SINGLES_COME_NS
        self._floor_us = 0
        self._out_of_order = False
        self.took_singles = False
        self.seconds_each = 0.0

    def __len__(self) -> int:
        return len(self._singles) + len(self._batched)

    def check_room(self, payments: int, *, batched: bool) -> None:
        """See whether so many more payments may wait.

        Raises:
            Overloaded: They may not; it says when to come again.
        """
        if batched:
            waiting = len(self._batched) + self.reserved + self._away[True]
            most = self._limits.batched
            fits = not waiting or waiting + payments <= most
        else:
            waiting, most = len(self._singles) + self._away[False], self._limits.singles
            fits = waiting + payments <= most
        if not fits:
            what = "payments of batches" if batched else "single payments"
            setting = "waiting_batched" if batched else "waiting_payments"
            raise Overloaded(
                f"{waiting:,} {what} wait for a decision, and {most:,} may "
                f"(scoring.{setting}). Nothing was recorded; send it again in a moment.",
                retry_after_seconds=max(1.0, len(self) * self.seconds_each),
            )

    @property
    def away(self) -> int:
        """See the class."""
        return self._away[False] + self._away[True]

    @property
    def singles(self) -> int:
        """Single payments that wait."""
        return len(self._singles)

    @property
    def singles_come(self) -> bool:
        """Whether single payments come in."""
        return time.perf_counter_ns() - self._single_ns < _SINGLES_COME_NS

    def add(self, pending: Pending, *, batched: bool) -> None:
        """Let a payment wait; see `check_room`."""
        if batched:
            self._batched.append(pending)
        else:
            self._single_ns = pending.arrived_ns
            self._singles.append(pending)

    def leave(self, pending: Pending) -> None:
        """A payment that was taken is looked up; it goes on waiting in its lane."""
        self._away[pending.batched] += 1

    def come_back(self, pending: Pending) -> None:
        """A payment is looked up no more."""
        self._away[pending.batched] -= 1

    def put_back(self, pending: Pending) -> None:
        """Let a payment that was taken already come next."""
        self._singles.appendleft(pending)
        self._out_of_order = True

    def take(self, most_singles: int = MAX_GROUP) -> list[Pending]:
        """The next group: payments of one lane, all dry runs or none, at least one.

        Args:
            most_singles: How many it may be of single payments.

        The log's times never go back. A payment that others went ahead of is received when it is
        taken.
        """
        lane, most = self._singles, most_singles
        if not lane or (self._batched and self._in_a_row >= _SINGLES_IN_A_ROW):
            lane, most, self._in_a_row = self._batched, MAX_GROUP, 0
            if self.singles_come:
                most = SHARED_GROUP
        else:
            self._in_a_row += 1
        dry_run = lane[0].dry_run
        group: list[Pending] = []
        while lane and len(group) < most and lane[0].dry_run == dry_run:
            group.append(lane.popleft())
        self.took_singles = single = lane is self._singles
        out_of_order = single and self._out_of_order
        if out_of_order or group[0].transaction.received_at_us < self._floor_us:
            self._raise(group)
        if single:
            self._out_of_order = False
        self._floor_us = group[-1].transaction.received_at_us
        return group

    def raise_floor(self, received_at_us: int) -> int:
        """Note the time of an entry that is no payment; what it is to be, not to go back."""
        self._floor_us = max(self._floor_us, received_at_us)
        return self._floor_us

    def take_all(self) -> list[Pending]:
        """Everything that waits."""
        waiting = [*self._singles, *self._batched]
        self._singles.clear()
        self._batched.clear()
        return waiting

    def _raise(self, group: list[Pending]) -> None:
        floor = self._floor_us
        for pending in group:
            if pending.transaction.received_at_us < floor:
                pending.transaction = received_at(pending.transaction, floor)
            floor = pending.transaction.received_at_us


def received_at(transaction: Transaction, received_at_us: int) -> Transaction:
    """The transaction, received later. One without a time of its own happens when it is received.

    >>> t = Transaction(transaction_id="t", event_time_us=5, received_at_us=5, amount_minor=1)
    >>> (received_at(t, 7).event_time_us, received_at(t, 7).received_at_us)
    (7, 7)
    """
    if transaction.event_time_us == transaction.received_at_us:
        return msgspec.structs.replace(
            transaction, event_time_us=received_at_us, received_at_us=received_at_us
        )
    return msgspec.structs.replace(transaction, received_at_us=received_at_us)
