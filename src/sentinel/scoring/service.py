"""Scoring as a service: requests in, durable answers out, in one order.

Requests that arrive while a group is being made durable share the next state pass, the next
score and the next commit. Everything that changes state or the log (payments, labels, a new
model, a snapshot) goes through one queue, so that the log's order is the order of effects.

No answer leaves before its record is on disk. If a commit fails, nothing of it may be seen:
all that was in flight fails, and the engine is recovered anew from what is durable.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import numpy as np

from sentinel.domain import (
    AttributeValue,
    LedgerUnavailable,
    SentinelError,
    StateUnavailable,
    Transaction,
    TransactionConflict,
    Unavailable,
)
from sentinel.ingest.values import as_text
from sentinel.ledger.base import Appended, Ledger
from sentinel.log.entries import (
    FLAG_EXPIRED_EVENT,
    FLAG_IS_FRAUD,
    FLAG_LATE_EVENT,
    GroupKind,
    decisions_payload,
    outcome_codes,
)
from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.scoring.committer import Committer, Work
from sentinel.scoring.engine import Scored, ScoringEngine

log = logging.getLogger(__name__)

MAX_GROUP: Final = 256
"""Most transactions that share one commit."""

Render = Callable[[list[Transaction], Scored, list[int]], list[bytes]]
"""(transactions, scored, latencies_us) -> the bodies of the answers."""

_COUNTED_AT_ONCE: Final = 1024
_NOBODY: Final[list[Receiver]] = []


class Receiver(Protocol):
    """Who waits for a decision. Called once, on the event loop."""

    def answered(self, body: bytes) -> None:
        """The decision is durable; ``body`` is the answer."""
        ...

    def failed(self, error: Exception) -> None:
        """There is no decision."""
        ...


class Pending:
    """A payment from its arrival until the queryable tables hold it.

    Attributes:
        transaction: What is decided on.
        arrived_ns: When, by `time.perf_counter_ns`.
        dry_run: Score only.
        receivers: Who waits; more than one where the payment was repeated meanwhile.
        body: The answer, once there is one.
        scored, row: Where the figures are, once there are any.
        sequence: Its place in the log; 0 = not durable yet.
    """

    __slots__ = (
        "arrived_ns",
        "body",
        "dry_run",
        "receivers",
        "row",
        "scored",
        "sequence",
        "transaction",
    )

    scored: Scored
    row: int

    def __init__(
        self, transaction: Transaction, receiver: Receiver, arrived_ns: int, dry_run: bool
    ) -> None:
        self.transaction = transaction
        self.receivers = [receiver]
        self.arrived_ns = arrived_ns
        self.dry_run = dry_run
        self.body = b""
        self.sequence = 0

    @property
    def probability(self) -> float:
        return float(self.scored.probabilities[self.row])

    @property
    def is_fraud(self) -> bool:
        return bool(self.scored.flags[self.row] & FLAG_IS_FRAUD)

    def answer(self, body: bytes) -> None:
        """Tell all who wait."""
        for receiver in self.receivers:
            receiver.answered(body)

    def fail(self, error: Exception) -> None:
        """Tell all who wait that there is no decision."""
        for receiver in self.receivers:
            receiver.failed(error)


class FutureReceiver:
    """A receiver for code that awaits."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        self.future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def answered(self, body: bytes) -> None:
        if not self.future.done():
            self.future.set_result(body)

    def failed(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


FindRecorded = Callable[[Transaction], bytes | None]
"""The recorded answer to a repeated transaction; None if the log does not hold its id; raises
TransactionConflict where the id stands for something else."""


def same_payment(first: Transaction, again: Transaction) -> bool:
    """Whether two requests are the same: all but the time they were received at.

    A request without an event time got the time it was received at, so that time may differ.
    """
    if first.event_time_us != again.event_time_us and not (
        first.event_time_us == first.received_at_us and again.event_time_us == again.received_at_us
    ):
        return False
    return (
        first.transaction_id == again.transaction_id
        and first.amount_minor == again.amount_minor
        and first.customer_id == again.customer_id
        and first.card_id == again.card_id
        and first.merchant_id == again.merchant_id
        and first.device_id == again.device_id
        and first.ip_address == again.ip_address
        and (
            first.attributes == again.attributes
            or _spelled(first.attributes) == _spelled(again.attributes)
        )
    )


def _spelled(attributes: dict[str, AttributeValue]) -> dict[str, str]:
    """Attributes as text: a plan that came in between and reads one otherwise changes nothing.

    >>> _spelled({"mcc": 5411.0, "present": "true"}) == _spelled({"mcc": "5411", "present": 1.0})
    True
    """
    words = {"true": "1", "false": "0"}
    texts = {name: as_text(value) for name, value in attributes.items() if value is not None}
    return {name: words.get(text, text) for name, text in texts.items()}


def conflict(transaction_id: str) -> TransactionConflict:
    """The error for an id that already stands for another payment."""
    return TransactionConflict(
        f"Transaction {transaction_id!r} is already recorded with other content. Send a new "
        "payment under a new transaction_id; send a repeat unchanged.",
        fields={"transaction_id": "already recorded with other content"},
    )


class ScoringService:
    """The single writer of state and log; lives on one event loop.

    Args:
        engine: Recovered state and model.
        ledger: Opened for writing; the service closes it.
        render: Makes an answer's body.
        find_recorded: Looks a repeated transaction up in the queryable tables.
        rebuild: Recovers an engine from what is durable (called in a thread).
        metrics: Counters.
    """

    def __init__(
        self,
        engine: ScoringEngine,
        ledger: Ledger,
        *,
        render: Render,
        find_recorded: FindRecorded,
        rebuild: Callable[[], ScoringEngine],
        metrics: ScoringMetrics,
    ) -> None:
        self.engine = engine
        self.metrics = metrics
        metrics.refresh = self._count
        self._uncounted_flags = bytearray()
        self._uncounted_probabilities = bytearray()
        self._uncounted_latencies: list[int] = []
        self.unavailable: str | None = None
        self._recent: dict[str, Pending] = {}
        self.last_received_us = ledger.last_received_at_us()
        self.last_sequence = ledger.last_sequence()
        self._loop = asyncio.get_running_loop()
        self._ledger = ledger
        self._committer = Committer(ledger)
        self._render = render
        self._find_recorded = find_recorded
        self._rebuild = rebuild
        self._queue: deque[Pending | Callable[[], None]] = deque()
        self._busy = False
        self._scheduled = False
        self._closing = False

    # Entry points. All run on the event loop.

    def receive_time_us(self) -> int:
        """The time to stamp on what arrives now: the clock, but never backwards."""
        now = max(time.time_ns() // 1000, self.last_received_us)
        self.last_received_us = now
        return now

    def submit(
        self, transaction: Transaction, *, dry_run: bool = False
    ) -> asyncio.Future[bytes] | bytes:
        """Score a payment for a caller that awaits; see `enqueue`.

        Returns:
            The recorded answer of a repeat, or a future of the answer.
        """
        receiver = FutureReceiver()
        body = self.enqueue(transaction, receiver, dry_run=dry_run)
        return receiver.future if body is None else body

    def enqueue(
        self, transaction: Transaction, receiver: Receiver, *, dry_run: bool = False
    ) -> bytes | None:
        """Score a payment in its turn.

        Args:
            transaction: The payment, stamped with `receive_time_us`.
            receiver: Told the answer, unless it is returned.
            dry_run: Score only.

        Returns:
            The answer of a repeat that was recorded a moment ago, else None.

        Raises:
            TransactionConflict: The id stands for another payment.
            Unavailable: State or ledger cannot be used right now.
        """
        if self.unavailable is not None:
            raise StateUnavailable(self.unavailable)
        if not dry_run:
            identifier = transaction.transaction_id
            earlier = self._recent.get(identifier)
            if earlier is not None:
                if not same_payment(earlier.transaction, transaction):
                    raise self._conflict(identifier)
                self.metrics.repeats += 1
                if earlier.sequence:
                    return earlier.body
                earlier.receivers.append(receiver)
                return None
            pending = Pending(transaction, receiver, time.perf_counter_ns(), False)
            self._recent[identifier] = pending
        else:
            pending = Pending(transaction, receiver, time.perf_counter_ns(), True)
        self._queue.append(pending)
        if not self._scheduled:
            self._schedule()
        return None

    def recorded(self, transaction_id: str) -> Pending | None:
        """A decision that is durable but may not be in the queryable tables yet."""
        found = self._recent.get(transaction_id)
        return found if found is not None and found.sequence else None

    def run_job(self, job: Callable[[], None]) -> None:
        """Run a callable in the order of the log, between two groups.

        A job that commits calls `commit`; any other is over when it returns.
        """
        self._queue.append(job)
        self._schedule()

    def commit(
        self,
        kind: GroupKind,
        entries: int,
        received_at_us: int,
        payload: bytes,
        done: Callable[[Appended | None, SentinelError | None], None],
        *,
        transaction_ids: Sequence[str] = (),
        token: bytes | None = None,
    ) -> None:
        """Append a group; ``done`` runs on the event loop once it is durable or has failed.

        Only to be called from a job; nothing else runs in between. See `Ledger.append`.
        """
        self._busy = True
        started = time.perf_counter_ns()

        def finish(appended: Appended | None, error: SentinelError | None) -> None:
            self._busy = False
            self.metrics.commit_latency.add((time.perf_counter_ns() - started) // 1000)
            if appended is not None:
                self.metrics.commits += 1
                self.last_sequence = appended.first_sequence + entries - 1
                self.engine.state.sequence = self.last_sequence
                self.metrics.sequence = self.last_sequence
            elif isinstance(error, LedgerUnavailable):
                self._fail(error)
            done(appended, error)
            self._schedule()

        def committed(appended: Appended | None, error: SentinelError | None) -> None:
            self._loop.call_soon_threadsafe(finish, appended, error)

        work = Work(kind, entries, received_at_us, payload, tuple(transaction_ids), token)
        self._committer.append(work, committed)

    def forget_indexed(self, through: int) -> None:
        """Drop recorded answers that the queryable tables hold by now."""
        self.metrics.indexed_through = through
        recent = self._recent
        indexed = []
        for identifier, pending in recent.items():
            if not 0 < pending.sequence <= through:
                break
            indexed.append(identifier)
        for identifier in indexed:
            del recent[identifier]

    async def close(self) -> None:
        """Answer what has arrived, then release the ledger."""
        self._closing = True
        while self._queue or self._busy:
            await asyncio.sleep(0.005)
        await asyncio.to_thread(self._committer.close)
        self._ledger.close()

    # The single writer.

    def _conflict(self, identifier: str) -> TransactionConflict:
        self.metrics.conflicts += 1
        return conflict(identifier)

    def _schedule(self) -> None:
        if not self._busy and not self._scheduled and self._queue:
            self._scheduled = True
            self._loop.call_soon(self._gather, 0)

    def _gather(self, before: int) -> None:
        """Let in what has arrived meanwhile: what a group costs is shared by all in it."""
        waiting = len(self._queue)
        if before < waiting < MAX_GROUP:
            self._loop.call_soon(self._gather, waiting)
        else:
            self._turn()

    def _turn(self) -> None:
        self._scheduled = False
        if self._busy or not self._queue:
            return
        if not isinstance(self._queue[0], Pending):
            job = self._queue.popleft()
            assert not isinstance(job, Pending)
            job()
        else:
            self._decide(self._next_group())
        self._schedule()

    def _next_group(self) -> list[Pending]:
        queue = self._queue
        group: list[Pending] = []
        while queue and len(group) < MAX_GROUP:
            head = queue[0]
            if not isinstance(head, Pending) or (group and head.dry_run != group[0].dry_run):
                break
            group.append(head)
            queue.popleft()
        return group

    def _decide(self, group: list[Pending]) -> None:
        if self.unavailable is not None:
            self._reject(group, StateUnavailable(self.unavailable))
            return
        dry_run = group[0].dry_run
        engine = self.engine
        transactions = [pending.transaction for pending in group]
        try:
            if dry_run:
                scored = engine.peek(transactions)
            else:
                known = engine.note_ids(transactions)
                if known:
                    group = self._without_recorded(group, frozenset(known))
                    if not group:
                        return
                    transactions = [pending.transaction for pending in group]
                scored = engine.decide(transactions)
        except Exception as error:
            self._reject(group, error)
            if not isinstance(error, Unavailable) and not dry_run and engine.model is not None:
                log.exception("Scoring failed; state is rebuilt from the ledger.")
                self._fail(LedgerUnavailable("Scoring failed; state is being rebuilt."))
            return
        now = time.perf_counter_ns()
        latencies = [(now - pending.arrived_ns) // 1000 for pending in group]
        if dry_run:
            for pending, body in zip(
                group, self._render(transactions, scored, latencies), strict=True
            ):
                pending.answer(body)
            return
        self._commit_decisions(group, transactions, scored, latencies)

    def _commit_decisions(
        self,
        group: list[Pending],
        transactions: list[Transaction],
        scored: Scored,
        latencies: list[int],
    ) -> None:
        """Make decisions durable, then answer."""
        bodies: list[bytes] = []

        def done(appended: Appended | None, error: SentinelError | None) -> None:
            if appended is None:
                assert error is not None
                self._reject(group, error)
            else:
                self._record(group, scored, bodies, appended.first_sequence)

        payload = payload_of(transactions, scored, latencies)
        received_at_us = transactions[-1].received_at_us
        self.commit(GroupKind.DECISIONS, len(group), received_at_us, payload, done)
        # The answers are put into words while the disk works.
        bodies += self._render(transactions, scored, latencies)

    def _without_recorded(self, group: list[Pending], known: frozenset[int]) -> list[Pending]:
        """Answer those payments of a group that the log holds already; the others.

        Args:
            group: Payments in order.
            known: The places of those that it may hold.
        """
        new = []
        for place, pending in enumerate(group):
            transaction = pending.transaction
            try:
                body = self._find_recorded(transaction) if place in known else None
            except Exception as error:  # noqa: BLE001 -- whoever waits is told
                if isinstance(error, TransactionConflict):
                    self.metrics.conflicts += 1
                self._reject([pending], error)
                continue
            if body is None:
                new.append(pending)
                continue
            self.metrics.repeats += 1
            del self._recent[transaction.transaction_id]
            pending.answer(body)
        return new

    def _record(
        self, group: list[Pending], scored: Scored, bodies: list[bytes], first: int
    ) -> None:
        now = time.perf_counter_ns()
        for row, pending in enumerate(group):
            pending.body = body = bodies[row]
            pending.scored = scored
            pending.row = row
            pending.sequence = first + row
            for receiver in pending.receivers:
                receiver.answered(body)
            pending.receivers = _NOBODY
        self._uncounted_flags += scored.flags.tobytes()
        self._uncounted_probabilities += scored.probabilities.tobytes()
        self._uncounted_latencies += [(now - pending.arrived_ns) // 1000 for pending in group]
        if len(self._uncounted_latencies) >= _COUNTED_AT_ONCE:
            self._count()

    def _count(self) -> None:
        """Bring the metrics of decisions up to date: one pass for many groups."""
        flags = np.frombuffer(bytes(self._uncounted_flags), dtype=np.uint8)
        probabilities = np.frombuffer(bytes(self._uncounted_probabilities), dtype=np.float64)
        latencies = np.array(self._uncounted_latencies, dtype=np.int64)
        self._uncounted_flags.clear()
        self._uncounted_probabilities.clear()
        self._uncounted_latencies.clear()
        metrics = self.metrics
        metrics.decisions += np.bincount(outcome_codes(flags), minlength=3)
        metrics.probability.observe(probabilities)
        metrics.latency.observe(latencies)
        metrics.late_events += int(np.count_nonzero(flags & FLAG_LATE_EVENT))
        metrics.expired_events += int(np.count_nonzero(flags & FLAG_EXPIRED_EVENT))

    def _reject(self, group: list[Pending], error: Exception) -> None:
        for pending in group:
            if not pending.dry_run:
                self._recent.pop(pending.transaction.transaction_id, None)
            pending.fail(error)

    # After a failure.

    def _fail(self, error: LedgerUnavailable) -> None:
        """State may hold events that are not durable: drop it and recover."""
        self.metrics.commit_failures += 1
        self.unavailable = f"{error} State is being rebuilt from the ledger; try again shortly."
        log.error("%s", self.unavailable)
        waiting = [item for item in self._queue if isinstance(item, Pending)]
        self._queue = deque(item for item in self._queue if not isinstance(item, Pending))
        self._reject(waiting, StateUnavailable(self.unavailable))
        self._loop.create_task(self._recover())

    async def _recover(self) -> None:
        delay = 0.1
        while not self._closing:
            try:
                engine = await asyncio.to_thread(self._rebuild)
            except Exception:
                log.exception("State could not be rebuilt yet; trying again in %.1f s.", delay)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5.0)
            else:
                self.engine = engine
                self.last_sequence = engine.state.sequence
                self.unavailable = None
                self.metrics.rebuilds += 1
                log.warning("State is rebuilt through entry %d.", engine.state.sequence)
                self._schedule()
                return


def payload_of(transactions: list[Transaction], scored: Scored, latencies_us: list[int]) -> bytes:
    """Decisions as a group of the ledger holds them."""
    return decisions_payload(
        transactions,
        scored,
        latencies_us,
        plan_hash=scored.model.plan.hash,
        model_name=scored.model.name,
        model_version=scored.model.version,
    )
