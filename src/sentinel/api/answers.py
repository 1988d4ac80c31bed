"""What the API answers about a decision."""

from __future__ import annotations

import msgspec

from sentinel.domain import Decision, Outcome, Reason, Transaction, id_for_display
from sentinel.log.entries import FLAG_DEGRADED, FLAG_IS_FRAUD, OUTCOMES
from sentinel.scoring.engine import Scored

SUCCESS = "Success"


class PredictAnswer(msgspec.Struct, kw_only=True):
    """A decision.

    Attributes:
        transaction_id: As sent; a number where it is a whole number below 2^53.
        is_fraud: Whether the probability reaches the model's fraud threshold.
        fraud_probability: Calibrated, 0 to 1.
        decision: What to do with the payment.
        reasons: The strongest contributions towards fraud, strongest first; exact Shapley
            values in log-odds.
        model_name, model_version: Who decided.
        latency_ms: From arrival to the ledger's commit, milliseconds.
        degraded: True where feature state could not be read.
        status: Always "Success"; errors are problem documents.
    """

    transaction_id: str | int
    is_fraud: bool
    fraud_probability: float
    decision: Outcome
    reasons: tuple[Reason, ...]
    model_name: str
    model_version: str
    latency_ms: float
    degraded: bool = False
    status: str = SUCCESS


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


class KnownAnswer(msgspec.Struct, kw_only=True):
    """The answer for a transaction that the ledger knows."""

    transaction_id: str | int
    is_fraud: bool
    fraud_probability: float
    status: str = SUCCESS


_encode = msgspec.json.Encoder().encode
_BOOLEANS = ("false", "true")


def render(transactions: list[Transaction], scored: Scored, latencies_us: list[int]) -> list[bytes]:
    """The JSON of fresh decisions, in pieces: the bytes that `render_recorded` makes of each.

    Used for each request: no work that can be avoided.
    """
    model = scored.model
    end = f'],"model_name":{_json(model.name)},"model_version":{_json(model.version)},"latency_ms":'
    probabilities = _numbers(scored.probabilities.tolist())
    latencies = _numbers([latency / 1000 for latency in latencies_us])
    reasons = model.reasons_json(
        scored.vectors, scored.reason_features, scored.reason_contributions
    )
    return [
        (
            f'{{"transaction_id":{_json(id_for_display(transaction.transaction_id))}'
            f',"is_fraud":{_BOOLEANS[flags & FLAG_IS_FRAUD != 0]}'
            f',"fraud_probability":{probability}'
            f',"decision":"{OUTCOMES[flags & 3]}","reasons":[{why}{end}{latency}'
            f',"degraded":{_BOOLEANS[flags & FLAG_DEGRADED != 0]},"status":"{SUCCESS}"}}'
        ).encode()
        for transaction, flags, probability, why, latency in zip(
            transactions, scored.flags.tolist(), probabilities, reasons, latencies, strict=True
        )
    ]


def _json(value: str | int) -> str:
    return _encode(value).decode()


def _numbers(values: list[float]) -> list[str]:
    """The JSON of each number, from one call of the encoder."""
    return _encode(values)[1:-1].decode().split(",")


def render_recorded(decision: Decision) -> bytes:
    """The JSON of a decision from the ledger; the same bytes as when it was made."""
    return _encode(
        PredictAnswer(
            transaction_id=id_for_display(decision.transaction_id),
            is_fraud=decision.is_fraud,
            fraud_probability=decision.fraud_probability,
            decision=decision.outcome,
            reasons=decision.reasons,
            model_name=decision.model_name,
            model_version=decision.model_version,
            latency_ms=decision.latency_us / 1000,
            degraded=decision.degraded,
        )
    )
