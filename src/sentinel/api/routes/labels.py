"""`POST /labels`: verdicts on transactions."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Annotated, Final

import msgspec

from sentinel.access.principals import NOBODY, Principal
from sentinel.api.body import MOST_NAMED, Id, parse
from sentinel.api.json_lists import list_pieces
from sentinel.api.large import LARGE_BYTES, ROWS_AT_ONCE, LargeBodies
from sentinel.api.problems import invalid
from sentinel.api.routes.raw import RawRoute
from sentinel.domain import InvalidTransaction, Label, Verdict, id_for_display
from sentinel.ingest.guard import Guard
from sentinel.ingest.values import BadValue, id_of
from sentinel.scoring.labels import LabelReceipt
from sentinel.scoring.runtime import ScoringRuntime
from sentinel.spare_time import Between, go_on

_DEFAULT_ORIGIN: Final = "api"
MAX_LABELS: Final = 10_000
"""Most labels of one request."""


class LabelRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A verdict on a transaction.

    Attributes:
        transaction_id: What it is about; it may still be unknown.
        verdict: What is known now, in any letter case; a later label corrects an earlier one.
        label_id: Makes a repeat harmless; made up if missing, and then a repeat is another entry.
        origin: Who says so, e.g. chargeback or analyst; default: the key's own, else api.
    """

    transaction_id: Id
    verdict: Verdict
    label_id: Id | None = None
    origin: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] | None = None


class LabelsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Labels to record together."""

    labels: Annotated[list[LabelRequest], msgspec.Meta(min_length=1, max_length=MAX_LABELS)]


class LabelReceiptItem(msgspec.Struct, kw_only=True):
    """What became of a label.

    Attributes:
        label_id: Given or made up.
        transaction_id: What it is about.
        verdict: As recorded.
        repeated: It was recorded before.
        known_transaction: False: it waits for its transaction.
        void: True: its transaction was declared void, so that it is kept and has no effect.
    """

    label_id: str | int
    transaction_id: str | int
    verdict: Verdict
    repeated: bool
    known_transaction: bool
    void: bool


class LabelsAnswer(msgspec.Struct, kw_only=True):
    """Receipts in the order of the request."""

    labels: list[LabelReceiptItem]
    status: str = "Success"


def labels_of(
    requests: Sequence[LabelRequest],
    received_at_us: int,
    guard: Guard,
    at: str = "labels[{}].",
    who: Principal = NOBODY,
    between: Between = go_on,
) -> list[Label]:
    """The labels of requests; those without a label id get one.

    Args:
        requests: Decoded.
        received_at_us: When they arrived.
        guard: What the deployment does with ids.
        at: Prefix for field names in errors, with a place for the number of the label.
        who: Who sent them.
        between: Called after every `ROWS_AT_ONCE` labels.

    Raises:
        InvalidTransaction: Naming every offending field.
        Forbidden: Naming the first id or origin that is not for who sent it.
    """
    problems: dict[str, str] = {}
    labels: list[Label] = []
    for i, request in enumerate(requests):
        if i % ROWS_AT_ONCE == 0:
            between()
        ids: dict[str, str] = {}
        for name in ("transaction_id", "label_id"):
            given = getattr(request, name)
            if given is None:
                ids[name] = uuid.uuid4().hex
                continue
            try:
                ids[name] = guard.id(name, given) or ""
            except BadValue as error:
                problems[at.format(i) + name] = str(error)
            else:
                if not ids[name]:
                    problems[at.format(i) + name] = "is empty"
                elif who.sender:  # the id as it was sent, before it becomes a token
                    who.require_own(id_of(given) or "", at.format(i) + name)
        if request.origin is None:
            origin = who.origins[0] if who.origins else _DEFAULT_ORIGIN
        else:
            origin = request.origin.strip()
            who.require_origin(origin, at.format(i) + "origin")
        try:
            guard.id("origin", origin)
        except BadValue as error:
            problems[at.format(i) + "origin"] = str(error)
        if not origin:
            problems[at.format(i) + "origin"] = "is empty"
        if not problems:
            labels.append(
                Label(verdict=request.verdict, received_at_us=received_at_us, origin=origin, **ids)
            )
    if problems:
        raise invalid(dict(islice(problems.items(), MOST_NAMED)))
    return labels


class LabelRoute:
    """Takes labels.

    Args:
        runtime: The scoring process.
        guard: What the deployment does with ids.
        large: Reads and writes large bodies.
    """

    def __init__(self, runtime: ScoringRuntime, guard: Guard, large: LargeBodies) -> None:
        self._large = large
        self._runtime = runtime
        self._guard = guard
        self._label_decoder = msgspec.json.Decoder(LabelRequest)
        self._labels_decoder = msgspec.json.Decoder(LabelsRequest)
        self._list_decoder = msgspec.json.Decoder(list[LabelRequest])
        self.routes = (
            RawRoute(
                path="/labels",
                summary="Record verdicts",
                text=(
                    "One label, or several under `labels`. A later label corrects an earlier one; "
                    "a label for an unknown transaction waits for it, and one for a void one has "
                    "no effect. Give each a "
                    "`label_id`: the same one sent again is answered with `repeated` and stored "
                    "once. Without one it is stored again, which changes no feature and no "
                    "training."
                ),
                requests=(LabelRequest, LabelsRequest),
                answer=LabelsAnswer,
                statuses=(400, 413, 422, 429, 503),
                handle=self.record,
            ),
        )

    async def record(self, body: bytes, _query: bytes, principal: Principal) -> bytes:
        """Record the labels of a body, and answer once they are durable."""
        now_us = self._runtime.writer.receive_time_us()
        labels = await self._large.read(body, partial(self._read, body, now_us, principal))
        receipts = await self._runtime.labels.submit(labels, principal.key_id)
        return await self._large.write(len(receipts), partial(self._answer, receipts))

    def _read(self, body: bytes, now_us: int, principal: Principal) -> list[Label]:
        """The labels of a body that holds one, or several under `labels`."""
        give_way = self._runtime.writer.pace.give_way
        if b'"labels"' in body:
            try:
                requests = self._listed(body, give_way)
            except InvalidTransaction as error:
                try:  # one label may have that word for a value
                    requests, at = [parse(self._label_decoder, body)], ""
                except InvalidTransaction:
                    raise error from None
            else:
                at = "labels[{}]."
        else:
            requests, at = [parse(self._label_decoder, body)], ""
        return labels_of(requests, now_us, self._guard, at, principal, give_way)

    def _listed(self, body: bytes, between: Between) -> list[LabelRequest]:
        """The labels of a body that holds several, those of a large one in pieces."""
        pieces = list_pieces(body, "labels") if len(body) >= LARGE_BYTES else None
        if pieces is not None:
            requests: list[LabelRequest] = []
            with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                for piece in pieces:
                    requests += self._list_decoder.decode(piece)
                    between()
                if 0 < len(requests) <= MAX_LABELS:
                    return requests
        return parse(self._labels_decoder, body).labels

    def _answer(self, receipts: Sequence[LabelReceipt]) -> bytes:
        items: list[LabelReceiptItem] = []
        for i, receipt in enumerate(receipts, 1):
            items.append(
                LabelReceiptItem(
                    label_id=id_for_display(receipt.label.label_id),
                    transaction_id=id_for_display(receipt.label.transaction_id),
                    verdict=receipt.label.verdict,
                    repeated=receipt.repeated,
                    known_transaction=receipt.known_transaction,
                    void=receipt.void,
                )
            )
            if i % ROWS_AT_ONCE == 0:
                self._runtime.writer.pace.give_way()
        return msgspec.json.encode(LabelsAnswer(labels=items))
