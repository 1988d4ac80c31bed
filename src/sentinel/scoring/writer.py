"""The writer: payments in, durable answers out.

Payments that arrive while a group is being made durable share the next state pass, the next score
and the next commit. Everything that changes state or the log (payments, labels, a new model, a
snapshot) takes its turn here, so that the log's order is the order of effects.

No answer leaves before its record is on disk. Where this process is the only one that writes, one
group is at work at a time; if its commit fails, state is made anew from what is durable. Where many
write, several groups are at work at once: the records give each payment its position, so the order
of commits does not matter, and what a failed commit leaves behind is repaired.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Final

from sentinel.domain import (
    AlreadyRecorded,
    LedgerUnavailable,
    SentinelError,
    StateUnavailable,
    Transaction,
    TransactionConflict,
    Unavailable,
)
from sentinel.ledger.base import Appended, Ledger
from sentinel.log.entries import GroupKind, partly_tracked
from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.scoring.clock import ReceiptClock
from sentinel.scoring.commit import CommitDone, Commits
from sentinel.scoring.earlier import Earlier
from sentinel.scoring.elsewhere import Elsewhere
from sentinel.scoring.group import Group
from sentinel.scoring.lookups import Lookups
from sentinel.scoring.new_entities import NewEntities
from sentinel.scoring.pace import Pace
from sentinel.scoring.pending import FutureReceiver, Pending, Receiver
from sentinel.scoring.queue import PaymentQueue, QueueLimits
from sentinel.scoring.recent import RecentPayments
from sentinel.scoring.repeats import conflict, same_payment
from sentinel.scoring.reserved import Reserved
from sentinel.scoring.scorer import Scored, Scorer
from sentinel.scoring.tally import Tally
from sentinel.scoring.threads import Threads
from sentinel.scoring.told_groups import GroupTeller, GuardedTeller
from sentinel.scoring.turn import MOST_ADDING, Turn
from sentinel.state.base import FeatureState, Hands

log = logging.getLogger(__name__)

Render = Callable[[list[Transaction], Scored, list[int]], list[bytes]]
"""(transactions, scored, latencies_us) -> the bodies of the answers."""

_NAMED_AT_ONCE: Final = 20
"""Payments of a group whose requests a line of the log names."""


class Writer:
    """Decides on payments and records them; lives on one event loop.

    Args:
        scorer: Recovered state and models.
        ledger: Opened for writing; the writer closes it.
        render: Makes the bodies of answers.
        lookups: Look payments up that may have been recorded before.
        rebuild: Makes state to go on with after a failed commit (called in a thread).
        metrics: Counters.
        limits: How much may wait.
        clock: Stamps what arrives.
        new_entities: What senders may add to feature state.
        watch_roles: Told of each group that models beside the champion scored.
        tellers: Told of each group that is durable and answered.

    Attributes:
        turn: Where jobs wait for theirs.
        pace: How what takes long gives way to single payments.
        unavailable: Why nothing can be decided right now; None if it can.
        recent: Payments by id until the queryable tables hold them.
    """

    def __init__(
        self,
        scorer: Scorer,
        ledger: Ledger,
        *,
        render: Render,
        lookups: Lookups,
        rebuild: Callable[[FeatureState], FeatureState],
        metrics: ScoringMetrics,
        limits: QueueLimits | None = None,
        clock: ReceiptClock | None = None,
        new_entities: NewEntities | None = None,
        watch_roles: Callable[[Scored], None] | None = None,
        tellers: Sequence[GroupTeller] = (),
    ) -> None:
        self.scorer = scorer
        self.metrics = metrics
        self.lookups = lookups
        self.unavailable: str | None = None
        self.recent = RecentPayments()
        self._recent = self.recent.by_id
        self._clock = clock or ReceiptClock(ledger.last_received_at_us())
        self._loop = asyncio.get_running_loop()
        self._commits = Commits(ledger, metrics, self._fail, self._loop)
        soon = self._loop.call_soon_threadsafe
        # One may wait for the groups under way, one of which wants a thread, too.
        adders = MOST_ADDING if scorer.state.waits else 0
        self._adders: Threads[Any] = Threads("state", adders, soon)
        self._hands = Hands(self._loop, self._adders.do)
        self._render = render
        self._rebuild = rebuild
        self._tally = Tally(metrics)
        self._watch_roles = watch_roles
        self._tellers = tuple(GuardedTeller(teller, metrics) for teller in tellers)
        metrics.refresh = self._refresh_metrics
        self._queue = PaymentQueue(limits or QueueLimits())
        self._new_entities = new_entities or NewEntities(0, metrics)
        self._queue.raise_floor(ledger.last_received_at_us())
        self.turn = Turn(self._queue, self._begin, self._loop)
        self.pace = Pace(self._queue, self.turn)
        lookups.between = self.pace.give_way
        self.take_over(scorer)
        self._closing = False
        self._earlier = Earlier(
            lookups,
            self._queue,
            self.recent,
            self._answer_repeat,
            self._reject_one,
            self.turn.schedule,
        )
        self._elsewhere = Elsewhere(
            lookups, self._queue, self._answer_repeat, self._reject_one, self._take_left_behind
        )

    # Entry points. All run on the event loop.

    @property
    def last_sequence(self) -> int:
        """The last entry of the log, as far as this process knows."""
        return self._commits.last_sequence

    def receive_time_us(self) -> int:
        """The time to stamp on what arrives now.

        Raises:
            ClockJumped: The clock cannot be trusted right now.
        """
        return self._clock.now_us()

    def entities_left(self, called_by: str) -> float:
        """How many entities a sender may add to feature state now."""
        return self._new_entities.left(called_by, self.scorer.state)

    def reserve(self, payments: int, *, called_by: str = "", entities: int = 0) -> Reserved:
        """Keep room in the queue for the payments of a batch, and what it may add to state.

        Args:
            payments: How many.
            called_by: Id of who sent it; empty if nobody is known.
            entities: How many it would add to feature state.

        Returns:
            What is kept, to enqueue each of the payments with; `release` ends it.

        Raises:
            Overloaded: Too many wait already, or the sender may not add so many entities.
        """
        self._new_entities.check(called_by, entities, self.scorer.state)
        self._queue.check_room(payments, batched=True)
        batch = Reserved(called_by, payments, entities)
        self._queue.reserved += payments
        self._new_entities.reserve(batch)
        return batch

    def release(self, batch: Reserved) -> None:
        """Give back what a batch has not used: it is decided, or was given up; once is enough."""
        self._queue.reserved -= batch.payments
        batch.payments = 0
        self._new_entities.give_back(batch, batch.entities)

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
        self,
        transaction: Transaction,
        receiver: Receiver,
        *,
        dry_run: bool = False,
        batch: Reserved | None = None,
        called_by: str = "",
    ) -> bytes | None:
        """Score a payment in its turn.

        Args:
            transaction: The payment, stamped with `receive_time_us`.
            receiver: Told the answer, unless it is returned.
            dry_run: Score only.
            batch: What its batch has reserved; None if it is a single payment.
            called_by: Id of who sent it; empty if nobody is known.

        Returns:
            The answer of a repeat that was recorded a moment ago, else None.

        Raises:
            TransactionConflict: The id stands for another payment.
            Overloaded: Too many payments wait already.
            Unavailable: State or ledger cannot be used right now.
        """
        batched = batch is not None
        if batch is not None:
            batch.payments -= 1
            self._queue.reserved -= 1
        if self.unavailable is not None:
            raise StateUnavailable(self.unavailable)
        if not dry_run:
            identifier = transaction.transaction_id
            earlier = self._recent.get(identifier)
            if earlier is not None:
                if not same_payment(earlier.transaction, transaction):
                    self.metrics.conflicts += 1
                    raise conflict(identifier)
                self.metrics.repeats += 1
                if earlier.sequence:
                    return earlier.body
                earlier.receivers.append(receiver)
                return None
        if not batched:
            self._queue.check_room(1, batched=False)
        pending = Pending(
            transaction, receiver, time.perf_counter_ns(), dry_run, batched, called_by, batch
        )
        if not dry_run:
            self._recent[identifier] = pending
        self._queue.add(pending, batched=batched)
        self.turn.schedule()
        return None

    def commit(
        self,
        kind: GroupKind,
        entries: int,
        received_at_us: int,
        payload: bytes,
        done: CommitDone,
    ) -> None:
        """Append a group; ``done`` runs on the event loop once it is durable or has failed.

        Only to be called from a job; nothing else runs in between. See `Ledger.append`.
        """
        self.turn.hold()

        def finish(appended: Appended | None, error: SentinelError | None) -> None:
            try:
                done(appended, error)
            finally:
                self.turn.release()

        self._commits.append(kind, entries, received_at_us, payload, finish)

    def not_before(self, received_at_us: int) -> int:
        """The time of an entry that a job commits: the log's times never go back."""
        return self._queue.raise_floor(received_at_us)

    def take_over(self, scorer: Scorer) -> None:
        """Go on with another scorer. Only on the event loop, and while nothing is at work."""
        self.scorer = scorer
        self.turn.most_at_work = scorer.state.parallel

    async def close(self) -> None:
        """Answer what has arrived, then release the ledger."""
        self._closing = True
        await self._elsewhere.close()
        while not self.turn.is_idle:
            await asyncio.sleep(0.005)
        for held in (self._adders, self.lookups, self._commits):
            await asyncio.to_thread(held.close)

    # Deciding.

    def _begin(self, group: list[Pending]) -> None:
        if self.unavailable is not None:
            self._reject(group, StateUnavailable(self.unavailable))
        elif group[0].dry_run:
            self._score(group, self.scorer.peek)
        else:
            ids = [pending.transaction.transaction_id for pending in group]
            known = self.scorer.state.known.add(ids)
            if known:
                group = self._earlier.without(group, frozenset(known))
            if group:
                known_only = self._new_entities.known_only(group, self.scorer.state)
                self._score(group, partial(self.scorer.decide, known_only=known_only), known_only)

    def _score(
        self,
        group: list[Pending],
        score: Callable[[Sequence[Transaction]], Scored],
        known_only: Collection[int] | None = None,
    ) -> None:
        """Score a group; ``known_only`` is None unless it is added to the state."""
        transactions = [pending.transaction for pending in group]
        self.turn.begun()
        if self.scorer.state.waits:
            self._score_elsewhere(group, transactions, score, known_only)
            return
        try:
            scored = score(transactions)
        except Exception as error:  # noqa: BLE001 -- callers that wait get the error
            self._not_scored(group, error)
        else:
            self._scored(group, transactions, scored)

    def _score_elsewhere(
        self,
        group: list[Pending],
        transactions: list[Transaction],
        score: Callable[[Sequence[Transaction]], Scored],
        known_only: Collection[int] | None,
    ) -> None:
        """Score a group where state waits for a server: without waiting, or else in a thread."""
        self.turn.adding += 1
        done = partial(self._scored_elsewhere, group, transactions, 1)
        try:
            begun = known_only is not None and self.scorer.begin_decide(
                self._hands, transactions, known_only, done
            )
        except Exception as error:  # noqa: BLE001 -- callers that wait get the error
            done(None, error)
            return
        if not begun:
            self.turn.adding += MOST_ADDING - 1
            done = partial(self._scored_elsewhere, group, transactions, MOST_ADDING)
            self._adders.do(partial(score, transactions), done)

    def _scored_elsewhere(
        self,
        group: list[Pending],
        transactions: list[Transaction],
        counted: int,
        scored: Scored | None,
        error: Exception | None,
    ) -> None:
        self.turn.adding -= counted
        if scored is None:
            assert error is not None
            self._not_scored(group, error)
        else:
            self._scored(group, transactions, scored)
        self.turn.schedule()

    def _not_scored(self, group: list[Pending], error: Exception) -> None:
        self.turn.done()
        dry_run = group[0].dry_run
        if isinstance(error, Unavailable) or dry_run or self.scorer.model is None:
            self._reject(group, error)
        else:
            log.error(
                "Scoring failed; state is rebuilt from the ledger.",
                exc_info=error,
                extra={"request_ids": _request_ids(group)},
            )
            self._reject(group, error)
            self._fail(LedgerUnavailable("Scoring failed; state is being rebuilt."))

    def _scored(
        self, group: list[Pending], transactions: list[Transaction], scored: Scored
    ) -> None:
        now = time.perf_counter_ns()
        latencies = [(now - pending.arrived_ns) // 1000 for pending in group]
        if group[0].dry_run:
            bodies = self._render(transactions, scored, latencies)
            for pending, body in zip(group, bodies, strict=True):
                pending.answer(body)
            self.turn.done()
            return
        if scored.new_records:
            self._new_entities.charge(group, scored.new_records, self.scorer.state)
        for row, views in scored.untracked.items():
            transactions[row] = group[row].transaction = partly_tracked(transactions[row], views)
        work = Group(group, transactions, scored, latencies, scored_ns=now)
        if scored.repeated:
            # Another scorer has them, or had them when it died; only the log can tell.
            for row in scored.repeated:
                self._elsewhere.look(group[row], recorded=False)
            work.keep([row for row in range(len(group)) if row not in set(scored.repeated)])
        self._commit_group(work)

    # The log.

    def _commit_group(self, work: Group) -> None:
        """Make decisions durable, then answer."""
        scorer, ticket, transactions = self.scorer, work.scored.ticket, work.transactions
        if not transactions:
            scorer.state.settle(ticket, (), None, work.doubtful)
            self.turn.done()
            return
        bodies: list[bytes] = []

        def done(appended: Appended | None, error: SentinelError | None) -> None:
            if isinstance(error, AlreadyRecorded):
                self._commit_others(work, frozenset(error.ids))
                return
            try:
                finish(appended, error)
            finally:  # whatever fails, the next group has its turn
                self.turn.done()

        def finish(appended: Appended | None, error: SentinelError | None) -> None:
            scorer.state.settle(ticket, transactions, appended, work.doubtful)
            if appended is None:
                assert error is not None
                log.warning(
                    "A group of payments was not recorded. %s",
                    error,
                    extra={"entries": len(transactions), "request_ids": _request_ids(work.pending)},
                )
                self._reject(work.pending, error)
            else:
                first = appended.first_sequence
                asked = [teller.choose(work) for teller in self._tellers]
                for row, pending in enumerate(work.pending):
                    pending.record(work.scored, row, first + row, bodies[row])
                self._tally.add(work.pending, work.scored)
                if self._watch_roles is not None and work.scored.roles is not None:
                    self._watch_roles(work.scored)
                self._queue.seconds_each = self._commits.seconds_each
                for teller, chosen in zip(self._tellers, asked, strict=True):
                    if chosen:
                        teller.told(work, chosen, first)

        self._commits.append(
            GroupKind.DECISIONS,
            len(transactions),
            transactions[-1].received_at_us,
            work.payload(),
            done,
            [transaction.transaction_id for transaction in transactions],
            ticket,
        )
        # The answers are put into words while the disk works.
        bodies += self._render(transactions, work.scored, work.latencies_us)

    def _commit_others(self, work: Group, recorded: frozenset[str]) -> None:
        """The log holds some of a group from elsewhere: commit the others, if there are any."""
        kept = []
        for row, pending in enumerate(work.pending):
            if pending.transaction.transaction_id in recorded:
                work.doubtful.append(pending.transaction)
                self._elsewhere.look(pending, recorded=True)
            else:
                kept.append(row)
        work.keep(kept)
        self._commit_group(work)

    # Repeats.

    def _answer_repeat(self, pending: Pending, body: bytes) -> None:
        self._recent.pop(pending.transaction.transaction_id, None)
        self.metrics.repeats += 1
        pending.answer(body)

    def _take_left_behind(self, pending: Pending) -> None:
        self.turn.run_job(partial(self._decide_left_behind, pending))

    def _decide_left_behind(self, pending: Pending) -> None:
        transactions = [pending.transaction]
        log.warning(
            "A payment was begun elsewhere and not recorded; it is decided without state.",
            extra={"request_ids": pending.request_ids()},
        )
        if self.unavailable is not None:
            self.scorer.state.settle(b"", transactions, None)
            self._reject_one(pending, StateUnavailable(self.unavailable))
            return
        self.turn.begun()
        try:
            scored = self.scorer.decide_without_state(transactions)
        except Exception as error:  # noqa: BLE001 -- callers that wait get the error
            self.scorer.state.settle(b"", transactions, None)
            self._not_scored([pending], error)
        else:
            self._scored([pending], transactions, scored)

    def _reject_one(self, pending: Pending, error: Exception) -> None:
        if isinstance(error, TransactionConflict):
            self.metrics.conflicts += 1
        self._reject([pending], error)

    def _reject(self, group: list[Pending], error: Exception) -> None:
        for pending in group:
            if not pending.dry_run:
                self._recent.pop(pending.transaction.transaction_id, None)
            pending.fail(error)

    def _refresh_metrics(self) -> None:
        self._tally.count()
        self.metrics.experiment_failures = self.scorer.panel.failures.count
        self.metrics.pending = len(self._queue) + self._queue.away

    # After a failure.

    def _fail(self, error: LedgerUnavailable) -> None:
        """State may hold events that are not durable: drop it and recover."""
        self.metrics.commit_failures += 1
        already = self.unavailable is not None
        self.unavailable = f"{error} State is being rebuilt from the ledger; try again shortly."
        log.error("%s", self.unavailable)
        self._reject(self._queue.take_all(), StateUnavailable(self.unavailable))
        if not already:
            self._loop.create_task(self._recover())

    async def _recover(self) -> None:
        delay = 0.1
        while not self._closing:
            of = self.scorer.state
            try:
                state = await asyncio.to_thread(self._rebuild, of)
            except Exception:
                log.exception("State could not be rebuilt yet; trying again in %.1f s.", delay)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5.0)
            else:
                if self.scorer.state is not of:
                    continue  # another plan serves by now, and wants a state of its own
                self.take_over(self.scorer.with_state(state))
                self._commits.last_sequence = max(self.last_sequence, state.sequence)
                self.unavailable = None
                self.metrics.rebuilds += 1
                log.warning(
                    "State is rebuilt through entry %d.",
                    state.sequence,
                    extra={"through": state.sequence},
                )
                self.turn.schedule()
                return


def _request_ids(group: Sequence[Pending]) -> list[str]:
    return [name for pending in group[:_NAMED_AT_ONCE] for name in pending.request_ids()]
