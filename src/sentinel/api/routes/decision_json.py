"""The JSON of decisions: fresh ones for each request, and recorded ones as they were made."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.domain import Decision, Outcome, Reason, Transaction, id_for_display
from sentinel.log.entries import FLAG_DEGRADED, FLAG_IS_FRAUD, N_REASONS, outcome_of
from sentinel.scoring.scorer import Scored
from sentinel.scoring.serving_model import ServingModel
from sentinel.scoring.union import Union

SUCCESS: Final = "Success"
_SAID_KEPT: Final = 2048
"""Most values of a feature whose words are remembered."""
_WRITERS_KEPT: Final = 4

_encode = msgspec.json.Encoder().encode
_BOOLEANS: Final = ("false", "true")


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
        degraded: True where feature state could not be read, or had no room for a new entity.
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


class ReasonWriter:
    """Writes the reasons of decisions on the vectors of one plan as JSON.

    Args:
        model: Names the features, and puts their values into words: the champion, or the union of
            the plans where models of several plans score.
    """

    def __init__(self, model: ServingModel | Union) -> None:
        self._model = model
        self._words = model.words
        self._said: list[dict[int, str]] = [{} for _ in self._words]
        self._heads = [f'{{"feature":{_json(name)},"value":' for name in model.plan.feature_names]

    def write(
        self,
        vectors: npt.NDArray[np.float32],
        features: npt.NDArray[np.int16],
        contributions: npt.NDArray[np.float32],
    ) -> list[str]:
        """The reasons of each row as JSON, the elements of an array of `Reason`.

        Args:
            vectors: float32 (n, n_features).
            features, contributions: (n, N_REASONS), what the model explained of them.
        """
        if not self._model.explains:
            return [""] * len(vectors)
        picked, whole = self._model.values_of(vectors, features)
        chosen = picked.ravel()
        values: list[float] = chosen.tolist()
        parts: list[str] = []
        append = parts.append
        # Words are remembered by bits: NaN is not equal to itself, and minus zero to zero.
        for feature, bits, value, number, weight in zip(
            features.ravel().tolist(),
            chosen.view(np.int32).tolist(),
            values,
            _numbers(values),
            _numbers(contributions.ravel().tolist()),
            strict=True,
        ):
            if feature < 0:
                append("")
                continue
            words = self._said[feature].get(bits)
            if words is None:
                words = self._say(feature, bits, value)
            append(f'{self._heads[feature]}{number},"contribution":{weight},"words":{words}}}')
        if not whole:
            rows = (parts[i : i + N_REASONS] for i in range(0, len(parts), N_REASONS))
            return [",".join(filter(None, row)) for row in rows]
        return [",".join(parts[i : i + N_REASONS]) for i in range(0, len(parts), N_REASONS)]

    def _say(self, feature: int, bits: int, value: float) -> str:
        """The words of a reason as JSON, remembered."""
        known = self._said[feature]
        if len(known) >= _SAID_KEPT:
            known.clear()
        words = self._words[feature](None if value != value else value)
        said = known[bits] = _json(words)
        return said


_writers: Final[dict[ServingModel | Union, ReasonWriter]] = {}


def _writer_of(model: ServingModel | Union) -> ReasonWriter:
    """The writer of a model; those of the latest few models are kept."""
    writer = _writers.get(model)
    if writer is None:
        while len(_writers) >= _WRITERS_KEPT:
            del _writers[next(iter(_writers))]
        writer = _writers[model] = ReasonWriter(model)
    return writer


def render(transactions: list[Transaction], scored: Scored, latencies_us: list[int]) -> list[bytes]:
    """The JSON of fresh decisions, in pieces: the bytes that `render_recorded` makes of each.

    Used for each request: no work that can be avoided.
    """
    ends = _ends(scored, len(transactions))
    probabilities = _numbers(scored.deciding_probabilities().tolist())
    latencies = _numbers([latency / 1000 for latency in latencies_us])
    reasons = _writer_of(scored.told_by).write(
        scored.vectors, scored.reason_features, scored.reason_contributions
    )
    return [
        (
            f'{{"transaction_id":{_json(id_for_display(transaction.transaction_id))}'
            f',"is_fraud":{_BOOLEANS[flags & FLAG_IS_FRAUD != 0]}'
            f',"fraud_probability":{probability}'
            f',"decision":"{outcome_of(flags)}","reasons":[{why}{end}{latency}'
            f',"degraded":{_BOOLEANS[flags & FLAG_DEGRADED != 0]},"status":"{SUCCESS}"}}'
        ).encode()
        for transaction, flags, probability, why, end, latency in zip(
            transactions,
            scored.flags.tolist(),
            probabilities,
            reasons,
            ends,
            latencies,
            strict=True,
        )
    ]


def _ends(scored: Scored, n: int) -> Iterable[str]:
    """Who decided, by row."""
    if scored.roles is None or scored.roles.deciders is None:
        return repeat(_end_of(scored.model), n)
    by_decider = [_end_of(scored.model), *(_end_of(one.model) for one in scored.roles.models)]
    return [by_decider[decider] for decider in scored.roles.deciders.tolist()]


def _end_of(model: ServingModel) -> str:
    return (
        f'],"model_name":{_json(model.name)},"model_version":{_json(model.version)},"latency_ms":'
    )


def _json(value: str | int) -> str:
    return _encode(value).decode()


def _numbers(values: list[float]) -> list[str]:
    """The JSON of each number, from one call of the encoder; null for NaN."""
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
