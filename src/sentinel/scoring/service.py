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
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from sentinel.domain import (
    LedgerUnavailable,
    StateUnavailable,
    Transaction,
    TransactionConflict,
    Unavailable,
)
from sentinel.ledger.base import Ledger
from sentinel.ledger.groups import (
    FLAG_EXPIRED_EVENT,
    FLAG_IS_FRAUD,
    FLAG_LATE_EVENT,
    GROUP_FORMAT,
    DecisionGroup,
    GroupKind,
    encode_group,
)
from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.scoring.committer import Committer
from sentinel.scoring.engine import Engine, Scored
from sentinel.state.known_ids import id_hash

log = logging.getLogger(__name__)

MAX_GROUP: Final = 256
"""Most transactions that share one commit."""

Render = Callable[[Transaction, Scored, int, int], bytes]
"""(transaction, scored, row, latency_us) -> the answer's body."""


@dataclass(slots=True)
class Recorded:
    """A decision that is durable but may not be in the queryable tables yet.

    Attributes:
        transaction: What was decided on.
        body: The answer that was given.
        scored, row: Where the figures are.
        sequence: Its place in the log.
    """

    transaction: Transaction
    body: bytes
    scored: Scored
    row: int
    sequence: int

    @property
    def probability(self) -> float:
        return float(self.scored.probabilities[self.row])

    @property
    def is_fraud(self) -> bool:
        return bool(self.scored.flags[self.row] & FLAG_IS_FRAUD)


