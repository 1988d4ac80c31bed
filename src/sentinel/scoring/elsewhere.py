"""Payments that another scorer decides, or began to decide and died."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from sentinel.domain import StateUnavailable, Transaction, Unavailable
from sentinel.scoring.lookups import Lookups, RecordedAnswer
from sentinel.scoring.pending import Pending
from sentinel.scoring.queue import PaymentQueue

log = logging.getLogger(__name__)

_SECONDS: Final = 3.0
_POLL_SECONDS: Final = 0.02


class Elsewhere:
    """Waits for decisions that others make.

    If the other scorer has died at it, the log will never hold the decision. No client is left
    waiting for that: after a while the payment is decided here, without state, since the shared
    records hold it already. Should the other scorer live after all, the log takes one decision of
    the two, and both give it.

    Args:
        lookups: Ask the log.
        queue: What is awaited here waits there, too: it takes room from what comes next.
        answered: Takes the recorded answer to a payment.
        rejected: Takes the reason why there is no answer.
        decide: Decides on a payment that was left behind.
    """

    def __init__(
        self,
        lookups: Lookups,
        queue: PaymentQueue,
        answered: Callable[[Pending, bytes], None],
        rejected: Callable[[Pending, Exception], None],
        decide: Callable[[Pending], None],
    ) -> None:
        self._lookups = lookups
        self._queue = queue
        self._answered = answered
        self._rejected = rejected
        self._decide = decide
        self._searches: set[asyncio.Task[None]] = set()
        self._closing = False

    def look(self, pending: Pending, *, recorded: bool) -> None:
        """Answer a payment that another scorer decides or has decided on.

        Args:
            pending: The payment.
            recorded: The log is known to hold it.
        """
        self._queue.leave(pending)
        task = asyncio.get_running_loop().create_task(self._find(pending, recorded))
        self._searches.add(task)
        task.add_done_callback(self._searches.discard)
        task.add_done_callback(lambda _: self._queue.come_back(pending))

    async def close(self) -> None:
        """Let no client wait longer."""
        self._closing = True
        if self._searches:
            await asyncio.wait(self._searches)

    async def _find(self, pending: Pending, recorded: bool) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _SECONDS
        body: bytes | None = None
        while body is None and loop.time() < deadline and not self._closing:
            try:
                body = (await self._ask(pending.transaction)).body
            except Unavailable as trouble:
                log.warning("A repeated payment cannot be looked up: %s", trouble)
            except Exception as error:  # noqa: BLE001 -- callers that wait get the error
                self._rejected(pending, error)
                return
            if body is None:
                await asyncio.sleep(_POLL_SECONDS)
        if body is not None:
            self._answered(pending, body)
        elif recorded or self._closing:
            name = pending.transaction.transaction_id
            problem = StateUnavailable(
                f"Transaction {name!r} was begun elsewhere, and its record is not at hand yet. "
                "Send it again in a moment."
            )
            self._rejected(pending, problem)
        else:
            self._decide(pending)

    def _ask(self, transaction: Transaction) -> asyncio.Future[RecordedAnswer]:
        future: asyncio.Future[RecordedAnswer] = asyncio.get_running_loop().create_future()

        def done(answer: RecordedAnswer | None, error: Exception | None) -> None:
            if future.done():
                return
            if answer is None:
                assert error is not None
                future.set_exception(error)
            else:
                future.set_result(answer)

        self._lookups.find_recorded(transaction, done)
        return future
