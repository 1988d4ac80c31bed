"""`GET /decisions/{transaction_id}`: one decision as the log holds it, and the labels that came."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec
from fastapi import APIRouter, Request, Response

from sentinel.access.principals import Principal
from sentinel.api.problems import invalid, problem_responses
from sentinel.api.routes.raw import PRINCIPAL
from sentinel.domain import (
    MAX_ID_LENGTH,
    AttributeValue,
    Outcome,
    Reason,
    Transaction,
    UnknownTransaction,
    Verdict,
    id_for_display,
)
from sentinel.ingest.cards import masked
from sentinel.ingest.guard import Guard
from sentinel.ingest.values import BadValue, id_of
from sentinel.ledger.index_readers import IndexReader, IndexReaders
from sentinel.ledger.lookup import decision_in
from sentinel.log.entries import (
    DecisionGroup,
    Group,
    GroupKind,
    decode_decisions,
    decode_labels,
    decode_voids,
)
from sentinel.scoring.runtime import ScoringRuntime

MOST_LABELS: Final = 100
"""Most labels of a decision that are shown: the latest ones."""
_FOUND: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Done",
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/DecisionDetail"}}
        },
    }
}


class RecordedLabel(msgspec.Struct, kw_only=True):
    """A label of a transaction.

    Attributes:
        label_id: Given or made up.
        verdict: What it says.
        origin: Who said so.
        received_at_us: When it was recorded, microseconds UTC.
        called_by: Id of the key that sent it; null if nobody is known.
    """

    label_id: str | int
    verdict: Verdict
    origin: str
    received_at_us: int
    called_by: str | None


class RecordedVoid(msgspec.Struct, kw_only=True):
    """That a payment was declared void: features, labels and training are without it since.

    Attributes:
        sequence: Its place in the log.
        received_at_us: When, microseconds UTC.
        reason: Why.
        called_by: Id of the key that asked for it; null if nobody is known.
    """

    sequence: int
    received_at_us: int
    reason: str
    called_by: str | None


class DecisionDetail(msgspec.Struct, kw_only=True):
    """A decision as the log holds it.

    Attributes:
        sequence: Its place in the log.
        transaction_id: Of the payment.
        event_time_us, received_at_us: When it happened and arrived, microseconds UTC.
        amount_minor: In minor units of the base currency.
        customer_id, card_id, merchant_id, device_id, ip_address: Null where unknown.
        attributes: Everything else that was sent.
        fraud_probability: Calibrated, 0 to 1.
        decision: What to do with the payment.
        base_decision: The same before the control group.
        is_fraud: Whether the probability reaches the model's fraud threshold.
        degraded: True where feature state could not be read.
        reasons: The strongest contributions, strongest first.
        rules: Ids of the rules that fired.
        eligible: Whether the control group could have let it through.
        explored: Whether it did: ``decision`` is approve then, whatever ``base_decision`` says.
        control_share: Of such payments it lets so many through; 0 if it was not eligible.
        propensity: The probability with which the payment got the outcome that it has.
        model_name, model_version, plan_hash: What decided.
        policy_hash: The policy that ruled; empty in records of before there was one.
        latency_us: From arrival to commit.
        called_by: Id of the key that sent the payment; null if nobody is known.
        labels: The latest ones, in log order. One is shown once the index has it.
        void: Null if the payment was not declared void.
    """

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
    attributes: dict[str, AttributeValue]
    fraud_probability: float
    decision: Outcome
    base_decision: Outcome
    is_fraud: bool
    degraded: bool
    reasons: tuple[Reason, ...]
    rules: tuple[str, ...]
    eligible: bool
    explored: bool
    control_share: float
    propensity: float
    model_name: str
    model_version: str
    plan_hash: str
    policy_hash: str
    latency_us: int
    called_by: str | None
    labels: list[RecordedLabel]
    void: RecordedVoid | None


def decision_router(runtime: ScoringRuntime, guard: Guard, readers: IndexReaders) -> APIRouter:
    """The route.

    Args:
        runtime: The scoring process.
        guard: What the deployment does with ids.
        readers: Ask the queryable tables.
    """
    router = APIRouter(tags=["ledger"])

    @router.get(
        "/decisions/{transaction_id:path}",
        summary="One decision, with who sent it and what was said of it",
        response_class=Response,
        responses={**_FOUND, **problem_responses(404, 422, 429, 503)},
    )
    async def decision(request: Request, transaction_id: str) -> Response:
        identifier = own_id(guard, request.scope[PRINCIPAL], transaction_id)
        known = runtime.writer.recent.recorded(identifier)
        sequence = None if known is None else known.sequence
        body = await readers.ask(
            lambda reader: detail_json(runtime, reader, (identifier, transaction_id), sequence)
        )
        if body is None:
            raise UnknownTransaction(
                f"No decision is recorded for transaction {masked(transaction_id)!r}. Where the "
                "payment was imported, GET /predict/{id} has its answer."
            )
        return Response(body, media_type="application/json")

    return router


def own_id(guard: Guard, who: Principal, transaction_id: str) -> str:
    """The id of a question as the ledger has it, if who asks may ask for it.

    Raises:
        InvalidTransaction: It cannot be an id.
        Forbidden: It is another sender's.
    """
    try:
        identifier = guard.known_id("transaction_id", transaction_id)
    except BadValue as error:
        raise invalid({"transaction_id": str(error)}) from None
    if identifier is None:
        raise invalid({"transaction_id": f"must have 1 to {MAX_ID_LENGTH} characters"})
    if who.sender:
        for spelling in (transaction_id, id_of(transaction_id) or ""):
            who.require_own(spelling, "transaction_id")
    return identifier


class FoundDecision(NamedTuple):
    """A decision of the log.

    Attributes:
        group, decided: Its group, and what that holds.
        row: Its place in the group, from 0.
    """

    group: Group
    decided: DecisionGroup
    row: int

    @property
    def transaction(self) -> Transaction:
        """The payment."""
        return self.decided.transactions[self.row]


def find_decision(
    runtime: ScoringRuntime, reader: IndexReader, spellings: Iterable[str], sequence: int | None
) -> FoundDecision | None:
    """A decision of the log; None if there is none. The arguments are those of `detail_json`."""
    for spelling in dict.fromkeys(spellings):
        if sequence is None:
            found = reader.decision_row(spelling)
            sequence = None if found is None else found.sequence
        if sequence is not None:
            group = _group_of(runtime, sequence)
            return FoundDecision(
                group, decode_decisions(group.payload), sequence - group.first_sequence
            )
    return None


def detail_json(
    runtime: ScoringRuntime, reader: IndexReader, spellings: Iterable[str], sequence: int | None
) -> bytes | None:
    """The JSON of a `DecisionDetail`; None if there is no such decision.

    Args:
        runtime: Has the log, and names features.
        reader: Says where in the log it is.
        spellings: Ids that it may have; ids had others once.
        sequence: Its place in the log where that is known already.
    """
    found = find_decision(runtime, reader, spellings, sequence)
    if found is None:
        return None
    group, decided = found.group, found.decided
    decision = decision_in(decided, group.first_sequence, found.row, runtime.plan_words.explain)
    t = found.transaction
    return msgspec.json.encode(
        DecisionDetail(
            sequence=decision.sequence,
            transaction_id=id_for_display(t.transaction_id),
            event_time_us=t.event_time_us,
            received_at_us=max(t.received_at_us, group.floor_us),
            amount_minor=t.amount_minor,
            customer_id=t.customer_id,
            card_id=t.card_id,
            merchant_id=t.merchant_id,
            device_id=t.device_id,
            ip_address=t.ip_address,
            attributes=t.attributes,
            fraud_probability=decision.fraud_probability,
            decision=decision.outcome,
            base_decision=decision.base_outcome or decision.outcome,
            is_fraud=decision.is_fraud,
            degraded=decision.degraded,
            reasons=decision.reasons,
            rules=decision.rules,
            eligible=decision.eligible,
            explored=decision.explored,
            control_share=decision.control_share,
            propensity=decision.propensity,
            model_name=decision.model_name,
            model_version=decision.model_version,
            plan_hash=decision.plan_hash,
            policy_hash=decision.policy_hash,
            latency_us=decision.latency_us,
            called_by=decision.called_by or None,
            labels=_labels(runtime, reader, t.transaction_id),
            void=void_of(runtime, reader, t.transaction_id),
        )
    )


def _labels(
    runtime: ScoringRuntime, reader: IndexReader, transaction_id: str
) -> list[RecordedLabel]:
    labels = []
    for sequence, label in reader.labels_of(transaction_id, most=MOST_LABELS):
        group = _group_of(runtime, sequence)
        called_by = ""
        if group.kind == GroupKind.LABELS:
            called_by = decode_labels(group.payload).called_by
        labels.append(
            RecordedLabel(
                label_id=id_for_display(label.label_id),
                verdict=label.verdict,
                origin=label.origin,
                received_at_us=label.received_at_us,
                called_by=called_by or None,
            )
        )
    return labels


def void_of(
    runtime: ScoringRuntime, reader: IndexReader, transaction_id: str
) -> RecordedVoid | None:
    """That a payment was declared void; None if it was not."""
    sequence = reader.voids_of([transaction_id]).get(transaction_id)
    if sequence is None:
        return None
    group = _group_of(runtime, sequence)
    asked = decode_voids(group.payload)
    void = asked.voids[sequence - group.first_sequence]
    return RecordedVoid(
        sequence=sequence,
        received_at_us=max(void.received_at_us, group.floor_us),
        reason=void.reason,
        called_by=asked.called_by or None,
    )


def _group_of(runtime: ScoringRuntime, sequence: int) -> Group:
    group = next(iter(runtime.reader.groups(sequence - 1)), None)
    if group is None:  # the index is of another log, or the log was cut
        raise UnknownTransaction(f"The log holds no entry {sequence:,}.")
    return group