class Pending:
    """A payment waiting for its turn."""

    __slots__ = ("arrived_ns", "dry_run", "future", "transaction")

    def __init__(
        self,
        transaction: Transaction,
        future: asyncio.Future[bytes],
        arrived_ns: int,
        dry_run: bool,
    ) -> None:
        self.transaction = transaction
        self.future = future
        self.arrived_ns = arrived_ns
        self.dry_run = dry_run


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
        and first.attributes == again.attributes
    )


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
        engine: Engine,
        ledger: Ledger,
        *,
        render: Render,
        find_recorded: FindRecorded,
        rebuild: Callable[[], Engine],
        metrics: ScoringMetrics,
    ) -> None:
        self.engine = engine
        self.metrics = metrics
        self.unavailable: str | None = None
        self.recent: dict[str, Recorded] = {}
        self.last_received_us = ledger.last_received_at_us()
        self.last_sequence = ledger.last_sequence()
        self._loop = asyncio.get_running_loop()
        self._ledger = ledger
        self._committer = Committer(ledger)
        self._render = render
        self._find_recorded = find_recorded
        self._rebuild = rebuild
        self._queue: deque[Pending | Callable[[], None]] = deque()
        self._inflight: dict[str, Pending] = {}
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
        """Score a payment.

        Returns:
            The recorded answer of a repeat, or a future of the answer.

        Raises:
            TransactionConflict: The id stands for another payment.
            Unavailable: State or ledger cannot be used right now.
        """
        arrived = time.perf_counter_ns()
        if self.unavailable is not None:
            raise StateUnavailable(self.unavailable)
        if not dry_run:
            identifier = transaction.transaction_id
            waiting = self._inflight.get(identifier)
            if waiting is not None:
                if not same_payment(waiting.transaction, transaction):
                    raise self._conflict(identifier)
                self.metrics.repeats += 1
                # Shielded: one caller that goes away must not take the answer from the other.
                return asyncio.shield(waiting.future)
            recorded = self.recent.get(identifier)
            if recorded is not None:
                if not same_payment(recorded.transaction, transaction):
                    raise self._conflict(identifier)
                self.metrics.repeats += 1
                return recorded.body
            if self.engine.state.known.holds(id_hash(identifier)):
                try:
                    body = self._find_recorded(transaction)
                except TransactionConflict:
                    self.metrics.conflicts += 1
                    raise
                if body is not None:
                    self.metrics.repeats += 1
                    return body
        pending = Pending(transaction, self._loop.create_future(), arrived, dry_run)
        if not dry_run:
            self._inflight[transaction.transaction_id] = pending
        self._queue.append(pending)
        self._schedule()
        return pending.future

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
        done: Callable[[int, LedgerUnavailable | None], None],
    ) -> None:
        """Append a group; ``done`` runs on the event loop once it is durable or has failed.

        Only to be called from a job; nothing else runs in between.
        """
        self._busy = True
        started = time.perf_counter_ns()

        def finish(first: int, error: LedgerUnavailable | None) -> None:
            self._busy = False
            elapsed = np.array([(time.perf_counter_ns() - started) // 1000])
            self.metrics.commit_latency.observe(elapsed)
            if error is None:
                self.metrics.commits += 1
                self.last_sequence = first + entries - 1
                self.engine.state.sequence = self.last_sequence
                self.metrics.sequence = self.last_sequence
            else:
                self._fail(error)
            done(first, error)
            self._schedule()

        def committed(first: int, error: LedgerUnavailable | None) -> None:
            self._loop.call_soon_threadsafe(finish, first, error)

        self._committer.append(kind, entries, received_at_us, payload, committed)

    def forget_indexed(self, through: int) -> None:
        """Drop recorded answers that the queryable tables hold by now."""
        self.metrics.indexed_through = through
        for identifier in list(self.recent):
            if self.recent[identifier].sequence > through:
                break
            del self.recent[identifier]

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
            self._loop.call_soon(self._turn)

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
        transactions = [pending.transaction for pending in group]
        dry_run = group[0].dry_run
        engine = self.engine
        try:
            scored = engine.peek(transactions) if dry_run else engine.decide(transactions)
        except Exception as error:
            self._reject(group, error)
            if not isinstance(error, Unavailable) and not dry_run and engine.model is not None:
                log.exception("Scoring failed; state is rebuilt from the ledger.")
                self._fail(LedgerUnavailable("Scoring failed; state is being rebuilt."))
            return
        now = time.perf_counter_ns()
        latencies = [(now - pending.arrived_ns) // 1000 for pending in group]
        if dry_run:
            for row, pending in enumerate(group):
                body = self._render(pending.transaction, scored, row, latencies[row])
                _resolve(pending.future, body)
            return
        n = len(group)
        payload = encode_group(
            DecisionGroup(
                format=GROUP_FORMAT,
                plan_hash=scored.model.plan.hash,
                model_name=scored.model.name,
                model_version=scored.model.version,
                transactions=transactions,
                vectors=scored.vectors.tobytes(),
                scores=scored.scores.tobytes(),
                probabilities=scored.probabilities.tobytes(),
                flags=scored.flags.tobytes(),
                reason_features=scored.reason_features.tobytes(),
                reason_contributions=scored.reason_contributions.tobytes(),
                latencies_us=np.array(latencies, dtype="<u4").tobytes(),
            )
        )
        bodies: list[bytes] = []

        def done(first: int, error: LedgerUnavailable | None) -> None:
            if error is not None:
                self._reject(group, error)
                return
            self._record(group, scored, bodies, first)

        self.commit(GroupKind.DECISIONS, n, transactions[-1].received_at_us, payload, done)
        # The answers are put into words while the disk works.
        for row, pending in enumerate(group):
            bodies.append(self._render(pending.transaction, scored, row, latencies[row]))

    def _record(
        self, group: list[Pending], scored: Scored, bodies: list[bytes], first: int
    ) -> None:
        now = time.perf_counter_ns()
        for row, pending in enumerate(group):
            identifier = pending.transaction.transaction_id
            body = bodies[row]
            self.recent[identifier] = Recorded(pending.transaction, body, scored, row, first + row)
            self._inflight.pop(identifier, None)
            _resolve(pending.future, body)
        metrics = self.metrics
        metrics.decisions += np.bincount(scored.flags & 3, minlength=3)
        metrics.probability.observe(scored.probabilities)
        metrics.latency.observe(np.array([(now - pending.arrived_ns) // 1000 for pending in group]))
        metrics.late_events += int(np.count_nonzero(scored.flags & FLAG_LATE_EVENT))
        metrics.expired_events += int(np.count_nonzero(scored.flags & FLAG_EXPIRED_EVENT))

    def _reject(self, group: list[Pending], error: Exception) -> None:
        for pending in group:
            if not pending.dry_run:
                self._inflight.pop(pending.transaction.transaction_id, None)
            if not pending.future.done():
                pending.future.set_exception(error)

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


def _resolve(future: asyncio.Future[bytes], body: bytes) -> None:
    if not future.done():
        future.set_result(body)
