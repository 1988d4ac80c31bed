"""Labels on their way into the log and into the features that are derived from them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from sentinel.domain import (
    InvalidLabel,
    Label,
    LedgerUnavailable,
    SentinelError,
    Transaction,
)
from sentinel.ledger.base import Appended
from sentinel.log.entries import LABEL_FORMAT, GroupKind, LabelGroup, encode_group
from sentinel.scoring.engine import Engine
from sentinel.scoring.service import ScoringService

Find = Callable[[str], Transaction | None]


@dataclass(frozen=True, slots=True)
class LabelReceipt:
    """What became of a label.

    Attributes:
        label: As recorded.
        repeated: It was in the log already; nothing was added.
        known_transaction: Whether the log holds the transaction; if not, the label waits for it.
    """

    label: Label
    repeated: bool
    known_transaction: bool


class LabelDesk:
    """Takes labels in the order of the log.

    Args:
        service: The single writer.
        find_transaction: Looks a transaction of the queryable tables up.
        find_label: Looks a label up by its id.
    """

    def __init__(
        self,
        service: ScoringService,
        find_transaction: Find,
        find_label: Callable[[str], Label | None],
    ) -> None:
        self._service = service
        self._find_transaction = find_transaction
        self._find_label = find_label
        self._recent: dict[str, tuple[int, Label]] = {}

    def submit(self, labels: list[Label]) -> asyncio.Future[list[LabelReceipt]]:
        """Record labels together.

        Args:
            labels: With `received_at_us` from the service's clock.

        Returns:
            A future of one receipt per label, in order.
        """
        future: asyncio.Future[list[LabelReceipt]] = asyncio.get_running_loop().create_future()
        self._service.run_job(lambda: self._record(labels, future))
        return future

    def forget_indexed(self, through: int) -> None:
        """Drop labels that the queryable tables hold by now."""
        self._recent = {key: entry for key, entry in self._recent.items() if entry[0] > through}

    def _transaction(self, transaction_id: str) -> Transaction | None:
        recorded = self._service.recorded(transaction_id)
        if recorded is not None:
            return recorded.transaction
        if not self._service.engine.state.known.holds_id(transaction_id):
            return None
        return self._find_transaction(transaction_id)

    def _earlier(self, label_id: str) -> Label | None:
        entry = self._recent.get(label_id)
        return entry[1] if entry is not None else self._find_label(label_id)

    def _record(self, labels: list[Label], future: asyncio.Future[list[LabelReceipt]]) -> None:
        try:
            receipts = self._examine(labels)
        except Exception as error:  # noqa: BLE001 -- whoever waits is told
            _fail(future, error)
            return
        new = [receipt.label for receipt in receipts if not receipt.repeated]
        if not new:
            _give(future, receipts)
            return
        if self._service.unavailable is not None:
            _fail(future, LedgerUnavailable(self._service.unavailable))
            return
        payload = encode_group(LabelGroup(format=LABEL_FORMAT, labels=new))

        def done(appended: Appended | None, error: SentinelError | None) -> None:
            if appended is None:
                assert error is not None
                self._refused(labels, future, error)
                return
            for place, label in enumerate(new):
                self._recent[label.label_id] = (appended.first_sequence + place, label)
                self._service.metrics.labels[label.verdict] += 1
            _give(future, self._apply(new, receipts, appended))

        self._service.commit(GroupKind.LABELS, len(new), new[-1].received_at_us, payload, done)

    def _examine(self, labels: list[Label]) -> list[LabelReceipt]:
        receipts: list[LabelReceipt] = []
        here: dict[str, Label] = {}
        for label in labels:
            earlier = here.get(label.label_id) or self._earlier(label.label_id)
            if earlier is not None and (
                earlier.transaction_id != label.transaction_id or earlier.verdict != label.verdict
            ):
                raise InvalidLabel(
                    f"Label {label.label_id!r} is already recorded with another verdict or "
                    "transaction. Send a correction under a new label_id.",
                    fields={"label_id": "already recorded with other content"},
                )
            here[label.label_id] = label
            receipts.append(
                LabelReceipt(
                    label=earlier or label,
                    repeated=earlier is not None,
                    known_transaction=self._transaction(label.transaction_id) is not None,
                )
            )
        return receipts

    def _refused(
        self, labels: list[Label], future: asyncio.Future[list[LabelReceipt]], error: SentinelError
    ) -> None:
        """The labels did not reach the log."""
        _fail(future, error)

    def _apply(
        self, labels: list[Label], receipts: list[LabelReceipt], appended: Appended
    ) -> list[LabelReceipt]:
        """Let durable labels take effect on features; the receipts as they are now known."""
        engine = self._service.engine
        assert isinstance(engine, Engine)
        found = {label.transaction_id: self._transaction(label.transaction_id) for label in labels}
        known = {i: transaction for i, transaction in found.items() if transaction is not None}
        engine.state.apply_labels(labels, appended, known)
        return receipts


def _give(future: asyncio.Future[list[LabelReceipt]], receipts: list[LabelReceipt]) -> None:
    if not future.done():
        future.set_result(receipts)


def _fail(future: asyncio.Future[list[LabelReceipt]], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
