"""`POST /voids`: payments that must not count in features from now on."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final

import msgspec

from sentinel.access.principals import Principal
from sentinel.api.body import Id, parse
from sentinel.api.large import LargeBodies
from sentinel.api.problems import invalid
from sentinel.api.routes.raw import RawRoute
from sentinel.domain import id_for_display
from sentinel.ingest.guard import Guard
from sentinel.ingest.values import BadValue, id_of
from sentinel.scoring.runtime import ScoringRuntime
from sentinel.scoring.voids import MOST_VOIDS

MOST_REASON_LENGTH: Final = 500
"""Characters of a reason."""


class VoidsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Payments to declare void.

    Attributes:
        transaction_ids: Which; all of them are on record.
        reason: Why, for whoever reads the decision later.
    """

    transaction_ids: Annotated[list[Id], msgspec.Meta(min_length=1, max_length=MOST_VOIDS)]
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_REASON_LENGTH)]


class VoidReceiptItem(msgspec.Struct, kw_only=True):
    """What became of a void.

    Attributes:
        transaction_id: As it was given.
        sequence: The void's place in the log; what stands behind it is without the payment.
        repeated: The payment was void already.
    """

    transaction_id: str | int
    sequence: int
    repeated: bool


class VoidsAnswer(msgspec.Struct, kw_only=True):
    """Receipts in the order of the request."""

    voids: list[VoidReceiptItem]
    status: str = "Success"


class VoidRoute:
    """Takes voids.

    Args:
        runtime: The scoring process.
        guard: What the deployment does with ids.
        large: Reads and writes large bodies.
    """

    def __init__(self, runtime: ScoringRuntime, guard: Guard, large: LargeBodies) -> None:
        self._runtime = runtime
        self._guard = guard
        self._large = large
        self._decoder = msgspec.json.Decoder(VoidsRequest)
        self.routes = (
            RawRoute(
                path="/voids",
                summary="Declare payments void",
                text=(
                    "From then on features, labels and training are without them. The decisions "
                    "stay readable and say so; their ids are not used again. Takes as long as it "
                    "takes to read the log once; payments go on meanwhile."
                ),
                requests=(VoidsRequest,),
                answer=VoidsAnswer,
                statuses=(400, 404, 413, 422, 429, 503),
                handle=self.record,
            ),
        )

    async def record(self, body: bytes, _query: bytes, principal: Principal) -> bytes:
        """Record the voids of a body, and answer once they are durable and in place."""
        asked = await self._large.read(body, partial(parse, self._decoder, body))
        ids = []
        for place, given in enumerate(asked.transaction_ids):
            try:
                identifier = self._guard.id("transaction_id", given)
            except BadValue as error:
                raise invalid({f"transaction_ids[{place}]": str(error)}) from None
            if not identifier:
                raise invalid({f"transaction_ids[{place}]": "is empty"})
            if principal.sender:  # the id as it was sent, before it becomes a token
                principal.require_own(id_of(given) or "", f"transaction_ids[{place}]")
            ids.append(identifier)
        reason = asked.reason.strip()
        if not reason:
            raise invalid({"reason": "is empty"})
        receipts = await self._runtime.voids.submit(ids, reason, principal.key_id)
        items = [
            VoidReceiptItem(
                transaction_id=id_for_display(receipt.transaction_id),
                sequence=receipt.sequence,
                repeated=receipt.repeated,
            )
            for receipt in receipts
        ]
        return msgspec.json.encode(VoidsAnswer(voids=items))
