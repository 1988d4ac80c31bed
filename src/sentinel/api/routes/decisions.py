"""What was decided: `GET /decisions`, and `GET /predict/{id}` for one transaction."""

from __future__ import annotations

import threading
from collections.abc import Container, Iterable
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from sentinel.access.principals import Principal
from sentinel.api.large import ROWS_AT_ONCE
from sentinel.api.problems import invalid, problem_responses
from sentinel.api.routes.decision_detail import own_id
from sentinel.api.routes.decision_json import SUCCESS
from sentinel.api.routes.raw import PRINCIPAL
from sentinel.domain import (
    MAX_ID_LENGTH,
    Forbidden,
    Outcome,
    UnknownTransaction,
    Verdict,
    id_for_display,
)
from sentinel.ingest.cards import masked
from sentinel.ingest.guard import Guard
from sentinel.ingest.values import BadValue
from sentinel.ledger.history_scores import HistoricScore
from sentinel.ledger.index_readers import IndexReader, IndexReaders
from sentinel.ledger.index_values import DecisionFilter, IndexedDecision
from sentinel.ledger.index_values import DecisionsPage as IndexedPage
from sentinel.scoring.runtime import ScoringRuntime
from sentinel.spare_time import Between, go_on

MODEL_HEADER: Final = "Sentinel-Model-Version"
_KNOWN: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Done",
        "headers": {MODEL_HEADER: {"schema": {"type": "string"}}},
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/KnownAnswer"}}},
    }
}


class KnownAnswer(msgspec.Struct, kw_only=True):
    """The answer for a transaction that the ledger knows."""

    transaction_id: str | int
    is_fraud: bool
    fraud_probability: float
    status: str = SUCCESS


class DecisionRow(BaseModel):
    """One recorded decision."""

    sequence: int
    transaction_id: str | int
    event_time_us: int
    received_at_us: int
    amount_minor: int
    customer_id: str | None
    card_id: str | None
    merchant_id: str | None
    device_id: str | None
    ip_address: str | None
    fraud_probability: float
    decision: Outcome
    is_fraud: bool
    degraded: bool
    model_version: str
    latency_us: int
    top_reason: str | None
    label: Verdict | None
    void: bool = Field(
        description="Declared void since: features, labels and training leave it out."
    )


class DecisionsPage(BaseModel):
    """Decisions, newest first. Pass ``next_before`` as ``before`` for the page behind."""

    decisions: list[DecisionRow]
    next_before: int | None
    complete: bool = Field(
        True,
        description="False where the time for a look-up ended before the page was full; "
        "`next_before` goes on from there.",
    )


