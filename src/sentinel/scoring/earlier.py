"""Payments that the log may hold already: those of a group whose ids the records know."""

from __future__ import annotations

from collections.abc import Callable

from sentinel.scoring.lookups import Lookups, RecordedAnswer
from sentinel.scoring.pending import Pending
from sentinel.scoring.queue import PaymentQueue
from sentinel.scoring.recent import RecentPayments


class Earlier:
    """Looks payments up in the log before they are decided.

    One that the log holds gets its recorded answer. Another has an id whose hash is that of some
    other payment: it comes back to the queue as new.

    Args:
        lookups: Ask the log.
        queue: What is looked up waits there, too: it takes room from what comes next.
        recent: Says which recorded answers may be in the queryable tables alone.
        answered: Takes the recorded answer to a payment.
        rejected: Takes the reason why there is no answer.
        schedule: Called after each, since a payment may have come back.
    """

    def __init__(
        self,
        lookups: Lookups,
        queue: PaymentQueue,
        recent: RecentPayments,
        answered: Callable[[Pending, bytes], None],
        rejected: Callable[[Pending, Exception], None],
        schedule: Callable[[], None],
    ) -> None:
        self._lookups = lookups
        self._queue = queue
        self._recent = recent
        self._answered = answered
        self._rejected = rejected
        self._schedule = schedule

    def without(self, group: list[Pending], known: frozenset[int]) -> list[Pending]:
        """Have those payments of a group looked up that the log may hold; the others.

        Args:
            group: Payments in order.
            known: The places of those whose ids were known before.
        """
        new = []
        for place, pending in enumerate(group):
            if place in known and not pending.is_new:
                self._queue.leave(pending)
                self._look_up(pending)
            else:
                new.append(pending)
        return new

    def _look_up(self, pending: Pending) -> None:
        def done(answer: RecordedAnswer | None, error: Exception | None) -> None:
            if answer is None:
                assert error is not None
                self._queue.come_back(pending)
                self._rejected(pending, error)
            elif answer.body is not None:
                self._queue.come_back(pending)
                self._answered(pending, answer.body)
            elif answer.through < self._recent.forgotten_through:
                self._look_up(pending)  # it may have been indexed since
            else:
                self._queue.come_back(pending)
                pending.is_new = True  # another id with the same hash is known
                self._queue.put_back(pending)
            self._schedule()

        self._lookups.find_recorded(pending.transaction, done)
