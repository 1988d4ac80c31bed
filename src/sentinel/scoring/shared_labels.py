"""Labels where many scorers take them: the log says what each of them changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sentinel.domain import AlreadyRecorded, Label, SentinelError, Verdict
from sentinel.features.plan.program import KIND_FRAUD, KIND_RETRACT
from sentinel.ledger.base import Appended
from sentinel.scoring.labels import Find, LabelDesk, LabelReceipt
from sentinel.scoring.shared_service import SharedService


class SharedLabelDesk(LabelDesk):
    """`LabelDesk` for shared state.

    Args:
        service: The scorer's writer.
        find_transaction, find_label: See `LabelDesk`.
        refresh: Brings the queryable tables up to the log's end.
    """

    def __init__(
        self,
        service: SharedService,
        find_transaction: Find,
        find_label: Callable[[str], Label | None],
        refresh: Callable[[], object],
    ) -> None:
        super().__init__(service, find_transaction, find_label)
        self._shared = service
        self._refresh = refresh

    def _refused(
        self, labels: list[Label], future: asyncio.Future[list[LabelReceipt]], error: SentinelError
    ) -> None:
        if isinstance(error, AlreadyRecorded):
            # By another scorer, a moment ago: look again.
            self._refresh()
            self._shared.run_job(lambda: self._record(labels, future))
            return
        super()._refused(labels, future, error)

    def _apply(
        self, labels: list[Label], receipts: list[LabelReceipt], appended: Appended
    ) -> list[LabelReceipt]:
        is_fraud = {
            identifier: standing.verdict == Verdict.FRAUD
            for identifier, standing in appended.before.items()
        }
        known = {
            identifier for identifier, standing in appended.before.items() if standing.sequence
        }
        for place, label in enumerate(labels):
            identifier = label.transaction_id
            was, now = is_fraud.get(identifier, False), label.verdict == Verdict.FRAUD
            is_fraud[identifier] = now
            if was == now or identifier not in known:
                continue  # whoever decides on the transaction later sees the label
            transaction = self._transaction(identifier)
            if transaction is None:
                self._refresh()
                transaction = self._find_transaction(identifier)
            if transaction is not None:
                sequence = appended.first_sequence + place
                kind = KIND_FRAUD if now else KIND_RETRACT
                self._shared.upkeep.count_label(transaction, kind, sequence)
        return [
            LabelReceipt(
                label=receipt.label,
                repeated=receipt.repeated,
                known_transaction=receipt.known_transaction
                or receipt.label.transaction_id in known,
            )
            for receipt in receipts
        ]
