"""`POST /predict` and `POST /predict/batch`: payments on their way from a body to the scorer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from sentinel.access.limits import Rates
from sentinel.access.principals import Principal
from sentinel.api.door import PAYMENT, PAYMENTS, read_dry_run
from sentinel.api.large import LARGE_BYTES, LARGE_ROWS, ROWS_AT_ONCE, LargeBodies
from sentinel.api.routes.decision_json import PredictAnswer
from sentinel.api.routes.payment_bodies import BatchRequest, PredictRequest, ReadingRules
from sentinel.api.routes.payment_reading import (
    check_sender,
    read_payment,
    read_payments,
)
from sentinel.api.routes.raw import RawRoute
from sentinel.domain import (
    NoModel,
    SentinelError,
    Transaction,
    TransactionConflict,
    id_for_display,
)
from sentinel.features.plan.plan import Plan
from sentinel.ingest.guard import Guard
from sentinel.scoring.pending import FutureReceiver, Receiver
from sentinel.scoring.reserved import Reserved
from sentinel.scoring.runtime import ScoringRuntime
from sentinel.spare_time import Between
from sentinel.telemetry.request_ids import CallersIds

_EXAMPLE: Final = {
    "transaction_id": "tx-1001",
    "amount_minor": 4999,
    "customer_id": "C42",
    "card_id": "K7",
    "merchant_id": "M9",
    "device_id": "D3",
    "ip_address": "203.0.113.9",
    "attributes": {"channel": "online", "merchant_country": "DE"},
}
_DRY_RUN: Final[dict[str, Any]] = {
    "name": "dry_run",
    "in": "query",
    "description": "true: score only; nothing is recorded and no state changes.",
    "schema": {"type": "boolean", "default": False},
}

UNCOUNTED_SHARE: Final = 0.05
"""A batch is not counted if it can add no more than so much of what its sender may add."""

_ENQUEUED_AT_ONCE: Final = 256
"""Payments of a large batch that are let into the queue in one turn of the event loop."""


class BatchItem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One transaction's place in a batch answer: a decision, or why there is none.

    Attributes:
        transaction_id: As sent.
        status: "Success" or "Conflict".
        answer: The decision.
        detail: Why there is none.
    """

    transaction_id: str | int
    status: str
    answer: msgspec.Raw | None = None
    detail: str = ""


class BatchAnswer(msgspec.Struct, kw_only=True):
    """Answers in the order of the request."""

    results: list[BatchItem]


