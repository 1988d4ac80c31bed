"""Look-ups in the log, in threads with connections of their own.

The event loop never waits for a file or a database. What is asked for while a thread is at work is
looked up together, so that each group of the log is decoded once for all of it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from sentinel.domain import Decision, Transaction
from sentinel.ledger.index import LedgerIndex
from sentinel.ledger.index_values import Explain
from sentinel.ledger.lookup import TransactionLookup
from sentinel.scoring.repeats import conflict, is_void, same_payment
from sentinel.scoring.threads import Done, Threads
from sentinel.spare_time import Between, go_on, lower_thread_priority

T = TypeVar("T")

_THREADS: Final = 2
_AT_ONCE: Final = 256
_ROWS_AT_ONCE: Final = 64


class RecordedAnswer(NamedTuple):
    """What the log says of a payment that came again.

    Attributes:
        body: The recorded answer; None if the log does not hold the payment.
        through: The log was read up to here, at least.
    """

    body: bytes | None
    through: int


class Lookups:
    """A few threads that look things up.

    Args:
        open_index: Opens the queryable tables, once for each thread.
        explain: Puts recorded reasons into words.
        render: Makes the body of a recorded decision.
        loop: Where results are told.

    Attributes:
        between: Called in a thread between two pieces of a long look-up, see `Pace.give_way`; set
            before the first one.
    """

    def __init__(
        self,
        open_index: Callable[[], LedgerIndex],
        explain: Explain,
        render: Callable[[Decision], bytes],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.between: Between = go_on
        self._open_index = open_index
        self._explain = explain
        self._render = render
        self._own = threading.local()
        self._opened: list[TransactionLookup] = []
        self._threads: Threads[Any] = Threads(
            "look-up", _THREADS, loop.call_soon_threadsafe, lower_thread_priority
        )
        self._asked: deque[tuple[Transaction, Done[RecordedAnswer]]] = deque()

    def run(self, work: Callable[[TransactionLookup], T], done: Done[T]) -> None:
        """Do a piece of work with a look-up of the thread's own; ``done`` runs on the loop."""
        self._threads.do(lambda: work(self._lookup()), done)

    def find_recorded(self, transaction: Transaction, done: Done[RecordedAnswer]) -> None:
        """Find the recorded answer to a payment; ``done`` runs on the event loop.

        The error is TransactionConflict where the id stands for something else.
        """
        self._asked.append((transaction, done))
        self._threads.do(self._answer_some, _tell)

    def close(self) -> None:
        """Finish what is asked and end the threads."""
        self._threads.close()
        for lookup in self._opened:
            lookup.close()

    def _lookup(self) -> TransactionLookup:
        found: TransactionLookup | None = getattr(self._own, "lookup", None)
        if found is None:
            found = self._own.lookup = TransactionLookup(self._open_index(), self.between)
            self._opened.append(found)
        return found

    def _answer_some(self) -> list[Callable[[], None]]:
        """Look up what is asked by now, if another thread has not done so already."""
        asked: list[tuple[Transaction, Done[RecordedAnswer]]] = []
        while len(asked) < _AT_ONCE:
            try:
                asked.append(self._asked.popleft())
            except IndexError:
                break
        told: list[Callable[[], None]] = []
        try:
            lookup = self._lookup()
            through = lookup.index.indexed_through
            ids = [transaction.transaction_id for transaction, _ in asked]
            found = lookup.recorded(ids, self._explain)
            voids = lookup.index.voids_of(found)
        except Exception as error:  # noqa: BLE001 -- callers that wait get the error
            return [partial(done, None, error) for _, done in asked]
        for n, (transaction, done) in enumerate(asked):
            if n and n % _ROWS_AT_ONCE == 0:
                self.between()
            recorded = found.get(transaction.transaction_id)
            if recorded is None:
                answer = RecordedAnswer(None, through)
            elif recorded.decision is None or not same_payment(recorded.transaction, transaction):
                told.append(partial(done, None, conflict(transaction.transaction_id)))
                continue
            elif transaction.transaction_id in voids:
                told.append(partial(done, None, is_void(transaction.transaction_id)))
                continue
            else:
                answer = RecordedAnswer(self._render(recorded.decision), through)
            told.append(partial(done, answer, None))
        return told


def _tell(told: list[Callable[[], None]] | None, _: Exception | None) -> None:
    for tell in told or ():
        tell()