class DecisionRoutes:
    """Answers for recorded decisions.

    Args:
        runtime: The scoring process.
        guard: What the deployment does with ids.
        readers: Ask the queryable tables.
    """

    def __init__(self, runtime: ScoringRuntime, guard: Guard, readers: IndexReaders) -> None:
        self._runtime = runtime
        self._guard = guard
        self._readers = readers
        self._history_turn = threading.Lock()

    def router(self) -> APIRouter:
        """The routes."""
        router = APIRouter(tags=["ledger"])

        @router.get(
            "/predict/{transaction_id:path}",
            summary="The answer for a known transaction",
            description=(
                "Any id that was posted can be asked for, also one with slashes in it. This is the "
                "score; the decision and its reasons are in `GET /decisions/{id}`."
            ),
            response_class=Response,
            responses={**_KNOWN, **problem_responses(404, 422, 429, 503)},
        )
        async def known(request: Request, transaction_id: str) -> Response:
            identifier = own_id(self._guard, request.scope[PRINCIPAL], transaction_id)
            answer, version = await self._known(identifier, transaction_id)
            return Response(
                msgspec.json.encode(answer),
                media_type="application/json",
                headers={MODEL_HEADER: version},
            )

        @router.get(
            "/decisions",
            summary="Decisions, newest first",
            description="A key with a sender prefix sees its own.",
            response_model=DecisionsPage,
            responses=problem_responses(422, 429, 503),
        )
        async def decisions(
            request: Request,
            outcome: Annotated[Outcome | None, Query()] = None,
            min_probability: Annotated[float | None, Query(ge=0, le=1)] = None,
            is_fraud: bool | None = None,
            label: Verdict | Literal["none"] | None = None,
            since_us: Annotated[int | None, Query(ge=0, le=2**62)] = None,
            until_us: Annotated[int | None, Query(ge=0, le=2**62)] = None,
            customer_id: Annotated[str | None, Query(max_length=MAX_ID_LENGTH)] = None,
            card_id: Annotated[str | None, Query(max_length=MAX_ID_LENGTH)] = None,
            merchant_id: Annotated[str | None, Query(max_length=MAX_ID_LENGTH)] = None,
            limit: Annotated[int, Query(ge=1, le=1000)] = 50,
            before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
        ) -> Response:
            where = DecisionFilter(
                outcomes=() if outcome is None else (outcome,),
                min_probability=min_probability,
                since_us=since_us,
                until_us=until_us,
                customer_id=self._id("customer_id", customer_id),
                card_id=self._id("card_id", card_id),
                merchant_id=self._id("merchant_id", merchant_id),
                is_fraud=is_fraud,
                label=label,
                id_prefix=self._prefix(request.scope[PRINCIPAL]),
            )
            body = await self._readers.ask(lambda reader: self._page(reader, where, limit, before))
            return Response(body, media_type="application/json")

        return router

    def _id(self, field: str, text: str | None) -> str | None:
        """An id of a question as the ledger has it; None if there is none."""
        try:
            return self._guard.known_id(field, text)
        except BadValue as error:
            raise invalid({field: str(error)}) from None

    def _page(
        self, reader: IndexReader, where: DecisionFilter, limit: int, before: int | None
    ) -> bytes:
        between = self._runtime.writer.pace.give_way
        page = reader.decisions_page(where, limit=limit, before=before, between=between)
        void = reader.voids_of(row.transaction_id for row in page.decisions)
        return page_json(self._runtime, page, void, between)

    def _prefix(self, who: Principal) -> str:
        """How the ids begin that a caller may see; empty = any.

        Raises:
            Forbidden: The ids are tokens here, by which nobody's are known.
        """
        if who.sender and "transaction_id" in self._guard.fields:
            raise Forbidden(
                f"The key {who.key_id!r} may see its own decisions alone, and transaction ids are "
                "tokens here: ask for one by its id, GET /decisions/{id}."
            )
        return who.sender

    async def _known(self, identifier: str, transaction_id: str) -> tuple[KnownAnswer, str]:
        spellings = dict.fromkeys((identifier, transaction_id))  # ids had others once
        for spelling in spellings:
            recorded = self._runtime.writer.recent.recorded(spelling)
            if recorded is not None:
                answer = _known_answer(spelling, recorded.is_fraud, recorded.probability)
                return answer, recorded.scored.decider(recorded.row).version
        found = await self._readers.ask(lambda reader: self._find(reader, spellings))
        if found is not None:
            return found
        raise UnknownTransaction(
            f"No decision is recorded for transaction {masked(transaction_id)!r}. Score it with "
            "POST /predict."
        )

    def _find(
        self, reader: IndexReader, spellings: Iterable[str]
    ) -> tuple[KnownAnswer, str] | None:
        """The answer that was given for a transaction, and by which version of the model."""
        for spelling in spellings:
            found: IndexedDecision | HistoricScore | None = reader.decision_row(spelling)
            if found is None:
                with self._history_turn:
                    found = self._runtime.history.find(spelling)
            if found is not None:
                answer = _known_answer(spelling, found.is_fraud, found.fraud_probability)
                return answer, found.model_version
        return None


def _known_answer(transaction_id: str, is_fraud: bool, probability: float) -> KnownAnswer:
    return KnownAnswer(
        transaction_id=id_for_display(transaction_id),
        is_fraud=is_fraud,
        fraud_probability=probability,
    )


def page_json(
    runtime: ScoringRuntime, page: IndexedPage, void: Container[str], between: Between = go_on
) -> bytes:
    """The JSON of a `DecisionsPage`. A large one takes milliseconds: not for the event loop.

    Args:
        runtime: Names features.
        page: What was found.
        void: Ids of those that are void.
        between: Called after every `ROWS_AT_ONCE` decisions.
    """
    pieces: list[bytes] = []
    for first in range(0, len(page.decisions), ROWS_AT_ONCE):
        between()
        rows = page.decisions[first : first + ROWS_AT_ONCE]
        pieces.append(msgspec.json.encode([_row(runtime, row, void) for row in rows])[1:-1])
    about = msgspec.json.encode({"next_before": page.next_before, "complete": page.complete})
    return b'{"decisions":[%b],%b' % (b",".join(pieces), about[1:])


def _row(runtime: ScoringRuntime, row: IndexedDecision, void: Container[str]) -> dict[str, Any]:
    """A `DecisionRow`."""
    return {
        "sequence": row.sequence,
        "transaction_id": id_for_display(row.transaction_id),
        "event_time_us": row.event_time_us,
        "received_at_us": row.received_at_us,
        "amount_minor": row.amount_minor,
        "customer_id": row.customer_id,
        "card_id": row.card_id,
        "merchant_id": row.merchant_id,
        "device_id": row.device_id,
        "ip_address": row.ip_address,
        "fraud_probability": row.fraud_probability,
        "decision": row.outcome,
        "is_fraud": row.is_fraud,
        "degraded": row.degraded,
        "model_version": row.model_version,
        "latency_us": row.latency_us,
        "top_reason": runtime.plan_words.feature_name(row.plan_hash, row.top_reason),
        "label": row.verdict,
        "void": row.transaction_id in void,
    }