class Intake:
    """Reads payments and hands them to the writer.

    Args:
        runtime: The scoring process.
        large: Reads and writes large bodies.
        rates: How many payments each caller may send.

    Attributes:
        guard: What the deployment does with ids and card numbers.
        routes: The routes, for callers that come by ASGI.
    """

    def __init__(
        self, runtime: ScoringRuntime, large: LargeBodies, rates: Rates | None = None
    ) -> None:
        self._rates = rates or Rates(runtime.settings.access)
        self._large = large
        self._tasks: set[asyncio.Task[None]] = set()
        self._max_batch = runtime.settings.api.max_batch
        self._writer = runtime.writer
        self.guard = Guard.of(runtime.settings)
        self._tokens = "transaction_id" in self.guard.fields
        self._plan: Plan | None = None
        self._rules = ReadingRules()

        self.routes = (
            RawRoute(
                path=PAYMENT,
                summary="Score a payment",
                text=(
                    "Scores a new payment, records the decision durably and adds the payment to "
                    "the features. A repeat gets the recorded decision."
                ),
                requests=(PredictRequest,),
                answer=PredictAnswer,
                statuses=(400, 409, 413, 422, 429, 503),
                handle=self._one,
                parameters=(_DRY_RUN,),
                example=_EXAMPLE,
            ),
            RawRoute(
                path=PAYMENTS,
                summary="Score payments in order",
                text=(
                    "As many single requests, in the order given. If one is not valid, none is "
                    "scored."
                ),
                requests=(BatchRequest,),
                answer=BatchAnswer,
                statuses=(400, 413, 422, 429, 503),
                handle=self._many,
                parameters=(_DRY_RUN,),
            ),
        )

    async def _one(self, body: bytes, query: bytes, principal: Principal) -> bytes:
        receiver = FutureReceiver()
        answer = self.predict(body, read_dry_run(query), receiver, principal)
        return await receiver.future if answer is None else answer

    async def _many(self, body: bytes, query: bytes, principal: Principal) -> bytes:
        receiver = FutureReceiver()
        self.predict_batch(body, read_dry_run(query), receiver, principal)
        return await receiver.future

    @property
    def rules(self) -> ReadingRules:
        """How payments are read: as the champion's plan wants them, whatever models are beside it.

        An experiment then refuses no payment, and is given values as the log has always had them.
        """
        scorer = self._writer.scorer
        plan = scorer.program.plan if scorer.model is None else scorer.model.plan
        if plan is not self._plan:
            self._plan = plan
            self._rules = ReadingRules(plan.number_columns, plan.category_columns, self.guard)
        return self._rules

    def predict(
        self, body: bytes, dry_run: bool, receiver: Receiver, principal: Principal
    ) -> bytes | None:
        """Take in one payment.

        Args:
            body: JSON.
            dry_run: Score only.
            receiver: Told the answer, unless it is returned.
            principal: Who sent it.

        Returns:
            The answer of a repeat that is at hand, else None.

        Raises:
            ProblemError: The body is not JSON.
            SentinelError: It cannot be accepted, or not now.
        """
        writer = self._writer
        scorer = writer.scorer
        transaction = read_payment(body, writer.receive_time_us(), self.rules)
        sender = principal.sender
        if sender and (self._tokens or not transaction.transaction_id.startswith(sender)):
            check_sender(body, [transaction], principal, batch=False)
        if scorer.model is None:
            raise _no_model()
        return writer.enqueue(transaction, receiver, dry_run=dry_run, called_by=principal.key_id)

    def predict_batch(
        self, body: bytes, dry_run: bool, receiver: Receiver, principal: Principal
    ) -> None:
        """Take in payments that are answered together.

        Args:
            body: JSON.
            dry_run: Score only.
            receiver: Told the answer, before or after this returns.
            principal: Who sent them.

        Raises:
            ProblemError: The body is not JSON.
            SentinelError: One of them cannot be accepted, or none now.
        """
        if len(body) >= LARGE_BYTES:
            task = asyncio.get_running_loop().create_task(
                self._predict_large_batch(body, dry_run, receiver, principal)
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        transactions = self._reader_of(body, principal)()
        added = self._added_by(transactions, dry_run, principal)
        added = added if isinstance(added, int) else added()
        batch = self._batch_of(transactions, added, receiver, principal)
        try:
            self._enqueue(batch, range(len(transactions)), dry_run)
        except BaseException:
            batch.end()
            raise

    def _reader_of(self, body: bytes, principal: Principal) -> Callable[[], list[Transaction]]:
        """Reads a batch's body, in any thread."""
        now_us, rules = self._writer.receive_time_us(), self.rules
        most, give_way = self._max_batch, self._writer.pace.give_way

        def read() -> list[Transaction]:
            transactions = read_payments(body, now_us, rules, most, give_way)
            if principal.sender:
                check_sender(body, transactions, principal, batch=True)
            return transactions

        return read

    def _added_by(
        self, transactions: list[Transaction], dry_run: bool, principal: Principal
    ) -> int | Callable[[], int]:
        """How many entities a batch adds to feature state at most, or what counts them.

        Each payment names one entity a view at most. That is taken for the number where it is a
        small part of what the sender may add; otherwise they are counted, in any thread.
        """
        if dry_run:
            return 0
        state, give_way = self._writer.scorer.state, self._writer.pace.give_way
        left = self._writer.entities_left(principal.key_id)
        most = len(transactions) * len(state.program.plan.views)
        if most <= left * UNCOUNTED_SHARE:
            return most
        return lambda: state.new_entities(_with_pauses(transactions, give_way))

    async def _predict_large_batch(
        self, body: bytes, dry_run: bool, receiver: Receiver, principal: Principal
    ) -> None:
        """Take in a batch piece by piece; other payments have their turn in between."""
        batch = None
        try:
            transactions = await self._large.run(True, self._reader_of(body, principal))
            added = self._added_by(transactions, dry_run, principal)
            added = added if isinstance(added, int) else await self._large.run(True, added)
            batch = self._batch_of(transactions, added, receiver, principal)
            places = range(len(transactions))
            for first in range(0, len(places), _ENQUEUED_AT_ONCE):
                self._enqueue(batch, places[first : first + _ENQUEUED_AT_ONCE], dry_run)
                await asyncio.sleep(0)
        except BaseException as error:
            if batch is not None:
                batch.end()
            if not isinstance(error, Exception):
                raise
            receiver.failed(error)

    def _batch_of(
        self, transactions: list[Transaction], added: int, receiver: Receiver, principal: Principal
    ) -> _Batch:
        """The batch of payments that there is room for."""
        writer = self._writer
        if writer.scorer.model is None:
            raise _no_model()
        self._rates.spend(principal, "", payments=len(transactions))
        reserved = writer.reserve(len(transactions), called_by=principal.key_id, entities=added)
        end = partial(writer.release, reserved)
        return _Batch(transactions, receiver, self._large, reserved, end, writer.pace.give_way)

    def _enqueue(self, batch: _Batch, places: range, dry_run: bool) -> None:
        enqueue = self._writer.enqueue
        for i in places:
            place = _Place(batch, i)
            try:
                answer = enqueue(
                    batch.transactions[i],
                    place,
                    dry_run=dry_run,
                    batch=batch.reserved,
                    called_by=batch.reserved.called_by,
                )
            except SentinelError as error:
                place.failed(error)
            else:
                if answer is not None:
                    place.answered(answer)


class _Batch:
    """Collects the answers of a batch, and answers when there are all.

    Attributes:
        reserved: What it keeps in the queue, and of its sender's quota.
        end: Gives that back.
    """

    __slots__ = (
        "_give_way",
        "_large",
        "answers",
        "end",
        "error",
        "missing",
        "receiver",
        "reserved",
        "transactions",
    )

    def __init__(
        self,
        transactions: Sequence[Transaction],
        receiver: Receiver,
        large: LargeBodies,
        reserved: Reserved,
        end: Callable[[], None],
        give_way: Between,
    ) -> None:
        self._give_way = give_way
        self._large = large
        self.reserved = reserved
        self.end = end
        self.transactions = transactions
        self.receiver = receiver
        self.answers: list[bytes | TransactionConflict] = [b""] * len(transactions)
        self.missing = len(transactions)
        self.error: Exception | None = None

    def take(self, place: int, answer: bytes | TransactionConflict) -> None:
        self.answers[place] = answer
        self.missing -= 1
        if self.missing == 0:
            self._answer()

    def fail(self, error: Exception) -> None:
        self.error = self.error or error
        self.missing -= 1
        if self.missing == 0:
            self._answer()

    def _answer(self) -> None:
        self.end()
        if self.error is not None:
            self.receiver.failed(self.error)
        elif len(self.answers) < LARGE_ROWS:
            self.receiver.answered(self._json())
        else:
            self._large.soon(self._json, self.receiver.answered)

    def _json(self) -> bytes:
        pieces = []
        for first in range(0, len(self.answers), ROWS_AT_ONCE):
            pieces.append(self._rows_json(slice(first, first + ROWS_AT_ONCE)))
            self._give_way()
        return b'{"results":[%b]}' % b",".join(pieces)

    def _rows_json(self, rows: slice) -> bytes:
        """Some rows, without the brackets around them."""
        results = []
        for transaction, answer in zip(self.transactions[rows], self.answers[rows], strict=True):
            shown = id_for_display(transaction.transaction_id)
            if isinstance(answer, bytes):
                item = BatchItem(transaction_id=shown, status="Success", answer=msgspec.Raw(answer))
            else:
                item = BatchItem(transaction_id=shown, status="Conflict", detail=str(answer))
            results.append(item)
        return msgspec.json.encode(results)[1:-1]


class _Place:
    """One payment's place in a batch."""

    __slots__ = ("_batch", "_place")

    def __init__(self, batch: _Batch, place: int) -> None:
        self._batch = batch
        self._place = place

    @property
    def ids(self) -> CallersIds:
        return self._batch.receiver.ids

    def answered(self, body: bytes) -> None:
        self._batch.take(self._place, body)

    def failed(self, error: Exception) -> None:
        if isinstance(error, TransactionConflict):
            self._batch.take(self._place, error)
        else:
            self._batch.fail(error)


def _with_pauses(transactions: Sequence[Transaction], between: Between) -> Iterator[Transaction]:
    for i, transaction in enumerate(transactions):
        if i % ROWS_AT_ONCE == 0:
            between()
        yield transaction


def _no_model() -> NoModel:
    return NoModel(
        "No model has been promoted yet. Train one with `sentinel train`, then promote it with "
        "`sentinel promote`."
    )
