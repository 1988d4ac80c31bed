"""A payment on its way through the scorer, and who waits for it."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from sentinel.domain import Transaction
from sentinel.log.entries import FLAG_IS_FRAUD
from sentinel.scoring.reserved import Reserved
from sentinel.scoring.scorer import Scored
from sentinel.telemetry.context import bound_ids
from sentinel.telemetry.request_ids import CallersIds

_NOBODY: Final[list[Receiver]] = []


class Receiver(Protocol):
    """Who waits for a decision. Called once, on the event loop."""

    @property
    def ids(self) -> CallersIds:
        """What the request is called, by who sent it or by us; asked for before the answer."""
        ...

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
        batched: It is one of a batch.
        called_by: Id of who sent it; empty if nobody is known.
        batch: What its batch keeps; None if it is a single payment.
        is_new: The log was asked, and does not hold its id.
        receivers: Who waits; more than one where the payment was repeated meanwhile.
        body: The answer, once there is one.
        scored, row: Where the figures are, once there are any.
        sequence: Its place in the log; 0 = not durable yet.
    """

    __slots__ = (
        "arrived_ns",
        "batch",
        "batched",
        "body",
        "called_by",
        "dry_run",
        "is_new",
        "receivers",
        "row",
        "scored",
        "sequence",
        "transaction",
    )

    scored: Scored
    row: int

    def __init__(
        self,
        transaction: Transaction,
        receiver: Receiver,
        arrived_ns: int,
        dry_run: bool,
        batched: bool = False,
        called_by: str = "",
        batch: Reserved | None = None,
    ) -> None:
        self.batch = batch
        self.transaction = transaction
        self.called_by = called_by
        self.receivers = [receiver]
        self.arrived_ns = arrived_ns
        self.dry_run = dry_run
        self.batched = batched
        self.is_new = False
        self.body = b""
        self.sequence = 0

    def request_ids(self) -> list[str]:
        """Ids of the requests that wait for it."""
        return [receiver.ids.request_id for receiver in self.receivers]

    @property
    def probability(self) -> float:
        return float(self.scored.deciding_probabilities()[self.row])

    @property
    def is_fraud(self) -> bool:
        return bool(self.scored.flags[self.row] & FLAG_IS_FRAUD)

    def record(self, scored: Scored, row: int, sequence: int, body: bytes) -> None:
        """Note the durable decision and tell all who wait."""
        self.body = body
        self.scored = scored
        self.row = row
        self.sequence = sequence
        for receiver in self.receivers:
            receiver.answered(body)
        self.receivers = _NOBODY

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

    __slots__ = ("future", "ids")

    def __init__(self) -> None:
        self.ids = CallersIds(bound_ids().get("request_id", ""))
        self.future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def answered(self, body: bytes) -> None:
        if not self.future.done():
            self.future.set_result(body)

    def failed(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)
