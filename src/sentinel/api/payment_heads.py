"""Heads of payments, read once: clients send the same head again and again, but for the length."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from sentinel.access.limits import Rates
from sentinel.access.principals import Principal
from sentinel.api.door import PAYMENT, PAYMENTS, Door, read_dry_run
from sentinel.api.heads import Head, read_head
from sentinel.domain import SentinelError
from sentinel.telemetry.request_ids import NO_IDS, CallersIds, ids_of_text

HEADS_KEPT: Final = 4_096
"""Heads of payments that are remembered."""
HEAD_BYTES_KEPT: Final = 4_194_304
"""Bytes that they have together."""


@dataclass(frozen=True, slots=True)
class PaymentHead:
    """What the head of a request for a decision says.

    Attributes:
        path: "/predict" or "/predict/batch".
        length: Bytes of the body.
        dry_run: Score only.
        close: The connection ends after the answer.
        principal: Who sent it.
        limited: Its sender has a rate.
        ids: What its sender calls it.
    """

    path: str
    length: int
    dry_run: bool
    close: bool
    principal: Principal
    limited: bool
    ids: CallersIds = NO_IDS


class PaymentHeads:
    """Reads heads for all connections, and remembers those of payments.

    Args:
        door: Refuses what may not come in.
        rates: How much each caller may send.
    """

    def __init__(self, door: Door, rates: Rates) -> None:
        self._door = door
        self._rates = rates
        self._known: dict[bytes, PaymentHead] = {}
        self._known_bytes = 0
        # A head stands for who sent it, so it is good as long as the key that it carries.
        door.gatekeeper.forget.append(self._forget)

    def read(self, text: bytes, own: str, payments: bool) -> Head | PaymentHead:
        """What a head says.

        Args:
            text: Up to the empty line, without the line ends before it.
            own: The address that the client reached.
            payments: Whether payments may come in here.

        Raises:
            ProblemError: It is malformed, or may not come in.
        """
        if payments:
            known = self._known.get(text)
            if known is not None:
                return known
            ids, kept = ids_of_text(text)
            known = self._known.get(kept)
            if known is not None:
                return replace(known, ids=ids)
        else:
            ids, kept = NO_IDS, text
        head = read_head(text)
        self._door.check_head(head, own)
        payment = self._payment_head(head) if payments else None
        if payment is None:
            return head
        self._known_bytes += len(kept)
        if len(self._known) >= HEADS_KEPT or self._known_bytes > HEAD_BYTES_KEPT:
            self._forget()
            self._known_bytes = len(kept)
        self._known[kept] = payment
        return payment if ids is NO_IDS else replace(payment, ids=ids)

    def _payment_head(self, head: Head) -> PaymentHead | None:
        """The head of a payment; None if the ASGI application is to answer."""
        if (
            head.method != "POST"
            or head.path not in (PAYMENT, PAYMENTS)
            or head.length <= 0
            or head.expects
        ):
            return None
        try:
            principal = self._door.admit("POST", head.path, head.query, head.fields)
            dry_run = read_dry_run(head.query)
        except SentinelError:
            return None  # the application says why
        assert principal is not None  # payments are open to nobody
        return PaymentHead(
            path=head.path,
            length=head.length,
            dry_run=dry_run,
            close=head.close,
            principal=principal,
            limited=self._rates.limits(principal),
        )

    def _forget(self) -> None:
        self._known.clear()
        self._known_bytes = 0
