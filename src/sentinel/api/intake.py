"""Payments on their way from a body to the scorer, whatever protocol they came by."""

from __future__ import annotations

import urllib.parse
from collections.abc import Sequence

import msgspec

from sentinel.api.answers import BatchAnswer, BatchItem
from sentinel.api.payments import Reading, read_payment, read_payments
from sentinel.api.problems import ProblemError
from sentinel.domain import (
    InvalidQuery,
    NoModel,
    Transaction,
    TransactionConflict,
    id_for_display,
)
from sentinel.features.plan.plan import Plan
from sentinel.ingest.guard import Guard
from sentinel.scoring.runtime import ScoringRuntime
from sentinel.scoring.service import Receiver


class Intake:
    """Reads payments and hands them to the service.

    Args:
        runtime: The scoring process.

    Attributes:
        max_body, max_batch_body: Most bytes of a body; whoever reads it looks after that.
        guard: What the deployment does with ids and card numbers.
    """

    def __init__(self, runtime: ScoringRuntime) -> None:
        limits = runtime.settings.api
        self.max_body = limits.max_body_bytes
        self.max_batch_body = self.max_body * 20
        self._max_batch = limits.max_batch
        self._service = runtime.service
        self.guard = Guard.of(runtime.settings)
        self._plan: Plan | None = None
        self._reading = Reading()

    @property
    def reading(self) -> Reading:
        """How payments are read: as the running plan wants them."""
        plan = self._service.engine.program.plan
        if plan is not self._plan:
            self._plan = plan
            self._reading = Reading(plan.number_columns, plan.category_columns, self.guard)
        return self._reading

    def predict(self, body: bytes, dry_run: bool, receiver: Receiver) -> bytes | None:
        """Take in one payment.

        Args:
            body: JSON.
            dry_run: Score only.
            receiver: Told the answer, unless it is returned.

        Returns:
            The answer of a repeat that is at hand, else None.

        Raises:
            ProblemError: The body is not JSON.
            SentinelError: It cannot be accepted, or not now.
        """
        service = self._service
        engine = service.engine
        transaction = read_payment(body, service.receive_time_us(), self.reading)
        if engine.model is None:
            raise _no_model()
        return service.enqueue(transaction, receiver, dry_run=dry_run)

    def predict_batch(self, body: bytes, dry_run: bool, receiver: Receiver) -> None:
        """Take in payments that are answered together.

        Args:
            body: JSON.
            dry_run: Score only.
            receiver: Told the answer, before or after this returns.

        Raises:
            ProblemError: The body is not JSON.
            SentinelError: One of them cannot be accepted, or none now.
        """
        service = self._service
        transactions = read_payments(body, service.receive_time_us(), self.reading, self._max_batch)
        if service.engine.model is None:
            raise _no_model()
        batch = _Batch(transactions, receiver)
        for i, transaction in enumerate(transactions):
            place = _Place(batch, i)
            try:
                answer = service.enqueue(transaction, place, dry_run=dry_run)
            except TransactionConflict as error:
                place.failed(error)
            else:
                if answer is not None:
                    place.answered(answer)


class _Batch:
    """Collects the answers of a batch, and answers when there are all."""

    __slots__ = ("answers", "error", "missing", "receiver", "transactions")

    def __init__(self, transactions: Sequence[Transaction], receiver: Receiver) -> None:
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
        if self.error is not None:
            self.receiver.failed(self.error)
            return
        results = []
        for transaction, answer in zip(self.transactions, self.answers, strict=True):
            shown = id_for_display(transaction.transaction_id)
            if isinstance(answer, bytes):
                item = BatchItem(transaction_id=shown, status="Success", answer=msgspec.Raw(answer))
            else:
                item = BatchItem(transaction_id=shown, status="Conflict", detail=str(answer))
            results.append(item)
        self.receiver.answered(msgspec.json.encode(BatchAnswer(results=results)))


class _Place:
    """One payment's place in a batch."""

    __slots__ = ("_batch", "_place")

    def __init__(self, batch: _Batch, place: int) -> None:
        self._batch = batch
        self._place = place

    def answered(self, body: bytes) -> None:
        self._batch.take(self._place, body)

    def failed(self, error: Exception) -> None:
        if isinstance(error, TransactionConflict):
            self._batch.take(self._place, error)
        else:
            self._batch.fail(error)


def too_large(limit: int) -> ProblemError:
    """The error of a body above the limit."""
    return ProblemError(
        413, "body_too_large", "Body too large", f"A body has at most {limit:,} bytes."
    )


def read_dry_run(query: bytes) -> bool:
    """The parameter ``dry_run`` of a query string.

    Raises:
        InvalidQuery: It is neither true nor false.
    """
    if not query:
        return False
    values = urllib.parse.parse_qs(query.decode("latin-1"), keep_blank_values=True).get("dry_run")
    if values is None:
        return False
    value = values[-1].lower()
    if value in ("true", "1"):
        return True
    if value in ("false", "0"):
        return False
    raise InvalidQuery(
        f"dry_run is true or false, not {value!r}.", fields={"dry_run": "true or false"}
    )


def _no_model() -> NoModel:
    return NoModel(
        "No model has been promoted yet. Train one with `sentinel train`, then promote it with "
        "`sentinel promote`."
    )
